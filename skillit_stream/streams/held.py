"""Who holds a prefix of shared memory, and clearing up after those that died holding one.

Every process of a job holds a shared ``flock`` on the file ``NNNNNN_skillit_held``, which also notes the
process that claimed the prefix and a token that lies in its memory. The system drops the lock when the
process ends, however it ends: whoever can take it exclusively knows that nobody of that job is alive.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.shared_memory import SharedMemory as BuiltinSharedMemory
from multiprocessing.util import Finalize
from pathlib import Path
from tempfile import gettempdir

from streaming.base.constant import BARRIER_FILELOCK, CACHE_FILELOCK, LOCALS, SHM_TO_CLEAN
from streaming.base.shared import SharedMemory
from streaming.base.shared.prefix import _get_path

HELD_FILE = 'skillit_held'
# A killed job's resource tracker may remove names a little later than the job's locks fall: until then they
# must not be given to new memory.
REST_SECONDS = 60.0
_MUTEX_SECONDS = 60.0
_TICK = 0.02

# Prefix -> descriptor of the file whose lock this process holds for it.
_held: dict[int, int] = {}


def clear_dead() -> None:
    """Remove memory and lock files of all prefixes that no process holds any more."""
    for path in Path(gettempdir()).glob(f'[0-9]*_{HELD_FILE}'):
        prefix = int(path.name.split('_')[0])
        if prefix in _held:
            if read_registered(prefix) is not None:
                continue
            # Of this process, which has removed the memory itself.
            release(prefix)
        if not is_resting(path):
            _clear(prefix)


def _clear(prefix: int) -> None:
    """Clear up a prefix if nobody holds it; the mutex must be held."""
    path = held_path(prefix)
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return  # gone, or another user's
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = is_ours(prefix)
        names = memory_names(prefix) if ours else []
        for name in names:
            _unlink_memory(name)
        for file in lock_files(prefix) if ours else []:
            file.unlink(missing_ok=True)
        if names:
            os.truncate(path, 0)
            os.utime(path)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        pass  # somebody is alive
    finally:
        os.close(descriptor)


def _unlink_memory(name: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        memory = BuiltinSharedMemory(name)
        memory.close()
        memory.unlink()


def is_resting(path: Path) -> bool:
    """Whether the prefix was cleared up only just now: then its file is there and empty."""
    try:
        status = path.stat()
    except OSError:
        return False
    return not status.st_size and time.time() - status.st_mtime < REST_SECONDS


def hold(prefix: int, note: dict[str, str] | None = None) -> bool:
    """Hold a prefix until this process and its forks have ended.

    Args:
        prefix: The prefix.
        note: For the first to hold it, who must have the mutex; others hold it beside that one.

    Returns:
        False if somebody else holds it, or its file is another user's.
    """
    try:
        descriptor = os.open(held_path(prefix), os.O_RDWR | os.O_CREAT, 0o600)
    except PermissionError:
        return False
    try:
        if note is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(descriptor, 0)
            os.write(descriptor, json.dumps(note).encode())
    except BlockingIOError:
        os.close(descriptor)
        return False
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if not _held:
        # Of what runs at exit, this comes after the last worker process was ended. A fork does not inherit it.
        Finalize(None, _release_all, exitpriority=-100)
    _held[prefix] = descriptor
    return True


def is_held_here(prefix: int) -> bool:
    """Whether this process holds a prefix."""
    return prefix in _held


def release(prefix: int) -> None:
    """Let go of a prefix that this process holds."""
    os.close(_held.pop(prefix))


def _release_all() -> None:
    """At the end of a process: clear up its prefixes, except those that other ranks still hold."""
    with contextlib.suppress(OSError, RuntimeError), mutex(seconds=5.0):
        for prefix in list(_held):
            release(prefix)
            _clear(prefix)


@contextmanager
def mutex(seconds: float = _MUTEX_SECONDS) -> Iterator[None]:
    """Only one process of this user on this machine at a time; nothing inside waits for other processes."""
    path = Path(gettempdir(), f'skillit_prefixes_{os.getuid()}.lock')
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + seconds
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f'Another process has held {path} for {seconds:g} s: end it, then start again.'
                    ) from None
            time.sleep(_TICK)
        yield
    finally:
        os.close(descriptor)


def held_path(prefix: int) -> Path:
    """The file whose lock says that somebody is alive."""
    return Path(gettempdir(), _get_path(prefix, HELD_FILE))


def lock_files(prefix: int) -> list[Path]:
    """Streaming's own lock files, which it leaves behind."""
    return [Path(gettempdir(), _get_path(prefix, name)) for name in (BARRIER_FILELOCK, CACHE_FILELOCK)]


def memory_names(prefix: int) -> list[str]:
    """The names of shared memory that exist under a prefix."""
    found = []
    for name in (_get_path(prefix, kind) for kind in SHM_TO_CLEAN):
        try:
            SharedMemory(name, False, auto_cleanup=False).shm.close()
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            pass  # it is there, though not ours, or empty
        found.append(name)
    return found


def note_of(prefix: int) -> dict[str, str]:
    """What the holder of a prefix has noted: the mark of its process and the token of its memory."""
    try:
        return json.loads(held_path(prefix).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}


def is_ours(prefix: int) -> bool:
    """Whether what exists under a prefix is of the job whose file is there, not of a later one without."""
    try:
        found = read_registered(prefix)
    except (OSError, ValueError):
        return False
    note = note_of(prefix)
    # Made first: where it is missing there is no other job, but there may be the rest of this one.
    return bool(note) if found is None else note.get('token', '?').encode() in found


def read_registered(prefix: int) -> bytes | None:
    """What lies in the memory that registers a dataset's folders; None where there is none.

    Raises:
        PermissionError: It is another user's.
    """
    try:
        memory = SharedMemory(_get_path(prefix, LOCALS), False, auto_cleanup=False)
    except FileNotFoundError:
        return None
    found = bytes(memory.buf)
    memory.shm.close()
    return found
