"""Branches of a run that a policy asks for before it decides, and what it has found in them.

A *branch* is a few steps from where the run is, after which the run goes on as if they had never been trained. A
*trial* is a generator: it yields branches, is sent the losses after each, and returns what it has found. Who drives the
policy has the branches trained and puts what was found into the observation that the policy then decides by.
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


Losses = Mapping[str, float]
"""Eval skill -> nats per token, after a branch."""
Found = dict[str, Any]
"""What a trial has found, in plain Python, for the log and for `RoundObservation.trial`: ``verdict`` and ``reason``,
``mixture`` by skill where it is to be taken, ``branches`` and ``steps`` that were trained, and what else there is."""
Trial = Generator[Sequence[Branch], Sequence[Losses], Found]
