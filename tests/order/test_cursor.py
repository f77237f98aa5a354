"""Cursors: what has been drawn from each tape, and which positions come next."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.order.cursor import Cursors, draw
from skillit_stream.order.tape import Tape

quick = settings(max_examples=60, deadline=None)


@st.composite
def tapes(draw: st.DrawFn, nodes: int = 4) -> Tape:
    """A tape over shards of 0 to 9 samples, cut into spans if it has enough shards."""
    shards = st.lists(st.integers(0, 9), min_size=1, max_size=9).filter(lambda sizes: sum(sizes) > 0)
    return Tape('arxiv', np.array(draw(shards), np.int64), seed=1, canonical_nodes=nodes)


def draws_of_nodes(tape: Tape, calls: list[list[int]]) -> tuple[list[tuple[int, int]], Cursors]:
    """(pass, line) of each draw, made in several calls, and the cursors after them."""
    cursors = Cursors.at_start(1, 4)
    drawn = []
    for nodes in calls:
        passes, line = draw(tape, cursors, 0, np.array(nodes, np.int64))
        drawn += list(zip(passes.tolist(), line.tolist(), strict=True))
    return drawn, cursors


NODES = st.lists(st.lists(st.integers(0, 3), max_size=40), max_size=6)


@quick
@given(tape=tapes(), calls=NODES)
def test_every_pass_is_drawn_out_before_the_next_begins(tape: Tape, calls: list[list[int]]):
    drawn, _ = draws_of_nodes(tape, calls)
    for begin in range(0, len(drawn), tape.samples):
        chunk = drawn[begin : begin + tape.samples]
        assert {number for number, _ in chunk} == {begin // tape.samples}
        assert len(set(chunk)) == len(chunk)
        assert all(0 <= line < tape.samples for _, line in chunk)


@quick
@given(tape=tapes(), calls=NODES)
def test_a_node_leaves_its_own_span_only_when_nothing_is_left_of_it(tape: Tape, calls: list[list[int]]):
    drawn, _ = draws_of_nodes(tape, calls)
    if tape.spans == 1:
        return
    nodes = [node for call in calls for node in call]
    used: dict[int, set[int]] = {}
    for node, (number, line) in zip(nodes, drawn, strict=True):
        pass_so_far = used.setdefault(number, set())
        own = set(range(int(tape.span_edges(number)[node]), int(tape.span_edges(number)[node + 1])))
        assert line in own or own <= pass_so_far, (node, number, line)
        pass_so_far.add(line)


@quick
@given(tape=tapes(), calls=NODES)
def test_each_span_is_used_from_its_start_without_holes(tape: Tape, calls: list[list[int]]):
    drawn, cursors = draws_of_nodes(tape, calls)
    current = {line for number, line in drawn if number == cursors.passes[0]}
    taken = cursors.taken[0][: tape.spans]
    expected = {
        int(start) + step
        for start, count in zip(tape.span_edges(0), taken, strict=False)
        for step in range(count)
    }
    assert current == expected
    assert cursors.taken[0].sum() < tape.samples


@quick
@given(tape=tapes(), calls=NODES)
def test_consumed_counts_all_draws(tape: Tape, calls: list[list[int]]):
    drawn, cursors = draws_of_nodes(tape, calls)
    assert cursors.drawn.tolist() == [len(drawn)]


@quick
@given(tape=tapes(nodes=1), calls=NODES)
def test_a_tape_of_one_span_is_drawn_straight_through_in_any_number_of_calls(
    tape: Tape, calls: list[list[int]]
):
    drawn, cursors = draws_of_nodes(tape, calls)
    assert drawn == [divmod(number, tape.samples) for number in range(len(drawn))]
    assert cursors.taken[0, 1:].tolist() == [0, 0, 0]


def test_a_copy_does_not_move_with_the_original():
    tape = Tape('arxiv', np.array([4, 4]), seed=1, canonical_nodes=2)
    cursors = Cursors.at_start(1, 2)
    copy = cursors.copy()
    draw(tape, cursors, 0, np.array([0, 1, 1, 1, 1, 1, 1, 1, 0]))
    assert copy.passes.tolist() == [0]
    assert copy.taken.tolist() == [[0, 0]]


def test_borrowing_takes_from_the_span_with_most_to_spare():
    tape = Tape('arxiv', np.array([4, 4, 4]), seed=1, canonical_nodes=3)
    cursors = Cursors(np.array([0]), np.array([[4, 1, 3]]))
    _, line = draw(tape, cursors, 0, np.array([0, 0]))
    # Span 0 is used up; span 1 has three samples left, span 2 one.
    assert line.tolist() == [5, 6]
    assert cursors.taken.tolist() == [[4, 3, 3]]


@pytest.mark.parametrize('nodes', [1, 2])
def test_drawing_nothing_moves_nothing(nodes: int):
    tape = Tape('arxiv', np.array([4, 4]), seed=1, canonical_nodes=nodes)
    cursors = Cursors.at_start(1, nodes)
    passes, line = draw(tape, cursors, 0, np.empty(0, np.int64))
    assert len(passes) == len(line) == 0
    assert cursors.drawn.tolist() == [0]
