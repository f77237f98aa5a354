"""Locks on what is written: a file in the folder, held for as long as the command is at work there."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from skillit_stream.base.errors import InputError

LOCK_NAME = '.skillit-lock'


@contextmanager
def locked(path: str, *, shared: bool = False, what: str = '') -> Iterator[None]:
    """Hold the lock of a file, which is made if need be; a command that has ended, however it did, holds none.

    Args:
        path: The file. Its folder is made as well.
        shared: Whether other commands may hold it too, if they ask for the same.
        what: What it protects, for the message (default: the folder).

    Raises:
        InputError: Another command holds it.
        OSError: The file cannot be made.
    """
    file = _taken(path, shared=shared, what=what or os.path.dirname(path))
    try:
        yield
    finally:
        file.close()


def _taken(path: str, *, shared: bool, what: str) -> TextIO:
    while True:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        file = open(path, 'a')  # noqa: SIM115 (held to the end)
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            # The command that held it before may have moved or removed the folder: then the lock is of another one.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        except OSError:
            file.close()
            raise InputError(
                f'{what}: another command is at work there; wait for it to end, or end it'
            ) from None
        file.close()
