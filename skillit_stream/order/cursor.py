"""How far each tape has been consumed, and which tape positions the next draws get.

A cursor holds, per skill, the pass and how many samples of each canonical node's span are taken in it.
A draw made on node *c* takes the next sample of span *c*; near the end of a pass, where some spans are
used up before others, a draw borrows from a span that has samples to spare. So every sample of a pass is
drawn once before any is drawn again, and nodes leave their own shards only at the very end of a pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skillit_stream.order.tape import Tape

Int64 = NDArray[np.int64]


@dataclass
class Cursors:
    """Positions on every tape.

    Attributes:
        passes: int64 [skills], the pass each tape is in (from 0).
        taken: int64 [skills, canonical nodes], samples of each span taken in that pass. A tape of one
            span uses the first column alone.
    """

    passes: Int64
    taken: Int64

    @classmethod
    def at_start(cls, skills: int, canonical_nodes: int) -> 'Cursors':
        """Nothing consumed yet."""
        return cls(np.zeros(skills, np.int64), np.zeros((skills, canonical_nodes), np.int64))

    def copy(self) -> 'Cursors':
        """An independent copy."""
        return Cursors(self.passes.copy(), self.taken.copy())

    def consumed(self, tapes: Sequence[Tape]) -> Int64:
        """Samples drawn from each tape so far, all passes together; int64 [skills]."""
        taken = self.taken.sum(axis=1).tolist()
        drawn = [
            tape.drawn(number, own)
            for tape, number, own in zip(tapes, self.passes.tolist(), taken, strict=True)
        ]
        return np.array(drawn, np.int64)


def draw(tape: Tape, cursors: Cursors, skill: int, nodes: Int64) -> tuple[Int64, Int64]:
    """Give the next draws of one skill their tape positions and move its cursor.

    Args:
        tape: The skill's tape.
        cursors: Moved in place.
        skill: Row of the cursor.
        nodes: int64 [n], the canonical node of each draw, in the global order.

    Returns:
        (int64 [n], int64 [n]): the pass and the line position of each draw.
    """
    if tape.spans == 1 and tape.has_even_passes:
        start = skip_one_span(tape, cursors, skill, len(nodes))
        passes, line = np.divmod(np.arange(start, start + len(nodes)), tape.samples)
        return passes, line
    if tape.spans == 1:
        nodes = np.zeros_like(nodes)
    passes = np.empty(len(nodes), np.int64)
    line = np.empty(len(nodes), np.int64)
    begin = 0
    while begin < len(nodes):
        number, taken = int(cursors.passes[skill]), cursors.taken[skill]
        edges = tape.span_edges(number)
        left_in_pass = tape.draws_in(number) - int(taken.sum())
        end = min(len(nodes), begin + left_in_pass)
        passes[begin:end] = cursors.passes[skill]
        line[begin:end] = _draw_within_pass(edges, taken[: tape.spans], nodes[begin:end])
        if end - begin == left_in_pass:
            cursors.passes[skill] += 1
            taken[:] = 0
        begin = end
    return passes, line


def skip_one_span(tape: Tape, cursors: Cursors, skill: int, count: int) -> int:
    """Move the cursor of a tape of one span and even passes past `count` draws, which no node shapes.

    Returns:
        Line position of the first of them, counted from the start of pass 0.
    """
    number = int(cursors.passes[skill])
    start = number * tape.samples + int(tape.span_edges(number)[0] + cursors.taken[skill, 0])
    number, line = divmod(start + count, tape.samples)
    cursors.passes[skill] = number
    cursors.taken[skill, 0] = line - tape.span_edges(number)[0]
    return start


def _draw_within_pass(edges: Int64, taken: Int64, nodes: Int64) -> Int64:
    """Line positions of draws that all belong to one pass with the given span edges; moves `taken`."""
    wanted = np.bincount(nodes, minlength=len(edges) - 1)
    own = np.minimum(wanted, np.diff(edges) - taken)
    order = np.argsort(nodes, kind='stable')
    rank = np.empty(len(nodes), np.int64)
    rank[order] = np.arange(len(nodes)) - (wanted.cumsum() - wanted)[nodes[order]]
    line = edges[nodes] + taken[nodes] + rank
    taken += own
    borrowing = np.flatnonzero(rank >= own[nodes])
    if len(borrowing):
        line[borrowing] = _borrow(edges, taken, len(borrowing))
    return line


def _borrow(edges: Int64, taken: Int64, count: int) -> Int64:
    """The next `count` free line positions, from the spans with most to spare; moves `taken`."""
    spare = np.diff(edges) - taken
    # Even out what is left: lower the fullest spans to a common level, then hand out the remainder.
    level = _common_level(spare, count)
    lent = np.maximum(spare - level, 0)
    excess = int(lent.sum()) - count
    lent[np.flatnonzero(lent)[:excess]] -= 1
    starts = edges[:-1] + taken
    taken += lent
    return np.concatenate([np.arange(start, start + n) for start, n in zip(starts, lent, strict=True) if n])


def _common_level(spare: Int64, count: int) -> int:
    """The largest level such that lowering every span to it frees at least `count` samples."""
    low, high = 0, int(spare.max())
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.maximum(spare - middle, 0).sum()) >= count:
            low = middle
        else:
            high = middle - 1
    return low
