"""Policies by name: built in, registered in Python, or offered by an installed package."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError, first_line
from skillit_stream.base.names import nearest
from skillit_stream.mixture.bad_losses import ON_BAD_LOSS, ForgivingPolicy
from skillit_stream.mixture.checks import number_within, one_of, proportions_by_skill, whole_number
from skillit_stream.mixture.context import CONTEXT, RunContext, required
from skillit_stream.mixture.limits import LimitedPolicy, Limits
from skillit_stream.mixture.policy import MixturePolicy
from skillit_stream.mixture.waiting import WaitingPolicy

ENTRY_POINT_GROUP = 'skillit_stream.policies'

Builder = Callable[..., MixturePolicy]
BuilderT = TypeVar('BuilderT', bound=Builder)

# Options of every policy: what is done around it.
LIMITS = ('floor', 'ceiling', 'max_passes')
COMMON = (*LIMITS, 'token_weights', 'max_weight', 'on_bad_loss', 'start', 'before_start')
MAX_WEIGHT = 4.0
"""Of a token, where the options say no other."""

_BUILDERS: dict[str, Builder] = {}

# Of rooms above this one, which need more than NumPy: imported when they are asked for.
_ABOVE = {
    'forks': ('skillit_stream.forks.policy', 'Forks'),
    'regmix_d': ('skillit_stream.mixture_fit.regmix_d', 'build_regmix_d'),
}


def register(name: str) -> Callable[[BuilderT], BuilderT]:
    """Register a policy class, or a function that returns a policy, under `name`.

    Of the fields of `RunContext` (``skills``, ``sizes``, ``rounds`` and others) the builder is given those that
    its parameters name; its other parameters are options for the user to set::

        @register('tilt')
        class Tilt(MixturePolicy):
            def __init__(self, skills: Sequence[str], *, towards: str, by: float = 2.0): ...

    Two ways do without the decorator: an installed package names the class or function by an entry
    point in the group ``skillit_stream.policies``, and a YAML names it by its place, as
    ``path/to/file.py:Tilt`` or ``package.module:Tilt``.

    Raises:
        InputError: If another builder has the name.
    """

    def add(builder: BuilderT) -> BuilderT:
        if name in _ABOVE or _BUILDERS.setdefault(name, builder) is not builder:
            raise InputError(f'a policy named {name!r} is already registered; choose another name')
        return builder

    return add


def policy_names() -> tuple[str, ...]:
    """All names `build_policy` knows, sorted."""
    offered = (point.name for point in entry_points(group=ENTRY_POINT_GROUP))
    return tuple(sorted({*_BUILDERS, *_ABOVE, *offered}))


def build_policy(name: str, context: RunContext | None = None, **options: Any) -> MixturePolicy:
    """Build a policy by name::

        build_policy('skill_it', skills=['a', 'b'], eval_skills=['a', 'b'], graph=graph, eta=0.5)
        build_policy('skill_it', context, eta=0.5)

    Args:
        name: One of `policy_names`, ``path/to/file.py:Class`` or ``package.module:Class``.
        context: What the run knows. Without it, its fields are among the options.
        **options: The policy's own parameters, as in the YAML, and those that every policy has:
            `floor`, `ceiling` and `max_passes` (see `Limits.build`), `token_weights` and `max_weight`: whether tokens
            are weighed so that the limits change what is drawn alone, and by how much at most (see `LimitedPolicy`),
            `on_bad_loss`: 'error', 'keep' or 'last' (see `ForgivingPolicy`), `start`: the round that the policy begins
            with (see `WaitingPolicy`), and `before_start`: 'stratified', 'proportional' or a proportion by skill until
            then. A policy that has a parameter of one of these names gets it instead.

    Raises:
        InputError: If the name or an option is unknown, or one is missing or out of range.
    """
    if context is None:
        context = RunContext(**{key: options.pop(key) for key in CONTEXT if key in options})
    builder = _find(name)
    parameters = inspect.signature(builder).parameters
    common = {key: options.pop(key) for key in COMMON if key in options and key not in parameters}
    _check_options(name, parameters, options)
    start, before = _start(common, context)
    own = replace(context, rounds=context.rounds - start) if start and context.rounds else context
    policy = builder(**own.named(parameters), **options)
    if not isinstance(policy, MixturePolicy):
        raise InputError(f'policy {name!r} must be a MixturePolicy, but is a {type(policy).__name__}')
    return _wrapped(policy, common, context, start, before)


def options_of(name: str) -> frozenset[str] | None:
    """The options that a policy takes, the common ones, `graph`, `new_skills` and `groups` among them; None: any.

    Raises:
        InputError: There is no policy of this name.
    """
    parameters = inspect.signature(_find(name)).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return None
    own = {key for key in parameters if key not in CONTEXT}
    of_graph = {'graph', 'measure', 'new_skills'} if 'graph' in parameters else set()
    return frozenset(own | set(COMMON) | {'groups'} | of_graph)


def means_the_same(option: str, one: str, other: str) -> bool:
    """Whether an option of one policy is that of another: some have one of every policy's under that name themselves.

    Raises:
        InputError: There is no policy of one of these names.
    """
    own = [option in inspect.signature(_find(name)).parameters for name in (one, other)]
    return option not in COMMON or own[0] == own[1]


def takes_graph(name: str) -> bool:
    """Whether a policy takes a skills graph.

    Raises:
        InputError: There is no policy of this name.
    """
    return 'graph' in inspect.signature(_find(name)).parameters


def has_own_start(name: str) -> bool:
    """Whether `start` is an option of the policy itself, and not the one that every policy has.

    Raises:
        InputError: There is no policy of this name.
    """
    return 'start' in inspect.signature(_find(name)).parameters


def refuse_unknown(name: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse options that the policy does not have.

    Raises:
        InputError: Naming the option and the nearest known one.
    """
    for option in options:
        if option not in known:
            raise InputError(f'policy {name!r} has no option {option!r}; {nearest(option, known)}')


