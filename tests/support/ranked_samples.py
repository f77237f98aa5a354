"""Samples ranked in memory, for tests."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from skillit_stream.formats.sample_losses import RankedLosses


def ranked(losses: Sequence[float], sizes: Sequence[int] | None = None) -> RankedLosses:
    """Losses in the order of the stream, as ranked samples; shards of the given sizes, or one."""
    shards = list(sizes or [len(losses)])
    values, rows, begin = [], [], 0
    for size in shards:
        part = np.array(losses[begin : begin + size], np.float32)
        order = np.argsort(part, kind='stable')
        values.append(part[order])
        rows.append(order.astype(np.int32))
        begin += size
    starts = np.concatenate([[0], np.cumsum(shards)]).astype(np.int64)
    return RankedLosses('x', np.concatenate(values), np.concatenate(rows), starts, 'shards', 'order')


def sample_losses(losses: Mapping[str, Sequence[float]]) -> Callable[[str], dict[str, RankedLosses]]:
    """What a run gives a policy to find losses by name."""
    return lambda name: {skill: ranked(own) for skill, own in losses.items()}
