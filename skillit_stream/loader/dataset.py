"""SkillStreamingDataset: a StreamingDataset whose mixture may change every round.

One round is one epoch. The order of a round is planned by :mod:`skillit_stream.order.plan` from tapes,
counts and cursors; this module ties the plan to Streaming's shards, cache and worlds, to the processes
that iterate, and to checkpoints. Streaming's private names are used here and in
:mod:`index`, :mod:`cache` and :mod:`hygiene` beside it alone.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from time import time_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming import Stream, StreamingDataset
from streaming.base.dataset import _ShardState

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import samples_of
from skillit_stream.loader.checks import (
    check_arguments,
    check_orders,
    check_state,
    named_shares,
    naming_bad_index,
)
from skillit_stream.loader.host.cache import make_local, mend_damaged, separate_connections
from skillit_stream.loader.host.construction import quick_construction
from skillit_stream.loader.host.fetch import ShardFetcher
from skillit_stream.loader.host.shared_memory import own_prefix
from skillit_stream.loader.ledger import RoundStart
from skillit_stream.loader.rounds import Rounds
from skillit_stream.loader.shards import BatchReader, common_dtype
from skillit_stream.mixture.sample_order import SampleOrder
from skillit_stream.order.carry_over import (
    are_on,
    carry_over,
    carry_shares,
    describe_stream,
    find_changes,
    stream_states,
)
from skillit_stream.order.cursor import Cursors
from skillit_stream.order.index import ShardIndex, ShardList
from skillit_stream.order.paced_tape import make_tape
from skillit_stream.order.plan import RoundShape, shards_ahead
from skillit_stream.order.tape import DEFAULT_BLOCK_SIZE, TapeStart

Int64 = NDArray[np.int64]

STATE_VERSION = 2
# Columns the loader adds to those of the streams.
SKILL_COLUMN = 'skill'
SAMPLE_ID_COLUMN = 'sample_id'
# These would choose an order; here the tapes and the plan do.
_TAKEN_FROM_STATE = ('shuffle_seed', 'shuffle_block_size', 'num_canonical_nodes')


class SkillStreamingDataset(StreamingDataset):
    """Mixes one stream per skill by proportions that may change every round.

    The order of samples is a function of streams, seed, canonical nodes, global batch size, round size and
    the proportions of the rounds so far; ranks, nodes, workers and stops do not change it. Each sample is a
    mapping of the streams' columns plus ``skill`` (index into `skills`) and ``sample_id``.

    Args:
        streams: Skill -> :class:`streaming.Stream`, without weights of their own.
        round_size: Samples per round, all ranks together; a multiple of the global batch.
        proportions: Skill -> share of the first round; None: proportional to the streams' sizes.
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
        self.skills = tuple(streams)
        self.on_exhausted, self.on_changed = on_exhausted, on_changed
        self.changes: dict[str, str] = {}
        kwargs.setdefault('shuffle', True)
        with quick_construction(), own_prefix(), naming_bad_index(streams, kwargs.get('split')):
            super().__init__(streams=list(streams.values()), epoch_size=round_size, **kwargs)
        separate_connections(self.streams)
        self.spanner: ShardIndex
        self.shuffle_block_size = self.shuffle_block_size or DEFAULT_BLOCK_SIZE
        self.num_canonical_nodes = self.num_canonical_nodes or self._parallel_rank_world.num_nodes
        self._batching = batching
        self._round_size = round_size
        self._sample_dtype = common_dtype(
            {
                skill: self.shards[at]
                for skill, at in zip(self.skills, self.shard_offset_per_stream, strict=True)
            },
            reserved=(SKILL_COLUMN, SAMPLE_ID_COLUMN),
        )
        self._per_process()
        self._shard_lists = {
            skill: ShardList.of(self.shards[begin : begin + count])
            for skill, begin, count in zip(
                self.skills, self.shard_offset_per_stream, self.shards_per_stream, strict=True
            )
        }
        self.sample_orders = dict(sample_orders or {})
        check_orders(self.sample_orders, self._shard_lists, on_exhausted)
        self.length = round_size // self._parallel_rank_world.num_ranks
        shares = self.samples_per_stream / self.num_samples
        if proportions is not None:
            shares = named_shares(proportions, self.skills)
        start = RoundStart(0, Cursors.at_start(len(self.skills), self.num_canonical_nodes), shares)
        self._rounds = self._lay_out(start)
        self._rounds.refuse_exhausted(0, shares)

    @property
    def round(self) -> int:
        """The round being played, or the one to be played first if none has begun."""
        return self._rounds.current

    @property
    def next_round(self) -> int:
        """The first round that has not begun: the one that :meth:`set_proportions` sets."""
        return self._rounds.upcoming

    @property
    def round_size(self) -> int:
        """Samples in a round, all ranks together."""
        return self._round_size

    @property
    def global_batch_size(self) -> int:
        """Samples in a global batch."""
        return self._rounds.shape.global_batch

    @property
    def proportions(self) -> dict[str, float]:
        """Shares asked for in the current round, by skill."""
        return self._by_skill(self._rounds.shares(self.round))

    @property
    def next_proportions(self) -> dict[str, float]:
        """Shares asked for in the next round, by skill."""
        return self._by_skill(self._rounds.shares(self.next_round))

    @property
    def samples(self) -> dict[str, int]:
        """Samples of each skill in the current round."""
        return self._by_skill(self._rounds.counts(self.round))

    @property
    def samples_seen(self) -> dict[str, int]:
        """Samples of each skill drawn by all rounds that have begun, the current one as a whole."""
        return self._by_skill(self._rounds.consumed_before(self.next_round))

    @property
    def passes(self) -> dict[str, float]:
        """How often each stream has been walked: samples seen over the stream's samples."""
        return self._by_skill(self._rounds.consumed_before(self.next_round) / self.samples_per_stream)

    @property
    def upcoming_passes(self) -> dict[str, float]:
        """How often each stream will have been walked at the end of the next round."""
        return self._by_skill(self._rounds.consumed_before(self.next_round + 1) / self.samples_per_stream)

    def set_proportions(self, proportions: Mapping[str, float]) -> None:
        """Set the mixture of the next round and the ones after it.

        Call it with the same values on every rank, between rounds or during one: a round that has begun
        keeps its proportions.

        Args:
            proportions: Skill -> share, non-negative, sum 1; every skill named.

        Raises:
            InputError: A skill is missing or unknown, a share is not a share, or (`on_exhausted='error'`)
                a stream has too few samples left for the next round.
        """
        self._rounds.set_shares(self.next_round, named_shares(proportions, self.skills))

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
        base, _ = self._rounds.base
        if round < base:
            raise InputError(
                f'`round` must be at least {base}, where this process resumed, but got: {round}.'
            )
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
            'streams': {
                skill: describe_stream(shards, self.sample_orders.get(skill))
                for skill, shards in self._shard_lists.items()
            },
        }

    def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
        """State for a checkpoint, in plain Python; cursors and proportions are by skill name.

        Args:
            num_samples: Samples consumed in this round by all ranks.
            from_beginning: Whether they are counted from the start of the round or from where this process
                resumed in it. Composer counts from the start, and says 0 after the last batch of a round.
        """
        number, (base, offset) = self.round, self._rounds.base
        if from_beginning:
            # Composer counts what every device got; replicas got the same samples.
            sample = num_samples // (self.replication or 1)
        else:
            sample = num_samples + (offset if number == base else 0)
        if from_beginning and sample == 0 and self._rounds.is_dealt_out(number):
            number += 1
        cursors = self._rounds.cursors_at(number)
        return {
            'version': STATE_VERSION,
            'epoch': number,
            'sample_in_epoch': sample,
            'proportions': self._by_skill(self._rounds.shares(number)),
            'next_proportions': self._by_skill(self._rounds.shares(number + 1)),
            **self.describe(),
            'streams': stream_states(self._shard_lists, self._rounds.tapes, cursors),
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
        saved = obj.get('streams', {})
        present = (self._shard_lists, self.sample_orders)
        changes = find_changes(saved, *present) if obj.get('version') == STATE_VERSION else {}
        check_state(obj, self.describe(), STATE_VERSION, changes, self.on_changed)
        settings = {name: int(obj[name]) for name in _TAKEN_FROM_STATE}
        sizes = {skill: shards.samples for skill, shards in self._shard_lists.items()}
        # An array is a mapping of the present skills again, whichever were named in the state.
        shares, upcoming = (
            named_shares(dict(zip(sizes, carry_shares(obj[name], sizes).tolist(), strict=True)), self.skills)
            for name in ('proportions', 'next_proportions')
        )
        nodes = settings['num_canonical_nodes']
        starts, cursors = carry_over(saved, self._shard_lists, nodes, self.sample_orders)
        start = RoundStart(int(obj['epoch']), cursors, shares)
        sample = int(obj['sample_in_epoch'])
        same_settings = all(getattr(self, name) == value for name, value in settings.items())
        if same_settings and not changes and are_on(self._rounds.tapes, saved):
            # The same tapes: workers that are alive share this memory and follow.
            self._rounds.restart(start, sample)
        else:
            self._rounds = self._lay_out(start, sample, tape_starts=starts, **settings)
        # Only now: a state that was refused has changed nothing.
        self.changes = changes or self.changes
        for name, value in settings.items():
            setattr(self, name, value)
        if not np.array_equal(upcoming, shares):
            self._rounds.set_shares(start.number + 1, upcoming)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Play the next round's share of this rank and worker.

        The round is settled when this is called, not at the first sample: a worker that has no batch in a
        short round still counts the round.
        """
        world = self._parallel_rank_world.detect_workers()
        worker, workers = world.worker_of_rank, world.workers_per_rank
        number, first = self._rounds.begin(worker, workers)
        return self._play(number, first, worker, workers)

    def __getstate__(self) -> dict[str, Any]:
        """What a spawned worker gets: no open maps, no threads."""
        return {name: value for name, value in self.__dict__.items() if name not in ('_reader', '_fetcher')}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The copy opens its own."""
        self.__dict__.update(state)
        self._per_process()

    def _per_process(self) -> None:
        self._reader = self._sample_dtype and BatchReader(
            self.shards,
            dtype=self._sample_dtype,
            prepare=self.prepare_shard,
            touch=self._touch if self.cache_limit else None,
            is_local=self._is_local if any(stream.remote for stream in self.streams) else None,
            mend=self._mend,
        )
        self._fetcher = ShardFetcher(self.prepare_shard)
        self._any_remote = any(stream.remote for stream in self.streams)

    def prepare_shard(self, shard_id: int, blocking: bool = True) -> None:
        """Make a shard local; a failure is everybody's error and nobody's wait.

        Raises:
            InputError: The shard is missing, and its stream has no remote to fetch it from.
            RuntimeError: It cannot be fetched, or is not what its index says.
        """
        make_local(self, shard_id, self._skill_of(shard_id), blocking=blocking)

    def _mend(self, shard_id: int, error: Exception, again: bool) -> None:
        mend_damaged(self, shard_id, self._skill_of(shard_id), error, again=again)

    def _skill_of(self, shard_id: int) -> str:
        return self.skills[int(self.stream_per_shard[shard_id])]

    def _is_local(self, shard_id: int) -> bool:
        return bool(self._shard_states[shard_id] == _ShardState.LOCAL)

    def _lay_out(
        self,
        start: RoundStart,
        sample: int = 0,
        *,
        tape_starts: Sequence[TapeStart] | None = None,
        shuffle_seed: int | None = None,
        shuffle_block_size: int | None = None,
        num_canonical_nodes: int | None = None,
    ) -> Rounds:
        """Tapes and rounds from a start on, with the dataset's own settings or a state's."""
        seed = self.shuffle_seed if shuffle_seed is None else shuffle_seed
        nodes = int(num_canonical_nodes or self.num_canonical_nodes or 1)
        starts = tape_starts or [TapeStart()] * len(self.skills)
        tapes = [
            make_tape(
                skill,
                shards.sizes,
                order=self.sample_orders.get(skill),
                seed=seed,
                canonical_nodes=nodes,
                block_size=int(shuffle_block_size or self.shuffle_block_size or DEFAULT_BLOCK_SIZE),
                shuffle=self.shuffle,
                start=tape_start,
            )
            for (skill, shards), tape_start in zip(self._shard_lists.items(), starts, strict=True)
        ]
        ranks = self._parallel_rank_world.num_ranks
        shape = RoundShape(self._round_size, int(self.batch_size or 0) * ranks, nodes, self._batching, seed)
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
        self._rounds.refuse_exhausted(number, self._rounds.shares(number))
        left = len(range(first + worker, self._rounds.shape.batches, workers))
        if not left:
            self._rounds.deal_out(worker, workers, number)
        for ids in self._fetched_ahead(self._own_batches(number, first + worker, workers)):
            *samples, last = self._samples(ids)
            yield from samples
            left -= 1
            if not left:
                self._rounds.deal_out(worker, workers, number)
            yield last

    def _own_batches(self, number: int, first: int, step: int) -> Iterator[Int64]:
        """Sample ids int64 [batch_size] of this rank in every `step`-th global batch from `first` on."""
        size = int(self.batch_size or 0)
        place = slice(self._parallel_rank_world.rank * size, (self._parallel_rank_world.rank + 1) * size)
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
        if not self._any_remote:
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
        if not self._any_remote:
            return
        world, nodes = self._unique_rank_world, int(self.num_canonical_nodes or 1)
        mine = range(world.node * nodes // world.num_nodes, -(-(world.node + 1) * nodes // world.num_nodes))
        cursors, expected = self._rounds.cursors_at(number + 1), self._rounds.counts(number)
        for skill, shards in shards_ahead(self._rounds.tapes, cursors, expected, mine):
            self._request(shards + self.shard_offset_per_stream[skill])

    def _request(self, shards: Iterable[int]) -> None:
        """Have shards fetched that are not here yet."""
        self._fetcher.request(shard for shard in shards if not self._is_local(shard))

    def _samples(self, ids: Int64) -> Iterator[dict[str, Any]]:
        shards, rows = self.spanner.locate(ids)
        skills = self.stream_per_shard[shards].astype(np.int32)
        if self._reader is None:
            for sample_id, skill in zip(ids, skills, strict=True):
                sample = self.get_item(int(sample_id))
                yield {**sample, SKILL_COLUMN: skill, SAMPLE_ID_COLUMN: sample_id}
            return
        added = {SKILL_COLUMN: skills, SAMPLE_ID_COLUMN: ids}
        yield from samples_of(self._reader.read(shards, rows, **added))

    def _touch(self, shard: int) -> None:
        self._shard_access_times[shard] = time_ns()
