"""Making shards local: room for them first, one download each, and errors where others would wait.

StreamingDataset's own ``prepare_shard`` leaves a shard that could not be fetched marked as being fetched,
and its file on the disk; it counts a download against ``cache_limit`` when it is over; and it may evict the
only copy of a shard. Here, under the same lock and the same shared states:

- room is made for all downloads under way together, by evicting only what can be fetched again;
- what does not pass is removed, and the error names skill, shard, remote and remedy;
- nobody waits for a process that has ended: a shard being fetched carries its number.
"""

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from time import sleep, time_ns
from typing import Any
from weakref import WeakSet

import numpy as np
from filelock import FileLock
from streaming import Stream
from streaming.base.constant import TICK
from streaming.base.dataset import _ShardState
from streaming.base.storage import CloudDownloader

from skillit_stream.base.errors import InputError, first_line
from skillit_stream.loader.host.processes import is_running

# What downloads that were killed leave beside a shard: Streaming's own and those of the S3 client.
_UNFINISHED = re.compile(r'shard\..+\.(tmp|[0-9a-fA-F]{8})')

_connected: WeakSet[Stream] = WeakSet()


def separate_connections(streams: Iterable[Stream]) -> None:
    """Let forked workers open connections of their own: one shared with the parent would mix their answers."""
    _connected.update(streams)


def _forget_connections() -> None:
    for stream in list(_connected):
        stream._downloader = CloudDownloader.get(stream.remote)


os.register_at_fork(after_in_child=_forget_connections)


def make_local(dataset: Any, shard_id: int, skill: str, *, blocking: bool = True) -> None:
    """Fetch a shard, or wait for the process that fetches it.

    Args:
        dataset: The StreamingDataset.
        shard_id: Number of the shard.
        skill: Name of its stream, for errors.
        blocking: Whether to wait when another process fetches the shard, or has to make room for it.

    Raises:
        RuntimeError: The shard cannot be fetched, or what came is not what the index says.
        InputError: It is missing and has no remote, or ``cache_limit`` or ``validate_hash`` does not fit.
    """
    while True:
        with FileLock(dataset._cache_filelock_path):
            ready = _is_ready(dataset, shard_id)
            claimed = not ready and _claim(dataset, shard_id)
        if claimed:
            return _fetch(dataset, shard_id, skill)
        if ready or not blocking:
            return None
        sleep(TICK)
        while dataset._shard_states[shard_id] == _ShardState.PREPARING and _is_fetched(dataset, shard_id):
            sleep(TICK)


def _is_ready(dataset: Any, shard_id: int) -> bool:
    """Whether a shard may be opened; the cache lock must be held."""
    if dataset._shard_states[shard_id] != _ShardState.LOCAL:
        return False
    shard = dataset.shards[shard_id]
    if all(_path(shard, raw).is_file() for raw, _ in shard.file_pairs):
        dataset._shard_access_times[shard_id] = time_ns()
        return True
    # Only its compressed form is there, or somebody has deleted it; it is counted anew when it is ready.
    dataset.cache_usage -= _bytes_present(shard) or shard.get_raw_size()
    dataset._shard_states[shard_id] = _ShardState.REMOTE
    return False


def _claim(dataset: Any, shard_id: int) -> bool:
    """Take a shard that is to be fetched, if nobody has and there is room; the cache lock must be held."""
    under_way = _all_in(dataset, _ShardState.PREPARING)
    for other in [other for other in under_way if not _is_fetched(dataset, other)]:
        _remove(dataset, other)
        dataset._shard_states[other] = _ShardState.REMOTE
        under_way.remove(other)
    if shard_id in under_way or (dataset.cache_limit and not _make_room(dataset, [shard_id, *under_way])):
        return False
    dataset._shard_states[shard_id] = _ShardState.PREPARING
    # Not a time until the shard is there: nobody evicts it before.
    dataset._shard_access_times[shard_id] = os.getpid()
    return True


def _is_fetched(dataset: Any, shard_id: int) -> bool:
    """Whether the process that claimed a shard is alive."""
    process = int(dataset._shard_access_times[shard_id])
    # A late reader of an evicted copy may have noted a time: then nothing is known.
    return process >= 1 << 23 or is_running(process)


def _make_room(dataset: Any, wanted: list[int]) -> bool:
    """Evict until the wanted shards, the one to fetch and those on their way, fit beside the others.

    Returns False if that must wait for those on their way, and raises InputError if there are none.
    """
    needed = sum(dataset.shards[shard_id].get_max_size() for shard_id in wanted)
    times = dataset._shard_access_times
    for other in sorted(_all_in(dataset, _ShardState.LOCAL), key=lambda other: int(times[other])):
        if dataset.cache_usage + needed <= dataset.cache_limit:
            break
        if _is_refetchable(_stream(dataset, other)):
            dataset._evict_shard(other)
    fits = dataset.cache_usage + needed <= dataset.cache_limit
    if not fits and len(wanted) == 1:
        raise InputError(
            f'`cache_limit` must leave room for a shard of {needed} bytes beside the {dataset.cache_usage} bytes '
            f'of indexes and of streams without a remote, but is {dataset.cache_limit} bytes: raise it.'
        )
    return fits


