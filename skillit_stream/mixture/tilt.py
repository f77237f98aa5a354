"""How far a mixture may tilt, and the eta that tilts it so far."""

import math

import numpy as np
from numpy.typing import NDArray

ALIKE = 1e-9
"""Scores that differ by less, relative to the largest, differ by the noise of their sums alone."""


def width(scores: NDArray[np.float64]) -> float:
    """By how much the largest of some scores exceeds the smallest; 0 if they are alike, or there are none."""
    if not len(scores):
        return 0.0
    found = float(scores.max() - scores.min())
    return found if found > ALIKE * float(np.abs(scores).max()) else 0.0


def eta_of(tilt: float, widest: float) -> float:
    """The eta with which ``exp(eta * score)`` of the largest score is `tilt` times that of the smallest.

    Args:
        tilt: 1 or more.
        widest: By how much the two scores differ; 0: no eta tilts, and it is 0.
    """
    return math.log(tilt) / widest if widest > 0 else 0.0
