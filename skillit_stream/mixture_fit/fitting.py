"""From a table of runs to a mixture, and what a user must know about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import nearest
from skillit_stream.mixture.apportion import largest_remainder
from skillit_stream.mixture.checks import proportions_by_skill, weights_by_skill
from skillit_stream.mixture_fit.groups import Groups, every_skill, kept_as_one
from skillit_stream.mixture_fit.laws import LAWS, Exponential, Fitted, Law, check_distinct, predict_target
from skillit_stream.mixture_fit.limits import PARTS, bounds_of, skill_limits
from skillit_stream.mixture_fit.options import FitOptions
from skillit_stream.mixture_fit.quality import (
    TARGET,
    Quality,
    compare_all,
    fold_of_runs,
    held_out_predictions,
    quality_of_target,
)
from skillit_stream.mixture_fit.search import (
    TOLERANCE,
    Bounds,
    convex_mixture,
    distance_to_runs,
    refined_mixture,
    simulated_mixture,
)
from skillit_stream.mixture_fit.tables import RunTable

Array = NDArray[np.float64]

OUTSIDE = 0.02
"""A mixture this far from every blend of the runs (total variation) is called an extrapolation."""

MAX_SPREAD = 0.01
"""Runs whose kept skills differ by more than this from the kept ratio are warned of."""


class BestRun(NamedTuple):
    """The run with the lowest target."""

    name: str
    target: float
    """As measured."""
    within_limits: bool
    """Whether the real run could have its mixture."""


@dataclass(frozen=True, kw_only=True)
class MixtureFit:
    """A mixture and the grounds for it. Arrays are float64 ``[k]``, in the order of `skills`."""

    law: str
    runs: int
    pull: float
    skills: tuple[str, ...]
    mixture: Array
    """Multiples of 0.000001 that sum to 1."""
    natural: Array | None
    passes: Array | None
    """How often the real run walks each skill; None without `tokens`."""
    at_limit: NDArray[np.bool_]
    """Whether the limit on passes holds a proportion back."""
    target: Mapping[str, float]
    """Weight of each metric in the target; they sum to 1."""
    predicted: Mapping[str, float]
    """Target as predicted for the `mixture` and, where it is known, the `natural` one."""
    best_run: BestRun
    quality: Mapping[str, Quality]
    """Held-out predictions by metric; `TARGET` last where there are several."""
    parameters: Mapping[str, Mapping[str, Any]]
    """The law's parameters by metric."""
    groups: tuple[str, ...]
    """What the parameters belong to: the skills, or the changed ones and the kept rest."""
    warnings: tuple[str, ...]


def fit_mixture(table: RunTable, options: FitOptions) -> MixtureFit:
    """Fit a law to the runs, find its mixture, and cross-validate it.

    Raises:
        InputError: If options and table do not fit together, or no mixture stays within the limits.
    """
    law = LAWS[options.law]
    groups, warnings = _groups(table, options)
    natural = _natural(table, options)
    limits = skill_limits(natural, options, len(table.skills))
    names, weights, values = _targets(table, options)
    mixtures = groups.reduce(table.proportions)
    check_distinct(law, mixtures)
    fits = [_fit(law, name, mixtures, values[:, i]) for i, name in enumerate(names)]
    measured = values @ weights
    spread = max(float(measured.std()), 1e-9 * float(np.abs(measured).max()))
    bounds = bounds_of(groups, natural, limits, options)
    found, gap = _search(fits, weights, bounds, options=options, spread=spread)
    mixture = largest_remainder(groups.expand(found / found.sum()), PARTS) / PARTS
    fold = fold_of_runs(len(mixtures), min(options.folds, len(mixtures)), options.seed)
    quality = compare_all(names, weights, values, held_out_predictions(law.fit, mixtures, values, fold))
    warnings += _about_fit(quality)
    warnings += _about_mixture(found, mixtures, gap)
    compared = {'mixture': mixture} if natural is None else {'mixture': mixture, 'natural': natural}
    predicted = predict_target(fits, weights, groups.reduce(np.array(list(compared.values()))))
    return MixtureFit(
        law=options.law,
        runs=len(mixtures),
        pull=options.effective_pull,
        skills=table.skills,
        mixture=mixture,
        natural=natural,
        passes=_passes(mixture, table, options),
        at_limit=(limits - mixture < 1.5 / PARTS) & (limits > 0) & (limits < 1),
        target=dict(zip(names, weights.tolist(), strict=True)),
        predicted=dict(zip(compared, predicted.tolist(), strict=True)),
        best_run=_best_run(table, measured, limits),
        quality=quality,
        parameters={name: fitted.parameters() for name, fitted in zip(names, fits, strict=True)},
        groups=groups.names,
        warnings=(*table.warnings, *warnings),
    )


