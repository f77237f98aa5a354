"""A subclass that overrides `__getitem__` or `get_item`, as StreamingDataset's users do, decides what a sample is."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streaming import Stream
from torch.utils.data import DataLoader, Subset

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import collate
from skillit_stream.loader.dataset import SkillStreamingDataset
from skillit_stream.loader.eval_streams import EvalSamples, EvalStreams
from tests.support.jobs import fetched_streams, loader_of
from tests.support.mds import SHARES, SIZES, ids_of, mixed_dataset, open_streams, tokens_of, write_streams


class Added(SkillStreamingDataset):
    """Adds 1000 to every token."""

    def __getitem__(self, at: Any) -> Any:
        sample = super().__getitem__(at)
        sample['tokens'] = sample['tokens'] + 1000
        return sample


class AddedByItem(SkillStreamingDataset):
    """The same, by the other method."""

    def get_item(self, sample_id: int, retry: int = 7) -> Any:
        sample = super().get_item(sample_id, retry)
        return {**sample, 'tokens': sample['tokens'] + 1000}


class Pairs(SkillStreamingDataset):
    """Makes pairs of its samples, as datasets of images do."""

    def __getitem__(self, at: Any) -> Any:
        sample = super().__getitem__(at)
        return sample['tokens'].astype(np.int64), sample['skill']


class AddedEval(EvalStreams):
    """Of eval streams."""

    def __getitem__(self, at: Any) -> Any:
        sample = super().__getitem__(at)
        return {**sample, 'tokens': sample['tokens'] + 1000}


class AddedSamples(EvalSamples):
    """Of the samples of one skill."""

    def __getitem__(self, index: int) -> Any:
        sample = super().__getitem__(index)
        return {**sample, 'tokens': sample['tokens'] + 1000}


def made(kind: type[SkillStreamingDataset], root: Path, **options: Any) -> SkillStreamingDataset:
    streams = options.pop('streams', None) or open_streams(root, SIZES)
    settings = {'round_size': 48, 'batch_size': 4, 'num_canonical_nodes': 2, 'shuffle_block_size': 8}
    return kind(streams=streams, proportions=SHARES, **{**settings, **options})


def tokens_in(batches: Iterable[Any]) -> np.ndarray:
    return np.concatenate([np.asarray(batch['tokens']) for batch in batches])


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('kind', [Added, AddedByItem])
def test_iteration_draws_what_the_subclass_makes_of_the_same_samples(
    streams_root: Path, kind: Any, workers: int
):
    plain = list(loader_of(mixed_dataset(streams_root), workers))
    own = made(kind, streams_root)
    for collate_fn in (collate, None):
        batches = list(loader_of(own, workers, collate_fn=collate_fn))
        if collate_fn:
            assert ids_of(batches) == ids_of(plain)
            np.testing.assert_array_equal(tokens_in(batches), tokens_in(plain) + 1000)
            assert [batch['skill'].tolist() for batch in batches] == [b['skill'].tolist() for b in plain]
            assert {name: value.dtype for name, value in batches[0].items()} == {
                name: value.dtype for name, value in plain[0].items()
            }
    assert own.round == 1


def test_it_resumes_inside_a_round(streams_root: Path):
    expected = ids_of(made(Added, streams_root))
    resumed = made(Added, streams_root)
    resumed.load_state_dict(made(Added, streams_root).state_dict(16, False))
    assert ids_of(resumed) == expected[16:]


def test_samples_need_not_be_mappings(streams_root: Path):
    expected = tokens_in(loader_of(mixed_dataset(streams_root), 0))
    for collate_fn in (collate, None):
        batches: Any = list(loader_of(made(Pairs, streams_root), 0, collate_fn=collate_fn))
        np.testing.assert_array_equal(np.concatenate([tokens for tokens, _ in batches]), expected)


def test_a_sample_by_its_index_is_the_one_that_is_drawn(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    drawn = next(iter(dataset))
    found = dataset[int(drawn['sample_id'])]
    assert found.keys() == drawn.keys()
    for name, value in drawn.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
    last = dataset[-1]
    assert (last['sample_id'], last['skill']) == (49, 2)
    assert [int(one['sample_id']) for one in dataset[3:5]] == [3, 4]
    found['tokens'][:] = 0  # not a view of the file
    np.testing.assert_array_equal(dataset[int(drawn['sample_id'])]['tokens'], drawn['tokens'])


@pytest.mark.parametrize('extra', [None, {'text': ('str', 'some')}])
def test_behind_a_remote_and_with_columns_of_any_size(tmp_path: Path, extra: Any):
    write_streams(tmp_path / 'remote', SIZES, extra=extra)
    limit = 4 * 12 * 16 * 8 + sum(path.stat().st_size for path in tmp_path.rglob('index.json'))
    own = made(
        Added, tmp_path, streams=fetched_streams(tmp_path / 'remote', tmp_path / 'local'), cache_limit=limit
    )
    expected = own.sample_ids(0).tolist()
    samples = list(own)
    assert ids_of(samples) == expected
    starts = {0: 0, 1: 27, 2: 47}
    for sample in samples:
        stream = int(sample['skill'])
        number = int(sample['sample_id']) - starts[stream]
        np.testing.assert_array_equal(sample['tokens'], tokens_of(stream, number) + 1000)


def test_evaluation_honours_it_too(streams_root: Path):
    plain = EvalStreams(open_streams(streams_root, SIZES))
    expected = tokens_in(DataLoader(plain.skill('b'), batch_size=5, collate_fn=collate)) + 1000
    own = AddedEval(open_streams(streams_root, SIZES))
    for samples in (own.skill('b'), AddedSamples(plain, np.arange(27, 47))):
        for kept in (samples, Subset(samples, range(20))):
            found = tokens_in(DataLoader(kept, batch_size=5, collate_fn=collate))
            np.testing.assert_array_equal(found, expected)
    assert own.skill('b')[3]['tokens'][0] == 1001


def test_a_column_that_the_loader_adds_may_not_be_in_streams_of_any_kind(tmp_path: Path):
    write_streams(tmp_path, {'a': [3]}, extra={'text': ('str', 'some'), 'skill': ('str', 'mine')})
    with pytest.raises(InputError, match=r"^Streams must not have a column 'skill'"):
        EvalStreams({'a': Stream(local=str(tmp_path / 'a'))})
