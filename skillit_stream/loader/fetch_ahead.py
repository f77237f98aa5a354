"""Which shards are on their way while batches are trained: those of the next batches, then those of the next round.

Shards of the batches within `predownload` are needed; others are fetched when no needed ones wait to be: those that are
left of a stretch of the round, and in its last stretch what every tape comes to after it. With a limit to the cache
these are as many as fit beside the needed ones.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from skillit_stream.loader.skill_shards import SkillShards

Int64 = NDArray[np.int64]


def fetched_ahead(
    dataset: SkillShards, stretches: Iterable[Int64], total: int, find_following: Callable[[], Iterable[int]]
) -> Iterator[Int64]:
    """The batches of a round, with the shards of the next ones on their way.

    Args:
        dataset: Whose shards they are.
        stretches: Sample ids of successive batches, int64 [batches, batch_size] each.
        total: How many batches there are in all.
        find_following: Gives the shards that the next round will need, the first to be needed first; known when the
            last stretch is.

    Yields:
        Sample ids int64 [batch_size].
    """
    if not dataset.has_remote:
        yield from chain.from_iterable(stretches)
        return
    ahead = max(1, int(dataset.predownload or 1) // int(dataset.batch_size or 1))
    waiting: deque[tuple[Int64, list[int]]] = deque()
    requested: set[int] = set()
    for stretch in stretches:
        total -= len(stretch)
        own = _in_order_of_use(dataset, stretch)
        _request_if_they_fit(dataset, waiting, chain(own, () if total else find_following()))
        for ids in stretch:
            shards = np.unique(dataset.spanner.locate(ids)[0]).tolist()
            dataset.request(shard for shard in shards if shard not in requested)
            requested.update(shards)
            waiting.append((ids, shards))
            if len(waiting) > ahead:
                yield waiting.popleft()[0]
    # Again: there may be more room now, and a worker without a batch has not asked.
    _request_if_they_fit(dataset, waiting, find_following())
    for ids, _ in waiting:
        yield ids


def _in_order_of_use(dataset: SkillShards, ids: Int64) -> list[int]:
    """The shards that samples are in, each once."""
    shards, first = np.unique(dataset.spanner.locate(ids.ravel())[0], return_index=True)
    return shards[np.argsort(first)].tolist()


def _request_if_they_fit(
    dataset: SkillShards, waiting: Iterable[tuple[Int64, list[int]]], shards: Iterable[int]
) -> None:
    """Have the first of the shards fetched, as many as fit into the cache beside those of the batches that wait."""
    if not dataset.cache_limit:
        dataset.request(shards, are_needed=False)
        return
    counted = set(chain.from_iterable(needed for _, needed in waiting))
    room = (int(dataset.cache_limit) - dataset.lasting_usage) // dataset.readers_apart
    room -= sum(map(dataset.size_in_cache, counted))
    fitting = []
    for shard in shards:
        if shard not in counted:
            room -= dataset.size_in_cache(shard)
            if room < 0:
                break
            counted.add(shard)
            fitting.append(shard)
    for shard in counted:
        # Fetched some time ago, perhaps, and not read yet: those that are used up are to give way first.
        dataset.touch(shard)
    dataset.request(fitting, are_needed=False)
