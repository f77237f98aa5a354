"""From the losses of the branches to a mixture: effects, noise, the law and where it is lowest. NumPy alone.

Branch i is trained on p + s (e_i - p), the present mixture p moved half (s = 1/2) of the way to skill i alone. So each
branch moves by the same part of what it can move, the effects are well above what a small change would show, and p is
the mean of the branches weighted by p: what the repeats of p have beyond that mean is the curvature, and determines the
constant of L(m) = c + exp(t · m). k branches and p are as many distinct mixtures as the law has parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skillit_stream.mixture.apportion import largest_remainder
from skillit_stream.mixture_fit.laws import LAWS, Exponential, check_distinct, fit_exponential, predict_target
from skillit_stream.mixture_fit.limits import PARTS
from skillit_stream.mixture_fit.search import TOLERANCE, Bounds, convex_mixture

Array = NDArray[np.float64]

HALF_WAY = 0.5
"""s: how far a branch moves towards its skill, and the chosen mixture towards any."""
LAW = 'log-linear'


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Losses of the branches. Arrays are float64; k train skills, m eval skills, r repeats, nats per token."""

    present: Array
    """Proportions ``[k]``."""
    repeats: Array
    """``[r, m]``: after the present mixture, each in an order of its own; r is at least 2."""
    raised: Array
    """``[k, m]``: after the branch of each skill."""

    @property
    def noise(self) -> Array:
        """Standard deviation of a loss over orders, ``[m]``."""
        return self.repeats.std(axis=0, ddof=1)

    @property
    def effects(self) -> Array:
        """How much lower each loss is for raising each skill, ``[k, m]``."""
        return self.repeats.mean(axis=0) - self.raised

    @property
    def standard_errors(self) -> Array:
        """Of the effects, ``[k, m]``, with r - 1 degrees of freedom."""
        errors = self.noise * np.sqrt(1.0 + 1.0 / len(self.repeats))
        return np.broadcast_to(errors, self.raised.shape).copy()

    def spread(self, columns: Sequence[int]) -> float:
        """Standard deviation over the branches in that over the repeats, root mean squares over these losses."""
        branches, noise = self.raised[:, columns].std(axis=0, ddof=1), self.noise[columns]
        if not noise.any():
            return np.inf if branches.any() else 0.0
        return float(np.sqrt((branches**2).mean() / (noise**2).mean()))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The mixture whose target is predicted lowest."""

    mixture: Array
    """Proportions ``[k]``, multiples of 0.000001 that sum to 1."""
    gain: float
    """Predicted, of the target: how far below that of the present mixture, nats per token."""
    standard_error: float
    """Of the gain, by the noise of the branches; with r - 1 degrees of freedom."""


def raised_mixture(present: Array, skill: int) -> Array:
    """The present mixture, float64 ``[k]``, half way to one skill alone."""
    return (1.0 - HALF_WAY) * present + HALF_WAY * np.eye(len(present))[skill]


def branch_mixtures(present: Array, repeats: int) -> Array:
    """Those that the law is fitted to, float64 ``[k + repeats, k]``: each skill raised, and the repeats.

    Raises:
        InputError: They are fewer distinct ones than the law has parameters.
    """
    raised = [raised_mixture(present, skill) for skill in range(len(present))]
    mixtures = np.array([*raised, *[present] * repeats])
    check_distinct(LAWS[LAW], mixtures)
    return mixtures


def choose(measured: Measured, columns: Sequence[int], highest: Array) -> Choice:
    """Fit the law to each target and find the mixture with the lowest predicted mean.

    It is looked for among (1 - s) p + s q, q any mixture: what the branches span, and at most s away from the present
    one (total variation).

    Args:
        measured: The losses.
        columns: The targets among the eval skills.
        highest: Upper limits of the proportions, float64 ``[k]``, none below the present one.

    Raises:
        InputError: The branches have fewer distinct mixtures than the law has parameters.
    """
    present = measured.present
    mixtures = branch_mixtures(present, len(measured.repeats))
    values = np.vstack([measured.raised, measured.repeats])[:, columns]
    fits = [fit_exponential(mixtures, one) for one in values.T]
    weights = np.full(len(columns), 1.0 / len(columns))
    # Of q: as it sums to 1, t · ((1 - s) p + s q) is (s t + (1 - s) t · p) · q.
    moved = [
        Exponential(one.constant, HALF_WAY * one.slopes + (1.0 - HALF_WAY) * float(one.slopes @ present))
        for one in fits
    ]
    limits = np.clip((highest - (1.0 - HALF_WAY) * present) / HALF_WAY, 0.0, 1.0)
    bounds = Bounds(limits=limits, log_base=np.zeros(len(present)), pull=0.0)
    tolerance = TOLERANCE * max(float((values @ weights).std()), 1e-12)
    found, _ = convex_mixture(moved, weights, bounds, tolerance)
    mixture = (1.0 - HALF_WAY) * present + HALF_WAY * found / found.sum()
    mixture = largest_remainder(mixture / mixture.sum(), PARTS) / PARTS
    before, after = predict_target(fits, weights, np.array([present, mixture]))
    return Choice(
        mixture=mixture,
        gain=float(before - after),
        standard_error=_standard_error(
            fits, weights, mixtures, (present, mixture), measured.repeats[:, columns]
        ),
    )


def _standard_error(
    fits: Sequence[Exponential], weights: Array, mixtures: Array, pair: tuple[Array, Array], repeats: Array
) -> float:
    """Of the predicted difference between two mixtures, to the first order in the noise (the delta method).

    Args:
        fits: A law a target.
        weights: Of the targets, ``[m]``.
        mixtures: Fitted to, ``[n, k]``.
        pair: The mixtures.
        repeats: Losses of one mixture, ``[r, m]``: the noise, with what the targets have in common of it.
    """
    # How the difference moves with each value that was fitted to: [n, m].
    moves = np.column_stack([_sensitivity(one, mixtures, *pair) for one in fits]) * weights
    noise = (repeats - repeats.mean(axis=0)) / np.sqrt(len(repeats) - 1)
    return float(np.linalg.norm(moves @ noise.T))


def _sensitivity(fitted: Exponential, mixtures: Array, before: Array, after: Array) -> Array:
    """Derivative of L(before) - L(after) by each value that was fitted to, ``[n]``; L's constant cancels out."""

    def by_slopes(points: Array) -> Array:
        return points * (fitted.predict(points) - fitted.constant)[:, None]

    jacobian = np.column_stack([np.ones(len(mixtures)), by_slopes(mixtures)])
    first, second = by_slopes(np.array([before, after]))
    return np.linalg.pinv(jacobian).T @ np.concatenate([[0.0], first - second])
