"""Whether a process is alive, one at a time of those that are, and the threads of this one."""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def is_running(pid: int) -> bool:
    """Whether a process is alive; one that has ended but is not yet reaped by its parent is not."""
    return _state(Path(f'/proc/{pid}/stat')) not in (b'', b'Z', b'X')


def _state(path: Path) -> bytes:
    """The state of a process or thread, a letter; nothing of one that is gone."""
    try:
        status = path.read_bytes()
    except OSError:
        return b''
    # It follows the name, which stands in parentheses and may hold some itself.
    return status.rpartition(b')')[2].split()[0]


def wait_for_threads(patience: float = 1.0) -> None:
    """Let the other threads of this process, those that Python does not know too, go on until they all wait.

    Args:
        patience: Seconds after which this one goes on though others still run.
    """
    own, end = threading.get_native_id(), time.monotonic() + patience
    while time.monotonic() < end:
        # Those that wait for Python's lock get it meanwhile.
        time.sleep(0.01)
        states = [
            _state(task / 'stat') for task in Path('/proc/self/task').glob('*') if task.name != str(own)
        ]
        if all(state in (b'S', b'') for state in states):
            return


@contextmanager
def locked(path: str | os.PathLike[str], flags: int) -> Iterator[None]:
    """Only one process, and one thread of it, at a time; the system takes the lock from a process that ends.

    Args:
        path: A file or folder.
        flags: To open it with, as ``os.O_RDONLY``.
    """
    descriptor = os.open(path, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        # Not by closing alone: a fork made meanwhile has the descriptor too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
