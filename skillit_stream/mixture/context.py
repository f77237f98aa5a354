"""What a run knows when its policy is built."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.graph import SkillsGraph
from skillit_stream.mixture.sample_order import RankedSamples


@dataclass(frozen=True)
class RunContext:
    """What a run knows, as opposed to what a user sets. A policy is given the fields that its parameters name."""

    skills: Sequence[str]
    """Train skills, in the order of the streams."""
    eval_skills: Sequence[str] = ()
    """Skills that are evaluated."""
    graph: SkillsGraph | None = None
    """The skills graph, for the policies that have one."""
    sizes: Mapping[str, int] | None = None
    """Samples in each train stream."""
    rounds: int | None = None
    """Rounds the run will have, the last one perhaps a part; None: not known."""
    round_size: int | None = None
    """Samples of a round, all ranks together."""
    round_steps: int | None = None
    """Optimizer steps of a round."""
    run_steps: int | None = None
    """Optimizer steps of the whole run; None: not known."""
    sample_losses: Callable[[str], Mapping[str, RankedSamples]] | None = None
    """Finds the losses of the train streams' samples, by skill, by the name they were saved under."""

    def named(self, names: Collection[str]) -> dict[str, Any]:
        """The fields that are among `names`, with their values."""
        return {name: getattr(self, name) for name in CONTEXT if name in names}


T = TypeVar('T')
CONTEXT = tuple(field.name for field in fields(RunContext))


NO_GRAPH = (
    ': pass graph=FILE of one that is learned, or graph=identity, in which each skill helps itself alone'
)
"""Remedy of a policy that has no skills graph."""


def required(policy: str, what: str, value: T | None, remedy: str = '') -> T:
    """Return what a policy cannot do without.

    Raises:
        InputError: The run does not know it.
    """
    if value is None:
        raise InputError(f'policy {policy!r} needs {what}, but got none{remedy}')
    return value
