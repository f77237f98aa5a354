"""Fetching shards ahead of their use, in a few background threads per process."""

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from types import MethodType

# Shards fetched at once. One connection to an object store spends much of its time waiting for answers, and
# processes that ask for the same shards wait for each other: a few more use the network that there is.
THREADS = 4


class ShardFetcher:
    """Prepares requested shards, begun in the order of the requests and a few at a time.

    A failure is not raised here: whoever needs the shard prepares it again and gets the error first hand.
    The threads do not keep the owner of a bound `prepare` alive, and end with this object.

    Args:
        prepare: Makes one shard local; blocks until it is; called by several threads at once.
    """

    def __init__(self, prepare: Callable[[int], None]) -> None:
        self._prepare = prepare
        self._queue: SimpleQueue[int | None] = SimpleQueue()
        self._process = 0

    def request(self, shards: Iterable[int]) -> None:
        """Ask for shards; returns at once."""
        if self._process != os.getpid():
            # Threads do not survive a fork, and a queue may have been copied in the middle of a request.
            self._queue = SimpleQueue()
            bound = isinstance(self._prepare, MethodType)
            prepare = weakref.WeakMethod(self._prepare) if bound else lambda: self._prepare
            for _ in range(THREADS):
                threading.Thread(target=_work, args=(self._queue, prepare), daemon=True).start()
            self._process = os.getpid()
        for shard in shards:
            self._queue.put(int(shard))

    def __del__(self) -> None:
        for _ in range(THREADS):
            self._queue.put(None)


def _work(queue: 'SimpleQueue[int | None]', find_prepare: Callable[[], Callable[[int], None] | None]) -> None:
    while (shard := queue.get()) is not None:
        prepare = find_prepare()
        if prepare is None:
            return
        try:
            prepare(shard)
        except Exception:
            continue
        finally:
            del prepare
