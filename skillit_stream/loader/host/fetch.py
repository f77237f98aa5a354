"""Fetching shards ahead of their use, in a few background threads per process."""

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from types import MethodType
from typing import NamedTuple

# Shards fetched at once. One connection to an object store spends much of its time waiting for answers, and
# processes that ask for the same shards wait for each other: a few more use the network that there is.
THREADS = 4

Prepare = Callable[[int, bool], None]


class _Queues(NamedTuple):
    """What is to be fetched.

    Attributes:
        requests: True for each shard put into the other two, False where a thread is to end.
        needed: Shards that batches need.
        guessed: Shards that may be needed later.
    """

    requests: 'SimpleQueue[bool]'
    needed: 'SimpleQueue[int]'
    guessed: 'SimpleQueue[int]'

    @classmethod
    def empty(cls) -> '_Queues':
        """Nothing to be fetched."""
        return cls(SimpleQueue(), SimpleQueue(), SimpleQueue())

    def take(self) -> tuple[int, bool] | None:
        """The shard to be fetched next, and whether it is needed; None if what was asked for has been dropped."""
        for shards in (self.needed, self.guessed):
            with contextlib.suppress(Empty):
                return shards.get_nowait(), shards is self.needed
        return None

    def drop_guesses(self) -> None:
        """Fetch no guessed shard that has not been begun."""
        with contextlib.suppress(Empty):
            while True:
                self.guessed.get_nowait()


class ShardFetcher:
    """Prepares requested shards, a few at a time: needed ones first, each kind in the order of the requests.

    A failure is not raised here: whoever needs the shard prepares it again and gets the error first hand.
    The threads do not keep the owner of a bound `prepare` alive, and end with this object.

    Args:
        prepare: Makes one shard local; called by several threads at once. Given True, it blocks until the shard is
            there; given False, it may leave it where others fetch it or have to make room first.
    """

    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare
        self._queues = _Queues.empty()
        self._process = 0

    def request(self, shards: Iterable[int], *, are_needed: bool = True) -> None:
        """Ask for shards, which batches need or which may be needed later; returns at once.

        Those that may be needed take the place of all that were asked for so before: these may be used up by now.
        """
        if self._process != os.getpid():
            # Threads do not survive a fork, and a queue may have been copied in the middle of a request.
            self._queues = _Queues.empty()
            bound = isinstance(self._prepare, MethodType)
            prepare = weakref.WeakMethod(self._prepare) if bound else lambda: self._prepare
            for _ in range(THREADS):
                threading.Thread(target=_work, args=(self._queues, prepare), daemon=True).start()
            self._process = os.getpid()
        queue = self._queues.needed if are_needed else self._queues.guessed
        if not are_needed:
            self._queues.drop_guesses()
        for shard in shards:
            queue.put(int(shard))
            self._queues.requests.put(True)

    def __del__(self) -> None:
        for _ in range(THREADS):
            self._queues.requests.put(False)


def _work(queues: _Queues, find_prepare: Callable[[], Prepare | None]) -> None:
    while queues.requests.get():
        taken = queues.take()
        if taken is None:
            continue
        prepare = find_prepare()
        if prepare is None:
            return
        try:
            prepare(*taken)
        except Exception:
            continue
        finally:
            del prepare
