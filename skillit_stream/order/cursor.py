"""How far each tape has been consumed, and which tape positions the next draws get."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skillit_stream.order.tape import Tape

Int64 = NDArray[np.int64]


@dataclass
class Cursors:
    """Positions on every tape, and the accounts of its skill.

    Attributes:
        passes: int64 [skills], the pass each tape is in (from 0).
        taken: int64 [skills, columns], samples of each span taken in that pass: a column a canonical node (a tape
            of one span uses the first alone), and as many more for each time that the longest-growing stream was
            lengthened in its pass.
        drawn: int64 [skills], samples drawn in all.
        owed: float64 [skills], samples that the proportions so far would have given and rounding has not.
    """

    passes: Int64
    taken: Int64
    drawn: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    owed: NDArray[np.float64] = field(default_factory=lambda: np.empty(0, np.float64))

    def __post_init__(self) -> None:
        if not len(self.drawn):
            self.drawn = np.zeros(len(self.passes), np.int64)
        if not len(self.owed):
            self.owed = np.zeros(len(self.passes), np.float64)

    @classmethod
    def at_start(cls, skills: int, columns: int) -> 'Cursors':
        """Nothing consumed yet."""
        return cls(np.zeros(skills, np.int64), np.zeros((skills, columns), np.int64))

    def copy(self) -> 'Cursors':
        """An independent copy."""
        return self.with_columns(self.taken.shape[1])

    def with_columns(self, columns: int) -> 'Cursors':
        """An independent copy with this many columns; those that are not needed are empty."""
        taken = np.zeros((len(self.taken), columns), np.int64)
        both = min(columns, self.taken.shape[1])
        taken[:, :both] = self.taken[:, :both]
        return Cursors(self.passes.copy(), taken, self.drawn.copy(), self.owed.copy())


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
    cursors.drawn[skill] += len(nodes)
    if tape.spans == 1 and tape.has_even_passes:
        return _draw_from_one_span(tape, cursors, skill, len(nodes))
    passes = np.empty(len(nodes), np.int64)
    line = np.empty(len(nodes), np.int64)
    begin = 0
    while begin < len(nodes):
        number, taken = int(cursors.passes[skill]), cursors.taken[skill]
        left_in_pass = tape.draws_in(number) - int(taken.sum())
        end = min(len(nodes), begin + left_in_pass)
        passes[begin:end] = number
        line[begin:end] = tape.draw_in_pass(number, taken, nodes[begin:end])
        if end - begin == left_in_pass:
            cursors.passes[skill] += 1
            taken[:] = 0
        begin = end
    return passes, line


def _draw_from_one_span(tape: Tape, cursors: Cursors, skill: int, count: int) -> tuple[Int64, Int64]:
    """Passes and line positions of draws from a tape of one span and even passes: no node shapes them."""
    start = int(cursors.passes[skill]) * tape.samples + int(cursors.taken[skill, 0])
    cursors.passes[skill], cursors.taken[skill, 0] = divmod(start + count, tape.samples)
    passes, line = np.divmod(np.arange(start, start + count), tape.samples)
    return passes, line
