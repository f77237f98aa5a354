"""Which shards a node will read first in a round whose mixture is not known yet."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from skillit_stream.streams.cursor import Cursors
from skillit_stream.streams.tape import Tape

Int64 = NDArray[np.int64]


def shards_ahead(
    tapes: Sequence[Tape], cursors: Cursors, expected: Int64, nodes: Iterable[int]
) -> Iterator[tuple[int, Int64]]:
    """The shards that tapes come to next, in the order in which they will be needed.

    First the blocks that the cursors are in: whatever the next mixture, its first batches read those. Then
    the block after, of the tapes that will be through with theirs in a round like the last one, the one that
    is through first before the others.

    Args:
        tapes: One a skill.
        cursors: Where they stand.
        expected: int64 [skills], samples that each skill gave in the last round.
        nodes: The canonical nodes whose spans are read here.

    Yields:
        (skill, int64 [shards]): stream-local numbers of shards.
    """
    following = []
    for skill, tape in enumerate(tapes):
        number = int(cursors.passes[skill])
        edges = tape.span_edges(number)
        for span in {node % tape.spans for node in nodes}:
            line = int(edges[span] + cursors.taken[skill, span])
            if line >= edges[span + 1]:
                continue
            yield skill, tape.shards_at(number, line)
            end = tape.block_end(number, line)
            wanted = int(expected[skill]) / tape.spans
            if end - line < wanted and end < edges[span + 1]:
                following.append(((end - line) / wanted, skill, end))
    for _, skill, line in sorted(following):
        yield skill, tapes[skill].shards_at(int(cursors.passes[skill]), line)
