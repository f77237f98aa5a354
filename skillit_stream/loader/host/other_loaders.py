"""What accelerate puts between a dataset and its DataLoader, where that would change which samples are trained on.

``accelerator.prepare(loader)``, which transformers' Trainer calls too, takes every iterable dataset for one that gives
each rank all of the samples. It has rank 0 alone read and hands its batches around, or lets each rank keep a part of
what it reads. Of a dataset that gives each rank its own samples, most would never be seen. To resume,
``skip_first_batches`` drops batches; a dataset that has its own state back has left them behind already.

Nothing of this shows on the dataset itself. Who asks it to iterate stands on the call stack: in this process, in a
forked worker, which keeps the stack of the process that it was forked from, and where the dataset is pickled for a
spawned one.
"""

import sys
from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset

from skillit_stream.base.errors import InputError

# Both have an IterableDatasetShard.
_MODULES = ('accelerate.data_loader', 'transformers.trainer_pt_utils')


def refuse_other_division(*, resumed: bool = False) -> None:
    """Refuse that accelerate iterates over a dataset which has been divided among the ranks, or drops its batches.

    Args:
        resumed: Whether the dataset goes on inside a round, by its state.

    Raises:
        InputError: It does, and samples would be lost.
    """
    if not any(name in sys.modules for name in _MODULES):
        return
    for outer in _asking():
        if _divides(outer):
            raise InputError(
                'accelerator.prepare() would divide among the ranks once more what the dataset has divided already: '
                'prepare model and optimizer alone, and iterate over the DataLoader itself '
                "(transformers' Trainer: return it from get_train_dataloader())."
            )
        skipped = getattr(outer, 'skip_batches', 0)
        if resumed and skipped:
            raise InputError(
                f'accelerate would drop {skipped} batches of a round that the dataset resumes inside, by its state: '
                f"leave out skip_first_batches() (transformers' Trainer: pass ignore_data_skip=True)."
            )


def _asking() -> Iterator[Any]:
    """Those objects of accelerate that are on the call stack, from the innermost on."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get('__name__') in _MODULES and 'self' in frame.f_locals:
            yield frame.f_locals['self']
        frame = frame.f_back


def _divides(outer: Any) -> bool:
    """Whether an object of accelerate gives each of several ranks a part of what it reads."""
    # By the type's name: some of them say that their class is DataLoader.
    kind = type(outer).__name__
    if kind == 'IterableDatasetShard':
        return outer.num_processes > 1
    if kind != 'DataLoaderDispatcher' or not isinstance(outer.dataset, IterableDataset):
        return False
    # Of one rank too, if there is a process group: its collectives do not know uint16.
    return outer.state.distributed_type != 'NO'
