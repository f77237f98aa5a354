"""Mixtures that change at set times: stages of a run, resolved into rounds."""

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.checks import whole_number

NEGLIGIBLE = 1e-9
"""A part of a round smaller than this is float noise where a stage ends with a round."""


def mixture_of_round(
    stages: NDArray[np.float64], lengths: NDArray[np.float64], round_number: int, rounds: int
) -> NDArray[np.float64]:
    """The mixture of one round of a run that goes through stages.

    A round within one stage has its mixture. A round over which a stage ends has the mean of both,
    weighted by how much of the round each takes, so that the run as a whole gives every stage its
    length exactly, however few the rounds.

    Args:
        stages: Mixture of each stage ``[S, k]``.
        lengths: Length of each stage ``[S]`` in any unit, above 0.
        round_number: The round, from 0; those after the end have the last stage's mixture.
        rounds: Rounds of the run, all stages together.

    Returns:
        Proportions, float64 ``[k]``.
    """
    if round_number >= rounds:
        return stages[-1].copy()
    # In rounds, so that stages of whole rounds begin and end on whole numbers.
    ends = np.cumsum(lengths) * (rounds / lengths.sum())
    starts = np.concatenate([[0.0], ends[:-1]])
    overlap = np.minimum(ends, round_number + 1) - np.maximum(starts, round_number)
    overlap[overlap < NEGLIGIBLE] = 0.0
    proportions = (overlap / overlap.sum()) @ stages
    return proportions / proportions.sum()


def run_length(policy: str, rounds: int | None) -> int:
    """Rounds of the run.

    Raises:
        InputError: If they are not known, or not at least 1.
    """
    if rounds is None:
        raise InputError(f'policy {policy!r} needs the length of the run: give max_duration in rounds (ep)')
    return whole_number('rounds', rounds, at_least=1)
