"""Which share of the runs a process does: `--task i/n` for machines, and the ranks of a launcher within one."""

import os
import re
from dataclasses import dataclass

from skillit_stream.base.errors import InputError

_LAUNCHER = (
    'RANK',
    'WORLD_SIZE',
    'LOCAL_RANK',
    'LOCAL_WORLD_SIZE',
    'NODE_RANK',
    'MASTER_ADDR',
    'MASTER_PORT',
)


@dataclass(frozen=True)
class Task:
    """Share `number` (from 0) of `count`."""

    number: int = 0
    count: int = 1

    def share(self, items: list) -> list:
        """Every count-th of the items, beginning at the number-th."""
        return items[self.number :: self.count]


def parse_task(text: str) -> Task:
    """Read ``i/n``.

    Raises:
        InputError: It is no such share.
    """
    match = re.fullmatch(r'(\d+)/(\d+)', text)
    task = Task(int(match[1]), int(match[2])) if match else Task(1, 0)
    if task.number >= task.count:
        raise InputError(f'`--task` must be i/n with i from 0 to n - 1, e.g. 0/4, but got: {text!r}.')
    return task


def leave_launcher(task: Task) -> Task:
    """The share of this rank of a launcher's job, each rank from now on a job of its own with a GPU of its own.

    Called before CUDA is used: a short run is a whole run on one device, and ranks need not wait for each other.

    Raises:
        InputError: There are more ranks on this machine than GPUs it may use.
    """
    rank, ranks = int(os.environ.get('RANK', '0')), int(os.environ.get('WORLD_SIZE', '1'))
    if ranks == 1:
        return task
    local = int(os.environ.get('LOCAL_RANK', '0'))
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    devices = visible.split(',') if visible else None
    if devices and local >= len(devices):
        raise InputError(
            f'Local rank {local} has no GPU of its own (CUDA_VISIBLE_DEVICES={visible}): launch {len(devices)} ranks.'
        )
    os.environ['CUDA_VISIBLE_DEVICES'] = devices[local] if devices else str(local)
    for name in [name for name in os.environ if name in _LAUNCHER or name.startswith('TORCHELASTIC_')]:
        del os.environ[name]
    return Task(task.number * ranks + rank, task.count * ranks)
