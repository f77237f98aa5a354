"""Proportions into exact integer counts: which share of a round, and of each batch, a skill gets.

Everything here is a pure function of its arguments and gives the same integers on every machine, so
that all ranks plan the same round without talking to each other.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillit_stream.base.errors import InputError

SUM_TOLERANCE = 1e-9
"""How far a sum of proportions may lie from 1 and still count as float noise."""

QUOTA_DECIMALS = 6
"""Quotas that agree to this many decimals of one sample are equal: float noise must not decide a tie."""

MAX_TOTAL = 2**40
"""Above this many samples a float64 quota no longer resolves `QUOTA_DECIMALS`."""


def largest_remainder(proportions: ArrayLike, total: int) -> NDArray[np.int64]:
    """Split `total` samples by `proportions`, exactly.

    Every skill gets the whole part of its quota ``proportions[i] * total``; the samples left over go
    one each to the largest fractional parts, ties to the lower index (Hamilton's method).

    Args:
        proportions: One share per skill, shape ``[k]``: finite, not negative, summing to 1 within
            1e-9 (the noise is divided out).
        total: Samples to hand out, 0 to 2**40.

    Returns:
        Samples per skill, int64 ``[k]``: sums to `total`, each within 1 of its quota, 0 where the
        share is 0.

    Raises:
        InputError: If the proportions or the total are not as described.
    """
    shares = checked_proportions(proportions)
    if not 0 <= total <= MAX_TOTAL:
        raise InputError(f'total must be between 0 and {MAX_TOTAL} samples, but got: {total}')
    quotas = shares * (float(total) / shares.sum())
    # 28.999999999999996 is 29: snap before the floor, or noise would take a whole sample away.
    nearest = np.rint(quotas)
    quotas = np.where(np.abs(quotas - nearest) < 0.5 * 10.0**-QUOTA_DECIMALS, nearest, quotas)
    whole = np.floor(quotas)
    counts = whole.astype(np.int64)
    fractions = np.round(quotas - whole, QUOTA_DECIMALS)
    fractions[shares == 0] = -1.0
    left_over = total - int(counts.sum())
    counts[np.argsort(-fractions, kind='stable')[:left_over]] += 1
    return counts


def checked_proportions(proportions: ArrayLike) -> NDArray[np.float64]:
    """Return `proportions` as float64 ``[k]``, or say which one is not a proportion.

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
