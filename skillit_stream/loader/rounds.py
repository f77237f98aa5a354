"""The run's rounds: which one is on, with which mixture, and where its tapes start.

Everything of the loader but the samples' bytes. One object a rank, copied into its workers; what they
share is in the :class:`~skillit_stream.loader.ledger.Ledger`.
"""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.loader.ledger import Ledger, RoundStart
from skillit_stream.order.cursor import Cursors
from skillit_stream.order.plan import RoundShape, Window, look_up, round_counts, walk_round
from skillit_stream.order.tape import Tape

Int64 = NDArray[np.int64]
Proportions = NDArray[np.float64]


class Rounds:
    """Rounds over a set of tapes, from a start on.

    Args:
        tapes: One a skill.
        shape: Sizes, batching and seed of every round.
        sample_offsets: int64 [skills], id of each stream's first sample.
        may_repeat: Whether a tape goes on with a new pass after its last sample, or a round that would need
            one is refused.
        start: The first round.
        sample: Samples of that round that were consumed before; whole global batches.

    Raises:
        InputError: `sample` is not a whole number of batches of a round, or a tape is too short.
    """

    def __init__(
        self,
        tapes: Sequence[Tape],
        *,
        shape: RoundShape,
        sample_offsets: Int64,
        may_repeat: bool,
        start: RoundStart,
        sample: int = 0,
    ) -> None:
        self.tapes = tapes
        self.shape = shape
        self._sample_offsets = sample_offsets
        self._may_repeat = may_repeat
        self._columns = start.cursors.taken.shape[1]
        self._ledger = Ledger(len(tapes), self._columns)
        self.restart(start, sample)

    def restart(self, start: RoundStart, sample: int) -> None:
        """Go on at another place; workers that are alive follow at their next iteration."""
        shape = self.shape
        if not 0 <= sample <= shape.round_size or sample % shape.global_batch:
            raise InputError(
                f'A round can be resumed after whole global batches of {shape.global_batch} samples, at most '
                f'{shape.round_size}, but got: sample {sample}.'
            )
        # What this process knows, for sample_ids; workers rely on the ledger alone.
        cursors = start.cursors.with_columns(self._columns)
        self._set = {start.number: start.proportions}
        self._starts = {start.number: cursors}
        self._ledger.restart(RoundStart(start.number, cursors, start.proportions), sample)

    @property
    def base(self) -> tuple[int, int]:
        """Round and sample in it at which this process started."""
        return self._ledger.base

    @property
    def begun(self) -> bool:
        """Whether anything was played since."""
        return self._ledger.iterations > 0

    @property
    def current(self) -> int:
        """The round being played, or the one to be played first."""
        return self._ledger.base[0] + max(0, self._ledger.iterations - 1)

    @property
    def first_batch(self) -> int | None:
        """Global batch of the base's round at which iteration will begin; None once it has."""
        return None if self.begun else self._ledger.base[1] // self.shape.global_batch

    @property
    def upcoming(self) -> int:
        """The first round that has not begun."""
        base, sample = self._ledger.base
        return self.current + 1 if self.begun or sample else base

    def begin(self, worker: int, workers: int) -> tuple[int, int]:
        """This worker begins to iterate; returns the round it plays and the global batch to begin at."""
        number, sample = self._ledger.base
        before = self._ledger.begin_iteration(worker, workers)
        # A round that is begun and never drawn from must still leave the start of the next one behind.
        self.cursors_at(number + before)
        return number + before, 0 if before else sample // self.shape.global_batch

    def proportions(self, number: int) -> Proportions:
        """Proportions of a round, float64 [skills]."""
        return self._ledger.proportions(number)

    def counts(self, number: int) -> Int64:
        """Samples of each skill in a round, int64 [skills]."""
        return self._count(self.proportions(number), self._accounts(number)[1])[0]

    def set_proportions(self, number: int, proportions: Proportions) -> None:
        """Set the proportions of a round that has not begun and of those after it."""
        self.refuse_exhausted(number, proportions)
        self._ledger.publish_proportions(number, proportions)
        self._set[number] = proportions
        for later in [start for start in self._starts if start > number]:
            del self._starts[later]

    def walk(self, number: int) -> Iterator[Window]:
        """The windows of a round; the start of the next is known to all once the last is planned."""
        cursors = self.cursors_at(number)
        for window in self._windows(number, self.proportions(number), cursors):
            if window.first_batch + len(window.skills) == self.shape.batches:
                self._ledger.publish_cursors(number + 1, cursors)
            yield window

    def look_up(self, window: Window, slots: tuple[slice, slice] = (slice(None), slice(None))) -> Int64:
        """Sample ids of some slots of a window, [batches, slots]."""
        return look_up(
            self.tapes, self._sample_offsets, window.skills[slots], window.passes[slots], window.line[slots]
        )

    def sample_ids(self, number: int) -> Int64:
        """The global order of a round, int64 [round_size]; raises InputError before the base."""
        base, _ = self.base
        if number < base:
            raise InputError(
                f'`round` must be at least {base}, where this process resumed, but got: {number}.'
            )
        known = max(start for start in self._starts if start <= number)
        cursors = self._starts[known].copy()
        for between in range(known, number):
            deque(self._windows(between, self._proportions_set_for(between), cursors), maxlen=0)
            self._starts[between + 1] = cursors.copy()
        windows = self._windows(number, self._proportions_set_for(number), cursors)
        return np.concatenate([self.look_up(window).ravel() for window in windows])

    def cursors_at(self, number: int) -> Cursors:
        """The tapes at the start of a round: published by whoever has been there, else walked to."""
        known, cursors = self._ledger.latest_cursors(number)
        while known < number:
            deque(self._windows(known, self.proportions(known), cursors), maxlen=0)
            known += 1
            self._ledger.publish_cursors(known, cursors)
        return cursors

    def drawn_before(self, number: int) -> Int64:
        """Samples of each skill drawn in all rounds before this one, int64 [skills]."""
        return self._accounts(number)[0]

    def deal_out(self, worker: int, workers: int, number: int) -> None:
        """This worker hands out its last batch of a round."""
        self._ledger.publish_dealt_out(worker, workers, number)

    def is_dealt_out(self, number: int) -> bool:
        """Whether every worker has handed out its last batch of a round that was begun."""
        base, sample = self._ledger.base
        played = self.shape.batches - (sample // self.shape.global_batch if number == base else 0)
        return self.begun and self._ledger.is_dealt_out(number, played)

    def refuse_exhausted(self, number: int, proportions: Proportions) -> None:
        """Raise InputError if a tape that may not repeat has too few samples left for a round."""
        if self._may_repeat:
            return
        drawn, owed = self._accounts(number)
        wanted, _ = self._count(proportions, owed)
        for tape, used, wants in zip(self.tapes, drawn.tolist(), wanted.tolist(), strict=True):
            left = max(0, tape.samples - used)
            if wants > left:
                raise InputError(
                    f'Skill {tape.skill} runs out in round {number}: it has {left} samples left and the round draws '
                    f"{wants}. Lower its proportion, add data, or pass on_exhausted='repeat'."
                )

    def _accounts(self, number: int) -> tuple[Int64, NDArray[np.float64]]:
        """Samples drawn and owed before a round, int64 and float64 [skills]: by counts alone, without a walk."""
        known, cursors = self._ledger.latest_cursors(number)
        drawn, owed = cursors.drawn, cursors.owed
        for between in range(known, number):
            counts, owed = self._count(self.proportions(between), owed)
            drawn = drawn + counts
        return drawn, owed

    def _proportions_set_for(self, number: int) -> Proportions:
        return self._set[max(first for first in self._set if first <= number)]

    def _windows(self, number: int, proportions: Proportions, cursors: Cursors) -> Iterator[Window]:
        """The windows of a round that begins at these cursors, which are moved to the next."""
        counts, cursors.owed = self._count(proportions, cursors.owed)
        yield from walk_round(self.tapes, self.shape, number, counts, cursors)

    def _count(
        self, proportions: Proportions, owed: NDArray[np.float64]
    ) -> tuple[Int64, NDArray[np.float64]]:
        """Samples of each skill in a round, and what is owed after it."""
        return round_counts(self.tapes, proportions, self.shape.round_size, owed)
