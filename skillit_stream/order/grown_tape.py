"""The tape of a stream that was lengthened while it was drawn from.

The pass that was under way goes on: what it has left of the old shards, in the order it had, and the new shards
in an order of their own, woven together in the ratio of what is left of each. So new samples are met at once, none
is drawn twice, and the pass ends when every sample there is now has been drawn. The passes after it are those of
a stream that had its size from the start.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from skillit_stream.mixture.apportion import largest_remainder
from skillit_stream.order.tape import Int64, Tape


class GrownTape(Tape):
    """The order of a stream's samples from the pass on in which it was lengthened.

    In that pass a line position is the stream-local id of the first sample of the position's *part* (the shards of
    the beginning, or those of one lengthening) and the position on the part's own line. The cursor has the spans
    of every part, `canonical_nodes` columns each.

    Args:
        skill: Name of the stream.
        samples_per_shard: int64 [shards], of all shards.
        grown_in: The pass.
        grown_at: Shards that the stream had before it was lengthened, once for each time, ascending.
        canonical_nodes: As for a :class:`Tape`.
        **settings: As for a :class:`Tape`.
    """

    has_even_passes = False

    def __init__(
        self,
        skill: str,
        samples_per_shard: Int64,
        *,
        grown_in: int,
        grown_at: Sequence[int],
        canonical_nodes: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__(skill, samples_per_shard, canonical_nodes=canonical_nodes, **settings)
        self.grown_in = grown_in
        self._grown_at = tuple(grown_at)
        self._parts = [
            Tape(
                skill,
                self.samples_per_shard[first:end],
                canonical_nodes=canonical_nodes,
                first_shard=first,
                **settings,
            )
            for first, end in pairwise([0, *grown_at, len(self.samples_per_shard)])
        ]
        sizes = np.array([part.samples for part in self._parts], np.int64)
        self._part_begins: Int64 = sizes.cumsum() - sizes

    def grown_at(self, number: int) -> tuple[int, ...]:
        """Shards that the stream had whenever it was lengthened in a pass."""
        return self._grown_at if number == self.grown_in else ()

    def draw_in_pass(self, number: int, taken: Int64, nodes: Int64) -> Int64:
        """Line positions of draws that all belong to one pass; see :meth:`Tape.draw_in_pass`."""
        if number != self.grown_in:
            return super().draw_in_pass(number, taken, nodes)
        if not len(nodes):
            return nodes
        own = self._taken_by_part(taken)
        left = np.array([part.samples for part in self._parts]) - own.sum(axis=1)
        counts = largest_remainder(left / left.sum(), len(nodes))
        # Each part's draws evenly spread over all of them.
        places = np.concatenate([(np.arange(count) + 0.5) / count for count in counts.tolist() if count])
        part_of = np.repeat(np.arange(len(counts)), counts)[np.argsort(places, kind='stable')]
        line = np.empty(len(nodes), np.int64)
        for number_of_part, part in enumerate(self._parts):
            chosen = part_of == number_of_part
            if chosen.any():
                line[chosen] = part.draw_in_pass(number, own[number_of_part], nodes[chosen])
        return line + self._part_begins[part_of]

    def fronts(self, number: int, taken: Int64, nodes: Iterable[int]) -> list[tuple[int, int]]:
        """Where the spans that some nodes read stand in a pass; see :meth:`Tape.fronts`."""
        if number != self.grown_in:
            return super().fronts(number, taken, nodes)
        nodes, own = list(nodes), self._taken_by_part(taken)
        return [
            (line + int(begin), end + int(begin))
            for part, begin, spans in zip(self._parts, self._part_begins, own, strict=True)
            for line, end in part.fronts(number, spans, nodes)
        ]

    def local_ids(self, passes: Int64, line: Int64) -> Int64:
        """Stream-local sample ids at the given line positions of the given passes; see :meth:`Tape.local_ids`."""
        ids = np.empty_like(line)
        within = passes == self.grown_in
        ids[~within] = super().local_ids(passes[~within], line[~within])
        # The last part that begins at or before a position: an empty one begins where the next does.
        part_of = np.searchsorted(self._part_begins, line, side='right') - 1
        for number, part in enumerate(self._parts):
            chosen = within & (part_of == number)
            begin = self._part_begins[number]
            ids[chosen] = begin + part.local_ids(passes[chosen], line[chosen] - begin)
        return ids

    def block_bounds(self, number: int, line: int) -> tuple[int, int]:
        """Line positions at which the block at a line position begins and ends."""
        if number != self.grown_in:
            return super().block_bounds(number, line)
        part = int(np.searchsorted(self._part_begins, line, side='right')) - 1
        begin = int(self._part_begins[part])
        first, end = self._parts[part].block_bounds(number, line - begin)
        return begin + first, begin + end

    def _taken_by_part(self, taken: Int64) -> Int64:
        """A view of the cursor, int64 [parts, canonical nodes]."""
        parts, nodes = len(self._parts), self.canonical_nodes
        return taken[: parts * nodes].reshape(parts, nodes)
