"""The order of past rounds, computed again by the functions that planned it for training."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skillit_stream.audit.record import RunRecord, read_run
from skillit_stream.errors import InputError
from skillit_stream.streams.cursor import Cursors
from skillit_stream.streams.plan import Window, look_up, walk_round

Int64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One time a sample was drawn. All numbers count from 0."""

    sample: int
    """The sample's id."""
    round: int
    step: int
    """Training step from the start of the run."""
    place: int
    """Place in that step's global batch."""
    tape_pass: int
    """The walk over its stream that it was drawn in."""


@dataclass(frozen=True, kw_only=True)
class Home:
    """Where a sample is stored."""

    skill: str
    file: Path
    """The shard."""
    row: int
    """Its row in the shard."""


class Replay:
    """The finished rounds of a run, in any order.

    A round's order depends on the rounds before it, so the first look at round *n* walks over 0 to *n* - 1;
    where they ended is remembered.

    Args:
        run: The run, as :func:`~skillit_stream.audit.record.read_run` reads it.
    """

    def __init__(self, run: RunRecord) -> None:
        self.run = run
        self._tapes = run.tapes()
        sizes = np.array([tape.samples for tape in self._tapes], np.int64)
        self._offsets: Int64 = sizes.cumsum() - sizes
        self._starts = {0: Cursors.at_start(len(sizes), run.shape.canonical_nodes)}

    def sample_ids(self, number: int) -> Int64:
        """The global order of a round.

        Returns:
            int64 [round_size]: sample ids; a global batch is a run of the global batch size.

        Raises:
            InputError: The round has not ended, or there is no such round.
        """
        self._check_round(number)
        windows = self._windows(number)
        parts = [
            look_up(self._tapes, self._offsets, window.skills, window.passes, window.line).ravel()
            for window in windows
        ]
        return np.concatenate(parts)

    def step_ids(self, step: int) -> Int64:
        """Sample ids of one training step's global batch, int64 [global batch]; raises as `sample_ids`."""
        shape, steps = self.run.shape, self.run.rounds * self.run.shape.batches
        if not 0 <= step < steps:
            raise InputError(f'`--step` must be {self._known(steps, "step")}, but got: {step}.')
        number, batch = divmod(step, shape.batches)
        return self.sample_ids(number).reshape(shape.batches, shape.global_batch)[batch]

    def draws(self, samples: Sequence[int]) -> Iterator[Draw]:
        """Every time one of the samples was drawn in a finished round, in the order of training.

        Raises:
            InputError: There is no sample of that id.
        """
        wanted = np.unique(self._checked_ids(samples))
        skills = np.unique(self._skills_of(wanted))
        for number in range(self.run.rounds):
            for window in self._windows(number):
                yield from self._draws_in(window, number, wanted, skills)

    def homes(self, samples: Sequence[int] | Int64) -> list[Home]:
        """Where the samples are stored; raises InputError for an id that there is not."""
        ids = self._checked_ids(samples)
        streams = list(self.run.streams.items())
        homes = []
        for number, local in zip(self._skills_of(ids), ids, strict=True):
            skill, stream = streams[number]
            ends = stream.sizes.cumsum()
            inside = int(local - self._offsets[number])
            shard = int(np.searchsorted(ends, inside, side='right'))
            row = inside - int(ends[shard] - stream.sizes[shard])
            homes.append(Home(skill=skill, file=stream.folder / stream.files[shard], row=row))
        return homes

    def _draws_in(self, window: Window, number: int, wanted: Int64, skills: Int64) -> Iterator[Draw]:
        # Only the slots of these samples' skills are looked up: the rest of the round cannot hold them.
        chosen = np.isin(window.skills, skills)
        batches, places = np.nonzero(chosen)
        passes = window.passes[chosen]
        ids = look_up(self._tapes, self._offsets, window.skills[chosen], passes, window.line[chosen])
        first_step = number * self.run.shape.batches + window.first_batch
        for hit in np.flatnonzero(np.isin(ids, wanted)):
            yield Draw(
                sample=int(ids[hit]),
                round=number,
                step=first_step + int(batches[hit]),
                place=int(places[hit]),
                tape_pass=int(passes[hit]),
            )

    def _windows(self, number: int) -> Iterator[Window]:
        cursors = self._start(number).copy()
        yield from walk_round(self._tapes, self.run.shape, number, self.run.counts[number], cursors)
        self._starts[number + 1] = cursors

    def _start(self, number: int) -> Cursors:
        """Where the tapes stand at the start of a round."""
        for known in range(max(start for start in self._starts if start <= number), number):
            if all(tape.spans == 1 for tape in self._tapes):
                self._starts[known + 1] = self._skip_by_counts(known)
            else:
                deque(self._windows(known), maxlen=0)
        return self._starts[number]

    def _skip_by_counts(self, number: int) -> Cursors:
        """Past a round whose tapes have one span each: nothing but its counts decides where they end."""
        cursors = self._starts[number].copy()
        sizes = np.array([tape.samples for tape in self._tapes], np.int64)
        more, cursors.taken[:, 0] = np.divmod(cursors.taken[:, 0] + self.run.counts[number], sizes)
        cursors.passes += more
        return cursors

    def _skills_of(self, ids: Int64) -> Int64:
        return np.searchsorted(self._offsets, ids, side='right') - 1

    def _checked_ids(self, samples: Sequence[int] | Int64) -> Int64:
        for sample in samples:
            if not 0 <= sample < self.run.samples:
                raise InputError(
                    f'`--sample` must be the id of a sample, 0 to {self.run.samples - 1}, but got: {sample}.'
                )
        return np.array(samples, np.int64)

    def _check_round(self, number: int) -> None:
        if not 0 <= number < self.run.rounds:
            raise InputError(f'`--round` must be {self._known(self.run.rounds, "round")}, but got: {number}.')

    def _known(self, count: int, what: str) -> str:
        """What can be asked for, as in 'a round from 0 to 4 (...)'."""
        why = f"a round's proportions are in {self.run.folder / 'mixture.jsonl'} once it has ended"
        if not count:
            return f'a {what} of a round that has ended, and none has ({why})'
        return f'a {what} from 0 to {count - 1} ({why})'


def replay_round(run: RunRecord | str | Path, number: int) -> Int64:
    """The global order of one finished round of a run.

    Args:
        run: A run, or its folder.
        number: The round, from 0.

    Returns:
        int64 [round_size]: what ``SkillStreamingDataset.sample_ids(number)`` was in training.

    Raises:
        InputError: The round has not ended, or the folder is not that of a run.
    """
    return Replay(run if isinstance(run, RunRecord) else read_run(run)).sample_ids(number)
