"""From fitted laws to the mixture with the lowest predicted target."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.simplex import log
from skillit_stream.mixture_fit.laws import Exponential, Fitted, predict_target
from skillit_stream.mixture_fit.simplex import SMALLEST, Problem, entropy_term, limited, minimise

Array = NDArray[np.float64]

TOLERANCE = 1e-5
"""How near to the minimum the convex search comes, in standard deviations of the runs' target."""

SUM_WEIGHT = 10.0

SIMULATED = 100_000
AVERAGED = 128

STEPS = 10
CONCENTRATIONS = (1.0, 100.0)
NEAR_BEST = 1e-3
LEAST = 1e-5


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Where the mixture may lie and where it is drawn to; arrays are float64 ``[g]``."""

    limits: Array
    log_base: Array
    """log m of the pull's Σ p log(p / m), also the centre of simulated mixtures."""
    pull: float


def convex_mixture(
    fits: Sequence[Exponential], weights: Array, bounds: Bounds, tolerance: float
) -> tuple[Array, float]:
    """The minimum of Σᵢ wᵢ Lᵢ(p) + λ KL(p ‖ natural) with pⱼ ≤ limitⱼ, as Olmix's exact proposer poses it.

    Returns:
        The mixture, float64 ``[g]``, and how far its value is from the minimum at most.
    """

    def value(mixture: Array) -> float:
        return float(predict_target(fits, weights, mixture[None])[0])

    def gradient(mixture: Array) -> Array:
        return weights @ np.array([fitted.gradient(mixture) for fitted in fits])

    problem = Problem(
        value=value, gradient=gradient, limits=bounds.limits, log_base=bounds.log_base, pull=bounds.pull
    )
    return minimise(problem, tolerance=tolerance)


def simulated_mixture(fits: Sequence[Fitted], weights: Array, bounds: Bounds, seed: int) -> Array:
    """RegMix's search: simulate mixtures, predict each, average the best.

    100,000 mixtures are drawn from Dirichlet(m), m the natural mixture (an even one without it), and cut to the
    limits; the best 128 are averaged. These are the numbers of RegMix's notebook, and the draws are its own at the
    same seed. A linear law has its minimum in a corner: the average of many good ones does not.

    Returns:
        The mixture, float64 ``[g]``.
    """
    # Its stream is frozen, so that a seed gives the same mixture with every NumPy.
    rng = np.random.RandomState(seed)
    centre = _centre(bounds)
    # Dirichlet as normalised gammas.
    mixtures = _limited(rng.standard_gamma(centre, size=(SIMULATED, len(centre))), bounds)
    scores = predict_target(fits, weights, mixtures) + _pulled(mixtures, bounds)
    return mixtures[np.argsort(scores, kind='stable')[:AVERAGED]].mean(axis=0)


def refined_mixture(fits: Sequence[Fitted], weights: Array, bounds: Bounds, seed: int) -> Array:
    """Olmix's simulation: simulate around a prior, average the best, move the prior there, ten times over.

    Step s = 1, 2, ... draws 100,000 mixtures from Dirichlet(2 s c q), q the prior (the natural mixture at first) and
    c log-uniform in 1 to 100, leaves out those beyond the limits, and averages those whose target is within 0.001
    (in its own unit) of the lowest; proportions below 1e-5 become 0. The next prior is the mean of this one and that.

    Returns:
        The mixture, float64 ``[g]``.

    Raises:
        InputError: If no mixture that was drawn stays within the limits.
    """
    rng = np.random.RandomState(seed)
    prior, usable, best = _centre(bounds), bounds.limits > 0, None
    for step in range(1, STEPS + 1):
        low, high = np.log(CONCENTRATIONS) + np.log(2.0 * step)
        concentrations = np.exp(rng.uniform(low, high, size=SIMULATED))
        gammas = rng.standard_gamma(concentrations[:, None] * prior)
        mixtures = np.zeros((SIMULATED, len(usable)))
        mixtures[:, usable] = gammas / gammas.sum(axis=1, keepdims=True)
        mixtures = mixtures[(mixtures <= bounds.limits).all(axis=1)]
        if not len(mixtures):
            continue
        scores = predict_target(fits, weights, mixtures) + _pulled(mixtures, bounds)
        best = mixtures[scores - scores.min() < NEAR_BEST].mean(axis=0)
        best = np.where(best < LEAST, 0.0, best)
        best = best / best.sum()
        prior = (best[usable] + prior) / 2.0
    if best is None:
        raise InputError(
            'none of the mixtures that --search simulation drew stays within the limits: raise --max-passes, or use '
            '--search exact'
        )
    # What became 0 may have lifted another over its limit.
    return limited(log(best), bounds.limits)


def _centre(bounds: Bounds) -> Array:
    """The natural mixture of the groups that may have a proportion, none below 1e-6; float64 ``[number of them]``."""
    log_base = np.where(bounds.limits > 0, bounds.log_base, -np.inf)
    centre = np.exp(log_base - log_base.max())
    return np.maximum(centre / centre.sum(), 1e-6)[bounds.limits > 0]


def _limited(weights: Array, bounds: Bounds) -> Array:
    """Mixtures within the limits from weights of the groups that may have one: ``[n, usable]`` -> ``[n, g]``."""
    logs = np.full((len(weights), len(bounds.limits)), -np.inf)
    logs[:, bounds.limits > 0] = np.log(np.maximum(weights, SMALLEST))
    return limited(logs, bounds.limits)


def _pulled(mixtures: Array, bounds: Bounds) -> Array:
    """What the pull adds to the target of each mixture: ``[n, g]`` -> ``[n]``."""
    log_base = np.where(bounds.limits > 0, bounds.log_base, -np.inf)
    return bounds.pull * entropy_term(mixtures, log_base) if bounds.pull else np.zeros(len(mixtures))


def distance_to_runs(mixture: Array, runs: Array) -> float:
    """How much of a mixture no blend of the runs covers: total variation to the nearest blend, 0 to 1.

    Args:
        mixture: The mixture, float64 ``[g]``.
        runs: Mixtures of the runs, float64 ``[n, g]``.
    """
    # Least squares with one heavy row that makes the parts of the blend sum to 1.
    parts, _ = nnls(np.vstack([runs.T, np.full(len(runs), SUM_WEIGHT)]), np.append(mixture, SUM_WEIGHT))
    return 0.5 * float(np.abs(parts @ runs / parts.sum() - mixture).sum())
