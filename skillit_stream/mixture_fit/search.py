"""From fitted laws to the mixture with the lowest predicted target."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from skillit_stream.mixture_fit.laws import Exponential, Fitted, predict_target
from skillit_stream.mixture_fit.simplex import SMALLEST, Problem, entropy_term, limited, minimise

Array = NDArray[np.float64]

TOLERANCE = 1e-5
"""How near to the minimum the convex search comes, in standard deviations of the runs' target."""

SUM_WEIGHT = 10.0

SIMULATED = 100_000
AVERAGED = 100
STRENGTHS = (0.1, 5.0)


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

    Mixtures are drawn from Dirichlet(s · g · m), m the natural mixture (an even one without it), s log-uniform in
    0.1 to 5 (RegMix's range for its runs), and cut to the limits. 100,000 and the best 100 are the numbers here; the
    paper's were not verified. A linear law has its minimum in a corner: the average of many good ones does not.

    Returns:
        The mixture, float64 ``[g]``.
    """
    rng = np.random.default_rng(seed)
    usable = bounds.limits > 0
    log_base = np.where(usable, bounds.log_base, -np.inf)
    centre = np.exp(log_base - log_base.max())
    centre = np.maximum(centre / centre.sum(), 1e-6)[usable]
    strengths = np.exp(rng.uniform(*np.log(STRENGTHS), size=(SIMULATED, 1)))
    # Dirichlet as normalised gammas: one call for a different strength in each row.
    gammas = rng.standard_gamma(strengths * len(centre) * centre)
    logs = np.full((SIMULATED, len(usable)), -np.inf)
    logs[:, usable] = np.log(np.maximum(gammas, SMALLEST))
    mixtures = limited(logs, bounds.limits)
    scores = predict_target(fits, weights, mixtures)
    if bounds.pull:
        scores = scores + bounds.pull * entropy_term(mixtures, log_base)
    return mixtures[np.argsort(scores, kind='stable')[:AVERAGED]].mean(axis=0)


def distance_to_runs(mixture: Array, runs: Array) -> float:
    """How much of a mixture no blend of the runs covers: total variation to the nearest blend, 0 to 1.

    Args:
        mixture: The mixture, float64 ``[g]``.
        runs: Mixtures of the runs, float64 ``[n, g]``.
    """
    # Least squares with one heavy row that makes the parts of the blend sum to 1.
    parts, _ = nnls(np.vstack([runs.T, np.full(len(runs), SUM_WEIGHT)]), np.append(mixture, SUM_WEIGHT))
    return 0.5 * float(np.abs(parts @ runs / parts.sum() - mixture).sum())
