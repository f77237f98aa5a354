"""Tapes: every pass is a fresh permutation, computable at any position alone."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skillit_stream.order.keys import make_key, permutation
from skillit_stream.order.tape import Tape

SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(lambda sizes: sum(sizes) > 0)
# Many small examples; the shapes are tiny, so the time goes into Hypothesis itself.
quick = settings(max_examples=60, deadline=None)


@st.composite
def tapes(draw: st.DrawFn, shuffle: bool | None = None) -> Tape:
    """A tape over shards of 0 to 9 samples, blocks from one sample to more than the stream."""
    return Tape(
        draw(st.sampled_from(['arxiv', 'c4'])),
        np.array(draw(SIZES), np.int64),
        seed=draw(st.integers(0, 2**40)),
        canonical_nodes=draw(st.integers(1, 5)),
        block_size=draw(st.integers(1, 40)),
        shuffle=draw(st.booleans()) if shuffle is None else shuffle,
    )


def walk(tape: Tape, number: int) -> NDArray[np.int64]:
    """All ids of a pass in tape order."""
    return tape.local_ids(np.full(tape.samples, number), np.arange(tape.samples))


def fresh(tape: Tape) -> Tape:
    """The same tape with nothing computed yet."""
    return Tape(
        tape.skill,
        tape.samples_per_shard,
        seed=tape.seed,
        canonical_nodes=tape.spans,
        block_size=tape.block_size,
        shuffle=tape.shuffle,
    )


def shard_of(tape: Tape, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The shard that holds each stream-local id."""
    return np.searchsorted(tape.samples_per_shard.cumsum(), ids, side='right')


@quick
@given(tape=tapes(), number=st.integers(0, 2**33))
def test_every_pass_is_a_permutation_of_the_stream(tape: Tape, number: int):
    assert sorted(walk(tape, number).tolist()) == list(range(tape.samples))


@quick
@given(tape=tapes(), data=st.data())
def test_a_position_holds_the_same_sample_whatever_else_is_asked_and_in_what_order(
    tape: Tape, data: st.DataObject
):
    positions = [(number, line) for number in range(4) for line in range(tape.samples)]
    expected = {
        (number, line): int(one) for number in range(4) for line, one in enumerate(walk(tape, number))
    }
    other = fresh(tape)
    for _ in range(3):
        asked = data.draw(st.lists(st.sampled_from(positions), max_size=30))
        passes, line = np.array(asked, np.int64).reshape(-1, 2).T
        found = other.local_ids(passes, line)
        assert found.tolist() == [expected[one] for one in asked]


@quick
@given(tape=tapes())
def test_spans_are_disjoint_cover_the_line_and_differ_by_at_most_one_sample(tape: Tape):
    edges = tape.span_edges(0)
    sizes = np.diff(edges)
    assert edges[0] == 0
    assert edges[-1] == tape.samples
    assert (sizes >= 0).all()
    assert sizes.max() - sizes.min() <= 1
    assert len(sizes) == tape.spans


@quick
@given(tape=tapes(shuffle=True), number=st.integers(0, 3))
def test_spans_share_at_most_the_shard_that_their_edge_cuts(tape: Tape, number: int):
    shards = shard_of(tape, walk(tape, number))
    edges = tape.span_edges(number)
    by_span = [set(shards[a:b].tolist()) for a, b in pairwise(edges)]
    for left in range(tape.spans):
        for right in range(left + 1, tape.spans):
            assert len(by_span[left] & by_span[right]) <= 1


def test_passes_skills_and_seeds_give_different_orders():
    sizes = np.array([40, 40, 40])
    orders = [
        walk(Tape('arxiv', sizes, seed=1), 0),
        walk(Tape('arxiv', sizes, seed=1), 1),
        walk(Tape('c4', sizes, seed=1), 0),
        walk(Tape('arxiv', sizes, seed=2), 0),
        walk(Tape('arxiv', sizes, seed=1, block_size=40), 0),
        walk(Tape('arxiv', sizes, seed=1, block_size=40), 1),
    ]
    assert len({tuple(order.tolist()) for order in orders}) == len(orders)
    assert not any((order == np.arange(120)).all() for order in orders)


def test_the_order_of_shards_changes_from_pass_to_pass():
    tape = Tape('arxiv', np.full(20, 10), seed=3, block_size=10)
    firsts = [tuple(shard_of(tape, walk(tape, number))[::10].tolist()) for number in range(4)]
    assert len(set(firsts)) == 4
    assert all(sorted(order) == list(range(20)) for order in firsts)


@quick
@given(tape=tapes(shuffle=False), number=st.integers(0, 3))
def test_without_shuffling_every_pass_keeps_the_order_of_the_files(tape: Tape, number: int):
    assert walk(tape, number).tolist() == list(range(tape.samples))


