"""Prefixes of shared memory: one for every live dataset of a machine, none for the dead.

StreamingDataset names its shared memory and lock files ``NNNNNN_...`` with the first number that is free.
What a killed job leaves behind keeps its number, and can keep its folders "in use", for ever; lock files
are left even by jobs that end in order. Here every process of a job holds a shared ``flock`` on one more
file of that number. The system drops it when the process ends, however it ends: whoever can take the lock
exclusively knows that nobody of that job is alive, and may clear up after it. Numbers without such a file
belong to someone else's plain StreamingDataset and are never touched.
"""

import contextlib
import gc
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from uuid import uuid4

import streaming.base.dataset as streaming_dataset
from streaming.base.constant import LOCALS
from streaming.base.shared import SharedMemory
from streaming.base.shared.prefix import _get_path, _pack_locals, _unpack_locals
from streaming.base.world import World
from torch import distributed as dist

from skillit_stream.errors import InputError, first_line
from skillit_stream.streams import held
from skillit_stream.streams.processes import is_running, process_mark

# Released folders show a little late; workers of a killed job notice within 5 s, or at the end of a download.
_PATIENCE, _PATIENCE_WITH_ORPHANS = 1.0, 60.0
_TICK = 0.02
# Prefixes in a row without a dataset after which no further one is looked for.
_LONGEST_GAP = 200
# What downloads that were killed leave beside a shard: Streaming's own and those of the S3 client.
_UNFINISHED = re.compile(r'shard\..+\.(tmp|[0-9a-fA-F]{8})')


class _FolderInUseError(Exception):
    """A live dataset, with the given prefix, has one of our local folders."""

    def __init__(self, folder: str, prefix: int, mark: str) -> None:
        super().__init__(folder)
        self.folder, self.prefix, self.mark = folder, prefix, mark


@contextmanager
def own_prefix() -> Iterator[None]:
    """Within this context StreamingDataset's constructor gets its prefix from :func:`claim_prefix`."""
    original = streaming_dataset.get_shm_prefix
    streaming_dataset.get_shm_prefix = claim_prefix
    try:
        yield
    finally:
        streaming_dataset.get_shm_prefix = original


def claim_prefix(
    streams_local: list[str], streams_remote: list[str | None], world: World, retry: int = 0
) -> tuple[int, SharedMemory]:
    """A prefix for a new dataset, after clearing up those of dead jobs; called by every rank at once.

    Args:
        streams_local: Absolute local folder of each stream.
        streams_remote: Remote of each stream; folders of streams with one must not be shared.
        world: Who we are; each node's local leader chooses for its ranks.
        retry: Streaming's; waits here depend on what is waited for.

    Returns:
        The prefix, and the shared memory that registers the folders under it.

    Raises:
        InputError: On all ranks, if on one node a local folder is taken, used twice, or differs by rank.
    """
    del retry
    memory, outcome = None, None
    if world.is_local_leader:
        try:
            prefix, memory = _claim_patiently(streams_local, streams_remote)
            outcome = prefix
        except Exception as error:
            # Whatever it is: the other ranks are waiting for an answer.
            outcome = str(error)
            if not isinstance(error, InputError):
                outcome = f'No prefix of shared memory could be claimed: {first_line(error)}'
    prefix = _agree(outcome, streams_local, world)
    if memory is None:
        held.hold(prefix)
        memory = SharedMemory(_get_path(prefix, LOCALS), False)
    return prefix, memory


def _agree(outcome: int | str | None, streams_local: list[str], world: World) -> int:
    """The prefix that this node's leader has chosen; an error of any rank is raised on all of them."""
    reports = [(world.node, outcome, streams_local)]
    if dist.is_available() and dist.is_initialized():
        reports = [reports[0]] * dist.get_world_size()
        dist.all_gather_object(reports, (world.node, outcome, streams_local))
    problems = [found for _, found, _ in reports if isinstance(found, str)]
    if problems:
        raise InputError(problems[0])
    leaders = {node: (found, folders) for node, found, folders in reports if isinstance(found, int)}
    for node, _, folders in reports:
        if node not in leaders:
            raise RuntimeError(f'Internal error: no rank of node {node} is its local leader.')
        if folders != leaders[node][1]:
            raise InputError(
                f'`local` of the streams must be the same on all ranks of a node, but on node {node} one has '
                f'{", ".join(leaders[node][1])} and one {", ".join(folders)}.'
            )
    return leaders[world.node][0]


