"""Fetching shards ahead of their use, in one background thread per process."""

import os
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue


class ShardFetcher:
    """Prepares requested shards in the order of the requests.

    A failure is not raised here: whoever needs the shard prepares it again and gets the error first hand.

    Args:
        prepare: Makes one shard local; blocks until it is.
    """

    def __init__(self, prepare: Callable[[int], None]) -> None:
        self._prepare = prepare
        self._queue: SimpleQueue[int] = SimpleQueue()
        self._process = 0

    def request(self, shards: Iterable[int]) -> None:
        """Ask for shards; returns at once."""
        if self._process != os.getpid():
            # Threads do not survive a fork, and a queue may have been copied in the middle of a request.
            self._queue = SimpleQueue()
            threading.Thread(target=self._work, args=(self._queue,), daemon=True).start()
            self._process = os.getpid()
        for shard in shards:
            self._queue.put(int(shard))

    def _work(self, queue: SimpleQueue) -> None:
        while True:
            shard = queue.get()
            try:
                self._prepare(shard)
            except Exception:
                continue
