"""StreamingDataset's constructor in time of the number of shards."""

from collections.abc import Iterator
from contextlib import contextmanager

import streaming.base.dataset as streaming_dataset
import streaming.base.format.mds.reader as mds_reader

from skillit_stream.order.index import ShardIndex


@contextmanager
def quick_construction() -> Iterator[None]:
    """Within this context StreamingDataset's constructor takes time in the number of shards, not samples.

    It builds a :class:`ShardIndex`, and reads a shard's entry of the index without first copying it to the
    last string. The constructor has no parameters for these; the names it looks up are the seam.
    """
    spanner, deepcopy = streaming_dataset.Spanner, mds_reader.deepcopy
    streaming_dataset.Spanner = ShardIndex  # pyright: ignore[reportAttributeAccessIssue]
    # Only the entry's own keys are changed by the reader, so a copy of the top level is as good.
    mds_reader.deepcopy = dict
    try:
        yield
    finally:
        streaming_dataset.Spanner, mds_reader.deepcopy = spanner, deepcopy
