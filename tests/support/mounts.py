"""Folders that are full, tiny or read-only: file systems that one forked child alone sees."""

import ctypes
import os
import pickle
import signal
import subprocess
from collections.abc import Callable, Sequence
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

_NEW_MOUNTS = 0x20000  # CLONE_NEWNS
PATIENCE = 60  # seconds for what takes one or two


def tiny(folder: Path | str, size: str) -> list[str]:
    """The mount of an empty file system of this size, as ``100k``, over a folder."""
    return ['mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(folder)]


def read_only(folder: Path | str) -> list[str]:
    """The mount of a folder over itself that nobody can write to, not even root."""
    return ['mount', '-o', 'bind,ro', str(folder), str(folder)]


def in_child(action: Callable[[], Any], mounts: Sequence[list[str]] = ()) -> Any:
    """What an action returns in a forked child with mounts of its own; an error of it is raised here.

    Args:
        action: Returns, or raises, what can be pickled.
        mounts: Commands, of :func:`tiny` and :func:`read_only`. Skips the test where they are not allowed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(PATIENCE)
        os.close(reader)
        # The parent's would look for what the child has made, in other mounts.
        resource_tracker.register = resource_tracker.unregister = lambda *_: None
        outcome = _outcome(action, mounts)
        with os.fdopen(writer, 'wb') as file:
            file.write(pickle.dumps(outcome))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, 'rb') as file:
        data = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f'the child ended by {signal.Signals(-status).name if status < 0 else status}'
    found, error = pickle.loads(data)
    if isinstance(error, PermissionError) and error.filename == 'mount':
        pytest.skip('needs the right to mount (root)')
    if error is not None:
        raise error
    return found


def _outcome(action: Callable[[], Any], mounts: Sequence[list[str]]) -> tuple[Any, BaseException | None]:
    if mounts:
        private = ['mount', '--make-rprivate', '/']
        allowed = ctypes.CDLL(None).unshare(_NEW_MOUNTS) == 0
        if not allowed or any(subprocess.run(one, check=False).returncode for one in (private, *mounts)):
            return None, PermissionError(1, 'not allowed', 'mount')
    try:
        return action(), None
    except Exception as error:
        # As another process would print it: the chain of causes is not told.
        return None, type(error)(*error.args)
