r"""Laws: what a metric is after training on a mixture.

``data-mixing``, `Data Mixing Laws` (Ye et al. 2024, arXiv 2403.16952): the loss on eval skill i after training on
proportions r of the k skills is

    L_i(r) = c_i + k_i exp(Σⱼ t_ij r_j)

``log-linear``, `Olmix` (Chen et al. 2026, arXiv 2602.12237), as its published code has it (olmix/fit/utils.py):

    L_i(p) = exp(log c_i) + exp(Σⱼ t_ij p_j)

Proportions sum to 1, so k_i = exp(b) is the same as b added to every t_ij: the two are one function with one fit, and
are written down in the form of either. They part in the search: Olmix pulls the mixture towards the natural one
with λ = 0.05 (the default of its published code, and of six of its eight configurations) unless told otherwise, Ye et
al. take the minimum.

The fit minimises a Huber loss, as the published code of both; its threshold is a tenth of the metric's standard
deviation over the runs here (0.01 or 0.02 there), so that nats, bits and percentages give the same mixture. The
minimiser is SciPy's, from a fixed grid of constants c (L-BFGS from random points there).

``regmix``, `RegMix` (Liu et al. 2024, arXiv 2407.01492): a linear regression of the metric on the proportions (no
intercept is needed: they sum to 1), and ``regmix-trees`` its gradient-boosted trees by LightGBM (optional), as in the
published notebook: a learning rate of 0.01, up to 1,000 rounds, stopped when 3 rounds have not lowered the error of
runs that are held out. The notebook has runs of their own for that; here every fifth is held out.

Not verified is what the papers' text alone says: RegMix's penalty on its linear regression (none here). Ye et al. also
fit eval data of unknown composition (implicit domains); that is not offered.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from skillit_stream.base.errors import InputError

Array = NDArray[np.float64]

STARTS = (0.02, 0.3, 0.6, 0.8, 0.9, 0.96, 0.99, 0.999)
"""Where the constant c starts, as a fraction of the lowest value seen."""

HUBER = 0.1
"""Residuals above this many standard deviations of the metric count linearly."""

MAX_EVALUATIONS = 400
PRECISION = 1e-15
MAX_EXPONENT = 100.0
TREES = {
    'objective': 'regression',
    'metric': ['l1', 'l2'],
    'learning_rate': 0.01,
    'verbosity': -1,
    'num_threads': 1,
    'deterministic': True,
    'seed': 42,
}
TREE_ROUNDS = 1000
STOP_AFTER = 3
HELD_OUT = 5
"""Every so many runs one is held out."""


class Fitted(Protocol):
    """A law with its parameters."""

    def predict(self, mixtures: Array) -> Array:
        """The metric after training on each mixture: float64 ``[s, k]`` -> ``[s]``."""
        ...

    def parameters(self) -> dict[str, Any]:
        """Plain numbers that say it all, for the JSON."""
        ...


Fit = Callable[[Array, Array], Fitted]


@dataclass(frozen=True)
class Exponential:
    """c + exp(t · p): positive, and convex in the mixture."""

    constant: float
    slopes: Array
    """t, float64 ``[k]``."""

    def predict(self, mixtures: Array) -> Array:
        """See `Fitted`."""
        return self.constant + np.exp(np.minimum(mixtures @ self.slopes, MAX_EXPONENT))

    def gradient(self, mixture: Array) -> Array:
        """Derivative at one mixture, float64 ``[k]``."""
        return self.slopes * np.exp(min(float(mixture @ self.slopes), MAX_EXPONENT))

    def parameters(self) -> dict[str, Any]:
        """c and t as Olmix writes them."""
        return {'c': self.constant, 't': self.slopes.tolist()}


class WithFactor(Exponential):
    """The same in the form of Ye et al.; of all that are equal on mixtures, the one whose t sum to 0."""

    def parameters(self) -> dict[str, Any]:
        """c, k and t."""
        mean = float(self.slopes.mean())
        return {'c': self.constant, 'k': float(np.exp(mean)), 't': (self.slopes - mean).tolist()}


@dataclass(frozen=True)
class Linear:
    """Σⱼ bⱼ pⱼ: bⱼ is the metric that training on skill j alone would give."""

    slopes: Array

    def predict(self, mixtures: Array) -> Array:
        """See `Fitted`."""
        return mixtures @ self.slopes

    def parameters(self) -> dict[str, Any]:
        """The coefficients."""
        return {'b': self.slopes.tolist()}


@dataclass(frozen=True)
class Trees:
    """A LightGBM booster."""

    booster: Any

    def predict(self, mixtures: Array) -> Array:
        """See `Fitted`."""
        return np.asarray(self.booster.predict(mixtures), dtype=np.float64)

    def parameters(self) -> dict[str, Any]:
        """Trees are too many to print: their number."""
        return {'trees': self.booster.best_iteration}


def fit_exponential(mixtures: Array, values: Array) -> Exponential:
    """Fit c + exp(t · p), c > 0.

    Args:
        mixtures: Mixtures of the runs, float64 ``[n, k]``.
        values: Their metric, float64 ``[n]``, above 0.

    Raises:
        InputError: If a value is not above 0.
    """
    if values.min() <= 0:
        raise InputError(
            f'the laws data-mixing and log-linear need metrics above 0, but got: {values.min():g}; '
            'use losses or error rates, or --law regmix'
        )
    threshold = HUBER * max(float(values.std()), 1e-9 * float(values.max()))
    found = [_descend(mixtures, values, fraction * values.min(), threshold) for fraction in STARTS]
    _, best = min(found, key=lambda one: one[0])
    return Exponential(float(np.exp(best[0])), best[1:])


def _descend(mixtures: Array, values: Array, constant: float, threshold: float) -> tuple[float, Array]:
    """Minimise the Huber loss over (log c, t), starting from a constant; returns the loss and the parameters."""

    def residuals(at: Array) -> Array:
        return np.exp(min(at[0], MAX_EXPONENT)) + _power(mixtures, at) - values

    def jacobian(at: Array) -> Array:
        constants = np.full(len(values), np.exp(min(at[0], MAX_EXPONENT)))
        return np.column_stack([constants, _power(mixtures, at)[:, None] * mixtures])

    found = least_squares(
        residuals,
        np.concatenate([[np.log(constant)], _first_slopes(mixtures, values, constant)]),
        jacobian,  # pyright: ignore[reportArgumentType] (SciPy's stub knows names alone)
        x_scale='jac',
        loss='huber',
        f_scale=threshold,
        ftol=PRECISION,
        xtol=PRECISION,
        gtol=PRECISION,
        max_nfev=MAX_EVALUATIONS,
    )
    return found.cost, found.x


def _first_slopes(mixtures: Array, values: Array, constant: float) -> Array:
    """log(y − c) is linear in the mixture: the slopes by least squares, weighted back to the scale of y."""
    rest = values - constant
    mean = np.log(rest).mean()
    # About the mean, so that a direction no run has explored has no effect.
    return mean + np.linalg.lstsq(mixtures * rest[:, None], (np.log(rest) - mean) * rest, rcond=None)[0]


def _power(mixtures: Array, at: Array) -> Array:
    return np.exp(np.minimum(mixtures @ at[1:], MAX_EXPONENT))


def fit_with_factor(mixtures: Array, values: Array) -> WithFactor:
    """`fit_exponential`, written as c + k exp(t · r)."""
    fitted = fit_exponential(mixtures, values)
    return WithFactor(fitted.constant, fitted.slopes)


def fit_linear(mixtures: Array, values: Array) -> Linear:
    """Fit Σⱼ bⱼ pⱼ by least squares; directions that no run has explored have no effect."""
    mean = values.mean()
    return Linear(mean + np.linalg.lstsq(mixtures, values - mean, rcond=None)[0])


def fit_trees(mixtures: Array, values: Array, run_of: NDArray[np.int64] | None = None) -> Trees:
    """Fit gradient-boosted trees to four fifths of the runs, as many as the others call for.

    Args:
        mixtures: Mixtures of the runs, or what else the value follows from, float64 ``[n, k]``.
        values: Their metric, float64 ``[n]``.
        run_of: Number of the run that each row is of, ``[n]``: a run is held out whole; None: a row a run.

    Raises:
        InputError: If LightGBM is not installed.
    """
    try:
        import lightgbm  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            "law regmix-trees needs LightGBM: pip install 'skillit-stream[trees]', or use law regmix"
        ) from None
    runs = np.arange(len(values)) if run_of is None else run_of
    held = runs % HELD_OUT == min(HELD_OUT, int(runs.max()) + 1) - 1
    # Of a table of 500 runs a leaf holds about LightGBM's own 20; a small table needs smaller ones.
    options = {**TREES, 'min_data_in_leaf': max(2, int((~held).sum()) // 25)}
    data = lightgbm.Dataset(mixtures[~held], label=values[~held], params=options)
    test = lightgbm.Dataset(mixtures[held], label=values[held], reference=data)
    stop = lightgbm.early_stopping(STOP_AFTER, verbose=False)
    return Trees(
        lightgbm.train(options, data, num_boost_round=TREE_ROUNDS, valid_sets=[test], callbacks=[stop])
    )


@dataclass(frozen=True, kw_only=True)
class Law:
    """A law by name."""

    fit: Fit
    convex: bool
    """Whether its mixture can be found by convex optimisation, and is unless told otherwise (else by simulation)."""
    pull: float
    """λ unless told otherwise."""
    extra_parameters: int | None
    """Parameters beyond one for each skill; None: not counted."""

    def parameter_count(self, skills: int) -> int | None:
        """Parameters of one metric's fit."""
        return None if self.extra_parameters is None else skills + self.extra_parameters


