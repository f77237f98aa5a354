"""A dataset that is limited to a fraction of every stream, so that a short run repeats its data as a long one would."""

import shutil
from pathlib import Path

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.sample_order import Pace, SampleOrder
from tests.support.mds import SIZES, ids_of, mixed_dataset, owners, write_stream, write_streams
from tests.support.ranked_samples import ranked

HALF = {'a': 14, 'b': 10, 'c': 2}


@pytest.mark.parametrize('nodes', [1, 2])
def test_passes_are_those_of_the_part_and_every_pass_draws_the_same_samples(streams_root: Path, nodes: int):
    dataset = mixed_dataset(streams_root, stream_fraction=0.5, num_canonical_nodes=nodes)
    drawn = [owners(ids_of(dataset)) for _ in range(6)]
    for skill, (name, size) in enumerate(HALF.items()):
        own = [number for ids in drawn for stream, number in ids if stream == skill]
        whole = [sorted(own[begin : begin + size]) for begin in range(0, len(own) - size + 1, size)]
        assert len(set(map(tuple, whole))) == 1
        assert len(set(whole[0])) == size
        assert dataset.passes[name] == len(own) / size


def test_the_mixture_is_not_changed_by_it(streams_root: Path):
    whole, part = (mixed_dataset(streams_root, proportions=None, stream_fraction=one) for one in (1.0, 0.25))
    assert part.samples == whole.samples


def test_a_run_of_a_quarter_repeats_every_sample_as_the_whole_run_would(tmp_path: Path):
    write_streams(tmp_path, {'a': [16, 16], 'b': [4]})
    options = {'streams': dict.fromkeys('ab'), 'proportions': {'a': 0.75, 'b': 0.25}}
    short = mixed_dataset(tmp_path, stream_fraction=0.25, **options)
    whole = mixed_dataset(tmp_path, round_size=4 * 48, **options)
    for dataset in (short, whole):
        ids_of(dataset)
    assert short.passes == whole.passes == {'a': 4.5, 'b': 12}


@pytest.mark.parametrize('done', [0, 4, 20, 48])
def test_a_state_resumes_to_the_same_samples(streams_root: Path, done: int):
    dataset = mixed_dataset(streams_root, stream_fraction=0.5)
    foretold = [one for number in range(3) for one in dataset.sample_ids(number).tolist()]
    ids_of(dataset)
    state = dataset.state_dict(done, from_beginning=True) if done else dataset.state_dict(0)
    begin = 48 if done in (0, 48) else done
    other = mixed_dataset(streams_root, stream_fraction=0.5, shuffle_seed=99)
    other.load_state_dict(state)
    assert [one for _ in range(2) for one in ids_of(other)][:48] == foretold[begin : begin + 48]


@pytest.mark.parametrize('fraction', [1.0, 0.4])
def test_a_state_of_another_part_is_refused(streams_root: Path, fraction: float):
    state = mixed_dataset(streams_root, stream_fraction=0.5).state_dict(0)
    now = 'all' if fraction == 1 else '11'
    problem = f'a was drawn from 14 of its 27 samples, and now from {now} of its 27 samples .*match_passes'
    with pytest.raises(InputError, match=problem):
        mixed_dataset(streams_root, stream_fraction=fraction).load_state_dict(state)


def test_another_part_is_begun_at_its_beginning_where_changes_are_allowed(streams_root: Path):
    dataset = mixed_dataset(streams_root, stream_fraction=0.5)
    ids_of(dataset)
    other = mixed_dataset(streams_root, stream_fraction=0.25, on_changed='allow')
    other.load_state_dict(dataset.state_dict(0))
    assert other.changes == dict.fromkeys(SIZES, 'limited')
    assert other.passes == {'a': 0, 'b': 0, 'c': 0}


def test_a_stream_that_has_grown_has_another_part(tmp_path: Path):
    write_streams(tmp_path, SIZES)
    state = mixed_dataset(tmp_path, stream_fraction=0.5).state_dict(0)
    shutil.rmtree(tmp_path / 'c')
    write_stream(tmp_path / 'c', [*SIZES['c'], 4], 2)
    with pytest.raises(InputError, match='c has other shards'):
        mixed_dataset(tmp_path, stream_fraction=0.5).load_state_dict(state)


def test_a_curriculum_over_the_samples_of_a_part_is_refused(streams_root: Path):
    order = SampleOrder(ranked([1.0, 2.0, 3.0]), Pace((0,), (3.0,)))
    with pytest.raises(InputError, match='c has an order of its samples and is limited to a part'):
        mixed_dataset(streams_root, stream_fraction=0.5, sample_orders={'c': order})


def test_without_repeating_a_part_is_exhausted_as_a_stream_is(streams_root: Path):
    with pytest.raises(InputError, match='it has 14 samples left and the round draws 24'):
        mixed_dataset(streams_root, stream_fraction=0.5, on_exhausted='error')


@pytest.mark.parametrize('fraction', [0, -1, 1.5, float('nan'), True, '0.5'])
def test_what_is_no_fraction_is_refused(streams_root: Path, fraction: object):
    with pytest.raises(InputError, match='`stream_fraction` must be above 0 and at most 1'):
        mixed_dataset(streams_root, stream_fraction=fraction)
