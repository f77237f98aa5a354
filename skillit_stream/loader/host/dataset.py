"""StreamingDataset with what it gets wrong put right; all of its private names that the loader needs are here.

Its own ``prepare_shard`` leaves a shard that could not be fetched marked as being fetched, and its file on the
disk; it counts a download against ``cache_limit`` when it is over; and it may evict the only copy of a shard.
Here, under the same lock and the same shared states:

- room is made for all downloads under way together, by evicting only what can be fetched again;
- what does not pass is removed, and the error names skill, shard, remote and remedy;
- nobody waits for a process that has ended: a shard being fetched carries its number (but see `touch`).

A shard's state is REMOTE, PREPARING or LOCAL, and changes with the cache lock held, which goes with its process:

- REMOTE -> PREPARING, claimed: the fetcher's number is stored, in place of an access time, before the state.
- PREPARING -> LOCAL, fetched: usage is counted before the state is stored, the access time after it.
- PREPARING -> REMOTE: fetching failed, or the fetcher is gone; its files are removed before the state is stored.
- LOCAL -> REMOTE, evicted or lost: the state is stored before usage is taken off.

A process may end between any two stores. What it leaves is one of these states, which the next process takes on, and
usage that is counted but not there, never the other way round: it is counted anew before a shard is said not to fit.
"""

import os
from collections.abc import Mapping
from time import sleep, time_ns
from typing import Any
from weakref import WeakSet

import numpy as np
from filelock import FileLock
from streaming import Stream, StreamingDataset
from streaming.base.constant import TICK
from streaming.base.dataset import _ShardState
from streaming.base.storage import CloudDownloader

from skillit_stream.base.errors import InputError
from skillit_stream.loader.host.batch_size import refuse_other_batch_size
from skillit_stream.loader.host.construction import (
    blaming_index,
    keeping_only_copies,
    make_absolute,
    quick_construction,
)
from skillit_stream.loader.host.failures import is_refetchable, path_of, shard_failure
from skillit_stream.loader.host.job_rank import as_rank_of_its_job, known_rank
from skillit_stream.loader.host.processes import is_running
from skillit_stream.loader.host.shared_memory import are_released, own_prefix, release_folders
from skillit_stream.loader.host.unfinished import remove_unfinished
from skillit_stream.loader.host.unpacking import unpack_missing
from skillit_stream.order.index import ShardIndex

_connected: WeakSet[Stream] = WeakSet()


def _open_connections_anew() -> None:
    """Forked workers need connections of their own: one shared with the parent would mix their answers."""
    for stream in list(_connected):
        stream._downloader = CloudDownloader.get(stream.remote)


os.register_at_fork(after_in_child=_open_connections_anew)


