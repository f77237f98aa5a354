"""A tape that lets a stream's samples in by their order, e.g. the easy ones first.

A *stage* admits the samples up to a key; within it passes walk over those that are admitted, each shuffled as
any pass is: shards, then blocks of a few shards. When the stage ends, in the middle of a pass as a rule, a new
pass begins over the samples that are admitted then. Of a shard the first samples of its ranking are
admitted, so a pass reads one shard after another as ever, and only part of each.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.sample_order import SampleOrder
from skillit_stream.order.grown_tape import GrownTape
from skillit_stream.order.subset_tape import SubsetTape
from skillit_stream.order.tape import Int64, Tape


class PacedTape(Tape):
    """The order of one stream's samples over its stages.

    Args:
        skill: Name of the stream.
        samples_per_shard: int64 [shards].
        order: How its samples are ranked, and at which pace they are let in.
        **settings: As of :class:`Tape`. While a part of the stream is admitted, a block holds that part of
            `block_size`, so that it spans as many shards; without `shuffle` the order of the shards and the
            ranking in each are kept within a pass.

    Raises:
        InputError: The ranking is of another number of samples.
    """

    has_even_passes = False

    def __init__(
        self,
        skill: str,
        samples_per_shard: Int64,
        *,
        order: SampleOrder,
        **settings: Any,
    ) -> None:
        super().__init__(skill, samples_per_shard, **settings)
        self.order, self._ranked, self._keys = order, order.ranked, order.pace.keys
        if order.ranked.samples != self.samples:
            raise InputError(
                f'Skill {skill} has {self.samples} samples, but the losses given for it are of {order.ranked.samples}: '
                f'score the stream again.'
            )
        # Of each stage its size alone is kept: a number a shard and stage would be as much as a small corpus.
        sizes = [int(self._admitted(stage).sum()) for stage in range(len(order.pace.keys))]
        self._stage_sizes = np.array(sizes, np.int64)
        self._begins, self._stage_of = self._cut_into_passes(order.pace.begins)

    def _admitted(self, stage: int) -> Int64:
        """Samples of each shard that a stage admits, int64 [shards]; at least one in all."""
        counts = self._ranked.counts(self._keys[stage])
        if not counts.any():
            counts = self._ranked.counts(float(self._ranked.some_keys(self.samples).min()))
        return counts

    def _cut_into_passes(self, stages: Sequence[int]) -> tuple[Int64, Int64]:
        """Draws at which each pass begins, and its stage, up to the first pass of the last stage."""
        begins, of = [], []
        for stage, (begin, end) in enumerate(pairwise(stages)):
            own = np.arange(begin, end, self._stage_sizes[stage])
            begins.append(own)
            of.append(np.full(len(own), stage))
        begins.append(np.array([stages[-1]]))
        of.append(np.array([len(stages) - 1]))
        return np.concatenate(begins).astype(np.int64), np.concatenate(of).astype(np.int64)

    def _stage(self, number: int) -> int:
        return int(self._stage_of[min(number, len(self._stage_of) - 1)])

    def _begin(self, number: int) -> int:
        """Samples drawn before a pass."""
        last = len(self._begins) - 1
        return int(self._begins[min(number, last)] + max(0, number - last) * self._stage_sizes[-1])

    def span_edges(self, number: int) -> Int64:
        """Line positions between which the spans of a pass lie, int64 [spans + 1]."""
        parts = np.arange(self.spans + 1, dtype=np.int64)
        return parts * self._stage_sizes[self._stage(number)] // self.spans

    def draws_in(self, number: int) -> int:
        """Samples drawn in a pass until the next begins; fewer than it holds where a stage ends in it."""
        return self._begin(number + 1) - self._begin(number)

    def local_ids(self, passes: Int64, line: Int64) -> Int64:
        """Stream-local sample ids at the given line positions of the given passes; see :meth:`Tape.local_ids`."""
        ids = np.empty_like(line)
        for number in np.unique(passes):
            chosen = np.flatnonzero(passes == number)
            ranked = self._pass_ids(int(number), line[chosen])
            shards = np.searchsorted(self._first_sample, ranked, side='right') - 1
            ids[chosen] = self._ranked.ids(shards, ranked - self._first_sample[shards])
        return ids

    def _pieces(self, number: int) -> tuple[Int64, Int64]:
        return self._first_sample, self._admitted(self._stage(number))

    def _block_size(self, number: int) -> int:
        return max(1, self.block_size * int(self._stage_sizes[self._stage(number)]) // self.samples)


def make_tape(
    skill: str,
    samples_per_shard: Int64,
    *,
    order: SampleOrder | None = None,
    subset: int | None = None,
    grown_in: int = 0,
    grown_at: Sequence[int] = (),
    **settings: Any,
) -> Tape:
    """The tape of a stream: paced if it has an order, over a part if it is limited to `subset` samples, grown if it was
    lengthened in the pass that is under way.
    """
    if order is not None:
        return PacedTape(skill, samples_per_shard, order=order, **settings)
    if subset is not None:
        return SubsetTape(skill, samples_per_shard, subset=subset, **settings)
    if grown_at:
        return GrownTape(skill, samples_per_shard, grown_in=grown_in, grown_at=grown_at, **settings)
    return Tape(skill, samples_per_shard, **settings)
