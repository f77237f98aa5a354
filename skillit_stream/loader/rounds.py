"""The run's rounds: which one is on, with which mixture, and where its tapes start.

Everything of the loader but the samples' bytes. One object a rank, copied into its workers; what they
share is in the :class:`~skillit_stream.loader.ledger.Ledger`.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.loader.host.loader_identity import iterating_process, loader_identity
from skillit_stream.loader.host.processes import is_running
from skillit_stream.loader.ledger import Claim, Ledger, RoundStart
from skillit_stream.order.cursor import Cursors
from skillit_stream.order.plan import RoundShape, Window, look_up, round_counts, walk_round
from skillit_stream.order.tape import Tape

Int64 = NDArray[np.int64]
Proportions = NDArray[np.float64]


_LOADED_SINCE = 'A state was loaded when {when}: call load_state_dict between iterations, then iter() again.'
_CANNOT_FOLLOW = (
    'The workers of this DataLoader were started before a state of another seed, shuffle block, number of canonical '
    'nodes or other streams was loaded (or `set_sample_orders` called), and cannot follow: make a new DataLoader after '
    'it, or load the state before the first iteration.'
)


class Turn(NamedTuple):
    """What somebody plays who has begun to iterate."""

    number: int
    """Of the round."""
    first: int
    """Global batch to begin at."""
    claim: Claim
    refusal: InputError | None = None
    """Why it must not be played."""


def _key_of(*numbers: int) -> int:
    """A number, not 0, for what those have in common who play an iteration together."""
    digest = blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little', signed=True) or 1


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
        lock_path: Of the ledger.

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
        lock_path: str,
    ) -> None:
        self.tapes = tapes
        self.sizes = np.array([tape.samples for tape in tapes], np.int64)
        """int64 [skills]: samples in a pass of each tape."""
        self.shape = shape
        self._sample_offsets = sample_offsets
        self._may_repeat = may_repeat
        self._columns = start.cursors.taken.shape[1]
        self._ledger = Ledger(len(tapes), self._columns, lock_path)
        self._iterations_here = (0, 0)
        self.restart(start, sample)

    def restart(self, start: RoundStart, sample: int) -> None:
        """Go on at another place; workers that are alive follow at their next iteration."""
        self.refuse_partial(sample)
        # What this process knows, for sample_ids; workers rely on the ledger alone.
        cursors = start.cursors.with_columns(self._columns)
        self._set = {start.number: start.proportions}
        self._starts = {start.number: cursors}
        self._ledger.restart(RoundStart(start.number, cursors, start.proportions), sample)
        self._restarts = self._ledger.restarts

    def end_round(self) -> None:
        """Go on at the start of the round after the base's, of which nothing is left."""
        number = self.base[0] + 1
        self.restart(RoundStart(number, self.cursors_at(number), self.proportions(number)), 0)

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

    def refuse_partial(self, sample: int) -> None:
        """Raise InputError unless a round can be resumed after so many of its samples."""
        shape = self.shape
        if not 0 <= sample <= shape.round_size or sample % shape.global_batch:
            raise InputError(
                f'A round can be resumed after whole global batches of {shape.global_batch} samples, at most '
                f'{shape.round_size}, but got: sample {sample}: count the samples that all ranks drew in this round, '
                f"and give the DataLoader the dataset's `batch_size`."
            )

    def begin(self, refusal: InputError | None = None) -> Turn:
        """Begin to iterate, as one of those who play a round together: the workers of a DataLoader, or a process alone.

        Nothing is raised before the turn is played: a worker that lives on would die of it, and nobody see why.

        Args:
            refusal: Why this process must not.
        """
        loader = loader_identity()
        process, here = self._iterations_here
        here = here + 1 if process == os.getpid() else 0
        self._iterations_here = (os.getpid(), here)
        # A worker that was asked for before a state was loaded would take the place of those asked for after it.
        if loader and not here and self._restarts != self._ledger.restarts:
            refusal = refusal or InputError(_LOADED_SINCE.format(when='its workers started'))
        refusal = refusal or self._other_process()
        if refusal:
            return Turn(0, 0, Claim(0, 0), refusal)
        number, sample = self._ledger.base
        claim = self._ledger.claim(_key_of(*loader, here) if loader else 0)
        self._ledger.take(iterating_process())
        number += claim.before
        if self._ledger.is_current(claim):
            # A round that is begun and never drawn from must still leave the start of the next one behind.
            self.cursors_at(number)
        return Turn(number, 0 if claim.before else sample // self.shape.global_batch, claim)

    def check_turn(self, turn: Turn) -> None:
        """Raise InputError if another iteration has begun since, or a state was loaded: its order is played no more."""
        ledger = self._ledger
        if turn.refusal:
            raise turn.refusal
        if ledger.is_current(turn.claim):
            return
        if ledger.is_retired and loader_identity():
            raise InputError(_CANNOT_FOLLOW)
        if ledger.is_retired or ledger.restarts != turn.claim.restarts:
            raise InputError(_LOADED_SINCE.format(when=f'round {turn.number} was iterated'))
        raise InputError(
            f'Another iteration of the dataset has begun round {self.current} while round {turn.number} was iterated: '
            f'a dataset plays one round at a time, and the state would be of the wrong one. Begin the one when the '
            f'other has ended; to look at samples, call `sample_ids` and `samples_by_id`.'
        )

    def refuse_other_process(self, refusal: InputError | None = None) -> None:
        """Raise the refusal, if there is one, or InputError if another process, which is alive, iterates."""
        if problem := refusal or self._other_process():
            raise problem

    def _other_process(self) -> InputError | None:
        player, asking = self._ledger.process, iterating_process()
        if player in (0, asking) or not is_running(player):
            return None
        return InputError(
            f'Process {player} iterates this dataset, and process {asking} would take its next rounds from it: make a '
            f'dataset in every process that trains.'
        )

    def retire(self) -> None:
        """Other rounds take the place of these: workers that are alive have these alone, and must not go on."""
        self._ledger.retire()

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
