"""The order of past rounds, computed again: which samples, where they are stored, when each was drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skillit_stream.audit.record import RunRecord, Stretch, read_run, told
from skillit_stream.audit.stream_index import LostStream, StreamIndex
from skillit_stream.audit.walk import Walk
from skillit_stream.base.errors import InputError
from skillit_stream.order.plan import Window

Int64 = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One time a sample was drawn. All numbers count from 0."""

    sample: int
    """The sample's id in the last rounds of the run."""
    id_then: int
    """The id that it had in this round."""
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
        self._walks: list[Walk] = []

    def sample_ids(self, number: int) -> Int64:
        """The global order of a round.

        Returns:
            int64 [round_size]: sample ids as the dataset had them in that round; a global batch is a run of
            the global batch size.

        Raises:
            InputError: The round has not ended, there is no such round, or it drew from a stream whose shards
                are not known.
        """
        walk = self._walk(self.stretch_of(number))
        parts = [self._look_up(walk, window) for window in walk.windows(number)]
        return np.concatenate(parts).ravel()

    def step_ids(self, step: int) -> Int64:
        """Sample ids of one training step's global batch, int64 [global batch]; raises as `sample_ids`."""
        number, batch = self.batch_of(step)
        walk = self._walk(self.stretch_of(number))
        for window in walk.windows(number):
            row = batch - window.first_batch
            if row < len(window.skills):
                return self._look_up(walk, window, row)
        raise RuntimeError(f'Internal error: round {number} has no batch {batch}.')

    def batch_of(self, step: int) -> tuple[int, int]:
        """Round of a training step and global batch in it; raises InputError if that round has not ended."""
        if not 0 <= step < self.run.steps:
            raise InputError(f'`--step` must be {self._known(self.run.steps, "step")}, but got: {step}.')
        stretch = next(one for one in self.run.stretches if step < one.end_step)
        rounds, batch = divmod(step - stretch.first_step, stretch.shape.batches)
        return stretch.first_round + rounds, batch

    def stretch_of(self, number: int) -> Stretch:
        """The stretch that a round is in; raises InputError if the round has not ended."""
        if not 0 <= number < self.run.rounds:
            raise InputError(f'`--round` must be {self._known(self.run.rounds, "round")}, but got: {number}.')
        return next(stretch for stretch in self.run.stretches if number < stretch.end_round)

    def draws(self, samples: Sequence[int]) -> Iterator[Draw]:
        """Every time one of the samples was drawn in a finished round, in the order of training.

        Where its stream had other shards (before it was changed), a sample did not exist.

        Args:
            samples: Ids as of the last rounds of the run.

        Raises:
            InputError: There is no sample of that id, or its shard is not known.
        """
        wanted = np.unique(np.array([self._checked(sample) for sample in samples], np.int64))
        for stretch in self.run.stretches:
            ids, ids_then = self._ids_then(wanted, stretch)
            if not len(ids):
                continue
            walk = self._walk(stretch)
            order = ids_then.argsort()
            for number in range(stretch.first_round, stretch.end_round):
                for window in walk.windows(number):
                    yield from _draws_in(walk, window, number, ids[order], ids_then[order])

    def homes(self, samples: Sequence[int] | Int64, number: int | None = None) -> list[Home]:
        """Where samples are stored.

        Args:
            samples: Their ids.
            number: The round that the ids are of; None: the last.

        Raises:
            InputError: There is no sample of that id, or its shard is not known.
        """
        stretch = self.stretch_of(self.run.rounds - 1 if number is None else number)
        skills, insides = _places(
            stretch, np.array([self._checked(one, stretch) for one in samples], np.int64)
        )
        streams = list(stretch.streams.items())
        homes = []
        for at, inside in zip(skills.tolist(), insides.tolist(), strict=True):
            skill, stream = streams[at]
            if isinstance(stream, LostStream):
                raise self._refusal(skill, stream)
            ends = stream.sizes.cumsum()
            shard = int(np.searchsorted(ends, inside, side='right'))
            row = inside - int(ends[shard] - stream.sizes[shard])
            homes.append(Home(skill=skill, file=stream.folder / stream.files[shard], row=row))
        return homes

    def rounds_of_other_shards(self, skill: str) -> list[tuple[int, int]]:
        """First and last rounds for which the skill's stream was another than is known now."""
        return self.run.spans(lambda stretch: isinstance(stretch.streams.get(skill), LostStream))

    def _walk(self, stretch: Stretch) -> Walk:
        number = self.run.stretches.index(stretch)
        while len(self._walks) <= number:
            following = self.run.stretches[len(self._walks)]
            self._walks.append(self._walks[-1].go_on(following) if self._walks else Walk(following))
        return self._walks[number]

    def _look_up(self, walk: Walk, window: Window, rows: int | slice = slice(None)) -> Int64:
        skills = window.skills[rows]
        lost = walk.lost_among(skills)
        if lost:
            skill = next(name for name, stream in walk.stretch.streams.items() if stream is lost)
            raise self._refusal(skill, lost)
        return walk.look_up(skills, window.passes[rows], window.line[rows])

    def _refusal(self, skill: str, lost: LostStream) -> InputError:
        def has_it(stretch: Stretch) -> bool:
            stream = stretch.streams.get(skill)
            return isinstance(stream, LostStream) and stream.recorded == lost.recorded

        return InputError(lost.problem.replace('{rounds}', told(self.run.spans(has_it))))

    def _ids_then(self, ids: Int64, stretch: Stretch) -> tuple[Int64, Int64]:
        """Those of the ids that were in a stretch's streams, and the ids that they had there."""
        last = self.run.stretches[-1]
        skills, insides = _places(last, ids)
        names, offsets = list(last.streams), stretch.offsets
        found = []
        for sample, at, inside in zip(ids.tolist(), skills.tolist(), insides.tolist(), strict=True):
            skill = names[at]
            present, stream = last.streams[skill], stretch.streams.get(skill)
            if isinstance(present, LostStream):
                raise self._refusal(skill, present)
            # Streams that are known begin with the same shards: they are the first of the same index.
            if isinstance(stream, StreamIndex) and inside < stream.samples:
                found.append((sample, offsets[skill] + inside))
        pairs = np.array(found, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def _checked(self, sample: int, stretch: Stretch | None = None) -> int:
        streams = (stretch or self.run.stretches[-1]).streams if self.run.stretches else {}
        samples = sum(stream.samples for stream in streams.values())
        if not 0 <= sample < samples:
            raise InputError(f'`--sample` must be the id of a sample, 0 to {samples - 1}, but got: {sample}.')
        return int(sample)

    def _known(self, count: int, what: str) -> str:
        """What can be asked for, as in 'a round from 0 to 4 (...)'."""
        why = f"a round's proportions are in {self.run.folder / 'mixture.jsonl'} once it has ended"
        if not count:
            return f'a {what} of a round that has ended, and none has ({why})'
        return f'a {what} from 0 to {count - 1} ({why})'


def _places(stretch: Stretch, ids: Int64) -> tuple[Int64, Int64]:
    """Rows of the skills that sample ids belong to, and numbers in their streams; int64 [ids] each."""
    offsets = np.array(list(stretch.offsets.values()), np.int64)
    skills = np.searchsorted(offsets, ids, side='right') - 1
    return skills, ids - offsets[skills]


def _draws_in(walk: Walk, window: Window, number: int, ids: Int64, ids_then: Int64) -> Iterator[Draw]:
    """The draws of some samples in a window; `ids_then` is in ascending order."""
    # Only the slots of these samples' skills are looked up: the rest of the round cannot hold them.
    chosen = np.isin(window.skills, np.unique(_places(walk.stretch, ids_then)[0]))
    batches, places = np.nonzero(chosen)
    passes = window.passes[chosen]
    drawn = walk.look_up(window.skills[chosen], passes, window.line[chosen])
    first_step = walk.stretch.first_step_of(number) + window.first_batch
    for hit in np.flatnonzero(np.isin(drawn, ids_then)):
        yield Draw(
            sample=int(ids[np.searchsorted(ids_then, drawn[hit])]),
            id_then=int(drawn[hit]),
            round=number,
            step=first_step + int(batches[hit]),
            place=int(places[hit]),
            tape_pass=int(passes[hit]),
        )


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
