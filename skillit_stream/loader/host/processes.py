"""Whether a process is alive, and one at a time of those that are."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def is_running(pid: int) -> bool:
    """Whether a process is alive; one that has ended but is not yet reaped by its parent is not."""
    try:
        status = Path(f'/proc/{pid}/stat').read_bytes()
    except OSError:
        return False
    # The state follows the name, which stands in parentheses and may hold some itself.
    return status.rpartition(b')')[2].split()[0] not in (b'Z', b'X')


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
