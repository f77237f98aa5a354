"""What the pairs say: take the mixture, stay, or a number of pairs that could tell."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from skillit_stream.formats.fork_result import CANNOT_TELL, STAY, TAKE
from skillit_stream.report.comparison import number
from skillit_stream.report.verdict import Gap

LEVEL = 0.05
"""How often a mixture that gains nothing is taken."""
MOST_PAIRS = 16
"""A gain that more pairs than this would be needed for is called noise."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One of `TAKE`, `STAY`, `CANNOT_TELL`, and why."""

    kind: str
    reason: str
    more_pairs: int = 0
    """With as many more the gain would be clear, if it stayed as it is."""

    def __str__(self) -> str:
        return f'{self.kind}: {self.reason}'


def t_value(gains: np.ndarray) -> float:
    """Student's t of differences float64 ``[n]``, n at least 2; infinite if all are the same."""
    error = float(np.std(gains, ddof=1) / np.sqrt(len(gains)))
    mean = float(gains.mean())
    return mean / error if error else float(np.copysign(np.inf, mean)) if mean else 0.0


def bound(pairs: int) -> float:
    """Which a t of so many pairs must exceed: one-sided, n - 1 degrees of freedom."""
    return float(stats.t.ppf(1.0 - LEVEL, pairs - 1))


def verdict_of(gains: np.ndarray, min_gain: float = 0.0) -> Verdict:
    """What pairs say.

    Args:
        gains: The target's loss of the present mixture less that of the chosen one, nats per token, float64 ``[n]``.
        min_gain: Which the gain must be clearly above.
    """
    t, needed = t_value(gains - min_gain), bound(len(gains))
    above = f'{min_gain:g} nats per token and ' if min_gain else ''
    of = f't = {t:.2f} of {len(gains)} pairs, bound {needed:.2f}'
    if t > needed:
        return Verdict(kind=TAKE, reason=f'{number(float(gains.mean()))} nats per token lower ({of})')
    if (more := _more_pairs(t / np.sqrt(len(gains)), len(gains))) is None:
        return Verdict(kind=STAY, reason=f'no gain above {above}noise ({of})')
    plural = 's' if more > 1 else ''
    return Verdict(kind=CANNOT_TELL, reason=f'{more} more pair{plural} ({of})', more_pairs=more)


def _more_pairs(effect: float, pairs: int) -> int | None:
    """Pairs that are missing, if the gain in standard deviations stays as it is; None: too many."""
    enough = (n for n in range(pairs + 1, MOST_PAIRS + 1) if effect * np.sqrt(n) > bound(n))
    found = next(enough, None)
    return None if found is None else found - pairs


def confirmed(gains: np.ndarray) -> Gap:
    """The gain with its 95 % interval."""
    return Gap(gains, 1)
