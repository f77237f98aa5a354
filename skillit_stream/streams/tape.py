"""A tape: the endless, deterministic order of one stream's samples, computed a block at a time.

Pass *e* of a tape shuffles the stream's shards, lays them end to end, cuts the line into one equal *span*
per canonical node, and shuffles the samples inside *blocks* of a few shards. Every shuffle has a key of
its own, made of the seed, the skill, the pass and the block, so a position is found by computing one
block's permutation: no array as long as the stream is ever made. Arrays as long as the stream's list of
shards are made once a pass.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skillit_stream.streams.keys import make_key, permutation, permutations, random_words

Int64 = NDArray[np.int64]

# A block of this many samples spans about two shards of RedPajama (64 MB, 2,048 tokens): large enough to
# mix documents, small enough that a round reads few shards that it does not use up.
DEFAULT_BLOCK_SIZE = 1 << 15
_CACHED_BLOCKS = 32
_CACHED_PASSES = 2


@dataclass(frozen=True)
class _Pass:
    """One pass: where each shuffled shard begins on the line, and where the blocks are cut."""

    line: Int64  # [shards + 1] line position at which the n-th shard of this pass begins
    first_sample: Int64  # [shards] stream-local id of that shard's first sample
    cuts: Int64  # [blocks + 1] line positions of the block edges; span edges are among them


class Tape:
    """The order of one stream's samples over its passes.

    Args:
        skill: Name of the stream; part of every key, so other streams do not change this one's order.
        samples_per_shard: int64 [shards].
        seed: Seed of the shuffles.
        canonical_nodes: Into how many spans a pass is cut. A stream with fewer shards than that is not
            cut (one span): its nodes could not read disjoint shards anyway.
        block_size: Samples in a shuffle block; blocks end at the shard edge at or after this size.
        shuffle: False keeps the order of the files in every pass.
    """

    def __init__(
        self,
        skill: str,
        samples_per_shard: Int64,
        *,
        seed: int,
        canonical_nodes: int = 1,
        block_size: int = DEFAULT_BLOCK_SIZE,
        shuffle: bool = True,
    ) -> None:
        self.skill = skill
        self.samples_per_shard = np.asarray(samples_per_shard, np.int64)
        self.samples = int(self.samples_per_shard.sum())
        self.seed = seed
        self.block_size = block_size
        self.shuffle = shuffle
        self.spans = canonical_nodes if len(self.samples_per_shard) >= canonical_nodes else 1
        self.span_edges: Int64 = np.arange(self.spans + 1, dtype=np.int64) * self.samples // self.spans
        self.span_sizes: Int64 = np.diff(self.span_edges)
        self._passes: OrderedDict[int, _Pass] = OrderedDict()
        self._blocks: OrderedDict[tuple[int, int], NDArray[np.int32]] = OrderedDict()
        self._table: NDArray[np.int32] = np.empty((0, 0), np.int32)
        self._table_passes: tuple[int, int] | None = None

    def local_ids(self, passes: Int64, line: Int64) -> Int64:
        """Stream-local sample ids at the given line positions of the given passes.

        Args:
            passes: int64 [n].
            line: int64 [n], 0 <= line < samples.

        Returns:
            int64 [n]: 0 <= id < samples.
        """
        if not self.shuffle:
            return line
        if self.samples <= self.block_size and self.spans == 1:
            return self._one_block_ids(passes, line)
        ids = np.empty_like(line)
        for number in np.unique(passes):
            chosen = np.flatnonzero(passes == number)
            ids[chosen] = self._pass_ids(int(number), line[chosen])
        return ids

    def _one_block_ids(self, passes: Int64, line: Int64) -> Int64:
        """A stream of one block has one permutation a pass; a round may hold thousands of its passes."""
        if not len(line):
            return line
        first, last = int(passes.min()), int(passes.max())
        if self._table_passes != (first, last):
            key = make_key(self.seed, self.skill, 'samples')
            self._table = permutations(key, first, last - first + 1, self.samples).astype(np.int32)
            self._table_passes = (first, last)
        return self._table[passes - first, line].astype(np.int64)

    def _pass_ids(self, number: int, line: Int64) -> Int64:
        walk = self._pass(number)
        blocks = np.searchsorted(walk.cuts, line, side='right') - 1
        shuffled = np.empty_like(line)
        for block in np.unique(blocks):
            chosen = np.flatnonzero(blocks == block)
            start = walk.cuts[block]
            shuffled[chosen] = start + self._block(number, int(block), walk)[line[chosen] - start]
        shards = np.searchsorted(walk.line, shuffled, side='right') - 1
        return walk.first_sample[shards] + shuffled - walk.line[shards]

    def _pass(self, number: int) -> _Pass:
        """The walk of one pass, kept for as long as it may still be read."""
        if number not in self._passes:
            self._passes[number] = self._lay_out(number)
            if len(self._passes) > _CACHED_PASSES:
                self._passes.popitem(last=False)
        return self._passes[number]

    def _lay_out(self, number: int) -> _Pass:
        shards = len(self.samples_per_shard)
        order = permutation(make_key(self.seed, self.skill, 'shards', number), shards)
        sizes = self.samples_per_shard[order]
        line = np.concatenate([np.zeros(1, np.int64), sizes.cumsum()])
        first_sample = (self.samples_per_shard.cumsum() - self.samples_per_shard)[order]
        starts = line[:-1]
        opens = np.flatnonzero(np.diff(starts // self.block_size, prepend=-1))
        cuts = np.unique(np.concatenate([starts[opens], self.span_edges]))
        return _Pass(line, first_sample, cuts)

    def _block(self, number: int, block: int, walk: _Pass) -> NDArray[np.int32]:
        name = (number, block)
        if name not in self._blocks:
            size = int(walk.cuts[block + 1] - walk.cuts[block])
            key = make_key(self.seed, self.skill, 'block', number, block)
            order = np.argsort(random_words(key, np.arange(size)), kind='stable')
            self._blocks[name] = order.astype(np.int32)
            if len(self._blocks) > max(_CACHED_BLOCKS, 2 * self.spans):
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(name)
        return self._blocks[name]

    def shards_at(self, number: int, line: int) -> Int64:
        """Stream-local numbers of the shards in the block at a line position, int64 [shards in block]."""
        if not self.shuffle or line >= self.samples:
            ends = self.samples_per_shard.cumsum()
            return np.searchsorted(ends, np.array([line % self.samples]), side='right')
        walk = self._pass(number)
        block = int(np.searchsorted(walk.cuts, line, side='right')) - 1
        first = int(np.searchsorted(walk.line, walk.cuts[block], side='right')) - 1
        last = int(np.searchsorted(walk.line, walk.cuts[block + 1], side='left'))
        ends = self.samples_per_shard.cumsum()
        filled = np.flatnonzero(np.diff(walk.line[first : last + 1])) + first
        return np.searchsorted(ends, walk.first_sample[filled], side='right')