def check_distinct(law: Law, mixtures: Array) -> None:
    """Refuse runs that many laws fit equally well.

    Args:
        law: To be fitted.
        mixtures: Of the runs, float64 ``[n, k]``.

    Raises:
        InputError: They are fewer distinct mixtures than the law has parameters for each metric.
    """
    needed, distinct = law.parameter_count(mixtures.shape[1]), len(np.unique(mixtures.round(9), axis=0))
    if needed is not None and distinct < needed:
        raise InputError(
            f'the runs must be on at least {needed} distinct mixtures, as many as the law has parameters for each '
            f'metric, but got: {distinct} ({len(mixtures)} runs); train runs on other mixtures'
        )


LAWS = {
    'data-mixing': Law(fit=fit_with_factor, convex=True, pull=0.0, extra_parameters=1),
    'regmix': Law(fit=fit_linear, convex=False, pull=0.0, extra_parameters=0),
    'regmix-trees': Law(fit=fit_trees, convex=False, pull=0.0, extra_parameters=None),
    'log-linear': Law(fit=fit_exponential, convex=True, pull=0.05, extra_parameters=1),
}


def predict_target(fits: Sequence[Fitted], weights: Array, mixtures: Array) -> Array:
    """The target of each mixture, the weighted mean of the metrics: float64 ``[s, k]`` -> ``[s]``."""
    return weights @ np.array([fitted.predict(mixtures) for fitted in fits])
