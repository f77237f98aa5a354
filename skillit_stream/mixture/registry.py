"""Policies by name: built in, registered in Python, or offered by an installed package."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, TypeVar

from skillit_stream.errors import InputError
from skillit_stream.mixture.checks import nearest
from skillit_stream.mixture.graph import SkillsGraph
from skillit_stream.mixture.policy import MixturePolicy

ENTRY_POINT_GROUP = 'skillit_stream.policies'

Builder = Callable[..., MixturePolicy]
BuilderT = TypeVar('BuilderT', bound=Builder)

# What the run knows, as opposed to what a user sets.
CONTEXT = ('skills', 'eval_skills', 'graph', 'sizes')

_BUILDERS: dict[str, Builder] = {}


def register(name: str) -> Callable[[BuilderT], BuilderT]:
    """Register a policy class, or a function that returns a policy, under `name`.

    Of the run's context (`skills`, `eval_skills`, `graph`, `sizes`) the builder is given what its
    parameters name; its other parameters are options for the user to set::

        @register('tilt')
        class Tilt(MixturePolicy):
            def __init__(self, skills: Sequence[str], *, towards: str, by: float = 2.0): ...

    An installed package can do without the decorator: an entry point in the group
    ``skillit_stream.policies`` names the class or function.

    Raises:
        InputError: If another builder has the name.
    """

    def add(builder: BuilderT) -> BuilderT:
        if _BUILDERS.setdefault(name, builder) is not builder:
            raise InputError(f'a policy named {name!r} is already registered; choose another name')
        return builder

    return add


def policy_names() -> tuple[str, ...]:
    """All names `build_policy` knows, sorted."""
    offered = (point.name for point in entry_points(group=ENTRY_POINT_GROUP))
    return tuple(sorted({*_BUILDERS, *offered}))


def build_policy(
    name: str,
    *,
    skills: Sequence[str],
    eval_skills: Sequence[str] = (),
    graph: SkillsGraph | None = None,
    sizes: Mapping[str, int] | None = None,
    **options: Any,
) -> MixturePolicy:
    """Build a policy by name.

    Args:
        name: One of `policy_names`.
        skills: Train skills, in the order of the streams.
        eval_skills: Skills that are evaluated.
        graph: The skills graph, for the policies that have one.
        sizes: Samples in each train stream.
        **options: The policy's own parameters, as in the YAML.

    Raises:
        InputError: If the name or an option is unknown, or one is missing or out of range.
    """
    builder = _find(name)
    context = {'skills': skills, 'eval_skills': eval_skills, 'graph': graph, 'sizes': sizes}
    parameters = inspect.signature(builder).parameters
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    if not open_ended:
        refuse_unknown(name, options, [key for key in parameters if key not in CONTEXT])
    missing = [
        key
        for key, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        and key not in (*options, *CONTEXT)
    ]
    if missing:
        raise InputError(f'policy {name!r} needs the option {missing[0]!r}')
    return builder(**{key: context[key] for key in CONTEXT if key in parameters}, **options)


def refuse_unknown(name: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse options that the policy does not have.

    Raises:
        InputError: Naming the option and the nearest known one.
    """
    for option in options:
        if option not in known:
            raise InputError(f'policy {name!r} has no option {option!r}; {nearest(option, known)}')


def _find(name: str) -> Builder:
    if name in _BUILDERS:
        return _BUILDERS[name]
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            return point.load()
    raise InputError(f'unknown policy {name!r}; {nearest(str(name), policy_names())}')
