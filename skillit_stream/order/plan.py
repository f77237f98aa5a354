"""One round's global order of samples: a pure function of shapes, seed, counts and cursors.

The round's slots are ordered by global batch, canonical node, place. Which skill a slot belongs to comes
from dealing: line up the round's draws skill after skill (counts are exact: :func:`round_counts`) and deal
them to the global batches in turn, as cards. Every batch so gets each skill's quota rounded down or up,
and the round's totals stay exact. The cards of a batch are dealt to its canonical nodes in the same way.

- ``stratified`` shuffles inside a batch and node: every global batch is within one sample of the
  proportions for every skill, a tiny one included.
- ``random`` shuffles inside a window of batches on each node, so a batch's make-up is a random draw.

Skills' slots are then filled in the order of their tapes. The walk goes a window of batches at a time, so
the first batch of a round is known after one window, and memory is that of a window.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.apportion import cumulative_counts
from skillit_stream.order.cursor import Cursors, draw
from skillit_stream.order.keys import make_key, random_words
from skillit_stream.order.tape import Tape

Int64 = NDArray[np.int64]

BATCHINGS = ('random', 'stratified')
# Slots planned at once, and the reach of the `random` shuffle. Part of the order: changing it changes runs.
WINDOW = 1 << 15


@dataclass(frozen=True)
class RoundShape:
    """What the order depends on besides the tapes.

    Attributes:
        round_size: Samples in a round, all ranks together.
        global_batch: Samples in a global batch.
        canonical_nodes: Slices of every global batch and of every tape.
        batching: 'random' or 'stratified'.
        seed: Seed of the slot shuffles.
    """

    round_size: int
    global_batch: int
    canonical_nodes: int = 1
    batching: str = 'random'
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batching not in BATCHINGS:
            raise InputError(f'`batching` must be one of {", ".join(BATCHINGS)}, but got: {self.batching!r}.')
        if self.global_batch < 1:
            raise InputError(f'The global batch must be positive, but got: {self.global_batch}.')
        if self.round_size < 1 or self.round_size % self.global_batch:
            nearest = max(1, round(self.round_size / self.global_batch)) * self.global_batch
            raise InputError(
                f'`round_size` must be a positive multiple of the global batch of {self.global_batch} samples, '
                f'but got: {self.round_size}; the nearest is {nearest}.'
            )
        if self.global_batch % self.canonical_nodes:
            raise InputError(
                f'The global batch of {self.global_batch} samples must divide evenly over the canonical nodes, '
                f'but got: num_canonical_nodes={self.canonical_nodes}.'
            )

    @property
    def batches(self) -> int:
        """Global batches in a round."""
        return self.round_size // self.global_batch


def round_counts(
    tapes: Sequence[Tape], proportions: NDArray[np.float64], round_size: int, owed: NDArray[np.float64]
) -> tuple[Int64, NDArray[np.float64]]:
    """Exact samples of each skill in a round, int64 [skills], and what is owed after it, float64 [skills].

    Ties go by name: in which order a configuration lists its streams must not change what is drawn.

    Args:
        tapes: One a skill.
        proportions: float64 [skills].
        round_size: Samples in the round.
        owed: float64 [skills], samples owed before it (:attr:`Cursors.owed`).
    """
    by_name = _by_name(tapes)
    counts, after = np.empty(len(tapes), np.int64), np.empty(len(tapes), np.float64)
    counts[by_name], after[by_name] = cumulative_counts(proportions[by_name], round_size, owed[by_name])
    return counts, after


def _by_name(tapes: Sequence[Tape]) -> NDArray[np.int32]:
    return np.array(sorted(range(len(tapes)), key=lambda skill: tapes[skill].skill), np.int32)


@dataclass(frozen=True)
class Window:
    """Consecutive global batches of a round.

    Attributes:
        first_batch: Number of the first global batch within the round.
        skills: int [batches, global_batch], which skill each slot draws from.
        passes: int64 [batches, global_batch], the tape pass.
        line: int64 [batches, global_batch], the position in that pass.
    """

    first_batch: int
    skills: NDArray[np.int32]
    passes: Int64
    line: Int64


def walk_round(
    tapes: Sequence[Tape], shape: RoundShape, number: int, counts: Int64, cursors: Cursors
) -> Iterator[Window]:
    """Walk a round window by window.

    Args:
        tapes: One a skill.
        shape: Sizes, batching, seed.
        number: Number of the round; part of the key of its shuffles.
        counts: int64 [skills], samples of each skill in this round; their sum is the round size.
        cursors: Where the tapes stand at the start of the round; moved in place, window by window.

    Yields:
        Window: in the order of the global batches.
    """
    per_window = max(1, WINDOW // shape.global_batch)
    key = make_key(shape.seed, 'slots', number)
    by_name = _by_name(tapes)
    edges = counts[by_name].cumsum()
    for first in range(0, shape.batches, per_window):
        batches = np.arange(first, min(first + per_window, shape.batches))
        dealt = by_name[_deal(edges, shape, batches)]
        skills = _shuffle(dealt, shape, batches, key)
        yield _fill(tapes, shape, first, skills, cursors)


def _deal(edges: Int64, shape: RoundShape, batches: Int64) -> NDArray[np.int64]:
    """Deal the cards of the given batches, unshuffled.

    Args:
        edges: int64 [skills], sums of the counts of the skills up to each, in the order of their names.
        shape: Sizes.
        batches: int64 [batches], which global batches.

    Returns:
        int64 [batches, canonical nodes, places]: place of each card's skill in the order of the names.
    """
    rows = shape.batches
    # A stride near rows/phi visits the rows evenly: the batches of a window, and those that get the odd
    # sample of a tiny proportion, lie spread over the round instead of side by side.
    stride = round(rows * 0.6180339887498949) or 1
    while gcd(stride, rows) > 1:
        stride += 1
    row = batches * stride % rows
    cards = row[:, None] + rows * np.arange(shape.global_batch)
    skills = np.searchsorted(edges, cards, side='right')
    # Deal the batch's cards to the nodes, beginning with another node in every batch.
    nodes = shape.canonical_nodes
    skills = skills.reshape(len(batches), -1, nodes).transpose(0, 2, 1)
    turn = (np.arange(nodes) + batches[:, None]) % nodes
    return np.take_along_axis(skills, turn[:, :, None], axis=1)


def _shuffle(dealt: NDArray[np.int32], shape: RoundShape, batches: Int64, key: int) -> NDArray[np.int32]:
    """Shuffle the cards within each node: of one batch if stratified, else of the whole window."""
    count, nodes, places = dealt.shape
    if shape.batching == 'random':
        dealt = dealt.transpose(1, 0, 2).reshape(1, nodes, count * places)
        batches = batches[:1]
    words = nodes * dealt.shape[2]
    counters = batches[:, None] * shape.global_batch + np.arange(words)
    order = np.argsort(random_words(key, counters).reshape(dealt.shape), axis=2, kind='stable')
    shuffled = np.take_along_axis(dealt, order, axis=2)
    if shape.batching == 'random':
        shuffled = shuffled.reshape(nodes, count, places).transpose(1, 0, 2)
    return shuffled.reshape(count, shape.global_batch)


def _fill(
    tapes: Sequence[Tape], shape: RoundShape, first: int, skills: NDArray[np.int32], cursors: Cursors
) -> Window:
    """Fill each skill's slots in the order of its tape."""
    flat = skills.ravel()
    order = np.argsort(flat.astype(np.int16) if len(tapes) < 1 << 15 else flat, kind='stable')
    ends = np.bincount(flat, minlength=len(tapes)).cumsum()
    nodes = order % shape.global_batch // (shape.global_batch // shape.canonical_nodes)
    passes = np.empty(len(flat), np.int64)
    line = np.empty(len(flat), np.int64)
    begin = 0
    for skill, end in enumerate(ends):
        if begin < end:
            slots = order[begin:end]
            passes[slots], line[slots] = draw(tapes[skill], cursors, skill, nodes[begin:end])
        begin = end
    return Window(first, skills, passes.reshape(skills.shape), line.reshape(skills.shape))


