"""A tape: the endless, deterministic order of one stream's samples, computed a block at a time.

Pass *e* of a tape shuffles the stream's shards, lays them end to end, cuts the line into one equal *span*
per canonical node, and shuffles the samples inside *blocks* of a few shards. Every shuffle has a key of
its own, made of the seed, the skill, the pass and the block, so a position is found by computing one
block's permutation: no array as long as the stream is ever made. Arrays as long as the stream's list of
shards are made once a pass.
"""

from collections import OrderedDict
from collections.abc import Sequence
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
class Growth:
    """How far an unfinished pass had come when its stream was lengthened.

    Attributes:
        shards: Shards the stream had.
        taken: [canonical nodes], samples of each span consumed since the pass began, or since the growth
            before this one.
    """

    shards: int
    taken: tuple[int, ...]


@dataclass(frozen=True)
class TapeStart:
    """Where a tape stood when a run was resumed on a stream that has grown; the default: a new tape.

    Attributes:
        in_pass: The pass it was in.
        drawn: Samples drawn by then, those that the cursor still counts as taken left out.
        growths: What happened to the stream in that pass, oldest first.
    """

    in_pass: int = 0
    drawn: int = 0
    growths: tuple[Growth, ...] = ()


@dataclass(frozen=True)
class _Pass:
    """One pass: where each shuffled piece (a shard) begins on the line, and where the blocks are cut."""

    line: Int64  # [pieces + 1] line position at which the n-th piece of this pass begins
    first_sample: Int64  # [pieces] stream-local id of that piece's first sample
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
        start: Where the tape goes on, for a stream that has grown.
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
        start: TapeStart | None = None,
    ) -> None:
        self.skill = skill
        self.samples_per_shard = np.asarray(samples_per_shard, np.int64)
        self.samples = int(self.samples_per_shard.sum())
        self.seed = seed
        self.block_size = block_size
        self.shuffle = shuffle
        self.spans = canonical_nodes if len(self.samples_per_shard) >= canonical_nodes else 1
        self.start = start or TapeStart()
        self._before = self._before_growth(canonical_nodes)
        # The part of the line of the first pass that was consumed before the stream grew.
        self._consumed = self._before.consumed_of_first_pass(self.start.growths[-1]) if self._before else 0
        parts = np.arange(self.spans + 1, dtype=np.int64)
        self._whole_edges: Int64 = parts * self.samples // self.spans
        self._rest_edges: Int64 = self._consumed + parts * (self.samples - self._consumed) // self.spans
        self._passes: OrderedDict[int, _Pass] = OrderedDict()
        self._blocks: OrderedDict[tuple[int, int], NDArray[np.int32]] = OrderedDict()
        self._table: NDArray[np.int32] = np.empty((0, 0), np.int32)
        self._table_passes: tuple[int, int] | None = None

    def _before_growth(self, canonical_nodes: int) -> 'Tape | None':
        """The tape as it was before the last growth in its first pass."""
        if not self.start.growths:
            return None
        *earlier, last = self.start.growths
        return Tape(
            self.skill,
            self.samples_per_shard[: last.shards],
            seed=self.seed,
            canonical_nodes=canonical_nodes,
            block_size=self.block_size,
            shuffle=self.shuffle,
            start=TapeStart(self.start.in_pass, 0, tuple(earlier)),
        )

    def span_edges(self, number: int) -> Int64:
        """Line positions between which the spans of a pass lie, int64 [spans + 1]; the last is `samples`."""
        return self._rest_edges if self._before and number == self.start.in_pass else self._whole_edges

    def draws_in(self, number: int) -> int:
        """Samples drawn in a pass until the next begins."""
        edges = self.span_edges(number)
        return int(edges[-1] - edges[0])

    def drawn(self, number: int, taken: int) -> int:
        """Samples drawn in all, when `taken` have been taken in a pass."""
        full = (number - self.start.in_pass) * self.samples
        return self.start.drawn + full - (self._consumed if number > self.start.in_pass else 0) + taken

    def growths_in(self, number: int) -> tuple[Growth, ...]:
        """What a state must say of the stream's growth for that pass to be resumed."""
        return self.start.growths if number == self.start.in_pass else ()

    def consumed_of_first_pass(self, growth: Growth) -> int:
        """Samples of the tape's first pass that were drawn by the time of its growth."""
        return self._consumed + sum(growth.taken)

    def local_ids(self, passes: Int64, line: Int64) -> Int64:
        """Stream-local sample ids at the given line positions of the given passes.

        Args:
            passes: int64 [n].
            line: int64 [n], `span_edges(pass)[0]` <= line < samples.

        Returns:
            int64 [n]: 0 <= id < samples.
        """
        if self._before is None:
            return self._whole_pass_ids(passes, line)
        ids = np.empty_like(line)
        first = passes == self.start.in_pass
        ids[first] = self._rest_ids(self._before, line[first])
        ids[~first] = self._whole_pass_ids(passes[~first], line[~first])
        return ids

    def _rest_ids(self, before: 'Tape', line: Int64) -> Int64:
        """Ids in the pass that was under way when the stream grew."""
        ids = self._pass_ids(self.start.in_pass, line)
        # A piece of the old line stands for what the old tape has there.
        old = ids < before.samples
        ids[old] = before.local_ids(np.full(int(old.sum()), self.start.in_pass), ids[old])
        return ids

    def _whole_pass_ids(self, passes: Int64, line: Int64) -> Int64:
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
        first_sample, sizes = self._pieces(number)
        depth = len(self.growths_in(number))
        if self.shuffle:
            key = make_key(self.seed, self.skill, 'shards', number, *([depth] if depth else []))
            order = permutation(key, len(sizes))
            first_sample, sizes = first_sample[order], sizes[order]
        edges = self.span_edges(number)
        line = edges[0] + np.concatenate([np.zeros(1, np.int64), sizes.cumsum()])
        starts = line[:-1]
        opens = np.flatnonzero(np.diff((starts - edges[0]) // self._block_size(number), prepend=-1))
        cuts = np.unique(np.concatenate([starts[opens], edges]))
        return _Pass(line, first_sample, cuts)

    def _block_size(self, number: int) -> int:
        """Samples in a block of a pass."""
        del number
        return self.block_size

    def _pieces(self, number: int) -> tuple[Int64, Int64]:
        """What a pass shuffles as a whole: first samples and sizes, int64 [pieces] each.

        They are the shards; in a pass that was under way when the stream grew, what is left of the old
        line's blocks (as positions on that line) and the new shards.
        """
        first_sample = self.samples_per_shard.cumsum() - self.samples_per_shard
        if self._before is None or number != self.start.in_pass:
            return first_sample, self.samples_per_shard
        growth = self.start.growths[-1]
        starts, ends = self._before.rest_of_pass(number, growth.taken)
        return (
            np.concatenate([starts, first_sample[growth.shards :]]),
            np.concatenate([ends - starts, self.samples_per_shard[growth.shards :]]),
        )

    def rest_of_pass(self, number: int, taken: Sequence[int]) -> tuple[Int64, Int64]:
        """The blocks of a pass, or their ends, that are left: line positions, int64 [pieces] each.

        Args:
            number: The pass.
            taken: [canonical nodes], samples consumed of each span.
        """
        edges = self.span_edges(number)
        begins = edges[:-1] + np.array(taken, np.int64)[: self.spans]
        cuts = self._pass(number).cuts
        span = np.searchsorted(edges, cuts[:-1], side='right') - 1
        starts = np.maximum(cuts[:-1], begins[span])
        left = starts < cuts[1:]
        return starts[left], cuts[1:][left]

    def _block(self, number: int, block: int, walk: _Pass) -> NDArray[np.int32]:
        name = (number, block)
        if name not in self._blocks:
            size = int(walk.cuts[block + 1] - walk.cuts[block])
            depth = len(self.growths_in(number))
            key = make_key(self.seed, self.skill, 'block', number, block, *([depth] if depth else []))
            words = random_words(key, np.arange(size))
            order = np.argsort(words, kind='stable') if self.shuffle else np.arange(size)
            self._blocks[name] = order.astype(np.int32)
            if len(self._blocks) > max(_CACHED_BLOCKS, 2 * self.spans):
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(name)
        return self._blocks[name]

    def block_end(self, number: int, line: int) -> int:
        """Line position at which the block at a line position ends."""
        if not self.shuffle:
            return line + 1
        cuts = self._pass(number).cuts
        return int(cuts[np.searchsorted(cuts, line, side='right')])

    def shards_at(self, number: int, line: int) -> Int64:
        """Stream-local numbers of the shards in the block at a line position, int64 [shards in block]."""
        begin, end = line, line + 1
        if self.shuffle:
            cuts = self._pass(number).cuts
            block = int(np.searchsorted(cuts, line, side='right'))
            begin, end = int(cuts[block - 1]), int(cuts[block])
        positions = np.arange(begin, end)
        ids = self.local_ids(np.full(len(positions), number), positions)
        return np.unique(np.searchsorted(self.samples_per_shard.cumsum(), ids, side='right'))
