"""How well a fit predicts runs it has not seen: k-fold cross-validation beside the mean as a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from skillit_stream.mixture_fit.laws import Fit

Array = NDArray[np.float64]

TARGET = '(target)'


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Predictions of held-out runs compared with what they measured."""

    spearman: float | None
    """Rank correlation, -1 to 1; None where a side is constant."""
    r2: float
    """1 - squared errors / squared errors of the baseline: 0 or less is no better than the mean."""
    mae: float
    """Mean absolute error, in the metric's unit."""
    baseline_mae: float
    """The same of predicting the mean of the runs that were fitted to."""

    def to_json(self) -> dict[str, float | None]:
        """Plain numbers."""
        return asdict(self)


def fold_of_runs(runs: int, folds: int, seed: int) -> NDArray[np.int64]:
    """Which fold holds each run out: a fixed shuffle for each seed, folds of equal size within one run.

    Returns:
        Fold numbers, int64 ``[n]``.
    """
    keys = np.random.PCG64(seed).random_raw(runs)
    places = np.empty(runs, dtype=np.int64)
    places[np.argsort(keys, kind='stable')] = np.arange(runs)
    return places % folds


def held_out_predictions(
    fit: Fit, mixtures: Array, values: Array, fold: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Predict every run by a fit, and by the mean, of the runs in the other folds.

    Args:
        fit: The law.
        mixtures: Mixtures, float64 ``[n, g]``.
        values: Metrics, float64 ``[n, m]``.
        fold: Fold numbers, ``[n]``.

    Returns:
        Predictions and baseline, float64 ``[n, m]`` each.
    """
    predicted, baseline = np.empty_like(values), np.empty_like(values)
    for number in np.unique(fold):
        out = fold == number
        baseline[out] = values[~out].mean(axis=0)
        for column in range(values.shape[1]):
            predicted[out, column] = fit(mixtures[~out], values[~out, column]).predict(mixtures[out])
    return predicted, baseline


def compare(values: Array, predicted: Array, baseline: Array) -> Quality:
    """Quality of the predictions of one metric, float64 ``[n]`` each; `values` must not be constant."""
    errors, baseline_errors = predicted - values, baseline - values
    return Quality(
        spearman=spearman(values, predicted),
        r2=float(1.0 - (errors @ errors) / (baseline_errors @ baseline_errors)),
        mae=float(np.abs(errors).mean()),
        baseline_mae=float(np.abs(baseline_errors).mean()),
    )


def compare_all(
    names: Sequence[str], weights: Array, values: Array, predictions: tuple[Array, Array]
) -> dict[str, Quality]:
    """Quality for each metric, then of the target, their weighted mean, where there are several."""
    predicted, baseline = predictions
    rows = {name: compare(values[:, i], predicted[:, i], baseline[:, i]) for i, name in enumerate(names)}
    if len(names) > 1:
        rows[TARGET] = compare(values @ weights, predicted @ weights, baseline @ weights)
    return rows


def quality_of_target(quality: Mapping[str, Quality]) -> Quality:
    """That of the target, which is the only metric where there is one alone."""
    return quality.get(TARGET) or next(iter(quality.values()))


def spearman(one: Array, other: Array) -> float | None:
    """Correlation of ranks, equal values sharing their mean rank; None if either side is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    correlation, _ = spearmanr(one, other)
    return float(correlation)
