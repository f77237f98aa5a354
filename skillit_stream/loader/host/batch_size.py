"""The batch size that a DataLoader asks a dataset for, which nothing tells the dataset."""

import sys

from torch.utils.data import IterableDataset
from torch.utils.data._utils.fetch import _IterableDatasetFetcher

from skillit_stream.base.errors import InputError

_FETCH = _IterableDatasetFetcher.fetch.__code__


def refuse_other_batch_size(dataset: IterableDataset, batch_size: int, *, workers: int, samples: int) -> None:
    """Refuse a DataLoader whose batches would not be the dataset's, where samples would be lost by it.

    Each worker reads whole batches of the dataset, in turn with the others. Batches of another size would mix several
    of them: their first samples, counted off, are not those that have been trained on. One reader alone keeps the
    order whatever the size. Call it from where the dataset's next sample is asked for: the DataLoader stands on the
    call stack. One that reads from something else, which reads from the dataset, is left alone.

    Args:
        dataset: That is read.
        batch_size: Its own.
        workers: That read it.
        samples: That this one reads in the round.

    Raises:
        InputError: There are several workers and another batch size, or `drop_last` would drop the round's end.
    """
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not _FETCH:
        frame = frame.f_back
    if frame is None:
        return
    fetcher, asked = frame.f_locals['self'], frame.f_locals['possibly_batched_index']
    if fetcher.dataset is not dataset:
        return
    size = len(asked) if fetcher.auto_collation else None
    if workers > 1 and size != batch_size:
        raise InputError(
            f"`batch_size` of the DataLoader must be {batch_size}, as the dataset's, with {workers} workers, but got: "
            f'{size}: give both the same, or a run that is resumed would repeat samples and lose others.'
        )
    if size and fetcher.drop_last and samples % size:
        raise InputError(
            f'`drop_last` would drop {samples % size} of the {samples} samples of every round, which the DataLoader '
            f"cannot divide by {size}: leave it out, or pass `batch_size`={batch_size}, the dataset's."
        )