class HostDataset(StreamingDataset):
    """A StreamingDataset of named streams.

    Args:
        streams: Skill -> :class:`streaming.Stream`.
        **kwargs: StreamingDataset's own.

    Raises:
        InputError: A stream has no index or a broken one, or no samples; or its local folder is taken, or cannot be
            used.
    """

    spanner: ShardIndex

    def __init__(self, streams: Mapping[str, Stream], **kwargs: Any) -> None:
        self.skills = tuple(streams)
        make_absolute(streams.values())
        blame = blaming_index(streams, split=kwargs.get('split'), retries=kwargs.get('download_retry', 1))
        with (
            as_rank_of_its_job() as self.made_for,
            quick_construction(),
            keeping_only_copies(),
            own_prefix(),
            blame,
        ):
            super().__init__(streams=list(streams.values()), **kwargs)
        _connected.update(self.streams)
        self.has_remote = any(stream.remote for stream in self.streams)

    @property
    def rank(self) -> int:
        """Of this process, among those that get samples of their own; replicas have the same."""
        return self._parallel_rank_world.rank

    def worker(self) -> tuple[int, int]:
        """Number of this DataLoader worker, and how many the rank has; (0, 1) in the main process."""
        world = self._parallel_rank_world.detect_workers()
        return world.worker_of_rank, world.workers_per_rank

    @property
    def lock_path(self) -> str:
        """A file that processes of this dataset lock for a few stores; it is removed with the shared memory."""
        return self._cache_filelock_path

    def rank_problem(self) -> InputError | None:
        """Why this process must not take samples: it is another rank than the one the dataset was made for."""
        now, made_for = known_rank(), self.made_for
        if now is None or (now.rank, now.ranks) == (made_for.rank, made_for.ranks):
            return None
        return InputError(
            f'The dataset was made for rank {made_for.rank} of {made_for.ranks}, but this process is rank {now.rank} '
            f'of {now.ranks}: make a dataset in every rank, after its process group.'
        )

    @property
    def nodes(self) -> int:
        """Machines, as far as they get samples of their own."""
        return self._parallel_rank_world.num_nodes

    def canonical_nodes_here(self) -> range:
        """The canonical nodes whose samples this machine reads."""
        world, nodes = self._unique_rank_world, int(self.num_canonical_nodes or 1)
        return range(world.node * nodes // world.num_nodes, -(-(world.node + 1) * nodes // world.num_nodes))

    @property
    def lasting_usage(self) -> int:
        """Bytes in the cache that are never evicted: indexes, and streams without a remote."""
        kept = (shard for number, shard in enumerate(self.shards) if not is_refetchable(self._stream(number)))
        return sum(stream.get_index_size() for stream in self.streams) + sum(map(_bytes_present, kept))

    def size_in_cache(self, shard_id: int) -> int:
        """Bytes that a shard takes beside those at most; none if it is one of them."""
        return self.shards[shard_id].get_max_size() if is_refetchable(self._stream(shard_id)) else 0

    @property
    def readers_apart(self) -> int:
        """How many processes of this machine may read shards that no other of them reads."""
        return min(self._unique_rank_world.ranks_per_node, len(self.canonical_nodes_here()))

    @property
    def ranks(self) -> int:
        """How many processes get samples of their own."""
        return self._parallel_rank_world.num_ranks

    def refuse_other_batch_size(self, workers: int, batches: int) -> None:
        """Refuse the DataLoader that asks, see :mod:`.batch_size`; `batches` are those that this worker has left."""
        size = int(self.batch_size or 0)
        refuse_other_batch_size(self, size, workers=workers, samples=batches * size)

    def skill_of(self, shard_id: int) -> str:
        """The skill that a shard belongs to."""
        return self.skills[int(self.stream_per_shard[shard_id])]

    def is_local(self, shard_id: int) -> bool:
        """Whether a shard is ready to be opened."""
        return bool(self._shard_states[shard_id] == _ShardState.LOCAL)

    def close(self) -> None:
        """Let other datasets use the folders of the streams, in this process too; this one fetches no more shards.

        What is being fetched is waited for; the workers of a DataLoader need not have ended. Ranks of one machine are
        closed together. A dataset that nothing refers to any more need not be closed.
        """
        with FileLock(self._cache_filelock_path):
            release_folders(self._locals_shm)
        # Where a time stands in place of a fetcher's number, no process is of that number.
        while any(
            is_running(int(self._shard_access_times[one])) for one in self._all_in(_ShardState.PREPARING)
        ):
            sleep(TICK)

    def touch(self, shard_id: int) -> None:
        """Note that a shard was read: those that were not for the longest time are evicted first.

        Of a shard that is not local there stands the number of its fetcher, which a late reader of an evicted copy
        leaves there. One that looks before the eviction and notes after the next claim hides it: should that fetcher
        end before it is done, whoever needs the shard waits.
        """
        if self.is_local(shard_id):
            self._shard_access_times[shard_id] = time_ns()

    def get_item(self, sample_id: int, retry: int = 7) -> Any:
        """A decoded sample by its id, from a shard that has passed.

        Streaming's own reads what is being fetched as soon as its file is there, and hides who fetches it.
        """
        shard_id, row = self.spanner[sample_id]
        for _ in range(1 + retry):
            if not self.is_local(shard_id):
                self.prepare_shard(shard_id)
            try:
                sample = self.shards[shard_id][row]
            except FileNotFoundError:
                # In its compressed form alone, or evicted again by another process.
                self.prepare_shard(shard_id)
                continue
            self.touch(shard_id)
            return sample
        path = path_of(self.shards[shard_id], self.shards[shard_id].file_pairs[0][0])
        raise RuntimeError(f'Shard {path} was evicted before it could be read: raise `cache_limit`.')

    def prepare_shard(self, shard_id: int, blocking: bool = True) -> None:
        """Fetch a shard, or wait for the process that fetches it; a failure is everybody's error and nobody's wait.

        Args:
            shard_id: Number of the shard.
            blocking: Whether to wait when another process fetches the shard, or has to make room for it.

        Raises:
            InputError: It is missing and has no remote, ``cache_limit`` or ``validate_hash`` does not fit, the folders
                or their disk do not allow it, or the dataset was closed.
            RuntimeError: It cannot be fetched, or what came is not what its index says.
        """
        while True:
            with FileLock(self._cache_filelock_path):
                ready = self._is_ready(shard_id)
                claimed = not ready and self._claim(shard_id)
            if claimed:
                return self._fetch(shard_id)
            if ready or not blocking:
                return None
            sleep(TICK)
            while self._shard_states[shard_id] == _ShardState.PREPARING and self._is_being_fetched(shard_id):
                sleep(TICK)

    def mend_shard(self, shard_id: int, error: Exception, *, again: bool) -> None:
        """Evict a shard whose file is not what its index says, so that it is fetched anew.

        Else a copy that a crash has cut short would stop every start on these folders.

        Args:
            shard_id: Number of the shard.
            error: What was found.
            again: Whether it was evicted and fetched before.

        Raises:
            RuntimeError: It was, or it cannot be fetched.
        """
        if again or not is_refetchable(self._stream(shard_id)):
            raise self._failure(shard_id, error) from error
        with FileLock(self._cache_filelock_path):
            if self.is_local(shard_id):
                self._evict_shard(shard_id)

    def _is_ready(self, shard_id: int) -> bool:
        """Whether a shard may be opened; the cache lock must be held."""
        if not self.is_local(shard_id):
            return False
        shard = self.shards[shard_id]
        if all(path_of(shard, raw).is_file() for raw, _ in shard.file_pairs):
            self.touch(shard_id)
            return True
        # Only its compressed form is there, or somebody has deleted it; it is counted anew when it is ready.
        self._shard_states[shard_id] = _ShardState.REMOTE
        self.cache_usage -= _bytes_present(shard) or shard.get_raw_size()
        return False

    def _claim(self, shard_id: int) -> bool:
        """Take a shard that is to be fetched, if nobody has and there is room; the cache lock must be held."""
        if are_released(self._locals_shm):
            raise InputError(
                'The dataset was closed, and its folders may be in use by another: make a new one.'
            )
        under_way = self._all_in(_ShardState.PREPARING)
        for other in [other for other in under_way if not self._is_being_fetched(other)]:
            self._remove(other)
            self._shard_states[other] = _ShardState.REMOTE
            under_way.remove(other)
        if shard_id in under_way or (self.cache_limit and not self._make_room([shard_id, *under_way])):
            return False
        # Not a time until the shard is there: nobody evicts it before.
        self._shard_access_times[shard_id] = os.getpid()
        self._shard_states[shard_id] = _ShardState.PREPARING
        return True

    def _is_being_fetched(self, shard_id: int) -> bool:
        """Whether the process that claimed a shard is alive."""
        process = int(self._shard_access_times[shard_id])
        # A time in its place: nothing is known.
        return process >= 1 << 23 or is_running(process)

    def _make_room(self, wanted: list[int]) -> bool:
        """Evict until the wanted shards, the one to fetch and those on their way, fit beside the others.

        Returns False if that must wait for those on their way, and raises InputError if there are none.
        """
        needed = sum(self.shards[shard_id].get_max_size() for shard_id in wanted)
        limit = int(self.cache_limit or 0)
        by_age = sorted(
            self._all_in(_ShardState.LOCAL), key=lambda other: int(self._shard_access_times[other])
        )
        for other in by_age:
            if self.cache_usage + needed <= limit:
                break
            if is_refetchable(self._stream(other)):
                self._evict_shard(other)
        if self.cache_usage + needed > limit:
            self.cache_usage = self._usage_there()
        fits = self.cache_usage + needed <= limit
        if not fits and len(wanted) == 1:
            raise InputError(
                f'`cache_limit` must leave room for a shard of {needed} bytes beside the {self.cache_usage} bytes '
                f'of indexes and of streams without a remote, but is {limit} bytes: raise it.'
            )
        return fits

    def _usage_there(self) -> int:
        """Bytes of indexes and of the shards that are there, by their states; the cache lock must be held."""
        shards = (self.shards[shard_id] for shard_id in self._all_in(_ShardState.LOCAL))
        return sum(stream.get_index_size() for stream in self.streams) + sum(map(_bytes_present, shards))

    def _fetch(self, shard_id: int) -> None:
        """Fetch a claimed shard; nobody else touches its files meanwhile."""
        shard, stream = self.shards[shard_id], self._stream(shard_id)
        try:
            if not is_refetchable(stream):
                unpack_missing(stream, shard)
            stream.prepare_shard(shard)
            for raw, _ in shard.file_pairs:
                size = path_of(shard, raw).stat().st_size
                if size != raw.bytes:
                    raise ValueError(f'it has {size} bytes, but its index says {raw.bytes}')
        except BaseException as error:
            self._remove(shard_id)
            with FileLock(self._cache_filelock_path):
                self._shard_states[shard_id] = _ShardState.REMOTE
            if not isinstance(error, Exception):
                raise
            raise self._failure(shard_id, error) from error
        with FileLock(self._cache_filelock_path):
            self.cache_usage += _bytes_present(shard)
            self._shard_states[shard_id] = _ShardState.LOCAL
            self.touch(shard_id)

    def _failure(self, shard_id: int, error: Exception) -> Exception:
        """What to report of a shard that cannot be had."""
        return shard_failure(self.skill_of(shard_id), self._stream(shard_id), self.shards[shard_id], error)

    def _remove(self, shard_id: int) -> None:
        """Remove the files of a shard that is not local, except the only copy."""
        shard = self.shards[shard_id]
        if is_refetchable(self._stream(shard_id)):
            shard.evict()
            for raw, _ in shard.file_pairs:
                remove_unfinished(path_of(shard, raw).parent, raw.basename)

    def _stream(self, shard_id: int) -> Stream:
        return self.streams[int(self.stream_per_shard[shard_id])]

    def _all_in(self, state: _ShardState) -> list[int]:
        return np.flatnonzero(self._shard_states.numpy() == state).tolist()


def _bytes_present(shard: Any) -> int:
    """Bytes that the index gives for those files of a shard that are on the disk."""
    infos = [info for pair in shard.file_pairs for info in pair if info]
    return sum(info.bytes for info in infos if path_of(shard, info).is_file())
