"""A tape over a part of its stream, for a short run that repeats its data as a longer one will.

A run of T tokens that stands for one of N T tokens draws from an N-th of every stream: each sample of that part then
comes as often as each of the stream would in the long run. The part is whole shards, chosen by the seed, and some
samples of one shard more, so that a short run reads few shards. It does not depend on the canonical nodes.
"""

import math
from typing import Any

import numpy as np

from skillit_stream.order.keys import make_key, permutation
from skillit_stream.order.tape import Int64, Tape


def subset_size(samples: int, fraction: float) -> int:
    """Samples in a fraction (above 0, at most 1) of a stream: the nearest whole number, at least one."""
    return max(1, math.floor(samples * fraction + 0.5))


class SubsetTape(Tape):
    """The order of the samples of a part of one stream, over the passes of that part.

    Args:
        skill: Name of the stream; part of the key that chooses.
        samples_per_shard: int64 [shards], of the whole stream.
        subset: Samples in the part, 1 to those of the stream.
        seed: As for a :class:`Tape`; it chooses the part too.
        **settings: As for a :class:`Tape`.
    """

    def __init__(
        self, skill: str, samples_per_shard: Int64, *, subset: int, seed: int, **settings: Any
    ) -> None:
        sizes = np.asarray(samples_per_shard, np.int64)
        order = permutation(make_key(seed, skill, 'subset'), len(sizes))
        ends = sizes[order].cumsum()
        last = int(np.searchsorted(ends, subset))
        parted = int(order[last])
        chosen = np.sort(order[: last + 1])
        taken = sizes[chosen]
        self._parted = int(np.searchsorted(chosen, parted))
        taken[self._parted] -= ends[last] - subset
        rows = permutation(make_key(seed, skill, 'subset', parted), int(sizes[parted]))
        self._rows: Int64 = np.sort(rows[: taken[self._parted]])
        self._stream_ends: Int64 = sizes.cumsum()
        self._first_of_chosen = (self._stream_ends - sizes)[chosen]
        super().__init__(skill, taken, seed=seed, **settings)

    def local_ids(self, passes: Int64, line: Int64) -> Int64:
        """Stream-local sample ids, of the whole stream; see :meth:`Tape.local_ids`."""
        places = super().local_ids(passes, line)
        shards = np.searchsorted(self._first_sample, places, side='right') - 1
        rows = places - self._first_sample[shards]
        in_parted = shards == self._parted
        rows[in_parted] = self._rows[rows[in_parted]]
        return self._first_of_chosen[shards] + rows

    def shards_of(self, ids: Int64) -> Int64:
        """Shards of the whole stream that hold stream-local samples, int64 [n]."""
        return np.searchsorted(self._stream_ends, ids, side='right')