def _fetch(dataset: Any, shard_id: int, skill: str) -> None:
    """Fetch a claimed shard; nobody else touches its files meanwhile."""
    stream, shard = _stream(dataset, shard_id), dataset.shards[shard_id]
    try:
        stream.prepare_shard(shard)
        for raw, _ in shard.file_pairs:
            size = _path(shard, raw).stat().st_size
            if size != raw.bytes:
                raise ValueError(f'it has {size} bytes, but its index says {raw.bytes}')
    except BaseException as error:
        _remove(dataset, shard_id)
        with FileLock(dataset._cache_filelock_path):
            dataset._shard_states[shard_id] = _ShardState.REMOTE
        if not isinstance(error, Exception):
            raise
        raise _failure(stream, shard, skill, error) from error
    with FileLock(dataset._cache_filelock_path):
        dataset.cache_usage += _bytes_present(shard)
        dataset._shard_access_times[shard_id] = time_ns()
        dataset._shard_states[shard_id] = _ShardState.LOCAL


def mend_damaged(dataset: Any, shard_id: int, skill: str, error: Exception, *, again: bool) -> None:
    """Evict a shard whose file is not what its index says, so that it is fetched anew.

    Else a copy that a crash has cut short would stop every start on these folders.

    Args:
        dataset: The StreamingDataset.
        shard_id: Number of the shard.
        skill: Name of its stream, for errors.
        error: What was found.
        again: Whether it was evicted and fetched before.

    Raises:
        RuntimeError: It was, or it cannot be fetched.
    """
    stream, shard = _stream(dataset, shard_id), dataset.shards[shard_id]
    if again or not _is_refetchable(stream):
        raise _failure(stream, shard, skill, error) from error
    with FileLock(dataset._cache_filelock_path):
        if dataset._shard_states[shard_id] == _ShardState.LOCAL:
            dataset._evict_shard(shard_id)


def _failure(stream: Stream, shard: Any, skill: str, error: Exception) -> Exception:
    """What to tell the user of a shard that cannot be had."""
    raw, zipped = shard.file_pairs[0]
    if not stream.remote and not _path(shard, raw).exists():
        return InputError(
            f'Skill {skill} lacks a shard that its index names, {_path(shard, raw)}: convert the stream again, '
            f'or give it a remote.'
        )
    known = (zipped or raw).hashes
    if stream.validate_hash and stream.validate_hash not in known:
        return InputError(
            f'`validate_hash` must be a hash that the index of skill {skill} holds '
            f'({", ".join(known) or "it has none"}), but got: {stream.validate_hash!r}.'
        )
    if not stream.remote:
        return RuntimeError(
            f'Skill {skill} has a damaged shard, {_path(shard, raw)}: {first_line(error)}. Convert the stream again.'
        )
    address = os.path.join(stream.remote, stream.split, (zipped or raw).basename)
    return RuntimeError(
        f'Skill {skill} cannot get its shard {address}: {first_line(error)}. Check that it is there, may be read '
        f'and is whole (or upload it again), then start again.'
    )


def _remove(dataset: Any, shard_id: int) -> None:
    """Remove the files of a shard that is not local, except the only copy."""
    stream, shard = _stream(dataset, shard_id), dataset.shards[shard_id]
    if _is_refetchable(stream):
        shard.evict()
        for raw, _ in shard.file_pairs:
            remove_unfinished(_path(shard, raw).parent, raw.basename)


def remove_unfinished(folder: Path, shard: str = 'shard.') -> None:
    """Remove what downloads that were killed left in a folder, beside one shard or beside all of them.

    Nothing else would, and every kill adds to it.
    """
    with contextlib.suppress(FileNotFoundError):
        for file in list(os.scandir(folder)):
            if file.name.startswith(shard) and _UNFINISHED.fullmatch(file.name):
                Path(file.path).unlink(missing_ok=True)


def _is_refetchable(stream: Stream) -> bool:
    return bool(stream.remote) and stream.remote != stream.local


def _stream(dataset: Any, shard_id: int) -> Stream:
    return dataset.streams[int(dataset.stream_per_shard[shard_id])]


def _all_in(dataset: Any, state: _ShardState) -> list[int]:
    return np.flatnonzero(dataset._shard_states.numpy() == state).tolist()


def _path(shard: Any, info: Any) -> Path:
    return Path(shard.dirname, shard.split or '', info.basename)


def _bytes_present(shard: Any) -> int:
    """Bytes that the index gives for those files of a shard that are on the disk."""
    infos = [info for pair in shard.file_pairs for info in pair if info]
    return sum(info.bytes for info in infos if _path(shard, info).is_file())
