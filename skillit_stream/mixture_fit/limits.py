"""How much of each skill the real run can have: limits on passes, and where the pull leads."""

import math
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture_fit.groups import Groups
from skillit_stream.mixture_fit.options import FitOptions
from skillit_stream.mixture_fit.search import Bounds

Array = NDArray[np.float64]

PARTS = 10**6
"""Proportions come out as multiples of 1 / PARTS, so that they sum to 1 exactly and read well."""


def skill_limits(natural: Array | None, options: FitOptions, k: int) -> Array:
    """Upper limits of the proportions, ``[k]``, rounded down to what they come out as; 0 for a skill without data."""
    if natural is None:
        return np.ones(k)
    if options.max_passes is None:
        return np.where(natural > 0, 1.0, 0.0)
    return np.floor(np.minimum(_reachable(natural, options), 1.0) * PARTS) / PARTS


def _reachable(natural: Array, options: FitOptions) -> Array:
    """Proportion of the real run that `max_passes` of each skill are, ``[k]``; may be above 1."""
    if options.sizes is None or options.tokens is None or options.max_passes is None:
        raise RuntimeError('Internal error: limits on passes without sizes and tokens')
    return options.max_passes * natural * sum(options.sizes.values()) / options.tokens


def bounds_of(groups: Groups, natural: Array | None, per_skill: Array, options: FitOptions) -> Bounds:
    """Limits and pull of the groups.

    Args:
        groups: What is fitted.
        natural: Natural proportions, float64 ``[k]``, if they are known.
        per_skill: Limits of the skills, float64 ``[k]``.
        options: For the pull, and for what to say.

    Raises:
        InputError: If no mixture stays within the limits, or a kept skill has no data.
    """
    if natural is None:
        return Bounds(limits=groups.reduce_limits(per_skill), log_base=np.zeros(len(groups.names)), pull=0.0)
    if len(groups.names) < len(natural) and (groups.inside[-1][natural == 0] > 0).any():
        raise InputError(
            '--keep gives a proportion to a skill that has no tokens, so its ratio cannot be kept: name it in --changed'
        )
    limits = groups.reduce_limits(per_skill)
    if limits.sum() < 1.0 - 1e-12:
        _refuse_limits(float(groups.reduce_limits(_reachable(natural, options)).sum()), options)
    return Bounds(limits=limits, log_base=groups.log_base(natural), pull=options.effective_pull)


def _refuse_limits(filled: float, options: FitOptions) -> NoReturn:
    passes, tokens = options.max_passes or 0.0, options.tokens or 0
    # Rounded away from the limit: what is proposed must do.
    enough = math.ceil(100 * passes / filled + 0.01) / 100
    raise InputError(
        f'--max-passes {passes:g} fills {filled:.1%} of --tokens {tokens} at most: raise --max-passes to '
        f'{enough:g} or lower --tokens to {int(tokens * filled * (1 - 1e-4))}'
    )
