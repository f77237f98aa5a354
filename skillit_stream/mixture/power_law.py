"""Scaling laws of a single loss: L(n) = floor + scale n^-exponent, fitted by least squares."""

import numpy as np
from numpy.typing import NDArray

LOWEST_EXPONENT = 0.01
HIGHEST_EXPONENT = 0.8
GRID = 80
REFINEMENTS = 60
GOLDEN = (5**0.5 - 1) / 2


def fit_power_law(counts: NDArray[np.float64], losses: NDArray[np.float64]) -> tuple[float, float, float]:
    """Fit ``floor + scale * counts ** -exponent`` to losses, floor and scale not negative.

    For a given exponent the best floor and scale have a closed form, so only the exponent is searched:
    on a grid from 0.01 to 0.8, then by golden section around the best point. The same input gives the
    same fit on every machine up to float noise, without a starting point to choose.

    Args:
        counts: Amounts trained on, above 0, float64 ``[T]``, T at least 3.
        losses: Loss at each, nats per token, float64 ``[T]``.

    Returns:
        Floor (nats per token), scale and exponent.
    """
    grid = np.linspace(LOWEST_EXPONENT, HIGHEST_EXPONENT, GRID)
    best = int(np.argmin([_best_for(value, counts, losses)[0] for value in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, GRID - 1)]
    for _ in range(REFINEMENTS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if _best_for(left, counts, losses)[0] <= _best_for(right, counts, losses)[0]:
            high = right
        else:
            low = left
    exponent = float((low + high) / 2)
    _, floor, scale = _best_for(exponent, counts, losses)
    return floor, scale, exponent


def _best_for(
    exponent: float, counts: NDArray[np.float64], losses: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Squared error, floor and scale of the best fit with this exponent."""
    falling = counts**-exponent
    centred = falling - falling.mean()
    scale = float(centred @ losses / (centred @ centred))
    floor = float(losses.mean() - scale * falling.mean())
    if scale < 0:
        floor, scale = float(losses.mean()), 0.0
    elif floor < 0:
        floor, scale = 0.0, float(falling @ losses / (falling @ falling))
    error = losses - floor - scale * falling
    return float(error @ error), floor, scale