def _check_options(
    name: str, parameters: Mapping[str, inspect.Parameter], options: Mapping[str, Any]
) -> None:
    """Refuse options that the builder does not have, and ones that are missing."""
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        refuse_unknown(name, options, [key for key in parameters if key not in CONTEXT])
    for key, parameter in parameters.items():
        needed = parameter.default is inspect.Parameter.empty and parameter.kind in (
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
        )
        if needed and key not in (*options, *CONTEXT):
            raise InputError(f'policy {name!r} needs the option {key!r}')


def _start(common: dict[str, Any], context: RunContext) -> tuple[int, Any]:
    """The round that the policy begins with, and what is mixed before it; taken out of the common options."""
    if 'before_start' in common and 'start' not in common:
        raise InputError(
            "'before_start' is the mixture until 'start': give the round that the policy begins with"
        )
    start, before = whole_number('start', common.pop('start', 0)), common.pop('before_start', 'stratified')
    if context.rounds is not None and start >= context.rounds:
        raise InputError(f'start must be a round of the run, which has {context.rounds}, but got: {start}')
    return start, before


def _mixture_before(
    before: Any, skills: Sequence[str], sizes: Mapping[str, int] | None
) -> NDArray[np.float64]:
    if isinstance(before, Mapping):
        return proportions_by_skill('before_start', before, skills)
    one_of('before_start', before, ('stratified', 'proportional'))
    if before == 'stratified':
        return np.full(len(skills), 1 / len(skills))
    known = required('before_start=proportional', 'the sizes of the streams', sizes)
    return proportions_by_skill('sizes', known, skills, any_sum=True)


def _wrapped(
    policy: MixturePolicy, common: dict[str, Any], context: RunContext, start: int, before: Any
) -> MixturePolicy:
    """Put around a policy what the common options ask for; none of them leave it as it is."""
    max_weight = _max_weight(common)
    on_bad_loss = common.pop('on_bad_loss', 'error')
    one_of('on_bad_loss', on_bad_loss, ON_BAD_LOSS)
    if on_bad_loss != 'error':
        policy = ForgivingPolicy(policy, on_bad_loss)
    if start:
        policy = WaitingPolicy(policy, start, _mixture_before(before, policy.skills, context.sizes))
    if not common:
        return policy
    if policy.needs_branches:
        raise InputError(
            f'policy {policy.name!r} takes a mixture as its branches have confirmed it: leave out '
            f'{", ".join(common)}, which would change it'
        )
    known = context.named(('sizes', 'rounds', 'round_size'))
    return LimitedPolicy(policy, Limits.build(policy.skills, **common, **known), max_weight=max_weight)


def _max_weight(common: dict[str, Any]) -> float | None:
    """The largest weight of a token, None where none are weighed; taken out of the common options."""
    weighs, largest = common.pop('token_weights', False), common.pop('max_weight', None)
    one_of('token_weights', weighs, (False, True))
    if not weighs:
        if largest is not None:
            raise InputError(
                'max_weight is the largest of token_weights: add token_weights=true, or leave it out'
            )
        return None
    if not set(LIMITS) & set(common):
        raise InputError(
            f'token_weights make up for what limits change: give {", ".join(LIMITS)} or several of them, or leave them '
            'out'
        )
    # At 1 nothing would be weighed.
    return number_within('max_weight', MAX_WEIGHT if largest is None else largest, low=1.01)


def _find(name: str) -> Builder:
    if name in _BUILDERS:
        return _BUILDERS[name]
    if name in _ABOVE:
        module, attribute = _ABOVE[name]
        return getattr(importlib.import_module(module), attribute)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            return point.load()
    place, colon, attribute = str(name).rpartition(':')
    if colon and place and attribute:
        return _load(name, place, attribute)
    raise InputError(f'unknown policy {name!r}; {nearest(str(name), policy_names())}')


def _load(name: str, place: str, attribute: str) -> Builder:
    """Import a class or function from a file or a module."""
    try:
        module = _module_of_file(Path(place)) if place.endswith('.py') else importlib.import_module(place)
    except InputError:
        raise
    except Exception as error:  # whatever the user's own code raises
        raise InputError(
            f'policy {name!r}: {place} cannot be imported: {type(error).__name__}: {first_line(error)}'
        ) from error
    builder = getattr(module, attribute, None)
    if not callable(builder):
        offered = [key for key, value in vars(module).items() if callable(value) and not key.startswith('_')]
        raise InputError(
            f'policy {name!r}: {place} has no class {attribute!r}; {nearest(attribute, offered)}'
        )
    return cast(Builder, builder)


def _module_of_file(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f'no such file: {path}; a policy of your own is path/to/file.py:Class')
    module_name = f'skillit_stream_policy_{path.stem}'
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise InputError(f'{path} cannot be imported as a Python file')
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look a class's module up by name.
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module
