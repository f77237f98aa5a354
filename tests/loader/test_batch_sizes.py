"""A DataLoader of another batch size than the dataset's: exact with one reader, refused where it could not be."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader, IterableDataset

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import collate
from skillit_stream.loader.eval_streams import EvalStreams
from tests.loader.test_overriding import Pairs, made
from tests.support.mds import SIZES, ids_of, mixed_dataset, open_streams

BATCH, ROUND = 8, 48


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch):
    """torch does not wait long for workers to end after an error."""
    monkeypatch.setattr('torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL', 0.1)


def dataset_of(root: Path) -> Any:
    return mixed_dataset(root, round_size=ROUND, batch_size=BATCH)


@pytest.mark.parametrize('size', [16, 4, None])
@pytest.mark.parametrize('collate_fn', [collate, None])
def test_with_workers_it_is_refused(streams_root: Path, size: int | None, collate_fn: Any):
    loader = DataLoader(dataset_of(streams_root), batch_size=size, num_workers=2, collate_fn=collate_fn)
    with pytest.raises(
        InputError,
        match=rf'`batch_size` of the DataLoader must be {BATCH}, as the dataset.s, with 2 workers, but got: {size}: ',
    ):
        list(loader)


def test_so_it_is_of_samples_of_any_kind(streams_root: Path):
    own = made(Pairs, streams_root, batch_size=BATCH)
    with pytest.raises(InputError, match=r'`batch_size` of the DataLoader must be 8'):
        list(DataLoader(own, batch_size=6, num_workers=2))


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('size', [16, 4, 7, None])
def test_with_one_reader_the_order_is_kept_and_resumes(streams_root: Path, size: int | None, workers: int):
    def loader_of(dataset: Any) -> DataLoader:
        return DataLoader(dataset, batch_size=size, num_workers=workers, collate_fn=collate)

    expected = dataset_of(streams_root).sample_ids(0).tolist()
    drawn, state, dataset = [], None, dataset_of(streams_root)
    for batch in loader_of(dataset):
        drawn += ids_of([batch])
        if len(drawn) == 16:
            state = dataset.state_dict(16, True)
    assert drawn == expected
    if state:
        resumed = dataset_of(streams_root)
        resumed.load_state_dict(state)
        assert ids_of(loader_of(resumed)) == expected[16:]


@pytest.mark.parametrize('workers', [0, 1])
def test_samples_that_drop_last_would_lose_are_named(streams_root: Path, workers: int):
    def loader_of(size: int) -> DataLoader:
        dataset = dataset_of(streams_root)
        return DataLoader(dataset, batch_size=size, num_workers=workers, drop_last=True, collate_fn=collate)

    with pytest.raises(
        InputError, match=r'`drop_last` would drop 16 of the 48 samples of every round, .* by 32: '
    ):
        list(loader_of(32))
    assert len(list(loader_of(16))) == 3


def test_drop_last_has_nothing_to_drop_at_the_datasets_size(streams_root: Path):
    loader = DataLoader(
        dataset_of(streams_root), batch_size=BATCH, num_workers=2, drop_last=True, collate_fn=collate
    )
    assert ids_of(loader) == dataset_of(streams_root).sample_ids(0).tolist()


@pytest.mark.parametrize('drop_last', [False, True])
def test_evaluation_is_not_concerned(streams_root: Path, drop_last: bool):
    samples = EvalStreams(open_streams(streams_root, SIZES)).all_skills()
    loader = DataLoader(samples, batch_size=7, num_workers=2, collate_fn=collate, drop_last=drop_last)
    assert ids_of(loader) == list(range(49 if drop_last else 50))


class Joined(IterableDataset):
    """Two samples of a dataset as one: what is between dataset and loader may have its own batch size."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        samples = iter(self.dataset)
        for sample in samples:
            yield {'tokens': np.concatenate([sample['tokens'], next(samples)['tokens']])}


def test_what_stands_between_them_is_left_alone(streams_root: Path):
    loader = DataLoader(Joined(dataset_of(streams_root)), batch_size=4, num_workers=2)
    assert [len(batch['tokens']) for batch in loader] == [4] * 6


@pytest.mark.parametrize('sample', [4, 12, ROUND + BATCH, -BATCH])
def test_a_state_between_two_global_batches_is_refused_when_it_is_taken(streams_root: Path, sample: int):
    dataset = dataset_of(streams_root)
    next(iter(dataset))
    for from_beginning in (False, True):
        with pytest.raises(
            InputError,
            match=rf'after whole global batches of 8 samples, at most 48, but got: sample {sample}: .*`batch_size`',
        ):
            dataset.state_dict(sample, from_beginning)
