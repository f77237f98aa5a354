"""SkillStreamingDataset: a StreamingDataset whose mixture may change every round.

One round is one epoch. The order of a round is planned by :mod:`skillit_stream.order.plan` from tapes,
counts and cursors; this module ties the plan to the shards, to the processes that iterate, and to checkpoints.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming import Stream
from torch.utils.data import get_worker_info

from skillit_stream.base.errors import InputError
from skillit_stream.loader.checks import (
    check_arguments,
    check_orders,
    check_state,
    proportions_by_skill,
    upgrade_state,
)
from skillit_stream.loader.ledger import RoundStart
from skillit_stream.loader.place import OwnPlace
from skillit_stream.loader.rounds import Rounds
from skillit_stream.loader.skill_shards import SkillShards
from skillit_stream.mixture.apportion import checked_proportions
from skillit_stream.mixture.sample_order import SampleOrder
from skillit_stream.order.carry_over import (
    Continuation,
    carry_over,
    carry_proportions,
    describe_streams,
    find_changes,
    is_resumable_on,
    make_tapes,
    stream_states,
)
from skillit_stream.order.cursor import Cursors
from skillit_stream.order.plan import RoundShape, shards_ahead
from skillit_stream.order.tape import DEFAULT_BLOCK_SIZE

Int64 = NDArray[np.int64]

STATE_VERSION = 3
_TAKEN_FROM_STATE = ('shuffle_seed', 'shuffle_block_size', 'num_canonical_nodes')


class SkillStreamingDataset(SkillShards):
    """Mixes one stream per skill by proportions that may change every round.

    The order of samples is a function of streams, seed, canonical nodes, global batch size, round size and
    the proportions of the rounds so far; ranks, nodes, workers and stops do not change it. Each sample is a
    mapping of the streams' columns plus ``skill`` (index into `skills`) and ``sample_id``.

    Args:
        streams: Skill -> :class:`streaming.Stream`, without weights of their own.
        round_size: Samples per round, all ranks together; a multiple of the global batch.
        proportions: Skill -> proportion of the first round; None: proportional to the streams' sizes.
        batching: 'random', or 'stratified': every global batch follows the proportions to within a sample.
        on_exhausted: 'repeat' draws a fresh shuffle after the last sample of a stream; 'error' refuses a
            round for which a stream has too few samples left.
        on_changed: What to do with a state of other streams: 'error' refuses it; 'allow' carries it over, at
            the end of a round (see :mod:`~skillit_stream.order.carry_over`).
        sample_orders: Skill -> order in which its samples are let in, for curricula over samples
            (``policy.sample_orders()``); skills without one are shuffled.
        **kwargs: StreamingDataset's own: ``batch_size`` (required), ``shuffle`` (here True by default),
            ``shuffle_seed``, ``shuffle_block_size``, ``num_canonical_nodes``, ``cache_limit``,
            ``replication``, ``predownload``, ...

    Raises:
        InputError: A parameter is wrong, a stream has no index, or streams differ in their columns.
    """

    def __init__(
        self,
        *,
        streams: Mapping[str, Stream],
        round_size: int,
        proportions: Mapping[str, float] | None = None,
        batching: str = 'random',
        on_exhausted: str = 'repeat',
        on_changed: str = 'error',
        sample_orders: Mapping[str, SampleOrder] | None = None,
        **kwargs: Any,
    ) -> None:
        check_arguments(streams, round_size, on_exhausted, on_changed, kwargs)
        self.on_exhausted, self.on_changed = on_exhausted, on_changed
        self.changes: dict[str, str] = {}
        self._own_place = OwnPlace()
        kwargs.setdefault('shuffle', True)
        super().__init__(streams, epoch_size=round_size, **kwargs)
        self.shuffle_block_size = self.shuffle_block_size or DEFAULT_BLOCK_SIZE
        self.num_canonical_nodes = self.num_canonical_nodes or self.nodes
        self._batching = batching
        self._round_size = round_size
        self.sample_orders = dict(sample_orders or {})
        check_orders(self.sample_orders, self.shard_lists, on_exhausted)
        self.length = round_size // self.ranks
        first = self.samples_per_stream / self.num_samples
        if proportions is not None:
            first = proportions_by_skill(proportions, self.skills)
        start = RoundStart(0, Cursors.at_start(len(self.skills), self.num_canonical_nodes), first)
        self._rounds = self._lay_out(start)
        self._rounds.refuse_exhausted(0, first)

    @property
    def round(self) -> int:
        """The round being played, or the one to be played first if none has begun."""
        return self._rounds.current

    @property
    def next_round(self) -> int:
        """The first round that has not begun: the one that :meth:`set_proportions` sets."""
        return self._rounds.upcoming

    @property
    def first_batch(self) -> int | None:
        """Global batch of its round with which the first iteration begins; None once one has begun."""
        return self._rounds.first_batch

    @property
    def proportions(self) -> dict[str, float]:
        """Proportions asked for in the current round, by skill."""
        return self._by_skill(self._rounds.proportions(self.round))

    @property
    def next_proportions(self) -> dict[str, float]:
        """Proportions asked for in the next round, by skill."""
        return self._by_skill(self._rounds.proportions(self.next_round))

    @property
    def round_size(self) -> int:
        """Samples in a round, all ranks together."""
        return self._round_size

    @property
    def global_batch_size(self) -> int:
        """Samples in a global batch."""
        return self._rounds.shape.global_batch

    @property
    def samples_seen(self) -> dict[str, int]:
        """Samples of each skill drawn by all rounds that have begun, the current one as a whole."""
        return self._by_skill(self._rounds.drawn_before(self.next_round))

    @property
    def passes(self) -> dict[str, float]:
        """How often each stream has been walked: samples seen over the stream's samples."""
        return self._by_skill(self._rounds.drawn_before(self.next_round) / self.samples_per_stream)

    @property
    def samples(self) -> dict[str, int]:
        """Samples of each skill in the current round."""
        return self._by_skill(self._rounds.counts(self.round))

    @property
    def upcoming_passes(self) -> dict[str, float]:
        """How often each stream will have been walked at the end of the next round."""
        return self._by_skill(self._rounds.drawn_before(self.next_round + 1) / self.samples_per_stream)

    def set_proportions(self, proportions: Mapping[str, float]) -> None:
        """Set the mixture of the next round and the ones after it.

        Call it with the same values on every rank, between rounds or during one: a round that has begun
        keeps its proportions.

        Args:
            proportions: Skill -> proportion, non-negative, sum 1; every skill named.

        Raises:
            InputError: A skill is missing or unknown, a value is not a proportion, or (`on_exhausted='error'`)
                a stream has too few samples left for the next round.
        """
        self._rounds.set_proportions(self.next_round, proportions_by_skill(proportions, self.skills))

    def set_sample_orders(self, orders: Mapping[str, SampleOrder]) -> None:
        """The constructor's `sample_orders`, before anything is drawn or loaded; raises InputError after that."""
        if self._rounds.begun or self._rounds.base != (0, 0):
            raise InputError(
                '`sample_orders` can be set before the first round alone: samples have been drawn.'
            )
        check_orders(orders, self.shard_lists, self.on_exhausted)
        self.sample_orders = dict(orders)
        cursors = Cursors.at_start(len(self.skills), int(self.num_canonical_nodes or 1))
        self._rounds = self._lay_out(RoundStart(0, cursors, self._rounds.proportions(0)))

    def sample_ids(self, round: int = 0) -> Int64:  # noqa: A002 (the contract's name)
        """The global order of a round.

        Args:
            round: A round this process has played, is playing, or would play next with the proportions set
                so far; rounds from before a resumed checkpoint are not known to it.

        Returns:
            int64 [round_size]: sample ids in global order. A global batch is a run of
            `global_batch_size`, a rank's batch a run of `batch_size` in it.

        Raises:
            InputError: The round lies before the one this process resumed at.
        """
        return self._rounds.sample_ids(round)

    def describe(self) -> dict[str, Any]:
        """Everything the order depends on besides the proportions, in plain Python."""
        return {
            'round_size': self._round_size,
            'global_batch_size': self.global_batch_size,
            'batching': self._batching,
            'num_canonical_nodes': self.num_canonical_nodes,
            'shuffle': self.shuffle,
            'shuffle_seed': self.shuffle_seed,
            'shuffle_block_size': self.shuffle_block_size,
            'streams': describe_streams(self.shard_lists, self.sample_orders),
        }

    def round_state(self) -> dict[str, Any]:
        """State at the start of the current round, in plain Python; with the indexes it gives the round's order."""
        return self._state(self.round, 0)

    def state_dict(self, num_samples: int | None = None, from_beginning: bool = True) -> dict[str, Any]:
        """State for a checkpoint, in plain Python; cursors and proportions are by skill name.

        Args:
            num_samples: Samples consumed in this round by all ranks; None: those that this process has drawn, and
                in a worker of a DataLoader its place alone, for loaders that keep one of each.
            from_beginning: Whether they are counted from the start of the round or from where this process
                resumed in it. Composer counts from the start, and says 0 after the last batch of a round.
        """
        number, (base, offset) = self.round, self._rounds.base
        if num_samples is None:
            if get_worker_info():
                return self._own_place.to_plain()
            num_samples = self._own_place.samples_drawn(self._rounds) * (self.replication or 1)
        if from_beginning:
            # Composer counts what every device got; replicas got the same samples.
            sample = num_samples // (self.replication or 1)
        else:
            sample = num_samples + (offset if number == base else 0)
        if from_beginning and sample == 0 and self._rounds.is_dealt_out(number):
            number += 1
        return self._state(number, sample)

    def _state(self, number: int, sample: int) -> dict[str, Any]:
        return {
            'version': STATE_VERSION,
            'epoch': number,
            'sample_in_epoch': sample,
            'proportions': self._by_skill(self._rounds.proportions(number)),
            'next_proportions': self._by_skill(self._rounds.proportions(number + 1)),
            **self.describe(),
            'streams': stream_states(self.shard_lists, self._rounds.tapes, self._rounds.cursors_at(number)),
        }

    def load_state_dict(self, obj: dict[str, Any]) -> None:
        """Resume where the state was taken; call it on every rank, between iterations.

        Seed, shuffle block and canonical nodes are taken from the state, as in StreamingDataset. If they
        differ from the present ones, workers must not have been started yet.

        A state of other streams is carried over if `on_changed` allows it; `changes` then says what differed.

        Raises:
            InputError: The state is of other streams, or of another round size, global batch or batching
                in the middle of a round.
        """
        if 'place_version' in obj:
            self._own_place.load(obj)
            return
        obj = upgrade_state(obj, STATE_VERSION)
        saved = obj.get('streams', {})
        changes = find_changes(saved, self.shard_lists, self.sample_orders)
        check_state(obj, self.describe(), changes, self.on_changed)
        settings = {name: int(obj[name]) for name in _TAKEN_FROM_STATE}
        sizes = {skill: shards.samples for skill, shards in self.shard_lists.items()}
        current, upcoming = (
            checked_proportions(carry_proportions(obj[name], sizes))
            for name in ('proportions', 'next_proportions')
        )
        nodes = settings['num_canonical_nodes']
        continuations, cursors = carry_over(saved, self.shard_lists, nodes, self.sample_orders)
        start = RoundStart(int(obj['epoch']), cursors, current)
        self._own_place.restart(sample := int(obj['sample_in_epoch']))
        same_settings = all(getattr(self, name) == value for name, value in settings.items())
        if same_settings and not changes and is_resumable_on(self._rounds.tapes, saved):
            # The same tapes: workers that are alive share this memory and follow.
            self._rounds.restart(start, sample)
        else:
            self._rounds = self._lay_out(start, sample, continuations=continuations, **settings)
        # Only now: a state that was refused has changed nothing.
        self.changes = changes or self.changes
        for name, value in settings.items():
            setattr(self, name, value)
        if not np.array_equal(upcoming, current):
            self._rounds.set_proportions(start.number + 1, upcoming)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Play the next round's share of this rank and worker.

        The round is settled when this is called, not at the first sample: a worker that has no batch in a
        short round still counts the round.
        """
        if self._own_place.begins_late():
            return self._own_place.begin_late(self)
        begun = self._own_place.begin(self._rounds, *self.worker())
        return self._play(*begun, *self.worker()) if begun else iter(())

    def _lay_out(
        self,
        start: RoundStart,
        sample: int = 0,
        *,
        continuations: Sequence[Continuation] | None = None,
        shuffle_seed: int | None = None,
        shuffle_block_size: int | None = None,
        num_canonical_nodes: int | None = None,
    ) -> Rounds:
        """Tapes and rounds from a start on, with the dataset's own settings or a state's."""
        seed = self.shuffle_seed if shuffle_seed is None else shuffle_seed
        nodes = int(num_canonical_nodes or self.num_canonical_nodes or 1)
        tapes = make_tapes(
            self.shard_lists,
            self.sample_orders,
            continuations,
            seed=seed,
            canonical_nodes=nodes,
            block_size=int(shuffle_block_size or self.shuffle_block_size or DEFAULT_BLOCK_SIZE),
            shuffle=self.shuffle,
        )
        global_batch = int(self.batch_size or 0) * self.ranks
        shape = RoundShape(self._round_size, global_batch, nodes, self._batching, seed)
        return Rounds(
            tapes,
            shape=shape,
            sample_offsets=self.sample_offset_per_stream,
            may_repeat=self.on_exhausted == 'repeat',
            start=start,
            sample=sample,
        )

    def _by_skill(self, values: NDArray) -> dict[str, Any]:
        return dict(zip(self.skills, values.tolist(), strict=True))

    def _play(self, number: int, first: int, worker: int, workers: int) -> Iterator[dict[str, Any]]:
        """Yield this worker's samples of a round from global batch `first` on."""
        self._rounds.refuse_exhausted(number, self._rounds.proportions(number))
        left = len(range(first + worker, self._rounds.shape.batches, workers))
        if not left:
            self._rounds.deal_out(worker, workers, number)
        for ids in self._fetched_ahead(self._own_batches(number, first + worker, workers)):
            *samples, last = self.samples_by_id(ids)
            yield from samples
            left -= 1
            self._own_place.advance()
            if not left:
                self._rounds.deal_out(worker, workers, number)
            yield last

    def _own_batches(self, number: int, first: int, step: int) -> Iterator[Int64]:
        """Sample ids int64 [batch_size] of this rank in every `step`-th global batch from `first` on."""
        size = int(self.batch_size or 0)
        place = slice(self.rank * size, (self.rank + 1) * size)
        for window in self._rounds.walk(number):
            # The first of these batches that is not before the window.
            begin = max(first, first + -(-(window.first_batch - first) // step) * step)
            if begin < window.first_batch + len(window.skills):
                yield from self._rounds.look_up(
                    window, (slice(begin - window.first_batch, None, step), place)
                )
        self._fetch_next_blocks(number)

    def _fetched_ahead(self, batches: Iterator[Int64]) -> Iterator[Int64]:
        """The same batches, with the shards of the next ones on their way."""
        if not self.has_remote:
            yield from batches
            return
        ahead = max(1, int(self.predownload or 1) // int(self.batch_size or 1))
        waiting: deque[Int64] = deque()
        requested: set[int] = set()
        for ids in batches:
            shards = set(np.unique(self.spanner.locate(ids)[0]).tolist())
            self._request(sorted(shards - requested))
            requested |= shards
            waiting.append(ids)
            if len(waiting) > ahead:
                yield waiting.popleft()
        yield from waiting

    def _fetch_next_blocks(self, number: int) -> None:
        """Fetch what every tape comes to after a round, whatever the next mixture: evaluators run meanwhile."""
        if not self.has_remote:
            return
        cursors, expected = self._rounds.cursors_at(number + 1), self._rounds.counts(number)
        for skill, shards in shards_ahead(self._rounds.tapes, cursors, expected, self.canonical_nodes_here()):
            self._request(shards + self.shard_offset_per_stream[skill])

    def _request(self, shards: Iterable[int]) -> None:
        """Have shards fetched that are not here yet."""
        self._fetcher.request(shard for shard in shards if not self.is_local(shard))
