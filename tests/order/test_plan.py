"""Round plans: exact, without repeats, balanced, pure."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.apportion import largest_remainder
from skillit_stream.order import plan
from skillit_stream.order.cursor import Cursors
from skillit_stream.order.plan import RoundShape, Window, look_up, walk_round
from skillit_stream.order.tape import Tape
from tests.support.paths import GOLDEN

KNOWN = json.loads((GOLDEN / 'plan.json').read_text())
thorough = settings(max_examples=60, deadline=None)


@contextmanager
def window_of(slots: int) -> Iterator[None]:
    """Plan windows of this many slots, so that small rounds have several."""
    before = plan.WINDOW
    plan.WINDOW = slots
    try:
        yield
    finally:
        plan.WINDOW = before


@dataclass(frozen=True)
class Run:
    """A configuration of several rounds."""

    streams: list[list[int]]
    shape: RoundShape
    mixtures: list[list[float]]
    window: int
    block_size: int

    def tapes(self) -> list[Tape]:
        """Fresh tapes."""
        return [
            Tape(
                f'skill{i}',
                np.array(sizes, np.int64),
                seed=self.shape.seed,
                canonical_nodes=self.shape.canonical_nodes,
                block_size=self.block_size,
            )
            for i, sizes in enumerate(self.streams)
        ]

    def counts(self, number: int) -> NDArray[np.int64]:
        """Samples of each skill in a round."""
        return largest_remainder(self.mixtures[number], self.shape.round_size)

    def cursors(self) -> Cursors:
        """At the start."""
        return Cursors.at_start(len(self.streams), self.shape.canonical_nodes)

    def offsets(self) -> NDArray[np.int64]:
        """Id of each stream's first sample."""
        sizes = np.array([sum(shards) for shards in self.streams], np.int64)
        return sizes.cumsum() - sizes

    def play(self) -> list[list[Window]]:
        """The windows of every round."""
        tapes, cursors = self.tapes(), self.cursors()
        with window_of(self.window):
            return [
                list(walk_round(tapes, self.shape, number, self.counts(number), cursors))
                for number in range(len(self.mixtures))
            ]

    def ids(self, windows: list[Window]) -> NDArray[np.int64]:
        """Sample ids of windows, [batches, global batch]."""
        tapes = self.tapes()
        return np.concatenate([look_up(tapes, self.offsets(), w.skills, w.passes, w.line) for w in windows])


@st.composite
def mixtures(draw: st.DrawFn, skills: int) -> list[float]:
    """Shares with zeros and tiny ones among them."""
    weight = st.sampled_from([0.0, 1e-12, 1e-3]) | st.floats(0.01, 1)
    raw = np.array(draw(st.lists(weight, min_size=skills, max_size=skills)))
    raw[draw(st.integers(0, skills - 1))] += 0.5
    return (raw / raw.sum()).tolist()


@st.composite
def runs(draw: st.DrawFn, batching: str | None = None) -> Run:
    """Runs of up to four rounds, up to five skills and four canonical nodes."""
    shards = st.lists(st.integers(0, 12), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) > 0)
    streams = draw(st.lists(shards, min_size=1, max_size=5))
    nodes = draw(st.integers(1, 4))
    global_batch = nodes * draw(st.integers(1, 6))
    shape = RoundShape(
        round_size=global_batch * draw(st.integers(1, 12)),
        global_batch=global_batch,
        canonical_nodes=nodes,
        batching=batching or draw(st.sampled_from(plan.BATCHINGS)),
        seed=draw(st.integers(0, 1000)),
    )
    rounds = draw(st.integers(1, 4))
    return Run(
        streams,
        shape,
        [draw(mixtures(len(streams))) for _ in range(rounds)],
        draw(st.sampled_from([1, 20, 1 << 15])),
        draw(st.integers(1, 20)),
    )


@thorough
@given(run=runs())
def test_every_round_draws_exactly_the_apportioned_counts(run: Run):
    for number, windows in enumerate(run.play()):
        skills = np.concatenate([window.skills for window in windows])
        assert skills.shape == (run.shape.batches, run.shape.global_batch)
        drawn = np.bincount(skills.ravel(), minlength=len(run.streams))
        assert drawn.tolist() == run.counts(number).tolist()
        for skill, share in enumerate(run.mixtures[number]):
            assert share > 0 or drawn[skill] == 0


