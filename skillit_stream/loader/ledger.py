"""The few numbers that a rank's main process and its DataLoader workers share while a run goes on.

A dataset object is copied into every worker, so what changes during a run lives in shared memory: the
proportions of the coming round, the cursors at the start of the current one, and the iterations that have begun.
The memory is a torch shared tensor: its file is unlinked as soon as it is mapped, so nothing is left behind when a
process is killed, and it reaches forked and spawned workers alike.

An iteration is claimed under a lock, which goes with its process: the first worker of a DataLoader claims it for all
of them. Its key is stored before the count of iterations, so that a process which ends in between leaves a key that is
not counted and written over by the next. Nothing else is locked: every worker can compute everything by itself, so
what one worker publishes only saves the others time. Records are kept two deep and carry a checksum: a reader never
uses half of one.
"""

import os
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.loader.host.processes import locked
from skillit_stream.order.cursor import Cursors

MAX_WORKERS = 128
# Claims that are remembered: a worker that wakes up later than so many iterations is not known any more.
CLAIMS = 4096
_HEADER = 3  # tag, filled, checksum
_NO_ROUND = -1
_ITERATIONS, _RESTARTS, _RETIRED, _PROCESS = range(4)


@dataclass(frozen=True)
class RoundStart:
    """Where a round starts.

    Attributes:
        number: Number of the round.
        cursors: Positions on the tapes at its start.
        proportions: float64 [skills] asked for in it.
    """

    number: int
    cursors: Cursors
    proportions: NDArray[np.float64]


class Claim(NamedTuple):
    """An iteration that has begun."""

    before: int
    """Iterations since the base that began before it."""
    restarts: int
    """How often the ledger had been restarted."""


