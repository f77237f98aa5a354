"""Private memory of this process and of a loader's workers, from /proc.

Private memory (USS) is what would be free if the process ended: pages that no other process maps. A worker
forked from its parent owns only the pages that it has written since, which Python does by merely using
objects, so an idle worker of the same parent is the base line (:func:`idle_worker`). Pages of
memory-mapped shards count while they are in the page cache and no other process maps them, though the
system takes them back when memory is short: ``dirty`` leaves them out.
"""

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MB = 1e6


def private(process: int | None = None) -> dict[str, float]:
    """Private memory of a process in MB: `uss`, and `dirty`, what cannot be dropped and read again."""
    lines = Path(f'/proc/{process or os.getpid()}/smaps_rollup').read_text(encoding='ascii').splitlines()[1:]
    kilobytes = {line.split(':')[0]: int(line.split()[1]) for line in lines}
    dirty = kilobytes['Private_Dirty'] * 1024 / MB
    return {'uss': dirty + kilobytes['Private_Clean'] * 1024 / MB, 'dirty': dirty}


def resident(name: str) -> float:
    """MB that this process has mapped in memory (`VmRSS`), or the most it has had (`VmHWM`)."""
    lines = Path('/proc/self/status').read_text(encoding='ascii').splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / MB


def largest(found: list[dict[str, float]]) -> dict[str, float]:
    """The largest of each figure."""
    return {name: max(one[name] for one in found) for name in found[0]}


def workers() -> set[int]:
    """The processes that DataLoaders of this process have started."""
    return {child.pid for child in multiprocessing.active_children() if child.pid}


def idle_worker() -> dict[str, float]:
    """Private memory of a worker that does nothing: what a process with these packages costs by itself."""
    from torch.utils.data import DataLoader, IterableDataset

    class Idle(IterableDataset):
        def __iter__(self) -> Iterator[int]:
            yield from range(10)

    before = workers()
    batches: Any = iter(DataLoader(Idle(), batch_size=None, num_workers=1, persistent_workers=True))
    next(batches)
    found = private((workers() - before).pop())
    batches._shutdown_workers()
    return found
