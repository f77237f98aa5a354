"""A tape over a part of its stream: the same part in every pass, chosen by the seed, of whole shards but for one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.order.cursor import Cursors, draw
from skillit_stream.order.subset_tape import SubsetTape, subset_size

quick = settings(max_examples=60, deadline=None)


@st.composite
def subset_tapes(draw: st.DrawFn) -> tuple[SubsetTape, np.ndarray]:
    """A tape over a part of shards of 0 to 9 samples, and the sizes of the shards."""
    sizes = draw(st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(lambda sizes: sum(sizes) > 0))
    tape = SubsetTape(
        draw(st.sampled_from(['arxiv', 'c4'])),
        np.array(sizes, np.int64),
        subset=draw(st.integers(1, sum(sizes))),
        seed=draw(st.integers(0, 2**40)),
        canonical_nodes=draw(st.integers(1, 5)),
        block_size=draw(st.integers(1, 40)),
        shuffle=draw(st.booleans()),
    )
    return tape, np.array(sizes)


def walk(tape: SubsetTape, number: int) -> list[int]:
    """All ids of a pass in tape order."""
    return tape.local_ids(np.full(tape.samples, number), np.arange(tape.samples)).tolist()


@quick
@given(made=subset_tapes(), number=st.integers(1, 2**33))
def test_every_pass_draws_the_same_samples_once_each(made: tuple[SubsetTape, np.ndarray], number: int):
    tape, sizes = made
    first, other = walk(tape, 0), walk(tape, number)
    assert len(set(first)) == len(first) == tape.samples
    assert sorted(first) == sorted(other)
    assert 0 <= min(first) <= max(first) < sizes.sum()


@quick
@given(made=subset_tapes())
def test_all_shards_but_one_are_taken_whole_or_not_at_all(made: tuple[SubsetTape, np.ndarray]):
    tape, sizes = made
    shards = np.searchsorted(sizes.cumsum(), walk(tape, 0), side='right')
    taken = np.bincount(shards, minlength=len(sizes))
    assert ((taken > 0) & (taken < sizes)).sum() <= 1


@quick
@given(made=subset_tapes(), other=subset_tapes())
def test_the_part_depends_on_stream_seed_and_size_alone(
    made: tuple[SubsetTape, np.ndarray], other: tuple[SubsetTape, np.ndarray]
):
    tape, sizes = made
    again = SubsetTape(
        tape.skill,
        sizes,
        subset=tape.samples,
        seed=tape.seed,
        canonical_nodes=other[0].canonical_nodes,
        block_size=other[0].block_size,
        shuffle=other[0].shuffle,
    )
    assert sorted(walk(again, 3)) == sorted(walk(tape, 0))


@quick
@given(made=subset_tapes(), number=st.integers(0, 3))
def test_blocks_name_the_shards_of_the_whole_stream(made: tuple[SubsetTape, np.ndarray], number: int):
    tape, sizes = made
    ids = walk(tape, number)
    for line, one in enumerate(ids):
        assert np.searchsorted(sizes.cumsum(), one, side='right') in tape.shards_at(number, line)


def test_without_shuffle_the_part_keeps_the_order_of_the_files():
    tape = SubsetTape('a', np.array([5, 5, 5]), subset=7, seed=3, shuffle=False)
    assert walk(tape, 0) == sorted(walk(tape, 0)) == walk(tape, 1)


def test_the_whole_of_a_stream_is_all_of_its_samples():
    tape = SubsetTape('a', np.array([3, 0, 4]), subset=7, seed=1)
    assert sorted(walk(tape, 5)) == list(range(7))


def test_another_seed_chooses_another_part():
    parts = {
        tuple(sorted(walk(SubsetTape('a', np.full(50, 10), subset=30, seed=seed), 0))) for seed in range(8)
    }
    assert len(parts) == 8


def test_every_sample_is_chosen_about_as_often_as_any_other():
    sizes, subset, tries = np.array([7, 3, 10]), 5, 4000
    chosen = np.zeros(20)
    for seed in range(tries):
        chosen[walk(SubsetTape('a', sizes, subset=subset, seed=seed, shuffle=False), 0)] += 1
    # Five standard deviations of a fraction; draws of a shard are not independent, but each sample's is one a seed.
    small = chosen[7:10] / tries
    assert np.ptp(chosen[:7] / tries) < 5 * np.sqrt(0.25 / tries) * 2
    assert np.ptp(small) < 5 * np.sqrt(0.25 / tries) * 2
    assert np.isclose(chosen.sum(), subset * tries)


def test_a_cursor_passes_through_the_part_as_often_as_it_is_drawn():
    tape, cursors = SubsetTape('a', np.array([8, 8]), subset=4, seed=0), Cursors.at_start(1, 1)
    passes, line = draw(tape, cursors, 0, np.zeros(10, np.int64))
    assert passes.tolist() == [0] * 4 + [1] * 4 + [2] * 2
    assert len(set(tape.local_ids(passes, line).tolist())) == 4


@pytest.mark.parametrize(
    ('samples', 'fraction', 'expected'),
    [(100, 1 / 16, 6), (8, 1 / 16, 1), (3, 0.5, 2), (1, 1e-9, 1), (7, 1.0, 7)],
)
def test_a_part_is_the_nearest_whole_number_and_never_none(samples: int, fraction: float, expected: int):
    assert subset_size(samples, fraction) == expected
