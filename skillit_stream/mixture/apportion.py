"""Proportions into exact integer counts: which share of a round, and of each batch, a skill gets.

Everything here is a pure function of its arguments and gives the same integers on every machine, so
that all ranks plan the same round without talking to each other.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skillit_stream.errors import InputError

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


def spread(
    counts: ArrayLike,
    rows: int,
    row_ids: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """Split the counts of a round over equal rows (batches), as evenly as integers allow.

    Systematic sampling: each row has ``counts[i] // rows`` of skill i; the rests are laid end to end
    and dealt to the rows in turn, so unit m of them goes to row ``m % rows``. A rest is shorter than
    one turn, hence no row gets two, and all turns are full, hence all rows are equally long. Only
    the rows asked for are computed.

    A skill's extras fall on neighbouring rows; pass ``interleave(row_ids, rows)`` as `row_ids` to
    have them strewn over the whole round instead. The sums are the same.

    Args:
        counts: Samples per skill, integers ``[k]``, not negative; their sum is a multiple of `rows`.
        rows: Number of rows, at least 1.
        row_ids: Rows wanted, integers ``[r]`` in ``0 .. rows - 1``; all of them by default.

    Returns:
        Samples per row and skill, int64 ``[r, k]``: each entry is ``counts[i] / rows`` rounded down
        or up, each row sums to ``sum(counts) / rows``, and over all rows column i sums to
        ``counts[i]``.

    Raises:
        InputError: If the counts cannot be split like that or a row does not exist.
    """
    counts = _integers('counts', counts)
    if rows < 1:
        raise InputError(f'rows must be at least 1, but got: {rows}')
    if counts.size and counts.min() < 0:
        raise InputError(f'counts must not be negative, but got: {int(counts.min())}')
    if int(counts.sum()) % rows:
        raise InputError(
            f'counts must sum to a multiple of rows, but got: {int(counts.sum())} samples over {rows} rows'
        )
    wanted = _row_ids(rows, row_ids)
    ends = np.cumsum(counts % rows)
    starts = ends - counts % rows
    turns = wanted[:, None]
    extras = (ends - 1 - turns) // rows - (starts - 1 - turns) // rows
    return counts // rows + extras


def interleave(row_ids: ArrayLike, rows: int) -> NDArray[np.int64]:
    """Renumber rows so that neighbours land far apart: a permutation of ``0 .. rows - 1``.

    Row b becomes ``b * stride % rows``: a rotation by about the golden ratio, whose visits to any
    interval are spaced most evenly. Extras dealt to such rows stay within about 3 samples of their
    even share after every row, where they could run ahead by a whole rest before.

    Args:
        row_ids: Rows, integers ``[r]`` in ``0 .. rows - 1``.
        rows: Number of rows, at least 1.

    Returns:
        Renumbered rows, int64 ``[r]``.

    Raises:
        InputError: If a row does not exist.
    """
    wanted = _row_ids(rows, row_ids)
    return wanted * _golden_stride(rows) % rows


def _golden_stride(rows: int) -> int:
    """The stride near ``rows / golden ratio``, prime to `rows`, whose rotation is the most even.

    A rotation is the more even the smaller the partial quotients of ``rows / stride``; the nearest
    stride alone can have a large one (12 samples of unevenness instead of 3).
    """
    near = round(rows * 0.6180339887498949)
    candidates = [
        stride for stride in range(max(1, near - 60), min(rows, near + 60) + 1) if math.gcd(stride, rows) == 1
    ]
    return min(candidates, key=lambda stride: _sum_of_quotients(rows, stride))


def _sum_of_quotients(numerator: int, denominator: int) -> int:
    total = 0
    while denominator:
        total += numerator // denominator
        numerator, denominator = denominator, numerator % denominator
    return total


def _row_ids(rows: int, row_ids: ArrayLike | None) -> NDArray[np.int64]:
    if row_ids is None:
        return np.arange(rows, dtype=np.int64)
    wanted = _integers('row_ids', row_ids)
    outside = wanted[(wanted < 0) | (wanted >= rows)]
    if outside.size:
        raise InputError(f'row_ids must be between 0 and {rows - 1}, but got: {int(outside[0])}')
    return wanted


def _integers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or not (array.size == 0 or np.issubdtype(array.dtype, np.integer)):
        raise InputError(
            f'{name} must be a list of integers, but got: {array.dtype} of shape {tuple(array.shape)}'
        )
    return array.astype(np.int64)
