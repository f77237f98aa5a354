"""One round of a run, planned again from the state in its line of mixture.jsonl."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from skillit_stream.audit.stream_index import LostStream, StreamIndex, StreamsFolder, find_sample_order
from skillit_stream.base.errors import InputError
from skillit_stream.base.files import from_plain
from skillit_stream.formats.run_log import RoundRecord
from skillit_stream.mixture import SampleOrder
from skillit_stream.order.carry_over import Continuation, carry_over
from skillit_stream.order.paced_tape import make_tape
from skillit_stream.order.plan import RoundShape, Window, look_up, round_counts, walk_round

Int64 = NDArray[np.int64]
Stream = StreamIndex | LostStream


@dataclass(frozen=True, kw_only=True)
class _Curriculum:
    """The order of a stream's samples, as ``SampleOrder.describe`` has it."""

    losses: str
    digest: str
    hardest_first: bool
    begins: list[int]
    keys: list[float]


@dataclass(frozen=True, kw_only=True)
class StreamState:
    """A stream at the start of the round, as ``stream_states`` has it (but for `pass`, no name in Python)."""

    samples: int
    shards: int
    digest: str
    taken: list[int]
    grown_at: list[int]
    drawn: int
    owed: float
    curriculum: _Curriculum | None = None
    subset: int | None = None


@dataclass(frozen=True, kw_only=True)
class RoundState:
    """What the order of the round depends on, of ``SkillStreamingDataset.round_state``."""

    proportions: dict[str, float]
    round_size: int
    global_batch_size: int
    batching: str
    num_canonical_nodes: int
    shuffle: bool
    shuffle_seed: int
    shuffle_block_size: int
    streams: dict[str, StreamState]