class Ledger:
    """Shared numbers of one rank's dataset.

    Args:
        skills: Number of skills.
        columns: Columns of the cursors.
        lock_path: A file that is locked while an iteration is claimed; made if it is not there.
    """

    def __init__(self, skills: int, columns: int, lock_path: str | os.PathLike[str]) -> None:
        self.skills = skills
        self.columns = columns
        self._lock_path = lock_path
        table = (MAX_WORKERS + 1) * MAX_WORKERS
        proportions, cursors = _HEADER + skills, _HEADER + skills * (3 + columns)
        lengths = [2, 4, CLAIMS, table, proportions, proportions, cursors, cursors]
        # One tensor: each costs a file descriptor. Of memory that is zeros as it comes: to fill or copy some, torch
        # would wait for threads that a forked process does not have.
        storage = torch.UntypedStorage._new_shared(sum(lengths) * torch.int64.itemsize)
        memory = torch.empty(0, dtype=torch.int64).set_(storage)
        self._base, self._state, self._claims, self._dealt_out, *records = memory.split(lengths)
        self._proportions, self._cursors = records[:2], records[2:]

    def restart(self, start: RoundStart, sample_in_round: int) -> None:
        """Begin (again) at the given round and sample: the next iteration plays it."""
        with locked(self._lock_path, os.O_RDWR | os.O_CREAT):
            self._state.numpy()[_RESTARTS] += 1
            for record in (*self._proportions, *self._cursors):
                record.numpy()[:_HEADER] = 0
            self._state.numpy()[_ITERATIONS] = self._claims.numpy()[:] = 0
            self._dealt_out.numpy()[:] = _NO_ROUND
            self.publish_proportions(start.number, start.proportions)
            self.publish_cursors(start.number, start.cursors)
            self._base.numpy()[:] = start.number, sample_in_round

    @property
    def base(self) -> tuple[int, int]:
        """Round and sample in it at which this process started or resumed."""
        number, sample = self._base.numpy()
        return int(number), int(sample)

    @property
    def iterations(self) -> int:
        """How often iteration has begun since the base."""
        return int(self._state.numpy()[_ITERATIONS])

    @property
    def restarts(self) -> int:
        """How often it was restarted."""
        return int(self._state.numpy()[_RESTARTS])

    @property
    def is_retired(self) -> bool:
        """Whether another ledger has taken its place."""
        return bool(self._state.numpy()[_RETIRED])

    @property
    def process(self) -> int:
        """Number of the process that iterates, 0 if none has."""
        return int(self._state.numpy()[_PROCESS])

    def retire(self) -> None:
        """Another ledger takes this one's place; whoever still has this one shall know."""
        self._state.numpy()[_RETIRED] = 1

    def take(self, process: int) -> None:
        """This process iterates from now on."""
        self._state.numpy()[_PROCESS] = process

    def claim(self, key: int = 0) -> Claim:
        """Begin an iteration, or join the one that was begun under the same key.

        Args:
            key: What those who play one iteration together have in common; 0: this one is played alone.
        """
        with locked(self._lock_path, os.O_RDWR | os.O_CREAT):
            count, keys = self.iterations, self._claims.numpy()
            places = np.flatnonzero(keys == key) if key else []
            # A key stands where a claim was stored that many iterations ago.
            joined = [count - 1 - (count - 1 - int(place)) % CLAIMS for place in places]
            if joined and max(joined) >= 0:
                return Claim(max(joined), self.restarts)
            keys[count % CLAIMS] = key
            self._state.numpy()[_ITERATIONS] = count + 1
            return Claim(count, self.restarts)

    def is_current(self, claim: Claim) -> bool:
        """Whether no iteration has begun since this one, nothing was restarted, and this ledger counts."""
        iterations, restarts, retired, _ = self._state.tolist()
        return claim == (iterations - 1, restarts) and not retired

    def publish_dealt_out(self, worker: int, workers: int, number: int) -> None:
        """This worker, one of `workers`, has handed out its last batch of the given round."""
        if workers > MAX_WORKERS:
            raise InputError(f'`num_workers` must be at most {MAX_WORKERS}, but got: {workers}.')
        _table(self._dealt_out)[workers, worker] = number

    def is_dealt_out(self, number: int, batches: int) -> bool:
        """Whether every worker has handed out its last batch of the given round, of which it plays `batches`.

        Workers beyond the number of batches have none; they may not even have begun.
        """
        table = _table(self._dealt_out)
        return any(
            (table[workers, : min(workers, batches)] == number).all() for workers in range(1, MAX_WORKERS + 1)
        )

    def publish_proportions(self, first_round: int, proportions: NDArray[np.float64]) -> None:
        """From `first_round` on, these are the proportions; the ones before stay readable."""
        tags = [_tag(record) for record in self._proportions]
        slot = tags.index(first_round) if first_round in tags else tags.index(min(tags))
        _write(self._proportions[slot], first_round, proportions.view(np.int64))

    def proportions(self, number: int) -> NDArray[np.float64]:
        """Proportions of the given round: the latest published at or before it."""
        found = [read for record in self._proportions if (read := _read(record)) and read[0] <= number]
        if not found:
            raise RuntimeError(f'Internal error: no proportions are known for round {number}.')
        return max(found, key=lambda read: read[0])[1].view(np.float64)

    def publish_cursors(self, number: int, cursors: Cursors) -> None:
        """The tapes stand here at the start of the given round."""
        owed = cursors.owed.view(np.int64)
        values = np.concatenate([cursors.passes, cursors.drawn, owed, cursors.taken.ravel()])
        _write(self._cursors[number % 2], number, values)

    def latest_cursors(self, number: int) -> tuple[int, Cursors]:
        """The latest published start at or before the given round, and its number."""
        found = [read for record in self._cursors if (read := _read(record)) and read[0] <= number]
        if not found:
            raise RuntimeError(f'Internal error: no cursors are known for round {number}.')
        tag, values = max(found, key=lambda read: read[0])
        passes, drawn, owed = values[: 3 * self.skills].reshape(3, self.skills)
        taken = values[3 * self.skills :].reshape(self.skills, self.columns)
        return tag, Cursors(passes, taken, drawn, owed.view(np.float64))


def _table(record: torch.Tensor) -> NDArray[np.int64]:
    """As int64 [number of workers, worker]."""
    return record.numpy().reshape(MAX_WORKERS + 1, MAX_WORKERS)


def _write(record: torch.Tensor, tag: int, values: NDArray[np.int64]) -> None:
    # Workers may write the same record at once. All write the same bytes, so one that is a little late
    # changes nothing under a reader's eyes; hence the record is not marked as empty in between.
    array = record.numpy()
    array[_HEADER:] = values
    array[0] = tag
    array[2] = _checksum(tag, values)
    array[1] = 1


def _read(record: torch.Tensor) -> tuple[int, NDArray[np.int64]] | None:
    copy = record.numpy().copy()
    tag, filled, checksum = (int(value) for value in copy[:_HEADER])
    values = copy[_HEADER:]
    if not filled or checksum != _checksum(tag, values):
        return None
    return tag, values


def _tag(record: torch.Tensor) -> int:
    read = _read(record)
    return _NO_ROUND if read is None else read[0]


def _checksum(tag: int, values: NDArray[np.int64]) -> int:
    return zlib.crc32(values.tobytes(), tag & 0xFFFFFFFF)