@thorough
@given(run=runs())
def test_no_sample_repeats_within_a_pass_across_all_mixture_changes(run: Run):
    rounds = run.play()
    ids = np.concatenate([run.ids(windows).ravel() for windows in rounds])
    for offset, shards in zip(run.offsets(), run.streams, strict=True):
        size = sum(shards)
        own = ids[(ids >= offset) & (ids < offset + size)] - offset
        for begin in range(0, len(own), size):
            chunk = own[begin : begin + size]
            assert len(np.unique(chunk)) == len(chunk)
            if len(chunk) == size:
                assert sorted(chunk.tolist()) == list(range(size))


@thorough
@given(run=runs(batching='stratified'))
def test_stratified_batches_hold_each_share_rounded_down_or_up(run: Run):
    for number, windows in enumerate(run.play()):
        for batch in np.concatenate([window.skills for window in windows]):
            held = np.bincount(batch, minlength=len(run.streams))
            for has, count in zip(held, run.counts(number), strict=True):
                exact = count / run.shape.batches
                assert floor(exact) <= has <= ceil(exact)


@thorough
@given(run=runs())
def test_nodes_read_their_own_spans_until_these_are_used_up(run: Run):
    per_node = run.shape.global_batch // run.shape.canonical_nodes
    tapes = run.tapes()
    used: dict[tuple[int, int], set[int]] = {}
    for window in (window for windows in run.play() for window in windows):
        for batch in range(len(window.skills)):
            for place in range(run.shape.global_batch):
                skill = int(window.skills[batch, place])
                line, number = int(window.line[batch, place]), int(window.passes[batch, place])
                tape, node = tapes[skill], place // per_node
                so_far = used.setdefault((skill, number), set())
                if tape.spans > 1:
                    own = range(int(tape.span_edges(number)[node]), int(tape.span_edges(number)[node + 1]))
                    assert line in own or so_far.issuperset(own)
                so_far.add(line)


@thorough
@given(run=runs(), data=st.data())
def test_looking_up_some_windows_in_any_order_gives_what_looking_up_all_gives(run: Run, data: st.DataObject):
    windows = [window for played in run.play() for window in played]
    whole = [run.ids([window]) for window in windows]
    tapes = run.tapes()
    order = data.draw(st.lists(st.integers(0, len(windows) - 1), max_size=8))
    for at in order:
        window = windows[at]
        rows = data.draw(st.integers(0, len(window.skills)))
        part = (slice(rows, None), slice(None, None, 2))
        found = look_up(tapes, run.offsets(), window.skills[part], window.passes[part], window.line[part])
        np.testing.assert_array_equal(found, whole[at][part])


@thorough
@given(run=runs())
def test_a_later_round_starts_from_the_cursors_alone(run: Run):
    tapes, cursors = run.tapes(), run.cursors()
    played = run.play()
    with window_of(run.window):
        for number, windows in enumerate(played):
            restored = cursors.copy()
            again = list(walk_round(run.tapes(), run.shape, number, run.counts(number), restored))
            np.testing.assert_array_equal(run.ids(again), run.ids(windows))
            for _ in walk_round(tapes, run.shape, number, run.counts(number), cursors):
                pass


@thorough
@given(run=runs())
def test_windows_lie_end_to_end(run: Run):
    for windows in run.play():
        following = 0
        for window in windows:
            assert window.first_batch == following
            following += len(window.skills)
        assert following == run.shape.batches


def test_the_first_window_costs_one_window_not_the_round():
    shape = RoundShape(round_size=1 << 40, global_batch=1 << 10)
    tapes = [Tape('a', np.full(100, 1 << 16), seed=0), Tape('b', np.full(3, 1000), seed=0)]
    counts = np.array([(1 << 40) - 12345, 12345])
    window = next(walk_round(tapes, shape, 0, counts, Cursors.at_start(2, 1)))
    assert window.skills.size == plan.WINDOW


