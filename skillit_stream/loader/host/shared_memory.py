"""Shared memory: each live dataset has its own, and nothing stays of the dead.

StreamingDataset names its shared memory ``NNNNNN_...`` by the first number that is free. What a killed job
leaves keeps its folders "in use" for ever, and of two jobs that start together one fails. Here numbers are
drawn at random, from where nobody else counts, and every process of a job holds a shared ``flock`` on the
memory that registers its folders, ``/dev/shm/NNNNNN_locals``. The system drops the lock when the process
ends, however it ends: whoever can take it exclusively knows that the job is dead, and clears up after it.
"""

import contextlib
import fcntl
import functools
import gc
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.util import Finalize
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple

import streaming.base.dataset as streaming_dataset
from streaming.base.constant import CACHE_FILELOCK, LOCALS, SHM_TO_CLEAN
from streaming.base.shared import SharedMemory
from streaming.base.shared.prefix import _get_path, _pack_locals, _unpack_locals
from streaming.base.world import World
from torch import distributed as dist

from skillit_stream.base.errors import InputError, first_line
from skillit_stream.loader.host.job_rank import machine
from skillit_stream.loader.host.processes import is_running, locked
from skillit_stream.loader.host.shared_room import allocated_arrays, allocated_memory
from skillit_stream.loader.host.unfinished import remove_unfinished

# Numbers below this are of plain StreamingDatasets, and never touched.
FIRST_PREFIX = 1_000_000
_SHARED_MEMORY = Path('/dev/shm')
# Released folders show a little late; workers of a killed job notice within 5 s, or at the end of a download.
_PATIENCE, _PATIENCE_WITH_ORPHANS = 1.0, 60.0
_TICK = 0.02
# Far longer than unpacking a shard; other jobs may be doing it in the same folder.
_UNPACKING_TAKES = 3600.0


@contextmanager
def own_prefix() -> Iterator[None]:
    """Within this context StreamingDataset's constructor gets its prefix from :func:`claim_prefix`, and room."""
    original = streaming_dataset.get_shm_prefix
    streaming_dataset.get_shm_prefix = claim_prefix
    try:
        with allocated_arrays():
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
            outcome, memory = _claim_patiently(streams_local, streams_remote)
        except InputError as error:
            outcome = str(error)
        except Exception as error:
            # Whatever it is: the other ranks are waiting for an answer.
            outcome = f'No prefix of shared memory could be claimed: {first_line(error)}'
    _clear_at_exit(os.getpid())
    prefix = _agree(outcome, streams_local, world, _fetched(streams_local, streams_remote))
    if memory is None:
        memory = _held(SharedMemory(_get_path(prefix, LOCALS), False))
    return prefix, memory


def _agree(
    outcome: int | str | None, streams_local: list[str], world: World, fetched: Sequence[str] = ()
) -> int:
    """The prefix that this node's leader has chosen; `fetched` are the folders of streams with a remote.

    An error of any rank is raised on all of them: the others would wait for it in the constructor.
    """
    reports = _gathered((world.node, outcome, streams_local))
    problems = [found for _, found, _ in reports if isinstance(found, str)]
    if problems:
        raise InputError(_taken_by_own_job(fetched, world) or problems[0])
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


def _gathered(own: Any) -> list[Any]:
    """What every rank reports; all of them call it."""
    reports = [own]
    if dist.is_available() and dist.is_initialized():
        reports = [own] * dist.get_world_size()
        dist.all_gather_object(reports, own)
    return reports


def _taken_by_own_job(fetched: Sequence[str], world: World) -> str | None:
    """Why ranks of one job take a folder from each other, if they do: they are no nodes of their own."""
    nodes = {node: (folders, where) for node, folders, where in _gathered((world.node, fetched, machine()))}
    users = [(folder, where) for folders, where in nodes.values() for folder in dict.fromkeys(folders)]
    for folder, where in users:
        if (count := users.count((folder, where))) > 1:
            return (
                f'LOCAL_WORLD_SIZE is {world.ranks_per_node} in the environment, as if machine {where[0]} were {count} '
                f'nodes of {len(nodes)}, which would each fetch into the local folder {folder}: set it to the ranks '
                f'on each machine, or take it out of the environment.'
            )
    return None


def _fetched(folders: list[str], remotes: list[str | None]) -> list[str]:
    """The folders of streams with a remote: no two datasets may have one."""
    return [folder for folder, remote in zip(folders, remotes, strict=True) if remote]


def _claim_patiently(folders: list[str], remotes: list[str | None]) -> tuple[int, SharedMemory]:
    """Register the folders under a new prefix, waiting a little for those that are about to be released."""
    for folder in folders:
        if folders.count(folder) > 1:
            raise InputError(f'Every stream must have a `local` folder of its own, but two have {folder}.')
    exclusive = _fetched(folders, remotes)
    began = time.monotonic()
    while True:
        with _alone():
            _clear_dead()
            user = _user_of(exclusive)
            if user is None:
                claimed = _register(folders)
                break
        orphans = user.process > 0 and not is_running(user.process)
        if time.monotonic() - began > (_PATIENCE_WITH_ORPHANS if orphans else _PATIENCE):
            raise _refusal(user, orphans)
        # A dataset of this process that was deleted is a cycle of references: it lives until collected.
        gc.collect()
        time.sleep(_TICK)
    for folder in folders:
        remove_unfinished(Path(folder), min_age=0.0 if folder in exclusive else _UNPACKING_TAKES)
    return claimed