def look_up(
    tapes: Sequence[Tape], sample_offsets: Int64, skills: NDArray[np.int32], passes: Int64, line: Int64
) -> Int64:
    """Global sample ids of planned slots.

    Args:
        tapes: One a skill.
        sample_offsets: int64 [skills], id of each stream's first sample.
        skills: int [...], the slots' skills.
        passes: int64 [...], their passes.
        line: int64 [...], their positions.

    Returns:
        int64 [...]: the sample ids.
    """
    flat = skills.ravel()
    order = np.argsort(flat.astype(np.int16) if len(tapes) < 1 << 15 else flat, kind='stable')
    ends = np.bincount(flat, minlength=len(tapes)).cumsum()
    ids = np.empty(len(flat), np.int64)
    flat_passes, flat_line = passes.ravel(), line.ravel()
    begin = 0
    for skill, end in enumerate(ends):
        if begin < end:
            slots = order[begin:end]
            ids[slots] = sample_offsets[skill] + tapes[skill].local_ids(flat_passes[slots], flat_line[slots])
        begin = end
    return ids.reshape(skills.shape)


def shards_ahead(
    tapes: Sequence[Tape], cursors: Cursors, expected: Int64, nodes: Iterable[int]
) -> Iterator[tuple[int, Int64]]:
    """The shards that tapes come to next, in the order in which they will be needed.

    First the blocks that the cursors are in: whatever the next mixture, its first batches read those. Then
    the block after, of the tapes that will be through with theirs in the next round, the one that is through
    first before the others. Last the blocks in which the tapes will be when that round ends: it may be too
    short to fetch them.

    Args:
        tapes: One a skill.
        cursors: Where they stand.
        expected: int64 [skills], samples that each skill is expected to give in the next round.
        nodes: The canonical nodes whose spans are read here.

    Yields:
        (skill, int64 [shards]): stream-local numbers of shards.
    """
    following, last = [], []
    nodes = list(nodes)
    # A skill that is not drawn from may stay so.
    for skill in sorted(range(len(tapes)), key=lambda skill: not expected[skill]):
        tape, number = tapes[skill], int(cursors.passes[skill])
        wanted = int(expected[skill]) / tape.spans
        for line, span_end in tape.fronts(number, cursors.taken[skill], nodes):
            yield skill, tape.shards_at(number, line)
            _, end = tape.block_bounds(number, line)
            if end - line < wanted and end < span_end:
                following.append(((end - line) / wanted, skill, end))
            if end <= (at_end := line + int(wanted)) < span_end:
                last.append((skill, at_end))
    for skill, line in [(skill, line) for _, skill, line in sorted(following)] + last:
        yield skill, tapes[skill].shards_at(int(cursors.passes[skill]), line)
