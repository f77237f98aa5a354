"""Arithmetic on mixtures that several policies share."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

NEARLY_ALL = 0.99
"""A skill with a proportion above this has taken the mixture over."""


def log(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Natural logarithm; a weight of 0 gives -inf and so a proportion of 0."""
    with np.errstate(divide='ignore'):
        return np.log(weights)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Proportions proportional to ``exp(logits)``, float64 ``[k]``; one logit at least is finite."""
    # Shifted by the maximum: a bare exp overflows.
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def take_over(
    skills: Sequence[str], proportions: NDArray[np.float64], losses: Mapping[str, float] | None
) -> list[str]:
    """A note where one skill takes more than `NEARLY_ALL` of a mixture of several; else none.

    It names the other skill whose loss (of those in `losses`, nats per token) is the highest: what
    the mixture neglects.
    """
    largest = int(np.argmax(proportions))
    if len(skills) == 1 or proportions[largest] <= NEARLY_ALL:
        return []
    others = {name: loss for name, loss in (losses or {}).items() if name != skills[largest]}
    worst = max(others, key=lambda name: others[name], default=None)
    left = '' if worst is None else f' while the loss of {worst} is {others[worst]:.4g}'
    return [
        f'{skills[largest]} takes {proportions[largest]:.4f} of the mixture{left}; lower eta or set a ceiling'
    ]


def by_name(skills: Sequence[str], values: NDArray[np.float64]) -> dict[str, float]:
    """A number for each skill as a mapping, plain Python."""
    return dict(zip(skills, values.tolist(), strict=True))


def played(
    skills: Sequence[str], proportions: Mapping[str, float] | None, own: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The mixture the round was trained on, float64 ``[k]``: as observed, else the policy's own last one.

    The two differ where limits have changed what the policy said. A policy that multiplies on top of
    its own answer would move ever further from what is trained on.
    """
    if proportions is None:
        return own
    return np.array([proportions.get(name, 0.0) for name in skills], dtype=np.float64)
