"""SkillStreamingDataset: a StreamingDataset whose mixture may change every round.

One round is one epoch. The order of a round is planned by :mod:`skillit_stream.order.plan` from tapes,
counts and cursors; this module ties the plan to the shards, to the processes that iterate, and to checkpoints.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming import Stream
from torch.utils.data import get_worker_info

from skillit_stream.base.errors import InputError
from skillit_stream.loader.checks import (
    WITHIN_EPOCH,
    check_arguments,
    check_orders,
    check_state,
    limited,
    proportions_by_skill,
    upgrade_state,
)
from skillit_stream.loader.fetch_ahead import fetched_ahead
from skillit_stream.loader.host.composer_frames import is_called_by_composer
from skillit_stream.loader.ledger import RoundStart
from skillit_stream.loader.place import OwnPlace
from skillit_stream.loader.played_rounds import PlayedRounds
from skillit_stream.loader.rounds import Rounds, Turn
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

STATE_VERSION = 4
# These would choose an order; here the tapes and the plan do.
_TAKEN_FROM_STATE = ('shuffle_seed', 'shuffle_block_size', 'num_canonical_nodes')


class SkillStreamingDataset(PlayedRounds):
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
        stream_fraction: Limits every stream to this fraction of its samples (above 0, at most 1; which, the seed
            says), so that a short run repeats its data as a longer one will: the ratio of their lengths.
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
        stream_fraction: float = 1.0,
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
        self.shard_lists = limited(self.shard_lists, stream_fraction)
        check_orders(self.sample_orders, self.shard_lists, on_exhausted)
        self.length = round_size // self.ranks
        first = self.samples_per_stream / self.num_samples
        if proportions is not None:
            first = proportions_by_skill(proportions, self.skills)
        start = RoundStart(0, Cursors.at_start(len(self.skills), self.num_canonical_nodes), first)
        self._rounds = self._lay_out(start)
        self._rounds.refuse_exhausted(0, first)

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
        self._go_on_with(self._lay_out(RoundStart(0, cursors, self._rounds.proportions(0))))

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

    def batches_ahead(
        self, steps: int, *, proportions: Mapping[str, float], shuffle_seed: int, from_start: bool = False
    ) -> Iterator[Int64]:
        """What this rank would draw in the next round and those after it with another mixture in another order.

        Nothing is drawn: the dataset, and whoever iterates it, stay where they are.

        Args:
            steps: Global batches.
            proportions: As :meth:`set_proportions`'s, of all of these rounds.
            shuffle_seed: Of the order; the dataset's own gives the one that the run will have.
            from_start: As a run that begins: from the first sample of every stream.

        Yields:
            int64 [batch_size]: sample ids of a batch.

        Raises:
            InputError: The proportions are none, or (`on_exhausted='error'`) a stream has too few samples left.
        """
        number, nodes = 0 if from_start else self.next_round, int(self.num_canonical_nodes or 1)
        saved = {} if from_start else self._state(number, 0)['streams']
        continuations, cursors = carry_over(saved, self.shard_lists, nodes, self.sample_orders)
        mixture = proportions_by_skill(proportions, self.skills)
        rounds = self._lay_out(
            RoundStart(number, cursors, mixture), continuations=continuations, shuffle_seed=shuffle_seed
        )
        size, a_round = int(self.batch_size or 0), rounds.shape.batches
        for first in range(0, steps, a_round):
            rounds.refuse_exhausted(number + first // a_round, mixture)
            ids = rounds.sample_ids(number + first // a_round).reshape(a_round, self.ranks, size)
            yield from ids[: steps - first, self.rank]

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

        Returns:
            ``epoch`` is the round, ``sample_in_epoch`` what was consumed of it: after the last batch of a round always
            0 of the next.

        Raises:
            InputError: They are not whole global batches of a round.
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
        self._rounds.refuse_partial(sample)
        if sample == self._round_size:
            state, within = self._state(number + 1, 0), self._state(number, sample)
            # Composer counts the epoch after this, and comes back for the rest of it, which is nothing.
            return {**state, WITHIN_EPOCH: {key: one for key, one in within.items() if one != state[key]}}
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
        self._rounds.refuse_other_process(self.rank_problem())
        obj, in_composer = upgrade_state(obj, STATE_VERSION), is_called_by_composer()
        if in_composer:
            obj |= obj.get(WITHIN_EPOCH, {})
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
        sample = int(obj['sample_in_epoch'])
        self._own_place.restart(sample % self._round_size)
        same_settings = all(getattr(self, name) == value for name, value in settings.items())
        if same_settings and not changes and is_resumable_on(self._rounds.tapes, saved):
            # The same tapes: workers that are alive share this memory and follow.
            self._rounds.restart(start, sample)
        else:
            self._go_on_with(self._lay_out(start, sample, continuations=continuations, **settings))
        # Only now: a state that was refused has changed nothing.
        self.changes = changes or self.changes
        for name, value in settings.items():
            setattr(self, name, value)
        if not np.array_equal(upcoming, current):
            self._rounds.set_proportions(start.number + 1, upcoming)
        if sample == self._round_size and not in_composer:
            self._rounds.end_round()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Play the next round's share of this rank and worker.

        The round is settled when this is called, not at the first sample: a worker that has no batch in a
        short round still counts the round.
        """
        if self._own_place.begins_late():
            return self._own_place.begin_late(self)
        turn = self._own_place.begin(self._rounds, self.rank_problem(), *self.worker())
        return self._play(turn, *self.worker()) if turn else iter(())

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
            lock_path=self.lock_path,
        )

    def _go_on_with(self, rounds: Rounds) -> None:
        self._rounds.retire()
        self._rounds = rounds

    def _play(self, turn: Turn, worker: int, workers: int) -> Iterator[dict[str, Any]]:
        """Yield this worker's samples of a round."""
        rounds, number, first = self._rounds, turn.number, turn.first
        rounds.check_turn(turn)
        rounds.refuse_exhausted(number, rounds.proportions(number))
        left = len(range(first + worker, rounds.shape.batches, workers))
        self.refuse_other_batch_size(workers, left)
        if not left:
            rounds.deal_out(worker, workers, number)
        stretches = self._own_stretches(number, first + worker, workers)
        for ids in fetched_ahead(self, stretches, left, partial(self._next_blocks, number)):
            rounds.check_turn(turn)
            *samples, last = self.samples_by_id(ids)
            yield from samples
            left -= 1
            self._own_place.advance()
            if not left:
                rounds.deal_out(worker, workers, number)
            yield last

    def _own_stretches(self, number: int, first: int, step: int) -> Iterator[Int64]:
        """Sample ids of this rank in every `step`-th global batch from `first` on, int64 [batches, batch_size] each."""
        size = int(self.batch_size or 0)
        place = slice(self.rank * size, (self.rank + 1) * size)
        for window in self._rounds.walk(number):
            # The first of these batches that is not before the window.
            begin = max(first, first + -(-(window.first_batch - first) // step) * step)
            if begin < window.first_batch + len(window.skills):
                yield self._rounds.look_up(window, (slice(begin - window.first_batch, None, step), place))

    def _next_blocks(self, number: int) -> Iterator[int]:
        """Shards that every tape comes to after a round."""
        cursors, expected = self._rounds.cursors_at(number + 1), self._rounds.counts(number + 1)
        for skill, shards in shards_ahead(self._rounds.tapes, cursors, expected, self.canonical_nodes_here()):
            yield from (shards + self.shard_offset_per_stream[skill]).tolist()
