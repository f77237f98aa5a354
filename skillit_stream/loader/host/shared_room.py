"""Shared memory that is there before it is written to.

``/dev/shm`` is a file system, often a small one: docker gives a container 64 MB. Memory in it is promised first and
found missing when it is written to; by then nothing is left but SIGBUS, which ends the process without a word.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streaming.base.shared.array as streaming_array
import torch
from streaming.base.constant import TICK
from streaming.base.shared import SharedMemory

from skillit_stream.base.errors import InputError

_FOLDER = Path('/dev/shm')
_PATIENCE = 30.0


def allocated_memory(
    name: str | None = None, create: bool | None = None, size: int = 0, auto_cleanup: bool = True
) -> SharedMemory:
    """Streaming's SharedMemory with the same parameters, but there as a whole; raises InputError without room."""
    try:
        memory = _made_or_found(name, create, size, auto_cleanup)
    except OSError as error:
        raise (_refusal(size) if error.errno == errno.ENOSPC else error) from None
    try:
        _allocate(memory.shm._fd, size)  # pyright: ignore[reportAttributeAccessIssue]
    except InputError:
        memory.cleanup()
        raise
    return memory


def _made_or_found(name: str | None, create: bool | None, size: int, auto_cleanup: bool) -> SharedMemory:
    """Streaming's SharedMemory, also where another process is about to make it.

    Streaming gives whoever makes it 7 ms between the name and the size; on a loaded machine that takes longer.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return SharedMemory(name, create, size, auto_cleanup)
        except ValueError:  # "cannot mmap an empty file"
            if time.monotonic() > end:
                raise
            time.sleep(TICK)


@contextmanager
def allocated_arrays() -> Iterator[None]:
    """Within this context Streaming's shared arrays are made of :func:`allocated_memory`."""
    original = streaming_array.SharedMemory
    streaming_array.SharedMemory = allocated_memory  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        streaming_array.SharedMemory = original


def shared_storage(size: int) -> torch.UntypedStorage:
    """Shared memory that is zeros, for this process and those forked or spawned from it.

    Args:
        size: Bytes.

    Raises:
        InputError: /dev/shm has no room for it.
    """
    if torch.multiprocessing.get_sharing_strategy() != 'file_descriptor':
        # Nobody says which file it is.
        if _FOLDER.is_dir() and shutil.disk_usage(_FOLDER).free < size:
            raise _refusal(size)
        return torch.UntypedStorage._new_shared(size)
    try:
        storage = torch.UntypedStorage._new_shared(size)
    except RuntimeError as error:  # as newer releases of torch say it
        raise (_refusal(size) if os.strerror(errno.ENOSPC) in str(error) else error) from None
    _allocate(storage._share_fd_cpu_()[0], size)
    return storage


def _allocate(descriptor: int, size: int) -> None:
    """Have the file system set aside what a file of shared memory holds."""
    if not size:
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _refusal(size) from None
        # A file system that cannot say.


def _refusal(size: int) -> InputError:
    usage = shutil.disk_usage(_FOLDER)
    return InputError(
        f'{_FOLDER} is full: the loader needs {size / 1000:.1f} KB more there, and {usage.free / 1000:.1f} of '
        f'{usage.total / 1000:.1f} KB are free. Give the container more shared memory (docker run --shm-size=1g; in '
        f'Kubernetes an emptyDir of medium Memory at {_FOLDER}), or remove what other programs keep there.'
    )