def _claim_patiently(
    streams_local: Sequence[str], streams_remote: Sequence[str | None]
) -> tuple[int, SharedMemory]:
    """Claim a prefix, waiting a little for folders that are about to be released."""
    for folder in streams_local:
        if streams_local.count(folder) > 1:
            raise InputError(f'Every stream must have a `local` folder of its own, but two have {folder}.')
    exclusive = [local for local, remote in zip(streams_local, streams_remote, strict=True) if remote]
    began = time.monotonic()
    while True:
        try:
            with held.mutex():
                held.clear_dead()
                _refuse_shared(exclusive)
                prefix, memory = _claim_free(streams_local)
                break
        except _FolderInUseError as found:
            if found.mark == process_mark():
                # A dataset that was deleted is a cycle of references: it lives until it is collected.
                gc.collect()
            orphans = bool(found.mark) and not is_running(found.mark)
            if time.monotonic() - began > (_PATIENCE_WITH_ORPHANS if orphans else _PATIENCE):
                raise _refusal(found, orphans) from found
        time.sleep(_TICK)
    for folder in exclusive:
        remove_unfinished(Path(folder))
    return prefix, memory


def _refusal(found: _FolderInUseError, orphans: bool) -> InputError:
    who = f'another dataset on this machine (shared memory prefix {found.prefix:06})'
    remedy = 'give each job a `local` folder of its own, or wait until the other one has ended'
    if orphans:
        remedy = f'processes of a killed job (main process {found.mark.split(maxsplit=1)[0]}) are still alive: end them'
    elif not found.mark:
        remedy += '; if nothing is running, call streaming.base.util.clean_stale_shared_memory() once'
    elif found.mark == process_mark():
        who, remedy = 'another dataset of this process', 'give each dataset a `local` folder of its own'
    return InputError(f'The local folder {found.folder} is in use by {who}: {remedy}.')


def _refuse_shared(folders: Sequence[str]) -> None:
    """Raise _FolderInUseError if one of the folders is registered under any prefix."""
    gap = 0
    for prefix in count():
        theirs = _folders_of(prefix)
        gap = gap + 1 if theirs is None else 0
        if not folders or gap > _LONGEST_GAP:
            return
        for folder in folders:
            if folder in (theirs or ()):
                mark = held.note_of(prefix).get('process', '') if held.is_ours(prefix) else ''
                raise _FolderInUseError(folder, prefix, mark)


def _folders_of(prefix: int) -> list[str] | None:
    """The local folders registered under a prefix; None where nothing is."""
    try:
        found = held.read_registered(prefix)
    except (OSError, ValueError):
        return []
    # A dataset that was deleted writes a length of 0.
    if found is None:
        return None
    return _unpack_locals(found)[0] if any(found[:4]) else []


def _claim_free(streams_local: Sequence[str]) -> tuple[int, SharedMemory]:
    for prefix in count():
        path = held.held_path(prefix)
        if (
            held.is_held_here(prefix)
            or held.is_resting(path)
            or any(map(Path.exists, held.lock_files(prefix)))
        ):
            continue
        token = uuid4().hex
        if held.memory_names(prefix) or not held.hold(prefix, {'process': process_mark(), 'token': token}):
            continue
        # Behind the folders, where nobody else looks: by the token the memory is known as ours.
        data = _pack_locals(list(streams_local), prefix) + token.encode()
        try:
            memory = SharedMemory(_get_path(prefix, LOCALS), True, len(data))
        except OSError:
            # A plain StreamingDataset has just taken it: that one knows nothing of our locks.
            held.release(prefix)
            path.unlink(missing_ok=True)
            continue
        memory.buf[: len(data)] = data
        return prefix, memory
    raise RuntimeError('Internal error: counting ended.')


def remove_unfinished(folder: Path, shard: str = 'shard.') -> None:
    """Remove what downloads that were killed left in a folder, beside one shard or beside all of them."""
    with contextlib.suppress(FileNotFoundError):
        for file in list(os.scandir(folder)):
            if file.name.startswith(shard) and _UNFINISHED.fullmatch(file.name):
                Path(file.path).unlink(missing_ok=True)
