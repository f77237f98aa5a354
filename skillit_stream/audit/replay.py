"""The order of past rounds, computed again: which samples, where they are stored, when each was drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, ListConfig, OmegaConf
from yaml import YAMLError

from skillit_stream.audit.past_round import PastRound, checked_state, find_stream
from skillit_stream.audit.stream_index import LostStream, StreamIndex, StreamsFolder
from skillit_stream.base.errors import InputError
from skillit_stream.formats.run_log import RoundRecord, find_round, read_rounds
from skillit_stream.formats.streams_folders import listed_folders, source_folders
from skillit_stream.order.plan import Window

Int64 = NDArray[np.int64]
Spans = list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One time a sample was drawn. All numbers count from 0."""

    sample: int
    """The sample's id in the last round of the run."""
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

    A stream whose index is missing, or is not what the run drew from, is refused by the questions that need it.

    Args:
        folder: The run folder: mixture.jsonl and (unless `streams` is given) config.yaml.
        streams: The streams folder, ROOT of ROOT/<skill>/train/index.json, or several; None: what config.yaml names.

    Raises:
        InputError: A file is missing or broken.
    """

    def __init__(
        self, folder: str | Path, *, streams: str | Path | Sequence[str | Path] | None = None
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(f'There is no run folder at {self.folder}: give the `save_folder` of a run.')
        self.log = self.folder / 'mixture.jsonl'
        if not self.log.is_file():
            raise InputError(f'{self.folder} has no mixture.jsonl: no round of this run has ended yet.')
        given = [streams] if isinstance(streams, str | Path) else streams
        self._streams = StreamsFolder(*map(str, given or _streams_roots(self.folder / 'config.yaml')))

    @cached_property
    def records(self) -> tuple[RoundRecord, ...]:
        """The lines of all finished rounds; raises InputError if a line is broken or a round is missing."""
        records = read_rounds(self.log).rounds
        for number, record in enumerate(records, start=records[0].round if records else 0):
            if record.round != number:
                raise InputError(
                    f'{record.where} is round {record.round}, but round {number} is not in the file: what it drew '
                    f'cannot be said; restore the file.'
                )
        return records

    @property
    def first(self) -> int:
        """The first round in the log; 0 in one that has none."""
        return self.records[0].round if self.records else 0

    @property
    def rounds(self) -> int:
        """The round after the last that has ended."""
        return self.records[-1].round + 1 if self.records else 0

    @property
    def steps(self) -> int:
        """The step after the last of a finished round."""
        return self.records[-1].step if self.records else 0

    @cached_property
    def last(self) -> PastRound:
        """The last round; its streams are those that sample ids are of."""
        if not self.records:
            raise InputError(f'{self.log} has no round that has ended: train on first.')
        return PastRound(self.records[-1], self._streams)

    def round(self, number: int) -> PastRound:
        """A round, from its line alone; raises InputError if it has not ended."""
        record = find_round(self.log, number) if number >= 0 else None
        if record is None:
            raise InputError(
                f'`--round` must be {self._known(self.first, self.rounds, "round")}, but got: {number}.'
            )
        return PastRound(record, self._streams)

    def round_of(self, step: int) -> PastRound:
        """The round of a training step; raises InputError if it has not ended."""
        found = next((record for record in self.records if step < record.step), None)
        past = PastRound(found, self._streams) if found and step >= 0 else None
        if past is None or step < past.first_step:
            first = PastRound(self.records[0], self._streams).first_step if self.records else 0
            raise InputError(f'`--step` must be {self._known(first, self.steps, "step")}, but got: {step}.')
        return past

    def sample_ids(self, number: int) -> Int64:
        """The global order of a round.

        Returns:
            int64 [round_size]: sample ids as the dataset had them in that round; a global batch is a run of
            the global batch size.

        Raises:
            InputError: The round has not ended, there is no such round, or it drew from a stream whose shards
                are not known.
        """
        past = self.round(number)
        return np.concatenate([self._look_up(past, window) for window in past.windows()]).ravel()

    def step_ids(self, step: int) -> Int64:
        """Sample ids of one training step's global batch, int64 [global batch]; raises as `sample_ids`."""
        past = self.round_of(step)
        batch = step - past.first_step
        window = next(one for one in past.windows() if batch < one.first_batch + len(one.skills))
        return self._look_up(past, window, batch - window.first_batch)

    def draws(self, samples: Sequence[int]) -> Iterator[Draw]:
        """Every time one of the samples was drawn in a finished round, in the order of training.

        Where its stream had other shards (before it was changed), a sample did not exist.

        Args:
            samples: Ids as of the last round of the run.

        Raises:
            InputError: There is no sample of that id, or its shard is not known.
        """
        wanted = np.unique(np.array([_checked(sample, self.last) for sample in samples], np.int64))
        for record in self.records:
            past = PastRound(record, self._streams)
            ids, ids_then = self._ids_then(wanted, past)
            if len(ids):
                order = ids_then.argsort()
                for window in past.windows():
                    yield from _draws_in(past, window, ids[order], ids_then[order])

    def homes(self, samples: Sequence[int] | Int64, past: PastRound) -> list[Home]:
        """Where samples are stored.

        Args:
            samples: Their ids.
            past: The round that the ids are of.

        Raises:
            InputError: There is no sample of that id, or its shard is not known.
        """
        skills, insides = past.places(np.array([_checked(one, past) for one in samples], np.int64))
        names = list(past.streams)
        homes = []
        for at, inside in zip(skills.tolist(), insides.tolist(), strict=True):
            stream = self._known_stream(past, names[at])
            ends = stream.sizes.cumsum()
            shard = int(np.searchsorted(ends, inside, side='right'))
            row = inside - int(ends[shard] - stream.sizes[shard])
            homes.append(Home(skill=names[at], file=stream.folder / stream.files[shard], row=row))
        return homes

    def rounds_of_other_shards(self, skill: str) -> Spans:
        """First and last rounds for which the skill's stream was another than is known now."""
        return self._spans_without(skill)

    def rounds_of_these_ids(self, past: PastRound) -> tuple[int, int]:
        """First and last of the rounds around one in which sample ids stand for the same samples."""

        def streams(record: RoundRecord) -> list[tuple[str, str]]:
            states = (record.state or {}).get('streams', {})
            return [(skill, stream.get('digest')) for skill, stream in states.items()]

        same = [record.round for record in self.records if streams(record) == streams(past.record)]
        first = last = past.number
        while first - 1 in same:
            first -= 1
        while last + 1 in same:
            last += 1
        return first, last

    def _look_up(self, past: PastRound, window: Window, rows: int | slice = slice(None)) -> Int64:
        skills = window.skills[rows]
        if lost := past.lost_among(skills):
            self._known_stream(past, lost)
        return past.look_up(skills, window.passes[rows], window.line[rows])

    def _known_stream(self, past: PastRound, skill: str) -> StreamIndex:
        stream = past.streams[skill]
        if isinstance(stream, StreamIndex):
            return stream
        spans = self._spans_without(skill, stream.recorded)
        raise InputError(stream.problem.replace('{rounds}', format_spans(spans)))

    def _spans_without(self, skill: str, digest: str | None = None) -> Spans:
        """First and last rounds that drew from shards of a skill which are not known, neighbours joined.

        Args:
            skill: The skill.
            digest: Of the shards; None: whichever.
        """
        spans: Spans = []
        for record in self.records:
            state = checked_state(record).streams.get(skill)
            if state is None or digest not in (None, state.digest):
                continue
            if isinstance(find_stream(self._streams, skill, state)[0], LostStream):
                first = spans.pop()[0] if spans and spans[-1][1] == record.round - 1 else record.round
                spans.append((first, record.round))
        return spans

    def _ids_then(self, ids: Int64, past: PastRound) -> tuple[Int64, Int64]:
        """Those of the ids that were in a round's streams, and the ids that they had there."""
        skills, insides = self.last.places(ids)
        names, offsets = list(self.last.streams), past.offsets
        found = []
        for sample, at, inside in zip(ids.tolist(), skills.tolist(), insides.tolist(), strict=True):
            self._known_stream(self.last, names[at])
            stream = past.streams.get(names[at])
            # Streams that are known begin with the same shards: they are the first of the same index.
            if isinstance(stream, StreamIndex) and inside < stream.samples:
                found.append((sample, offsets[names[at]] + inside))
        pairs = np.array(found, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def _known(self, first: int, end: int, what: str) -> str:
        """What can be asked for, as in 'a round from 0 to 4 (...)'."""
        why = f"a round's state is in {self.log} once it has ended"
        if end <= first:
            return f'a {what} of a round that has ended, and none has ({why})'
        return f'a {what} from {first} to {end - 1} ({why})'


def format_spans(spans: Sequence[tuple[int, int]]) -> str:
    """Spans of rounds in words."""
    return ', '.join(
        f'round {first}' if first == last else f'rounds {first} to {last}' for first, last in spans
    )


def _checked(sample: int, past: PastRound) -> int:
    if not 0 <= sample < past.samples:
        raise InputError(
            f'`--sample` must be the id of a sample, 0 to {past.samples - 1}, but got: {sample}.'
        )
    return int(sample)


def _draws_in(past: PastRound, window: Window, ids: Int64, ids_then: Int64) -> Iterator[Draw]:
    """The draws of some samples in a window; `ids_then` is in ascending order."""
    # Only the slots of these samples' skills are looked up: the rest of the round cannot hold them.
    chosen = np.isin(window.skills, np.unique(past.places(ids_then)[0]))
    batches, places = np.nonzero(chosen)
    passes = window.passes[chosen]
    drawn = past.look_up(window.skills[chosen], passes, window.line[chosen])
    for hit in np.flatnonzero(np.isin(drawn, ids_then)):
        yield Draw(
            sample=int(ids[np.searchsorted(ids_then, drawn[hit])]),
            id_then=int(drawn[hit]),
            round=past.number,
            step=past.first_step + window.first_batch + int(batches[hit]),
            place=int(places[hit]),
            tape_pass=int(passes[hit]),
        )


def _streams_roots(path: Path) -> list[str]:
    """The streams folders that config.yaml names, or the caches of them."""
    try:
        config = OmegaConf.load(path)
    except OSError:
        raise InputError(
            f'{path.parent} has no {path.name}, which names the streams: pass the streams folder as --streams.'
        ) from None
    except YAMLError:
        raise InputError(
            f'{path} is not YAML: restore it, or pass the streams folder as --streams.'
        ) from None
    named = config.get('streams') if isinstance(config, DictConfig) else None
    if not isinstance(config, DictConfig) or not isinstance(named, str | ListConfig):
        raise InputError(f'{path} does not name `streams`: pass the streams folder as --streams.')
    folders = listed_folders(named if isinstance(named, str) else list(named))
    # Of streams in an object store the cache holds the indexes, and no more is needed.
    if local := config.get('streams_local'):
        return [str(folder.local) for folder in source_folders(folders, str(local))]
    return list(folders)