def _best_run(table: RunTable, measured: Array, limits: Array) -> BestRun:
    best = int(measured.argmin())
    within = bool((table.proportions[best] <= limits + 1.0 / PARTS).all())
    return BestRun(name=table.runs[best], target=float(measured[best]), within_limits=within)


def _groups(table: RunTable, options: FitOptions) -> tuple[Groups, list[str]]:
    if options.keep is None:
        return every_skill(table.skills), []
    groups = kept_as_one(table.skills, options.keep, options.changed)
    warnings = []
    gone = [name for name in options.keep if name not in table.skills]
    if gone:
        warnings.append(
            f'--keep has proportions of {", ".join(gone)}, which the runs do not have; they are left out'
        )
    spread = groups.spread(table.proportions)
    if spread > MAX_SPREAD:
        warnings.append(
            f'the runs mix the kept skills in other ratios than --keep (proportions differ by up to {spread:.2f}); '
            'the law sees their total alone'
        )
    return groups, warnings


def _natural(table: RunTable, options: FitOptions) -> Array | None:
    if options.sizes is None:
        return None
    what = 'the tokens of --natural or --streams'
    return proportions_by_skill(what, options.sizes, table.skills, any_sum=True)


def _targets(table: RunTable, options: FitOptions) -> tuple[tuple[str, ...], Array, Array]:
    """Names of the metrics that count, their weights ``[m]`` and their values ``[n, m]``."""
    target = options.target
    if isinstance(target, str) and target in table.metrics:
        target = {name: float(name == target) for name in table.metrics}
    elif target == 'mean':
        target = dict.fromkeys(table.metrics, 1.0)
    if isinstance(target, str):
        raise InputError(
            f'--target must be mean, a metric or a .json file of weights, but got: {target!r}; '
            f'{nearest(target, table.metrics)}'
        )
    weights = weights_by_skill('the weights of --target', target, table.metrics)
    counted = np.flatnonzero(weights)
    for column in counted:
        if np.ptp(table.values[:, column]) == 0:
            raise InputError(
                f'metric {table.metrics[column]!r} is the same in all runs, so nothing can be fitted to it; '
                'drop the column, or give it weight 0 in --target'
            )
    names = tuple(table.metrics[column] for column in counted)
    return names, weights[counted] / weights.sum(), table.values[:, counted]


def _fit(law: Law, name: str, mixtures: Array, values: Array) -> Fitted:
    try:
        return law.fit(mixtures, values)
    except InputError as error:
        raise InputError(f'metric {name!r}: {error}') from None


def _search(
    fits: Sequence[Fitted], weights: Array, bounds: Bounds, *, options: FitOptions, spread: float
) -> tuple[Array, float]:
    """The mixture of groups, and how far above the minimum it may be, in units of `spread`."""
    if options.effective_search == 'regmix':
        return simulated_mixture(fits, weights, bounds, options.seed), 0.0
    if options.effective_search == 'simulation':
        return refined_mixture(fits, weights, bounds, options.seed), 0.0
    mixture, gap = convex_mixture(cast(Sequence[Exponential], fits), weights, bounds, TOLERANCE * spread)
    return mixture, gap / spread


def _passes(mixture: Array, table: RunTable, options: FitOptions) -> Array | None:
    if options.tokens is None or options.sizes is None:
        return None
    sizes = weights_by_skill('the tokens of --natural or --streams', options.sizes, table.skills)
    return np.where(mixture > 0, mixture * options.tokens / np.maximum(sizes, 1e-300), 0.0)


def _about_fit(quality: Mapping[str, Quality]) -> list[str]:
    warnings = []
    bad = [name for name, one in quality.items() if one.r2 <= 0 and name != TARGET]
    main = quality_of_target(quality)
    if main.r2 <= 0:
        warnings.append(
            f'the fit predicts held-out runs no better than their mean does (R2 {main.r2:.2f}): do not trust '
            'this mixture; train more runs, over more different mixtures'
        )
    elif bad:
        warnings.append(f'for {_listed(bad)} the fit predicts held-out runs no better than their mean does')
    return warnings


def _about_mixture(mixture: Array, runs: Array, gap: float) -> list[str]:
    warnings = []
    if gap > 100 * TOLERANCE:
        warnings.append(
            f'the search was stopped with a prediction up to {gap:.2g} standard deviations of the runs above the lowest'
        )
    away = distance_to_runs(mixture, runs)
    if away > OUTSIDE:
        warnings.append(
            f'the mixture lies outside of what the runs span: {away:.0%} of it is in no blend of them, so the '
            'prediction is an extrapolation; try it in a small run first, or raise --pull'
        )
    return warnings


def _listed(names: Sequence[str]) -> str:
    most = 5
    rest = len(names) - most
    return ', '.join(names[:most]) + (f' and {rest} more' if rest > 0 else '')
