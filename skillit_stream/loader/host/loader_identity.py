"""Which DataLoader a worker process belongs to: what its workers have in common, and no other loader's."""

import inspect
import multiprocessing
import os

from torch.utils.data import get_worker_info


def iterating_process() -> int:
    """Number of the process that asks for samples: in a worker its DataLoader's main process, else this one."""
    parent = multiprocessing.parent_process()
    return os.getpid() if get_worker_info() is None or parent is None else parent.pid or 0


def loader_identity() -> tuple[int, ...] | None:
    """What the workers of one DataLoader iterator have in common, and no others; None outside of workers.

    The seed that torch draws for each iterator is the same again where the program seeds torch again; so the pipe
    through which all workers of an iterator answer counts too.
    """
    info = get_worker_info()
    if info is None:
        return None
    return iterating_process(), info.seed - info.id, _answers_pipe()


def _answers_pipe() -> int:
    """The inode of the pipe that leads from the workers of a DataLoader to its main process, 0 if there is none."""
    process = multiprocessing.current_process()
    try:
        # Torch's worker loop and torchdata's are the process's target, and take it under the same name.
        bound = inspect.signature(process._target).bind(*process._args, **process._kwargs)  # pyright: ignore
        return os.fstat(bound.arguments['data_queue']._writer.fileno()).st_ino
    except (AttributeError, KeyError, TypeError, OSError):
        return 0
