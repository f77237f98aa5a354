"""Work that comes in tasks: `--task i/n` on any scheduler, the ranks of a launcher, and `--ray` on a cluster.

Whatever can be cut into items (parts of a corpus, parts of streams to score, short runs) is done in one way: each
process takes its items, keeps what it has finished in a shared folder, and passes over what is there already.
"""

import argparse
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from skillit_stream.base.errors import InputError, first_line

_LAUNCHER = (
    'RANK',
    'WORLD_SIZE',
    'LOCAL_RANK',
    'LOCAL_WORLD_SIZE',
    'NODE_RANK',
    'MASTER_ADDR',
    'MASTER_PORT',
)
# How often an item is begun again whose node has died.
_RETRIES = 10
Item = TypeVar('Item')


@dataclass(frozen=True)
class Task:
    """Task `number` (from 0) of `count`."""

    number: int = 0
    count: int = 1

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Every count-th of the items, beginning at the number-th."""
        return list(items[self.number :: self.count])

    def split(self, number: int, count: int) -> 'Task':
        """Part `number` (from 0) of `count` of this task; all parts together have its items and no others."""
        return Task(self.number + number * self.count, self.count * count)


def parse_task(text: str) -> Task:
    """Read ``i/n``.

    Raises:
        InputError: It is no such task.
    """
    match = re.fullmatch(r'(\d+)/(\d+)', text)
    task = Task(int(match[1]), int(match[2])) if match else Task(1, 0)
    if task.number >= task.count:
        raise InputError(f'`--task` must be i/n with i from 0 to n - 1, e.g. 0/4, but got: {text!r}.')
    return task


def add_task_arguments(parser: Any, what: str, *, after: str = '') -> None:
    """Add `--task` and `--ray` to a parser or a group of one.

    Args:
        parser: Gets the options.
        what: The work: ``do share i (from 0) of n of WHAT``.
        after: What else the help of `--task` says.
    """
    parser.add_argument('--task', metavar='i/n', help=f'do share i (from 0) of n of {what}{after}')
    parser.add_argument(
        '--ray',
        nargs='?',
        const='auto',
        metavar='ADDRESS',
        help='do the work on a Ray cluster, whose machines see the same folders (local: start one here)',
    )


def task_of(args: argparse.Namespace) -> Task:
    """The task that `--task` names; all of the work without it.

    Raises:
        InputError: It cannot be read.
    """
    return parse_task(args.task) if args.task else Task()


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
    return task.split(rank, ranks)


class RayCluster:
    """Runs items on a Ray cluster whose machines see the same folders and have the package installed.

    An item whose node dies is run again elsewhere, so running one twice must do no harm.

    Args:
        ray: The package, connected.
        address: As on the command line, for messages.
    """

    def __init__(self, ray: Any, address: str) -> None:
        self._ray = ray
        self._address = address

    def run(
        self,
        work: Callable[[Item], None],
        items: Sequence[Item],
        done: Callable[[Item], None] = lambda _: None,
    ) -> None:
        """Call `work` on each item, as many at a time as the cluster has CPUs.

        Args:
            work: Can be pickled; an InputError that it raises stops all.
            items: Can be pickled.
            done: Called here for each item that is finished.

        Raises:
            InputError: `work` raised one, or nodes died again and again.
        """
        self._run(work, items, done, {'num_cpus': 1})

    def run_tasks(
        self, work: Callable[[Task], None], task: Task, items: int, say: Callable[[str], None]
    ) -> None:
        """Split a task over the GPUs of the cluster (over the CPUs if it has none) and call `work` on each part.

        Args:
            work: As in :meth:`run`; does what is missing of the items of a part.
            task: All of the work, or a share of it.
            items: How many items there are; no more parts are made.
            say: Called with a line for each part that is finished.
        """
        resources = self._ray.cluster_resources()
        kind = 'GPU' if resources.get('GPU', 0) >= 1 else 'CPU'
        count = max(1, min(int(resources.get(kind, 1)), items))
        parts = [task.split(number, count) for number in range(count)]
        say(f'Ray: {count} tasks, one a {kind}.')
        self._run(
            work,
            parts,
            lambda part: say(f'Task {part.number}/{part.count} is done.'),
            {'num_cpus': 1, 'num_gpus': int(kind == 'GPU')},
        )

    def _run(
        self,
        work: Callable[[Item], None],
        items: Sequence[Item],
        done: Callable[[Item], None],
        resources: dict[str, int],
    ) -> None:
        call = self._ray.remote(**resources, max_retries=_RETRIES, scheduling_strategy='SPREAD')(_call)
        where, shared = os.getcwd(), self._ray.put(work)
        pending = {call.remote(shared, item, where): item for item in items}
        try:
            while pending:
                [first, *_], _ = self._ray.wait(list(pending), num_returns=1)
                item = pending.pop(first)
                failure = self._ray.get(first)
                if failure is not None:
                    raise InputError(failure)
                done(item)
        except self._ray.exceptions.RayTaskError:
            raise  # a fault of ours in a process of the cluster
        except self._ray.exceptions.RayError as error:
            raise InputError(
                f'--ray {self._address}: processes of the cluster died again and again ({first_line(error)}); run the '
                'same command again to go on'
            ) from error
        finally:
            for reference in pending:
                self._ray.cancel(reference, force=True)


def _call(work: Callable[[Any], None], item: Any, where: str) -> str | None:
    """Run in a process of the cluster; the message of what is wrong with the input, if something is."""
    with suppress(OSError):  # paths of the command line may be relative to it
        os.chdir(where)
    try:
        work(item)
    except InputError as error:
        return str(error)
    return None


@contextmanager
def ray_cluster(address: str) -> Iterator[RayCluster]:
    """Connect to the cluster at an address, ``auto`` or ``local`` (one of this machine alone, for this command).

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ImportError:
        raise InputError('--ray: Ray is not installed; pip install "skillit-stream[ray]"') from None
    connect = partial(ray.init, log_to_driver=False, logging_level=logging.WARNING)
    was_connected = ray.is_initialized()
    try:
        if address == 'local':
            # Without an address Ray would join a cluster that somebody else has begun on this machine.
            connect('local', include_dashboard=False, ignore_reinit_error=True)
        else:
            _reach(address if address != 'auto' else os.environ.get('RAY_ADDRESS', ''))
            connect(address, ignore_reinit_error=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f'--ray {address}: cannot be reached ({first_line(error)}); name a running cluster, or local'
        ) from None
    try:
        yield RayCluster(ray, address)
    finally:
        if not was_connected:
            ray.shutdown()


def _reach(address: str) -> None:
    """Connect to ``host:port`` and hang up: where nobody listens, Ray would wait for minutes.

    Raises:
        OSError: Nobody listens there.
    """
    match = re.fullmatch(r'\[?([^/]+?)\]?:(\d+)', address)
    if match:
        socket.create_connection((match[1], int(match[2])), timeout=10).close()