class _User(NamedTuple):
    """Who uses a folder, alive or dead."""

    folder: str
    prefix: int
    process: int
    """That registered it; 0 if it is a plain StreamingDataset's."""


def _user_of(wanted: list[str]) -> _User | None:
    """Who has registered one of the folders, if anybody has."""
    for prefix in _prefixes(_SHARED_MEMORY, LOCALS) if wanted else ():
        # The memory may be another user's, or gone by now.
        with contextlib.suppress(OSError, ValueError):
            data = _registration(prefix).read_bytes()
            size = int.from_bytes(data[:4], 'little')
            # A dataset that was deleted has written a length of 0.
            for folder in _unpack_locals(data)[0] if size else ():
                if folder in wanted:
                    return _User(folder, prefix, int(data[size:] or 0))
    return None


def _refusal(user: _User, orphans: bool) -> InputError:
    process = f'process {user.process}, ' if user.process else ''
    who = f'another dataset on this machine ({process}shared memory prefix {user.prefix:06})'
    remedy = 'give each job a `local` folder of its own, or wait until the other one has ended'
    if orphans:
        remedy = f'processes of a killed job (main process {user.process}) are still alive: end them'
    elif not user.process:
        remedy += '; if nothing is running, call streaming.base.util.clean_stale_shared_memory() once'
    elif user.process == os.getpid():
        who = 'another dataset of this process'
        remedy = (
            'close that one, `dataset.close()`, or delete it and whatever holds it (its DataLoader, a trainer), then '
            'try again; to use both, give each a `local` folder of its own'
        )
    return InputError(f'The local folder {user.folder} is in use by {who}: {remedy}.')


def release_folders(memory: SharedMemory) -> None:
    """Have the folders under a prefix be nobody's; other datasets may register them."""
    memory.buf[:4] = bytes(4)


def are_released(memory: SharedMemory) -> bool:
    """Whether the folders under a prefix were released, by whichever process."""
    return bytes(memory.buf[:4]) == bytes(4)


def _register(folders: list[str]) -> tuple[int, SharedMemory]:
    prefix = FIRST_PREFIX + secrets.randbelow(10**9)
    # Behind the folders, where nobody else looks: the process.
    data = _pack_locals(folders, prefix) + str(os.getpid()).encode()
    memory = allocated_memory(_get_path(prefix, LOCALS), True, len(data))
    memory.buf[: len(data)] = data
    return prefix, _held(memory)


def _held(memory: SharedMemory) -> SharedMemory:
    """The same memory, held until it is closed here and all forks of this process have ended."""
    fcntl.flock(memory.shm._fd, fcntl.LOCK_SH)  # pyright: ignore[reportAttributeAccessIssue]
    return memory


def _clear_dead() -> None:
    """Remove memory and lock files of all prefixes that no process holds any more."""
    # A killed job's resource tracker may have removed its memory already, but not its lock file.
    for prefix in {*_prefixes(_SHARED_MEMORY, LOCALS), *_prefixes(Path(gettempdir()), CACHE_FILELOCK)}:
        if prefix >= FIRST_PREFIX and _is_dead(prefix):
            memory = [_SHARED_MEMORY / _get_path(prefix, name) for name in SHM_TO_CLEAN]
            # The registration last: by it the rest is found again.
            for path in [Path(gettempdir(), _get_path(prefix, CACHE_FILELOCK)), *reversed(memory)]:
                with contextlib.suppress(PermissionError):
                    path.unlink(missing_ok=True)


def _is_dead(prefix: int) -> bool:
    try:
        with _registration(prefix).open('rb') as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # somebody holds it, or it is another user's
    return True


@functools.cache
def _clear_at_exit(process: int) -> None:
    """See to it that this process clears up when it ends; once is enough."""

    def clear() -> None:
        if os.getpid() == process:
            with _alone():
                _clear_dead()

    # Of what runs at exit, this comes after the last worker process was ended. A fork does not inherit it.
    Finalize(None, clear, exitpriority=-100)


@contextmanager
def _alone() -> Iterator[None]:
    """Only one process of this machine at a time; nothing inside waits for other processes."""
    with locked(_SHARED_MEMORY, os.O_RDONLY):
        yield


def _registration(prefix: int) -> Path:
    return _SHARED_MEMORY / _get_path(prefix, LOCALS)


def _prefixes(folder: Path, name: str) -> list[int]:
    """The prefixes under which something of that name exists in a folder."""
    found = (re.fullmatch(rf'(\d+)_{name}', path.name) for path in folder.glob(f'[0-9]*_{name}'))
    return [int(match[1]) for match in found if match]