def test_a_tiny_share_is_spread_over_the_round():
    shape = RoundShape(round_size=1600, global_batch=16, batching='stratified')
    tapes = [Tape(name, np.array([5000]), seed=0) for name in 'ab']
    windows = walk_round(tapes, shape, 0, np.array([1590, 10]), Cursors.at_start(2, 1))
    batches = np.flatnonzero((np.concatenate([w.skills for w in windows]) == 1).any(axis=1))
    assert len(batches) == 10
    assert np.diff(batches, prepend=batches[-1] - 100).max() <= 20


def test_random_batches_vary_and_stratified_ones_do_not():
    tapes = [Tape(name, np.array([5000]), seed=0) for name in 'ab']
    spread = {}
    for batching in plan.BATCHINGS:
        shape = RoundShape(round_size=6400, global_batch=64, batching=batching)
        windows = walk_round(tapes, shape, 0, np.array([3200, 3200]), Cursors.at_start(2, 1))
        spread[batching] = np.concatenate([w.skills for w in windows]).sum(axis=1).std()
    assert spread['stratified'] == 0
    # Independent draws: sqrt(64 / 4) = 4 samples.
    assert 3 < spread['random'] < 5


def test_rounds_of_equal_mixture_are_dealt_differently():
    tapes = [Tape(name, np.array([5000]), seed=0) for name in 'ab']
    for batching in plan.BATCHINGS:
        shape = RoundShape(round_size=64, global_batch=64, batching=batching)
        dealt = [
            next(walk_round(tapes, shape, number, np.array([32, 32]), Cursors.at_start(2, 1))).skills
            for number in (0, 1)
        ]
        assert (dealt[0] != dealt[1]).any()


def test_the_order_never_changes():
    for case in KNOWN:
        run = Run(
            case['streams'],
            RoundShape(**case['shape']),
            case['mixtures'],
            case['window'],
            case['block_size'],
        )
        for expected, windows in zip(case['rounds'], run.play(), strict=True):
            assert run.ids(windows).tolist() == expected, case['shape']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'batching': 'sorted'}, r"^`batching` must be one of random, stratified, but got: 'sorted'\.$"),
        ({'global_batch': 0}, r'^The global batch must be positive, but got: 0\.$'),
        (
            {'round_size': 100},
            r'^`round_size` must be a positive multiple of the global batch of 32 samples, '
            r'but got: 100; the nearest is 96\.$',
        ),
        ({'round_size': 0}, r'but got: 0; the nearest is 32\.$'),
        ({'round_size': -64}, r'but got: -64; the nearest is 32\.$'),
        ({'round_size': 10}, r'but got: 10; the nearest is 32\.$'),
        (
            {'canonical_nodes': 3},
            r'^The global batch of 32 samples must divide evenly over the canonical nodes, '
            r'but got: num_canonical_nodes=3\.$',
        ),
    ],
)
def test_shapes_that_cannot_be_are_refused(change: dict, message: str):
    with pytest.raises(InputError, match=message):
        RoundShape(**{'round_size': 64, 'global_batch': 32, **change})


def test_shards_ahead_are_those_of_the_cursors_then_those_that_the_next_round_comes_to():
    # Shards of 10 samples, one a block: the pass of each tape is ten blocks long, in an order of its own.
    tapes = [Tape(name, np.full(10, 10), seed=1, block_size=10) for name in ('a', 'b', 'c', 'd')]
    cursors = Cursors.at_start(4, 1)
    cursors.taken[:, 0] = 0, 5, 6, 90

    def blocks(skill: int, *numbers: int) -> list[tuple[int, list[int]]]:
        return [(skill, tapes[skill].shards_at(0, 10 * number).tolist()) for number in numbers]

    # a is through with its block when the round ends, b in its middle, c draws nothing, d comes to the end of a pass.
    ahead = plan.shards_ahead(tapes, cursors, np.array([10, 20, 0, 30]), [0])
    assert [(skill, shards.tolist()) for skill, shards in ahead] == [
        *blocks(0, 0),
        *blocks(1, 0),
        *blocks(3, 9),
        *blocks(2, 0),
        *blocks(1, 1),
        *blocks(0, 1),
        *blocks(1, 2),
    ]
