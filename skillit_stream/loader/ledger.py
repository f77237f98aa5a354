"""The few numbers that a rank's main process and its DataLoader workers share while a run goes on.

A dataset object is copied into every worker, so what changes during a run lives in shared memory: the
proportions of the coming round, the cursors at the start of the current one, and how often each worker
has begun to iterate. The memory is a torch shared tensor: its file is unlinked as soon as it is mapped, so
nothing is left behind when a process is killed, and it reaches forked and spawned workers alike.

No locks and no barriers: every worker can compute everything by itself, so what one worker publishes only
saves the others time. Records are kept two deep and carry a checksum: a reader never uses half of one.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.loader.host.shared_room import shared_storage
from skillit_stream.order.cursor import Cursors

MAX_WORKERS = 128
_HEADER = 3  # tag, filled, checksum
_NO_ROUND = -1


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


class Ledger:
    """Shared numbers of one rank's dataset.

    Args:
        skills: Number of skills.
        columns: Columns of the cursors.
    """

    def __init__(self, skills: int, columns: int) -> None:
        self.skills = skills
        self.columns = columns
        table = (MAX_WORKERS + 1) * MAX_WORKERS
        proportions, cursors = _HEADER + skills, _HEADER + skills * (3 + columns)
        lengths = [2, table, table, proportions, proportions, cursors, cursors]
        # One tensor: each costs a file descriptor. Of memory that is zeros as it comes: to fill or copy some, torch
        # would wait for threads that a forked process does not have.
        storage = shared_storage(sum(lengths) * torch.int64.itemsize)
        memory = torch.empty(0, dtype=torch.int64).set_(storage)
        self._base, self._begun, self._dealt_out, *records = memory.split(lengths)
        self._proportions, self._cursors = records[:2], records[2:]

    def restart(self, start: RoundStart, sample_in_round: int) -> None:
        """Begin (again) at the given round and sample: the next iteration of any worker plays it."""
        for record in (*self._proportions, *self._cursors):
            record.numpy()[:_HEADER] = 0
        self._begun.numpy()[:] = 0
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
        return int(_table(self._begun).max(axis=1).sum())

    def begin_iteration(self, worker: int, workers: int) -> int:
        """Count one more iteration of this worker; returns how many came before it.

        Each worker counts for itself, in a row for its number of workers: whatever order the workers
        start in, and even if a loader with another number of workers went before, all of them arrive at
        the same number.
        """
        if workers > MAX_WORKERS:
            raise InputError(f'`num_workers` must be at most {MAX_WORKERS}, but got: {workers}.')
        table = _table(self._begun)
        # The other rows are at rest: only loaders of this number of workers are being started now.
        others = np.delete(table, workers, axis=0).max(axis=1).sum()
        before = int(others + table[workers, worker])
        table[workers, worker] += 1
        return before

    def publish_dealt_out(self, worker: int, workers: int, number: int) -> None:
        """This worker, one of `workers`, has handed out its last batch of the given round."""
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
