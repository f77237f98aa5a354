"""The rounds of one stretch of a run, walked by the functions that planned them for training."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from skillit_stream.audit.record import Stretch
from skillit_stream.audit.stream_index import LostStream
from skillit_stream.order.carry_over import carry_over, stream_states
from skillit_stream.order.cursor import Cursors, skip_one_span
from skillit_stream.order.paced_tape import make_tape
from skillit_stream.order.plan import Window, look_up, walk_round
from skillit_stream.order.tape import TapeStart

Int64 = NDArray[np.int64]


class Walk:
    """Where the tapes stand in each round of a stretch, and what they give.

    Args:
        stretch: The rounds.
        starts: [skills], where the tapes go on; None: they are new.
        cursors: The tapes at the start of the stretch; None: nothing is consumed.
    """

    def __init__(
        self, stretch: Stretch, starts: Sequence[TapeStart] | None = None, cursors: Cursors | None = None
    ) -> None:
        self.stretch = stretch
        self._tapes = [
            make_tape(
                skill,
                stream.sizes,
                order=stretch.sample_orders.get(skill),
                seed=stretch.shape.seed,
                canonical_nodes=stretch.shape.canonical_nodes,
                block_size=stretch.block_size,
                shuffle=stretch.shuffle,
                start=start,
            )
            for (skill, stream), start in zip(
                stretch.streams.items(), starts or [TapeStart()] * len(stretch.streams), strict=True
            )
        ]
        self._offsets: Int64 = np.array(list(stretch.offsets.values()), np.int64)
        beginning = cursors or Cursors.at_start(len(self._tapes), stretch.shape.canonical_nodes)
        self._starts = {stretch.first_round: beginning}

    def go_on(self, stretch: Stretch) -> 'Walk':
        """The walk of the next stretch: each stream is carried over as when the run was resumed."""
        # Nothing but the samples, number and digests of the shards is asked for: what an index has here too.
        before, after = cast('Any', self.stretch.streams), cast('Any', stretch.streams)
        states = stream_states(before, self._tapes, self._start(stretch.first_round))
        nodes, orders = stretch.shape.canonical_nodes, stretch.sample_orders
        return Walk(stretch, *carry_over(states, after, nodes, orders))

    def windows(self, number: int) -> Iterator[Window]:
        """A round, window by window."""
        stretch, cursors = self.stretch, self._start(number).copy()
        counts = stretch.counts[number - stretch.first_round]
        yield from walk_round(self._tapes, stretch.shape, number, counts, cursors)
        self._starts[number + 1] = cursors

    def look_up(self, skills: NDArray[np.int32], passes: Int64, line: Int64) -> Int64:
        """Sample ids int64 [...] of slots of a window, as the dataset had them in this stretch."""
        return look_up(self._tapes, self._offsets, skills, passes, line)

    def lost_among(self, skills: NDArray[np.int32]) -> LostStream | None:
        """A stream that some of the slots draw from and whose shards are not known."""
        streams = list(self.stretch.streams.values())
        return next(
            (lost for skill in np.unique(skills) if isinstance(lost := streams[skill], LostStream)), None
        )

    def _start(self, number: int) -> Cursors:
        """Where the tapes stand at the start of a round."""
        for known in range(max(start for start in self._starts if start <= number), number):
            if all(tape.spans == 1 and tape.has_even_passes for tape in self._tapes):
                self._starts[known + 1] = self._skip_by_counts(known)
            else:
                deque(self.windows(known), maxlen=0)
        return self._starts[number]

    def _skip_by_counts(self, number: int) -> Cursors:
        """Past a round whose tapes have one span each: nothing but its counts decides where they end."""
        cursors = self._starts[number].copy()
        counts = self.stretch.counts[number - self.stretch.first_round].tolist()
        for skill, (tape, count) in enumerate(zip(self._tapes, counts, strict=True)):
            skip_one_span(tape, cursors, skill, count)
        return cursors