class PastRound:
    """A round that has ended.

    Args:
        record: Its line.
        folder: The streams as they are now.

    Raises:
        InputError: The line has no state, or the state does not fit what the line says was drawn.
    """

    def __init__(self, record: RoundRecord, folder: StreamsFolder) -> None:
        self.record = record
        self.number = record.round
        state = checked_state(record)
        self.streams: dict[str, Stream] = {}
        self._orders: dict[str, SampleOrder] = {}
        for skill, stream in state.streams.items():
            self.streams[skill], order = find_stream(folder, skill, stream)
            if order:
                self._orders[skill] = order
        self.shape = RoundShape(
            state.round_size,
            state.global_batch_size,
            state.num_canonical_nodes,
            state.batching,
            state.shuffle_seed,
        )
        self.steps = self.shape.batches if record.ended_after is None else record.ended_after
        """Steps of it that were trained."""
        self.first_step = record.step - self.steps
        self._lay_out(state)
        proportions = np.array([state.proportions[skill] for skill in self.streams])
        try:
            self._counts, _ = round_counts(self._tapes, proportions, state.round_size, self._cursors.owed)
        except InputError as error:
            raise InputError(f'{record.where}: {error}') from None
        drawn = self._drawn()
        if drawn != record.samples or self.first_step < 0:
            raise InputError(
                f'{record.where}: round {record.round} ended at step {record.step} with other samples of a skill than '
                f'its `state` gives: the file is not as it was written, and its order cannot be recomputed.'
            )

    @property
    def offsets(self) -> dict[str, int]:
        """Id of each stream's first sample in this round, by skill."""
        sizes = np.array([stream.samples for stream in self.streams.values()], np.int64)
        return dict(zip(self.streams, (sizes.cumsum() - sizes).tolist(), strict=True))

    @property
    def samples(self) -> int:
        """Samples in the streams of this round; ids are below."""
        return sum(stream.samples for stream in self.streams.values())

    def windows(self) -> Iterator[Window]:
        """The round, window by window, as far as it was trained."""
        for window in walk_round(self._tapes, self.shape, self.number, self._counts, self._cursors.copy()):
            trained = self.steps - window.first_batch
            if trained <= 0:
                return
            yield Window(
                window.first_batch, window.skills[:trained], window.passes[:trained], window.line[:trained]
            )

    def _drawn(self) -> dict[str, int]:
        """Samples of each skill that were trained on."""
        counts = self._counts
        if self.record.ended_after is not None:
            skills = [window.skills.ravel() for window in self.windows()]
            counts = np.bincount(np.concatenate(skills), minlength=len(self.streams))
        return dict(zip(self.streams, counts.tolist(), strict=True))

    def look_up(self, skills: NDArray[np.int32], passes: Int64, line: Int64) -> Int64:
        """Sample ids int64 [...] of slots of a window, as the dataset had them in this round."""
        return look_up(self._tapes, np.array(list(self.offsets.values()), np.int64), skills, passes, line)

    def lost_among(self, skills: NDArray[np.int32]) -> str | None:
        """A skill that some of the slots draw from and whose shards are not known."""
        names = list(self.streams)
        drawn = (names[skill] for skill in np.unique(skills).tolist())
        return next((skill for skill in drawn if isinstance(self.streams[skill], LostStream)), None)

    def places(self, ids: Int64) -> tuple[Int64, Int64]:
        """Rows of the skills that sample ids belong to, and numbers in their streams; int64 [ids] each."""
        offsets = np.array(list(self.offsets.values()), np.int64)
        skills = np.searchsorted(offsets, ids, side='right') - 1
        return skills, ids - offsets[skills]

    def _lay_out(self, state: RoundState) -> None:
        """Tapes and cursors at the start of the round."""
        saved: Mapping[str, Any] = (self.record.state or {})['streams']
        nodes = state.num_canonical_nodes
        # Nothing but the samples, number and digests of the shards is asked for: what an index has here too.
        continuations, self._cursors = carry_over(saved, cast('Any', self.streams), nodes, self._orders)
        self._tapes = []
        for row, (skill, stream) in enumerate(self.streams.items()):
            continuation = continuations[row]
            if isinstance(stream, LostStream):
                # What it drew is not known and not asked for; where, does not depend on its shards.
                continuation = Continuation()
                self._cursors.passes[row], self._cursors.taken[row] = 0, 0
            self._tapes.append(
                make_tape(
                    skill,
                    stream.sizes,
                    order=self._orders.get(skill),
                    subset=stream.subset,
                    grown_in=continuation.grown_in,
                    grown_at=continuation.grown_at,
                    seed=state.shuffle_seed,
                    canonical_nodes=nodes,
                    block_size=state.shuffle_block_size,
                    shuffle=state.shuffle,
                )
            )


def checked_state(record: RoundRecord) -> RoundState:
    """The state in a line; raises InputError if there is none, or it is not whole."""
    if record.state is None:
        raise InputError(
            f'{record.where} has no `state`: lines of version 1, of an older skillit_stream, do not hold what the '
            f'order of their round follows from; audit it with the release that wrote it.'
        )
    try:
        state = from_plain(RoundState, record.state, 'state')
        RoundShape(state.round_size, state.global_batch_size, state.num_canonical_nodes, state.batching)
        for skill, stream in state.streams.items():
            if skill not in state.proportions or type(record.state['streams'][skill].get('pass')) is not int:
                raise ValueError(f"'state' lacks the proportion or the pass of skill {skill}")
            if stream.samples < 1 or stream.shards < 1:
                raise ValueError(f"'state.streams.{skill}' has no samples")
            if stream.subset is not None and not 1 <= stream.subset <= stream.samples:
                raise ValueError(
                    f"'state.streams.{skill}' is limited to more samples than it has, or to none"
                )
    except ValueError as error:
        raise InputError(f'{record.where}: {error}; restore the file.') from None
    return state


def find_stream(folder: StreamsFolder, skill: str, state: StreamState) -> tuple[Stream, SampleOrder | None]:
    """A stream as a round had it, and the curriculum over its samples, if there was one and both are known."""
    found = folder.find(skill, samples=state.samples, shards=state.shards, digest=state.digest)
    found = replace(found, subset=state.subset)
    if not state.curriculum or isinstance(found, LostStream):
        return found, None
    order = find_sample_order(skill, found, vars(state.curriculum))
    return (order, None) if isinstance(order, LostStream) else (found, order)