@pytest.mark.parametrize('nodes', [1, 3])
@pytest.mark.parametrize('sizes', [[1], [0, 1, 0]])
def test_a_stream_of_one_sample_repeats_it(sizes: list[int], nodes: int):
    tape = Tape('arxiv', np.array(sizes), seed=1, canonical_nodes=nodes)
    assert tape.local_ids(np.arange(1000), np.zeros(1000, np.int64)).tolist() == [0] * 1000
    assert np.diff(tape.span_edges(0)).sum() == 1


def test_a_stream_with_fewer_shards_than_nodes_is_not_cut():
    assert Tape('arxiv', np.array([9, 9]), seed=1, canonical_nodes=3).spans == 1
    assert Tape('arxiv', np.array([9, 9, 9]), seed=1, canonical_nodes=3).spans == 3


@settings(max_examples=30, deadline=None)
@given(
    start=st.integers(0, 4_500),
    length=st.integers(1, 500),
    block_size=st.sampled_from([50, 100, 130, 400]),
    nodes=st.sampled_from([1, 4]),
)
def test_consecutive_positions_touch_few_shards(start: int, length: int, block_size: int, nodes: int):
    tape = Tape('arxiv', np.full(100, 50), seed=5, canonical_nodes=nodes, block_size=block_size)
    ids = tape.local_ids(np.zeros(length, np.int64), np.arange(start, start + length))
    shards = len(np.unique(shard_of(tape, ids)))
    # A block reaches over the shards begun within block_size samples; span edges may cut two more.
    per_block = -(-block_size // 50) + 1
    assert shards <= (length // block_size + 3) * per_block


@quick
@given(tape=tapes(), number=st.integers(0, 2), data=st.data())
def test_the_shards_named_for_a_position_are_those_its_block_reads(
    tape: Tape, number: int, data: st.DataObject
):
    # Empty shards among others: see the next test.
    assume((tape.samples_per_shard > 0).all())
    line = data.draw(st.integers(0, tape.samples - 1))
    named = tape.shards_at(number, line).tolist()
    assert len(named) == len(set(named))
    at_line = int(shard_of(tape, tape.local_ids(np.array([number]), np.array([line])))[0])
    assert at_line in named
    if tape.shuffle:
        assert set(named) == shards_of_block(tape, number, line)


@quick
@given(tape=tapes(), number=st.integers(0, 2), data=st.data())
def test_the_shards_named_for_a_position_hold_its_sample_among_empty_shards_too(
    tape: Tape, number: int, data: st.DataObject
):
    line = data.draw(st.integers(0, tape.samples - 1))
    named = tape.shards_at(number, line)
    assert ((named >= 0) & (named < len(tape.samples_per_shard))).all()
    needed = shards_of_block(tape, number, line) if tape.shuffle else set()
    ids = tape.local_ids(np.array([number]), np.array([line]))
    assert needed | {int(shard_of(tape, ids)[0])} <= set(named.tolist())


def shards_of_block(tape: Tape, number: int, line: int) -> set[int]:
    """The shards whose samples lie in the block at a position."""
    shards = shard_of(tape, walk(tape, number))
    cuts = block_cuts(tape, number)
    block = int(np.searchsorted(cuts, line, side='right')) - 1
    return set(shards[cuts[block] : cuts[block + 1]].tolist())


def block_cuts(tape: Tape, number: int) -> NDArray[np.int64]:
    """Where blocks end by definition: at the first shard edge at or after each multiple of the size, and at
    the span edges."""
    order = permutation(make_key(tape.seed, tape.skill, 'shards', number), len(tape.samples_per_shard))
    edges = np.unique(np.concatenate([[0], tape.samples_per_shard[order].cumsum()]))
    multiples = np.arange(0, tape.samples, tape.block_size)
    return np.unique(np.concatenate([edges[np.searchsorted(edges, multiples)], tape.span_edges(number)]))


def test_a_round_of_a_stream_of_redpajamas_size_takes_little_memory():
    tape = Tape('common_crawl', np.full(36_065, 16_384), seed=1, canonical_nodes=8)
    tracemalloc.start()
    ids = tape.local_ids(np.zeros(80_000, np.int64), 10**8 + np.arange(80_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One permutation of the stream would take 4.7 GB.
    assert peak < 64e6
    assert len(np.unique(ids)) == 80_000
    assert len(np.unique(shard_of(tape, ids))) <= 16


def test_thousands_of_passes_of_a_small_stream_are_each_a_permutation():
    tape = Tape('tiny', np.array([3, 4]), seed=1)
    passes, line = np.divmod(np.arange(7 * 3000), 7)
    ids = tape.local_ids(passes, line).reshape(3000, 7)
    assert (np.sort(ids, axis=1) == np.arange(7)).all()
    for number in (0, 1, 1999, 2999):
        np.testing.assert_array_equal(ids[number], walk(fresh(tape), number))
