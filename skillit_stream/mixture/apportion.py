"""Proportions into exact integer counts: how many samples of a round a skill gets.

Everything here is a pure function of its arguments and gives the same integers on every machine, so
that all ranks plan the same round without talking to each other.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillit_stream.base.errors import InputError

SUM_TOLERANCE = 1e-9
"""How far a sum of proportions may lie from 1 and still count as float noise."""

QUOTA_DECIMALS = 6
"""Quotas that agree to this many decimals of one sample are equal: float noise must not decide a tie."""

NOISE = 1e-12
"""A quota that lies within this part of itself of a whole number is that number."""

MAX_TOTAL = 2**40
"""Above this many samples a float64 quota no longer resolves `QUOTA_DECIMALS`."""


def largest_remainder(proportions: ArrayLike, total: int) -> NDArray[np.int64]:
    """Split `total` samples by `proportions`, exactly.

    Every skill gets the whole part of its quota ``proportions[i] * total``; the samples left over go
    one each to the largest fractional parts, ties to the lower index (Hamilton's method).

    Args:
        proportions: One a skill, shape ``[k]``: finite, not negative, summing to 1 within 1e-9 (the noise is
            divided out).
        total: Samples to hand out, 0 to 2**40.

    Returns:
        Samples per skill, int64 ``[k]``: sums to `total`, each within 1 of its quota, 0 where the
        proportion is 0.

    Raises:
        InputError: If the proportions or the total are not as described.
    """
    return cumulative_counts(proportions, total, 0.0)[0]


def cumulative_counts(
    proportions: ArrayLike, total: int, owed: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Split the next `total` samples so that what all splits so far have rounded evens out.

    The split is :func:`largest_remainder`'s of what each skill is owed: its quota, and what the splits before gave
    it too little or too much. So a proportion of a thousandth of a sample gets its sample every thousandth time.
    This is the chairman assignment problem (Tijdeman 1980, Discrete Mathematics 32), answered without knowledge of
    the proportions to come.

    Args:
        proportions: As for :func:`largest_remainder`.
        total: Samples to hand out, 0 to 2**40.
        owed: Samples, shape ``[k]``: the sum of each skill's quotas so far less what it got; 0 at the start.

    Returns:
        Samples per skill, int64 ``[k]``, that sum to `total`, 0 where the proportion is 0; and what is owed after
        it, float64 ``[k]``: between -1 and 1 where every skill's quota is a sample or more, and, in all that was
        tried, where the proportions stay. No rule keeps to that whatever comes: four skills of equal quotas, of
        which each that was drawn is left out from then on, leave the last with 1/4 + 1/3 + 1/2.

    Raises:
        InputError: If the proportions or the total are not as described.
    """
    wanted = checked_proportions(proportions)
    if not 0 <= total <= MAX_TOTAL:
        raise InputError(f'total must be between 0 and {MAX_TOTAL} samples, but got: {total}')
    # fsum: a sum that does not depend on the processor's way of adding.
    quotas = wanted * (float(total) / math.fsum(wanted.tolist()))
    quotas = _snapped(quotas, NOISE * quotas)
    due = quotas + np.asarray(owed, np.float64)
    # 28.999999999999996 is 29: snap before the floor, or noise would take a whole sample away.
    counts = np.maximum(np.floor(_snapped(due, 0.5 * 10.0**-QUOTA_DECIMALS)), 0).astype(np.int64)
    counts[wanted == 0] = 0
    while left_over := total - int(counts.sum()):
        rest = np.round(due - counts, QUOTA_DECIMALS)
        if left_over > 0:
            order = np.argsort(-rest, kind='stable')
            counts[order[wanted[order] > 0][:left_over]] += 1
        else:
            # Skills that got too much before, or are left out now, hold back what others are owed.
            order = np.argsort(rest, kind='stable')
            counts[order[counts[order] > 0][:-left_over]] -= 1
    return counts, due - counts


def _snapped(values: NDArray[np.float64], tolerance: ArrayLike) -> NDArray[np.float64]:
    """Values, those within a tolerance of a whole number as that number."""
    nearest = np.rint(values)
    return np.where(np.abs(values - nearest) <= tolerance, nearest, values)


def checked_proportions(proportions: ArrayLike) -> NDArray[np.float64]:
    """Return `proportions` as float64 ``[k]``.

    Raises:
        InputError: If they are not one-dimensional, not finite, negative, or do not sum to 1.
    """
    shares = np.array(proportions, dtype=np.float64)
    if shares.ndim != 1 or shares.size == 0:
        raise InputError(f'proportions must be one share per skill, but got an array of shape {shares.shape}')
    bad = np.flatnonzero(~np.isfinite(shares) | (shares < 0))
    if bad.size:
        where = int(bad[0])
        raise InputError(
            f'proportions must be finite and not negative, but got: {shares[where]} for skill number {where}'
        )
    if abs(float(shares.sum()) - 1.0) > SUM_TOLERANCE:
        raise InputError(
            f'proportions must sum to 1, but got: {float(shares.sum())!r}; divide each by their sum'
        )
    return shares
