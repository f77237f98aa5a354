"""A policy that begins inside the run: until then the mixture is a fixed one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.simplex import by_name
from skillit_stream.mixture.trials import Trial
from skillit_stream.mixture.wrapped import WrappedPolicy


class WaitingPolicy(WrappedPolicy):
    """Any policy, begun at the round `start`; before it the mixture stays as it is.

    What a model learns first from every skill tells little of what it will need: losses fall everywhere, and a policy
    that follows them from the first round follows that. For the policy inside, the run begins with the round
    `start`: that is its round 0, and the evaluation before it the one before training (:meth:`MixturePolicy.begin`).

    Where the streams change before or after, so that its memory is dropped, it waits for one round more and begins.
    """

    def __init__(self, policy: MixturePolicy, start: int, before: NDArray[np.float64]) -> None:
        """Wrap a policy.

        Args:
            policy: Built for the rounds from `start` on.
            start: The round it begins with, at least 1.
            before: Mixture ``[k]`` of the rounds before it.
        """
        super().__init__(policy)
        self.start, self._before = start, before
        # The evaluation that it begins with ends a round.
        self.needs_initial_losses = False
        self._began: int | None = None

    def initial(self) -> NDArray[np.float64]:
        """Return the mixture before the start, float64 ``[k]``."""
        return self._before.copy()

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the next mixture, float64 ``[k]``; raises as the policy inside does."""
        self._notes, upcoming = [], observation.round + 1
        if self._began is not None:
            return self.policy.update(self._shifted(observation, self._began))
        if upcoming < self.start:
            return self._before.copy()
        self._began = upcoming
        self._notes = [f'start: {self.policy.name} begins with round {upcoming}']
        return self.policy.begin(self._shifted(observation, upcoming))

    def trial(self, observation: RoundObservation) -> Trial | None:
        """Return what the policy wants to have trained once it has begun, or before it begins."""
        upcoming = observation.round + 1
        if self._began is None and upcoming < self.start:
            return None
        began = upcoming if self._began is None else self._began
        return self.policy.trial(self._shifted(observation, began))

    def observe(self, observation: RoundObservation) -> None:
        """Pass on an evaluation inside a round, once the policy has begun."""
        if self._began is not None:
            self.policy.observe(self._shifted(observation, self._began))

    def notes(self) -> list[str]:
        """Return the inner policy's notes once it has begun, and where it began."""
        return super().notes() if self._began is not None else []

    def describe(self) -> dict[str, Any]:
        """Return the inner policy's description, the start and the mixture before it."""
        before = by_name(self.skills, self._before)
        return {**self.policy.describe(), 'start': self.start, 'before_start': before}

    def state_dict(self) -> dict[str, Any]:
        """Return the inner policy's state and, beside it, the round that it began with."""
        return {**self.policy.state_dict(), 'began': self._began}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; one saved without this wrapper is of a policy that began with the run."""
        self.policy.load_state_dict(state)
        self._began = state.get('began', 0)

    def _shifted(self, observation: RoundObservation, by: int) -> RoundObservation:
        return replace(observation, round=observation.round - by)
