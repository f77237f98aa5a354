"""What one rank decides or does for all of them, over torch.distributed where it is on."""

import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch import distributed

from skillit_stream.base.errors import InputError

Value = TypeVar('Value')


def global_rank() -> int:
    """Number of this process in its job."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    return int(os.environ.get('RANK', '0'))


def from_rank_zero(value: Value) -> Value:
    """Rank 0's value on every rank; all of them call it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    values: list[Any] = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def on_rank_zero(action: Callable[[], None]) -> None:
    """Do something on rank 0 alone; an InputError there is raised on every rank, none of which may wait for it."""
    problem = None
    if global_rank() == 0:
        try:
            action()
        except InputError as error:
            problem = str(error)
    problem = from_rank_zero(problem)
    if problem:
        raise InputError(problem)


def on_every_rank(action: Callable[[], Value]) -> Value:
    """Do something on every rank; an InputError on any of them is raised on all, the lowest rank's."""
    problem, value = None, None
    try:
        value = action()
    except InputError as error:
        problem = str(error)
    problems = [problem]
    if distributed.is_available() and distributed.is_initialized():
        problems = [None] * distributed.get_world_size()
        distributed.all_gather_object(problems, problem)
    if first := next(filter(None, problems), None):
        raise InputError(first)
    return cast(Value, value)
