"""Branches and short runs that a policy asks for before it decides, and what it has found in them.

A *branch* is a few steps from where the run is, after which the run goes on as if they had never been trained. A
*short run* shares the weights alone. A *trial* is a generator: it yields some of them, is sent the losses after each,
and returns what it has found. Who drives the policy has them trained and puts what was found into the observation that
the policy then decides by.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A few steps from where a run is, and the half of the eval samples that is evaluated afterwards."""

    name: str
    mixture: dict[str, float]
    """Train skill -> proportion."""
    steps: int
    shuffle_seed: int
    """Of the order of the samples; in a trial what is added to the run's own, so that 0 is the run's order."""
    half: int
    """0: the eval samples that a law is fitted to; 1: those that it has not seen."""


@dataclass(frozen=True, kw_only=True)
class ShortRun:
    """A few steps from a run's weights alone, as a skills graph is learned from, evaluated on all eval samples.

    Optimizer and random numbers begin anew, the schedule spans the steps, and the samples are the first of each stream.
    """

    name: str
    mixture: dict[str, float]
    """Train skill -> proportion."""
    steps: int
    """0: the weights are evaluated as they are."""
    repeat: int
    """Added to the run's seed of the order."""
    lr: float | None = None
    """Learning rate; None: the run's."""


Losses = Mapping[str, float]
"""Eval skill -> nats per token, after a branch or a short run."""
Found = dict[str, Any]
"""What a trial has found, in plain Python, for the log and for `RoundObservation.trial`: ``verdict`` and ``reason``,
``mixture`` by skill where it is to be taken, ``branches`` and ``steps`` that were trained, and what else there is."""
Trial = Generator[Sequence[Branch] | Sequence[ShortRun], Sequence[Losses], Found]
