"""Options for a class or function of another package, checked against its signature.

What a YAML gives is passed on as it is. Few packages look at it: a text where a number belongs fails steps later, and
a list where `true` belongs passes for it.
"""

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import nearest

_LISTS = (list, tuple, Sequence, Iterable)
_MAPPINGS = (dict, Mapping)
_NAMES: dict[Any, str] = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number',
    str: 'text',
    NoneType: 'null',
    **dict.fromkeys(_LISTS, 'a list'),
    **dict.fromkeys(_MAPPINGS, 'a mapping'),
}


def check_options(
    where: str, build: Callable[..., Any], options: Any, *, without: Sequence[str] = ()
) -> None:
    """Refuse options that a class or function does not have, lacks, or has of another type.

    Args:
        where: The key that they stand under.
        build: The class or function.
        options: By name.
        without: Parameters that the caller gives.

    Raises:
        InputError: Naming the option.
    """
    if not isinstance(options, Mapping):
        raise InputError(f'`{where}` must be a mapping of options, but got: {options!r}.')
    parameters = {
        name: one for name, one in inspect.signature(build).parameters.items() if name not in without
    }
    any_name = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    named = {name: one for name, one in parameters.items() if one.kind not in _VARIADIC}
    for name in options:
        if name not in named and not any_name:
            raise InputError(f'`{where}` has no option {name!r}: {nearest(str(name), list(named))}')
    hints = _annotations(build)
    for name, one in named.items():
        if name not in options:
            if one.default is inspect.Parameter.empty:
                raise InputError(f'`{where}.{name}` must be given: add it.')
        elif not fits(hint := hints.get(name, Any), options[name]):
            raise InputError(f'`{where}.{name}` must be {describe(hint)}, but got: {options[name]!r}.')


_VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


@cache
def _annotations(build: Callable[..., Any]) -> dict[str, Any]:
    """By parameter; none where they name what is imported for type checkers alone."""
    try:
        return get_type_hints(build.__init__ if isinstance(build, type) else build)
    except NameError:
        return {}


def fits(annotation: Any, value: Any) -> bool:
    """Whether a value from a YAML is of the type of an annotation; what no YAML can say is taken as it is."""
    verdict = _fits(annotation, value)
    return verdict is None or verdict


def _fits(annotation: Any, value: Any) -> bool | None:
    """None: the annotation says nothing about what a YAML holds."""
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return True
        verdicts = [_fits(one, value) for one in arguments if one is not NoneType]
        return True in verdicts or (False if False in verdicts else None)
    if origin is Literal:
        return value in arguments
    if origin in _MAPPINGS:
        inner = arguments[1] if len(arguments) > 1 else Any
        return isinstance(value, Mapping) and all(fits(inner, one) for one in value.values())
    if origin in _LISTS:
        return isinstance(value, list | tuple) and _each_fits(origin, arguments, value)
    return _is_plain(origin, value)


def _is_plain(kind: Any, value: Any) -> bool | None:
    """Whether a value is a number, a text, true, false or null of that kind; None: the kind is none of these."""
    if kind in (int, float):
        return isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
    if kind in (bool, str, NoneType):
        return isinstance(value, kind)
    if kind in (Path, os.PathLike):
        return isinstance(value, str)
    return None


def _each_fits(origin: Any, arguments: tuple[Any, ...], value: Sequence[Any]) -> bool:
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return len(value) == len(arguments) and all(map(fits, arguments, value))
    inner = arguments[0] if arguments else Any
    return all(fits(inner, one) for one in value)


def describe(annotation: Any) -> str:
    """The types of an annotation that a YAML can say, in words."""
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, UnionType):
        names = [describe(one) for one in arguments if _fits(one, object()) is not None]
        return ' or '.join(dict.fromkeys(names))
    if origin is Literal:
        return f'one of {", ".join(map(str, arguments))}'
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return f'a list of {len(arguments)}'
    return _NAMES.get(origin, 'text')
