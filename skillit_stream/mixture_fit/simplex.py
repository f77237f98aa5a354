"""Minimising over mixtures whose proportions have upper limits."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_STEPS = 20_000
LONGEST_STEP = 1e12
SMALLEST = 1e-300


def limited(log_weights: Array, limits: Array) -> Array:
    """The mixture nearest to weights (in relative entropy) whose proportions stay within limits.

    That is ``min(limit, s · weight)`` with the one s that makes them sum to 1: proportions over their limit are cut to
    it, and what is cut goes to the others in proportion.

    Args:
        log_weights: Logarithms of weights of any sum, float64 ``[..., k]``; -inf for a proportion of 0.
        limits: Upper limits of the proportions, float64 ``[k]``; those of finite weights sum to at least 1.

    Returns:
        Proportions, float64 ``[..., k]``.
    """
    at_limit = np.zeros(log_weights.shape, dtype=np.bool_)
    while True:
        room = 1.0 - np.where(at_limit, limits, 0.0).sum(axis=-1, keepdims=True)
        free = np.where(at_limit, -np.inf, log_weights)
        top = free.max(axis=-1, keepdims=True)
        weights = np.exp(free - np.where(np.isfinite(top), top, 0.0))
        scaled = np.maximum(room, 0.0) * weights / np.maximum(weights.sum(axis=-1, keepdims=True), SMALLEST)
        over = ~at_limit & (scaled > limits)
        if not over.any():
            return np.where(at_limit, limits, scaled)
        at_limit |= over


def entropy_term(mixtures: Array, log_base: Array) -> Array:
    """Σ p log(p / m) over the last axis, with 0 log 0 = 0: float64 ``[..., k]`` -> ``[...]``."""
    logs = np.log(np.maximum(mixtures, SMALLEST))
    return np.where(mixtures > 0, mixtures * (logs - np.where(mixtures > 0, log_base, 0.0)), 0.0).sum(axis=-1)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Minimise f(p) + λ Σ p log(p / m) over mixtures p within limits, f convex and smooth."""

    value: Callable[[Array], float]
    gradient: Callable[[Array], Array]
    limits: Array
    """float64 ``[k]``; their sum is at least 1."""
    log_base: Array
    """log m, float64 ``[k]``; -inf only where the limit is 0."""
    pull: float = 0.0
    """λ."""


def minimise(problem: Problem, *, tolerance: float) -> tuple[Array, float]:
    """Mirror descent with the entropy as its distance, which handles the limits and the pull exactly.

    Args:
        problem: What to minimise.
        tolerance: Stop when the result is proven to be within this of the minimum.

    Returns:
        The mixture, float64 ``[k]``, and how far its value is from the minimum at most.
    """
    at = limited(_log_base(problem), problem.limits)
    step, gap = 1.0, np.inf
    for _ in range(MAX_STEPS):
        value, gradient = problem.value(at), problem.gradient(at)
        gap = _gap(problem, at, gradient)
        if gap <= tolerance:
            break
        trial, bound = _step(problem, at, gradient, step)
        while problem.value(trial) > value + bound + 1e-15 * abs(value) and step > 1.0 / LONGEST_STEP:
            step /= 2.0
            trial, bound = _step(problem, at, gradient, step)
        at, step = trial, min(2.0 * step, LONGEST_STEP)
    return at, float(max(gap, 0.0))


def _log_base(problem: Problem) -> Array:
    return np.where(problem.limits > 0, problem.log_base, -np.inf)


def _step(problem: Problem, at: Array, gradient: Array, step: float) -> tuple[Array, float]:
    """The minimum of the linear model + KL(p ‖ at) / step + the pull, and how much the model says f falls there."""
    logs = np.where(at > 0, np.log(np.maximum(at, SMALLEST)), -np.inf)
    weight = step * problem.pull
    towards = weight * _log_base(problem) if weight else 0.0
    trial = limited((logs + towards - step * gradient) / (1.0 + weight), problem.limits)
    return trial, float(gradient @ (trial - at) + entropy_term(trial, logs) / step)


def _gap(problem: Problem, at: Array, gradient: Array) -> float:
    """Distance from the minimum at most: how much the linear model can still gain (f is convex)."""
    usable = problem.limits > 0
    slope = gradient[usable]
    if problem.pull:
        logs = np.log(np.maximum(at[usable], SMALLEST))
        slope = slope + problem.pull * (logs - problem.log_base[usable])
    order = np.argsort(slope, kind='stable')
    filled = np.minimum(np.cumsum(problem.limits[usable][order]), 1.0)
    best = np.diff(filled, prepend=0.0)
    return float(slope @ at[usable] - slope[order] @ best)
