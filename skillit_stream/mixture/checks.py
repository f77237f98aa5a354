"""What every part of the mixture layer asks of its input, with errors that name the remedy."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import nearest

SUM_TOLERANCE = 1e-6
"""How far proportions that a person typed may sum from 1 (0.333 + 0.333 + 0.333 is an error)."""


def whole_number(what: str, value: object, at_least: int = 0) -> int:
    """Return `value` as an int.

    Raises:
        InputError: If it is no whole number or smaller than `at_least`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < at_least:
        raise InputError(f'{what} must be a whole number, {at_least} or more, but got: {value!r}')
    return int(value)


def number_within(what: str, value: object, low: float = 0.0, high: float = math.inf) -> float:
    """Return `value` as a float.

    Raises:
        InputError: If it is no finite number from `low` to `high`.
    """
    if isinstance(value, int | float | np.floating | np.integer) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and low <= number <= high:
            return number
    upto = 'or more' if high == math.inf else f'to {high:g}'
    raise InputError(f'{what} must be a finite number, {low:g} {upto}, but got: {value!r}')


def one_of(what: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is none of `choices`.

    Raises:
        InputError: Naming the choices.
    """
    # By type too: True == 1, but `lag=True` is a slip.
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise InputError(f'{what} must be one of {", ".join(map(repr, choices))}, but got: {value!r}')


def weights_by_skill(what: str, weights: Mapping[str, float], skills: Sequence[str]) -> NDArray[np.float64]:
    """Put a mapping of non-negative weights into the order of `skills`.

    Returns:
        Weights as given, float64 ``[k]``.

    Raises:
        InputError: If a skill is missing or unknown, a weight is negative or not finite, or all are 0.
    """
    if not isinstance(weights, Mapping):
        raise InputError(f'{what} must map each skill to a number, but got: {weights!r}')
    for name in weights:
        if name not in skills:
            raise InputError(f'{what} names the unknown skill {name!r}; {nearest(str(name), skills)}')
    missing = [name for name in skills if name not in weights]
    if missing:
        raise InputError(
            f'{what} must name every skill (0 to leave one out), but lacks: {", ".join(missing)}'
        )
    for name, value in weights.items():
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise InputError(f'{what} must be finite and not negative, but got: {value!r} for {name!r}')
    result = np.array([weights[name] for name in skills], dtype=np.float64)
    if not result.sum() > 0:
        raise InputError(f'{what} must leave at least one skill above 0, but all are 0')
    return result


def proportions_by_skill(
    what: str, values: Mapping[str, float], skills: Sequence[str], *, any_sum: bool = False
) -> NDArray[np.float64]:
    """Put a mapping of proportions into the order of `skills` and divide by their sum.

    Args:
        what: What to call them in errors.
        values: By skill.
        skills: All skills, k of them.
        any_sum: They are weights, such as sizes or 1:2:1; else only what rounding left over is divided out.

    Returns:
        Proportions, float64 ``[k]``, summing to 1.

    Raises:
        InputError: As `weights_by_skill`, and if proportions do not sum to 1 within 1e-6.
    """
    result = weights_by_skill(what, values, skills)
    total = float(result.sum())
    if not any_sum and abs(total - 1.0) > SUM_TOLERANCE:
        raise InputError(f'{what} must sum to 1, but got: {total:.9g}; divide each by their sum')
    return result / total


def proportions_or_even(
    what: str, values: Mapping[str, float] | None, skills: Sequence[str]
) -> NDArray[np.float64]:
    """As `proportions_by_skill`; without any, the same for every skill."""
    if values is None:
        return np.full(len(skills), 1.0 / len(skills))
    return proportions_by_skill(what, values, skills)


def proportions_of_data(
    what: str, values: Mapping[str, float] | None, sizes: Mapping[str, int] | None, skills: Sequence[str]
) -> NDArray[np.float64]:
    """As `proportions_by_skill`; without any, by the sizes of the skills or, where none are known, all the same."""
    if values is not None or sizes is None:
        return proportions_or_even(what, values, skills)
    return proportions_by_skill('sizes', {name: sizes.get(name, 0) for name in skills}, skills, any_sum=True)
