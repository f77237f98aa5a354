"""A policy around a policy: what every wrapper passes through."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.sample_order import SampleOrder
from skillit_stream.mixture.trials import Trial


class WrappedPolicy(MixturePolicy):
    """Does what the policy inside does; a subclass changes what it has to.

    The state is the inner policy's, so that a run can be resumed with a wrapper added or taken off.
    """

    name = 'wrapped'

    def __init__(self, policy: MixturePolicy) -> None:
        """Take over the inner policy's skills and needs."""
        super().__init__(policy.skills, policy.eval_skills)
        self.policy = policy
        self.needs_initial_losses = policy.needs_initial_losses
        self.needs_train_losses = policy.needs_train_losses
        self.needs_gradients = policy.needs_gradients
        self.needs_branches = policy.needs_branches
        self.needs_short_runs = self.needs_short_runs or policy.needs_short_runs
        self.weighs_tokens = policy.weighs_tokens
        self.accepts_bad_losses = policy.accepts_bad_losses

    def initial(self) -> NDArray[np.float64]:
        """Return the inner policy's first mixture, float64 ``[k]``."""
        return self.policy.initial()

    def begin(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the inner policy's first mixture inside a run, float64 ``[k]``."""
        return self.policy.begin(observation)

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the inner policy's next mixture, float64 ``[k]``."""
        return self.policy.update(observation)

    def trial(self, observation: RoundObservation) -> Trial | None:
        """Return what the inner policy wants to have trained."""
        return self.policy.trial(observation)

    def observe(self, observation: RoundObservation) -> None:
        """Pass an evaluation on."""
        self.policy.observe(observation)

    def notes(self) -> list[str]:
        """Return the inner policy's notes, then those of the wrapper."""
        return [*self.policy.notes(), *self._notes]

    def decided(self) -> Mapping[str, float]:
        """Return what the inner policy has decided."""
        return self.policy.decided()

    def objective(self) -> NDArray[np.float64] | None:
        """Return the inner policy's objective, float64 ``[k]``."""
        return self.policy.objective()

    def sample_orders(self) -> Mapping[str, SampleOrder]:
        """Return the inner policy's orders."""
        return self.policy.sample_orders()

    def describe(self) -> dict[str, Any]:
        """Return the inner policy's name and parameters."""
        return self.policy.describe()

    def state_dict(self) -> dict[str, Any]:
        """Return the inner policy's state."""
        return self.policy.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand the state to the inner policy."""
        self.policy.load_state_dict(state)
