"""Which rank of its job a process is: what the process group says, and what the environment says, as one answer.

Streaming asks the environment alone (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``LOCAL_WORLD_SIZE``). Where a launcher
sets up a process group and leaves the environment as it is, every process would take itself for rank 0. Here the group
is asked first, a group and an environment that contradict each other are refused, and Streaming gets the answer
without a change of the environment.
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import streaming.base.distributed as streaming_distributed
from torch import distributed as dist

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.loader.host.processes import wait_for_threads

_RANK, _RANKS, _LOCAL_RANK, _LOCAL_RANKS = 'RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE'
# What Streaming takes where nobody says anything.
_ALONE = {_RANK: 0, _RANKS: 1, _LOCAL_RANK: 0, _LOCAL_RANKS: 1}
# What the last dataset found, for Streaming's functions where the environment is silent.
_found: dict[str, int] = dict(_ALONE)


class JobRank(NamedTuple):
    """A process among those of its job."""

    rank: int
    ranks: int
    local_ranks: int = 1
    """Ranks on each machine."""


class _Report(NamedTuple):
    """What a rank tells the others of itself."""

    problem: str | None
    machine: tuple[str, ...]
    local_rank: int | None = None
    local_ranks: int | None = None
    """What its environment says of both."""


def known_rank() -> JobRank | None:
    """Rank and ranks of this process, as far as its process group or else its environment says; None if neither does.

    A process that was forked from a rank knows its group too.
    """
    if _has_group():
        return JobRank(dist.get_rank(), dist.get_world_size())
    if _RANK in os.environ and _RANKS in os.environ:
        return JobRank(_number_in_environment(_RANK) or 0, _number_in_environment(_RANKS) or 1)
    return None


@contextmanager
def as_rank_of_its_job() -> Iterator[JobRank]:
    """Within this context the ranks of a job have a process group, and Streaming knows which this process is.

    Every rank enters it at once. Afterwards Streaming's own functions still give the same answer, for its DataLoader
    counts the samples of all ranks by it.

    Raises:
        InputError: On all ranks: environment and process group contradict each other on one, or say too little.
    """
    made_group = _make_group()
    try:
        found = _find()
        answers = (found.rank, found.ranks, found.rank % found.local_ranks, found.local_ranks)
        _found.update(zip(_ALONE, answers, strict=True))
        _have_streaming_ask()
        yield found
    finally:
        if made_group:
            # Torch holds Python's lock while it ends the group's threads, and waits for ever for one that has yet to
            # let go of a tensor.
            wait_for_threads()
            dist.destroy_process_group()


def _find() -> JobRank:
    """Which rank this process is; every rank calls it, and an error of one is raised on all of them."""
    rank, ranks, own = 0, 1, _Report(None, machine())
    try:
        said = {name: _number_in_environment(name) for name in _ALONE}
        rank, ranks = _rank_and_ranks(said)
        own = own._replace(local_ranks=said[_LOCAL_RANKS], local_rank=said[_LOCAL_RANK])
    except InputError as error:
        own = own._replace(problem=str(error))
    reports = [own]
    if _has_group() and dist.get_world_size() > 1:
        reports = reports * dist.get_world_size()
        dist.all_gather_object(reports, own)
    problem = next((report.problem for report in reports if report.problem), None)
    if problem:
        raise InputError(problem)
    return JobRank(rank, ranks, _local_ranks(reports))


def _make_group() -> bool:
    """Have a job that its environment describes make its process group; whether one was made here."""
    if not dist.is_available() or dist.is_initialized() or (_number_in_environment(_RANKS) or 1) == 1:
        return False
    if _number_in_environment(_RANK) is None:
        raise InputError(_too_little(_RANKS, _RANK))
    with as_input_error('The process group of the ranks could not be made'):
        return streaming_distributed.maybe_init_dist()


def _rank_and_ranks(said: Mapping[str, int | None]) -> tuple[int, int]:
    """Rank and ranks by the group, or by the environment if there is none."""
    rank, ranks = said[_RANK], said[_RANKS]
    if _has_group():
        for name, told, group in ((_RANK, rank, dist.get_rank()), (_RANKS, ranks, dist.get_world_size())):
            if told is not None and told != group:
                raise InputError(
                    f'{name} is {told} in the environment, but {group} by the process group, of rank '
                    f'{dist.get_rank()} of {dist.get_world_size()}: correct {name}, or take it out of the environment.'
                )
        return dist.get_rank(), dist.get_world_size()
    if rank is not None and ranks is None and rank > 0:
        raise InputError(_too_little(_RANK, _RANKS))
    rank, ranks = rank or 0, ranks or 1
    if not 0 <= rank < ranks:
        raise InputError(f'{_RANK} must be at least 0 and below {_RANKS}={ranks}, but got: {rank}.')
    return rank, ranks


def _local_ranks(reports: Sequence[_Report]) -> int:
    """Ranks on each machine: as the environment of every rank says, or by the machines that they are on."""
    said = {report.local_ranks for report in reports}
    local = (
        _ranks_by_machine([report.machine for report in reports]) if None in said else max(filter(None, said))
    )
    if None not in said and (len(said) > 1 or len(reports) % local):
        raise InputError(
            f'{_LOCAL_RANKS} must be the same on all ranks and divide {_RANKS}={len(reports)}, but got: '
            f'{", ".join(sorted(map(str, said)))}.'
        )
    for rank, report in enumerate(reports):
        _check_local_rank(rank, report.local_rank, local)
    return local


def _ranks_by_machine(machines: Sequence[tuple[str, ...]]) -> int:
    """Ranks on each machine, given the machine of every rank."""
    local = machines.count(machines[0])
    if list(machines) != [machines[rank // local * local] for rank in range(len(machines))] or len(
        set(machines)
    ) * local != len(machines):
        raise InputError(
            f'{_LOCAL_RANKS} is not in the environment of all ranks, and cannot be told from the machines that they '
            f'are on ({", ".join(name for name, *_ in machines[:8])}): every machine must have as many ranks, one '
            f'machine after another. Set it, or start the ranks with torchrun.'
        )
    return local


def _check_local_rank(rank: int, said: int | None, local_ranks: int) -> None:
    """Refuse a LOCAL_RANK that is not the one by which Streaming finds the ranks of a machine; raises InputError."""
    if said not in (None, rank % local_ranks):
        raise InputError(
            f'{_LOCAL_RANK} is {said} in the environment of rank {rank}, but must be {rank % local_ranks} with '
            f'{local_ranks} ranks on each machine: number the ranks one machine after another, and set {_RANK}, '
            f'{_RANKS} and {_LOCAL_RANKS} too, or start the ranks with torchrun.'
        )


def machine() -> tuple[str, ...]:
    """What processes have in common that share memory: name, boot and /dev/shm of their machine."""
    boot, shared_memory = Path('/proc/sys/kernel/random/boot_id'), Path('/dev/shm')
    return (
        socket.gethostname(),
        boot.read_text().strip() if boot.is_file() else '',
        str(shared_memory.stat().st_dev) if shared_memory.is_dir() else '',
    )


def _has_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def _number_in_environment(name: str) -> int | None:
    """A number that the environment holds, None if it has none of that name."""
    value = os.environ.get(name)
    if value is None:
        return None
    if not value.strip().isdigit() or (name in (_RANKS, _LOCAL_RANKS) and int(value) < 1):
        raise InputError(f'{name} in the environment must be a whole number of ranks, but got: {value!r}.')
    return int(value)


def _too_little(there: str, missing: str) -> str:
    return (
        f'{there} is {os.environ[there]} in the environment, but {missing} is missing and there is no process group: '
        f'set it, start the ranks with torchrun, or make the dataset after torch.distributed.init_process_group.'
    )


def _have_streaming_ask() -> None:
    """Have Streaming's functions fall back on what was found; its World and its DataLoader look them up there."""
    for function, name in (
        ('get_rank', _RANK),
        ('get_world_size', _RANKS),
        ('get_local_rank', _LOCAL_RANK),
        ('get_local_world_size', _LOCAL_RANKS),
    ):
        setattr(streaming_distributed, function, _asking(name))


def _asking(name: str) -> Callable[[], int]:
    return lambda: int(os.environ.get(name, _found[name]))
