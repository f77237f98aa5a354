"""A job of one or two ranks that gives accelerate a DataLoader, in all the ways there are to have it prepared.

Its arguments: where each rank writes what it got, and the streams. For each way: the sample ids of a round, or the
error.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration, skip_first_batches
from torch.utils.data import DataLoader, IterableDataset

from skillit_stream import InputError, SkillStreamingDataset, collate
from tests.support.launching import WORLD_VARIABLES
from tests.support.mds import ids_of, mixed_dataset

GLOBAL_BATCH = 4


class Wrapped(IterableDataset):
    """What users put around a dataset."""

    def __init__(self, dataset: SkillStreamingDataset) -> None:
        self.inner = [dataset]

    def __iter__(self) -> Any:
        """Its samples."""
        yield from self.inner[0]


def widened(samples: Sequence[Any]) -> dict[str, torch.Tensor]:
    """A batch in a type that collectives know."""
    return {name: column.to(torch.int64) for name, column in collate(samples).items()}


def outcome(play: Callable[[], Iterable[Any]]) -> list[int] | str:
    """The sample ids of a round, or the error that stood in its way."""
    try:
        return ids_of(play())
    except InputError as error:
        return str(error)


def main(arguments: list[str]) -> int:
    """Play a round in each way."""
    out, root = Path(arguments[0]), Path(arguments[1])
    rank, ranks = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
    if ranks == 1:
        # As `python script.py` has it: no process group.
        for name in WORLD_VARIABLES:
            os.environ.pop(name, None)
    accelerator = Accelerator(cpu=True)
    dataset = mixed_dataset(root, batch_size=GLOBAL_BATCH // ranks)

    def loader(source: Any = dataset, **options: Any) -> DataLoader:
        options = {'collate_fn': collate, 'batch_size': dataset.batch_size, **options}
        return DataLoader(source, **options)

    def prepared(configuration: dict[str, Any], source: Any = dataset, **options: Any) -> Iterable[Any]:
        accelerator.dataloader_config = DataLoaderConfiguration(**configuration)
        return accelerator.prepare(loader(source, **options))

    ways: dict[str, Callable[[], Iterable[Any]]] = {
        'by default': partial(prepared, {}),
        'widened': partial(prepared, {}, collate_fn=widened),
        'each its own': partial(prepared, {'dispatch_batches': False}),
        'each its own, with workers': partial(prepared, {'dispatch_batches': False}, num_workers=2),
        'wrapped': partial(prepared, {'dispatch_batches': False}, Wrapped(dataset)),
        'stateful': partial(prepared, {'dispatch_batches': False, 'use_stateful_dataloader': True}),
    }
    found = {name: outcome(play) for name, play in ways.items()}
    if rank == 0:
        # Rank 0 alone reads; the others would wait for what it hands around.
        workers = {'num_workers': 1, 'collate_fn': widened}
        found['by default, with a worker'] = outcome(partial(prepared, {}, **workers))
        if ranks > 1:
            workers['multiprocessing_context'] = 'spawn'
            found['by default, with a spawned worker'] = outcome(partial(prepared, {}, **workers))
    found['as it is'] = outcome(loader)
    orders = [dataset.sample_ids(number).tolist() for number in range(dataset.round + 1)]
    state = dataset.state_dict(5 * GLOBAL_BATCH, True)
    dataset.load_state_dict(state)
    found['skipped'] = outcome(lambda: skip_first_batches(loader(), 5))
    found['resumed'] = outcome(loader)
    out.with_name(f'{out.name}-{rank}.json').write_text(json.dumps({**found, 'orders': orders}))
    return 0
