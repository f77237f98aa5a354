"""A stream that grows in the middle of a pass: nothing twice, nothing left out, every order a pure function."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from streaming.base.format.base.reader import FileInfo

from skillit_stream.order.carry_over import (
    carry_over,
    carry_proportions,
    find_changes,
    is_resumable_on,
    stream_states,
)
from skillit_stream.order.cursor import Cursors, draw
from skillit_stream.order.index import ShardList
from skillit_stream.order.paced_tape import make_tape
from skillit_stream.order.tape import Tape

Int64 = NDArray[np.int64]
SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 0)
thorough = settings(max_examples=150, deadline=None)


def shard_list(sizes: list[int], prefix: str = 'shard') -> ShardList:
    files = [FileInfo(f'{prefix}.{number}', 8 * size, {}) for number, size in enumerate(sizes)]
    return ShardList(np.array(sizes, np.int64), files)


@dataclass
class Growing:
    """A stream, how it grows, and which nodes draw before, between and after."""

    sizes: list[list[int]]
    """Shards at first, and the ones of each growth."""
    draws: list[list[int]]
    """Nodes that draw before each growth and after the last."""
    nodes: int
    block_size: int
    shuffle: bool
    seed: int

    def shards(self, stage: int) -> ShardList:
        return shard_list([size for sizes in self.sizes[: stage + 1] for size in sizes])

    def tape(self, stage: int, saved: dict | None) -> tuple[Tape, Cursors]:
        shards = self.shards(stage)
        found, cursors = carry_over({'arxiv': saved} if saved else {}, {'arxiv': shards}, self.nodes)
        return self.make(shards.sizes, **vars(found[0])), cursors

    def make(self, sizes: Int64, **grown: Any) -> Tape:
        settings = {'seed': self.seed, 'canonical_nodes': self.nodes, 'block_size': self.block_size}
        return make_tape('arxiv', sizes, shuffle=self.shuffle, **settings, **grown)

    def save(self, stage: int, tape: Tape, cursors: Cursors) -> dict:
        states = stream_states({'arxiv': self.shards(stage)}, [tape], cursors)
        return json.loads(json.dumps(states['arxiv']))

    def play(self, *, step: int = 20, reload: bool = False) -> tuple[list[tuple[int, int]], Tape, Cursors]:
        """(pass, id) of every draw, the last tape and its cursor; perhaps saved and loaded in between."""
        drawn, (tape, cursors) = [], self.tape(0, None)
        for stage, nodes in enumerate(self.draws):
            if stage:
                tape, cursors = self.tape(stage, self.save(stage - 1, tape, cursors))
            for begin in range(0, len(nodes), step):
                passes, line = draw(tape, cursors, 0, np.array(nodes[begin : begin + step], np.int64))
                drawn += list(zip(passes.tolist(), tape.local_ids(passes, line).tolist(), strict=True))
                if reload:
                    saved = self.save(stage, tape, cursors)
                    assert is_resumable_on([tape], {'arxiv': saved})
                    tape, cursors = self.tape(stage, saved)
        return drawn, tape, cursors


@st.composite
def growing(draw: st.DrawFn, shuffle: bool | None = None) -> Growing:
    sizes = draw(st.lists(SIZES, min_size=2, max_size=4))
    nodes = draw(st.integers(1, 4))
    draws = [draw(st.lists(st.integers(0, nodes - 1), max_size=60)) for _ in sizes]
    return Growing(
        sizes,
        draws,
        nodes,
        draw(st.integers(1, 40)),
        draw(st.booleans()) if shuffle is None else shuffle,
        draw(st.integers(0, 99)),
    )


@thorough
@given(stream=growing())
def test_a_pass_draws_every_sample_once_however_often_the_stream_grows_in_it(stream: Growing):
    drawn, tape, cursors = stream.play()
    last = int(cursors.passes[0])
    by_pass = {number: [one for n, one in drawn if n == number] for number in range(last + 1)}
    for ids in by_pass.values():
        assert len(ids) == len(set(ids))
    rest = tape.draws_in(last) - cursors.taken[0].sum()
    # Finish the pass: it ends when every sample there is now has been drawn.
    passes, line = draw(tape, cursors, 0, np.zeros(int(rest), np.int64))
    by_pass[last] += tape.local_ids(passes, line).tolist()
    assert sorted(by_pass[last]) == list(range(tape.samples))
    assert cursors.passes[0] == last + 1


@thorough
@given(stream=growing(), every=st.integers(1, 20))
def test_saving_and_loading_at_any_point_changes_nothing(stream: Growing, every: int):
    straight, _, _ = stream.play(step=every)
    interrupted, _, _ = stream.play(step=every, reload=True)
    assert interrupted == straight


@thorough
@given(stream=growing())
def test_the_count_of_draws_stays_right(stream: Growing):
    drawn, _, cursors = stream.play()
    assert cursors.drawn.tolist() == [len(drawn)]


@thorough
@given(stream=growing(), more=st.lists(st.integers(0, 3), max_size=80))
def test_the_pass_after_a_growth_is_that_of_a_stream_that_had_its_size_from_the_start(
    stream: Growing, more: list[int]
):
    _, tape, cursors = stream.play()
    grown_in = int(cursors.passes[0])
    ordinary = stream.make(tape.samples_per_shard)
    passes, line = np.full(tape.samples, grown_in + 1), np.arange(tape.samples)
    assert tape.local_ids(passes, line).tolist() == ordinary.local_ids(passes, line).tolist()
    assert tape.span_edges(grown_in + 1).tolist() == ordinary.span_edges(0).tolist()


@thorough
@given(stream=growing(), data=st.data())
def test_the_shards_named_for_a_position_hold_its_sample(stream: Growing, data: st.DataObject):
    _, tape, cursors = stream.play()
    number = int(cursors.passes[0]) + data.draw(st.integers(0, 1))
    line = data.draw(st.integers(0, tape.samples - 1))
    sample = int(tape.local_ids(np.array([number]), np.array([line]))[0])
    shard = int(np.searchsorted(tape.samples_per_shard.cumsum(), sample, side='right'))
    assert shard in tape.shards_at(number, line).tolist()


def test_new_samples_are_met_soon_and_old_ones_go_on():
    stream = Growing([[50] * 40, [50] * 40], [[0] * 500, [0] * 1000], 1, 100, True, 7)
    drawn, tape, _ = stream.play()
    after = [one for _, one in drawn[500:]]
    new = sum(one >= 2000 for one in after)
    # 1,500 old and 2,000 new ones are left; 1,000 are drawn.
    assert 0.35 < new / len(after) < 0.8
    assert tape.samples == 4000


def test_a_grown_stream_of_redpajamas_size_is_planned_in_the_size_of_the_round():
    stream = Growing([[16_384] * 30_000, [16_384] * 6_065], [[0] * 3, []], 1, 1 << 15, True, 1)
    _, tape, cursors = stream.play()
    passes, line = draw(tape, cursors, 0, np.zeros(80_000, np.int64))
    ids = tape.local_ids(passes, line)
    shards = np.unique(np.searchsorted(tape.samples_per_shard.cumsum(), ids, side='right'))
    assert len(np.unique(ids)) == 80_000
    assert len(shards) <= 24


def test_changes_are_told_apart():
    old = {'kept': [3, 4], 'longer': [5], 'gone': [2], 'renamed': [6, 6], 'shorter': [7, 7]}
    lists = {skill: shard_list(sizes) for skill, sizes in old.items()}
    tapes = [Tape(skill, shards.sizes, seed=0) for skill, shards in lists.items()]
    saved = stream_states(lists, tapes, Cursors.at_start(len(old), 1))
    present = {
        'kept': shard_list([3, 4]),
        'longer': shard_list([5, 1]),
        'renamed': shard_list([6, 6], prefix='other'),
        'shorter': shard_list([7]),
        'new': shard_list([1]),
    }
    assert find_changes(saved, present) == {
        'gone': 'removed',
        'longer': 'lengthened',
        'renamed': 'changed',
        'shorter': 'changed',
        'new': 'added',
    }


@pytest.mark.parametrize(
    ('saved', 'sizes', 'expected'),
    [
        ({'a': 0.25, 'b': 0.75}, {'a': 1, 'b': 9}, [0.25, 0.75]),
        # The new one gets 2 of 8 samples' share; the rest keeps its ratio.
        ({'a': 0.25, 'b': 0.75}, {'new': 2, 'a': 3, 'b': 3}, [0.25, 0.1875, 0.5625]),
        ({'a': 0.25, 'b': 0.5, 'gone': 0.25}, {'a': 1, 'b': 1}, [1 / 3, 2 / 3]),
        ({'a': 0.0, 'gone': 1.0}, {'a': 3, 'new': 1}, [0.75, 0.25]),
    ],
)
def test_proportions_are_carried_over_in_their_ratio(
    saved: dict[str, float], sizes: dict[str, int], expected: list[float]
):
    assert carry_proportions(saved, sizes) == pytest.approx(expected)
    assert carry_proportions(saved, sizes).sum() == pytest.approx(1)
