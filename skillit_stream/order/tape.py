"""A tape: the endless, deterministic order of one stream's samples, computed a block at a time.

Pass *e* of a tape shuffles the stream's shards, lays them end to end, cuts the line into one equal *span*
per canonical node, and shuffles the samples inside *blocks* of a few shards. Every shuffle has a key of
its own, made of the seed, the skill, the pass and the block, so a position is found by computing one
block's permutation: no array as long as the stream is ever made. Arrays as long as the stream's list of
shards are made once a pass.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skillit_stream.mixture.sample_order import SampleOrder
from skillit_stream.order.keys import make_key, permutation, permutations, random_words

Int64 = NDArray[np.int64]

# A block of this many samples spans about two shards of RedPajama (64 MB, 2,048 tokens): large enough to
# mix documents, small enough that a round reads few shards that it does not use up.
DEFAULT_BLOCK_SIZE = 1 << 15
_CACHED_BLOCKS = 32
_CACHED_PASSES = 2


@dataclass(frozen=True)
class _Pass:
    """One pass: where each shard begins on the line, and where the blocks are cut."""

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
        first_shard: Of the stream's shards, the one that these begin at; part of every key.
    """

    # Whether every pass draws the whole stream, so that a position is a matter of division.
    has_even_passes = True
    # The curriculum over its samples, if there is one.
    order: SampleOrder | None = None

    def __init__(
        self,
        skill: str,
        samples_per_shard: Int64,
        *,
        seed: int,
        canonical_nodes: int = 1,
        block_size: int = DEFAULT_BLOCK_SIZE,
        shuffle: bool = True,
        first_shard: int = 0,
    ) -> None:
        self.skill = skill
        self.samples_per_shard = np.asarray(samples_per_shard, np.int64)
        self.samples = int(self.samples_per_shard.sum())
        self.seed = seed
        self.block_size = block_size
        self.shuffle = shuffle
        self.canonical_nodes = canonical_nodes
        self.spans = canonical_nodes if len(self.samples_per_shard) >= canonical_nodes else 1
        self._first_sample: Int64 = self.samples_per_shard.cumsum() - self.samples_per_shard
        self._key_suffix = (first_shard,) if first_shard else ()
        self._edges: Int64 = np.arange(self.spans + 1, dtype=np.int64) * self.samples // self.spans
        self._passes: OrderedDict[int, _Pass] = OrderedDict()
        self._blocks: OrderedDict[tuple[int, int], NDArray[np.int32]] = OrderedDict()
        self._table: NDArray[np.int32] = np.empty((0, 0), np.int32)
        self._table_passes: tuple[int, int] | None = None

    def span_edges(self, number: int) -> Int64:
        """Line positions between which the spans of a pass lie, int64 [spans + 1]."""
        del number
        return self._edges

    def draws_in(self, number: int) -> int:
        """Samples drawn in a pass until the next begins."""
        del number
        return self.samples

    def grown_at(self, number: int) -> tuple[int, ...]:
        """Shards that the stream had whenever it was lengthened in a pass; none here, see `grown_tape`."""
        del number
        return ()

    def draw_in_pass(self, number: int, taken: Int64, nodes: Int64) -> Int64:
        """Line positions of draws that all belong to one pass.

        Args:
            number: The pass.
            taken: int64 [columns of the cursor], samples taken of each span; moved in place.
            nodes: int64 [n], the canonical node of each draw, in the global order.

        Returns:
            int64 [n].
        """
        edges = self.span_edges(number)
        return draw_from_spans(edges, taken[: self.spans], nodes if self.spans > 1 else np.zeros_like(nodes))

    def fronts(self, number: int, taken: Int64, nodes: Iterable[int]) -> list[tuple[int, int]]:
        """Where the spans that some nodes read stand in a pass, and where they end; used up ones left out.

        Args:
            number: The pass.
            taken: int64 [columns of the cursor], samples taken of each span.
            nodes: The canonical nodes.

        Returns:
            [spans of the nodes]: line positions of the next sample and of the span's end.
        """
        edges = self.span_edges(number)
        found = [
            (int(edges[span] + taken[span]), int(edges[span + 1]))
            for span in {node % self.spans for node in nodes}
        ]
        return [(line, end) for line, end in found if line < end]

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
            key = make_key(self.seed, self.skill, 'samples', *self._key_suffix)
            self._table = permutations(key, first, last - first + 1, self.samples).astype(np.int32)
            self._table_passes = (first, last)
        return self._table[passes - first, line].astype(np.int64)

    def _pass_ids(self, number: int, line: Int64) -> Int64:
        layout = self._pass(number)
        blocks = np.searchsorted(layout.cuts, line, side='right') - 1
        shuffled = np.empty_like(line)
        for block in np.unique(blocks):
            chosen = np.flatnonzero(blocks == block)
            start = layout.cuts[block]
            shuffled[chosen] = start + self._block(number, int(block), layout)[line[chosen] - start]
        shards = np.searchsorted(layout.line, shuffled, side='right') - 1
        return layout.first_sample[shards] + shuffled - layout.line[shards]

    def _pass(self, number: int) -> _Pass:
        """The layout of one pass, kept for as long as it may still be read."""
        if number not in self._passes:
            self._passes[number] = self._lay_out(number)
            if len(self._passes) > _CACHED_PASSES:
                self._passes.popitem(last=False)
        return self._passes[number]

    def _lay_out(self, number: int) -> _Pass:
        first_sample, sizes = self._pieces(number)
        if self.shuffle:
            key = make_key(self.seed, self.skill, 'shards', number, *self._key_suffix)
            order = permutation(key, len(sizes))
            first_sample, sizes = first_sample[order], sizes[order]
        edges = self.span_edges(number)
        line = np.concatenate([np.zeros(1, np.int64), sizes.cumsum()])
        starts = line[:-1]
        opens = np.flatnonzero(np.diff(starts // self._block_size(number), prepend=-1))
        cuts = np.unique(np.concatenate([starts[opens], edges]))
        return _Pass(line, first_sample, cuts)

    def _block_size(self, number: int) -> int:
        """Samples in a block of a pass."""
        del number
        return self.block_size

    def _pieces(self, number: int) -> tuple[Int64, Int64]:
        """First samples and sizes of the shards as far as a pass draws them, int64 [shards] each."""
        del number
        return self._first_sample, self.samples_per_shard

    def _block(self, number: int, block: int, layout: _Pass) -> NDArray[np.int32]:
        name = (number, block)
        if name not in self._blocks:
            size = int(layout.cuts[block + 1] - layout.cuts[block])
            key = make_key(self.seed, self.skill, 'block', number, block, *self._key_suffix)
            words = random_words(key, np.arange(size))
            order = np.argsort(words, kind='stable') if self.shuffle else np.arange(size)
            self._blocks[name] = order.astype(np.int32)
            if len(self._blocks) > max(_CACHED_BLOCKS, 2 * self.spans):
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(name)
        return self._blocks[name]

    def block_bounds(self, number: int, line: int) -> tuple[int, int]:
        """Line positions at which the block at a line position begins and ends."""
        if not self.shuffle:
            return line, line + 1
        cuts = self._pass(number).cuts
        block = int(np.searchsorted(cuts, line, side='right'))
        return int(cuts[block - 1]), int(cuts[block])

    def shards_at(self, number: int, line: int) -> Int64:
        """Stream-local numbers of the shards in the block at a line position, int64 [shards in block]."""
        positions = np.arange(*self.block_bounds(number, line))
        return np.unique(self.shards_of(self.local_ids(np.full(len(positions), number), positions)))

    def shards_of(self, ids: Int64) -> Int64:
        """Shards that hold stream-local samples, int64 [n]."""
        return np.searchsorted(self.samples_per_shard.cumsum(), ids, side='right')


def draw_from_spans(edges: Int64, taken: Int64, nodes: Int64) -> Int64:
    """Line positions of draws that all belong to one pass, int64 [n].

    A draw made on node *c* takes the next sample of span *c*; near the end of a pass, where some spans are
    used up before others, a draw borrows from a span that has samples to spare. So every sample of a pass is
    drawn once, and nodes leave their own shards only at the very end of a pass.

    Args:
        edges: int64 [spans + 1], line positions between which the spans lie.
        taken: int64 [spans], samples taken of each; moved in place.
        nodes: int64 [n], the span of each draw, in the global order.
    """
    wanted = np.bincount(nodes, minlength=len(edges) - 1)
    own = np.minimum(wanted, np.diff(edges) - taken)
    order = np.argsort(nodes, kind='stable')
    rank = np.empty(len(nodes), np.int64)
    rank[order] = np.arange(len(nodes)) - (wanted.cumsum() - wanted)[nodes[order]]
    line = edges[nodes] + taken[nodes] + rank
    taken += own
    borrowing = np.flatnonzero(rank >= own[nodes])
    if len(borrowing):
        line[borrowing] = _borrow(edges, taken, len(borrowing))
    return line


def _borrow(edges: Int64, taken: Int64, count: int) -> Int64:
    """The next `count` free line positions, from the spans with most to spare; moves `taken`."""
    spare = np.diff(edges) - taken
    # Even out what is left: lower the fullest spans to a common level, then hand out the remainder.
    level = _common_level(spare, count)
    lent = np.maximum(spare - level, 0)
    excess = int(lent.sum()) - count
    lent[np.flatnonzero(lent)[:excess]] -= 1
    starts = edges[:-1] + taken
    taken += lent
    return np.concatenate([np.arange(start, start + n) for start, n in zip(starts, lent, strict=True) if n])


def _common_level(spare: Int64, count: int) -> int:
    """The largest level such that lowering every span to it frees at least `count` samples."""
    low, high = 0, int(spare.max())
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.maximum(spare - middle, 0).sum()) >= count:
            low = middle
        else:
            high = middle - 1
    return low
