"""What a policy was shown at the end of a round, so that after a resume other options can decide it over again."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.mixture import MixturePolicy, RoundObservation

SAME = 1e-9
"""Proportions that differ by less are the same, but for the float noise of another machine."""


@dataclass(frozen=True)
class LastDecision:
    """The end of a round as the policy saw it.

    A policy's options are not part of its state. Where a run goes on with others, the mixture in its checkpoint is
    still that of the old ones; from this the new ones decide it.
    """

    memory: dict[str, Any]
    """The policy's state before."""
    observation: RoundObservation

    @classmethod
    def of(cls, policy: MixturePolicy, observation: RoundObservation) -> 'LastDecision':
        """Note it before the policy is asked."""
        return cls(copy.deepcopy(policy.state_dict()), observation)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any] | None) -> 'LastDecision | None':
        """Inverse of `to_plain`; nothing of nothing."""
        return cls(plain['memory'], RoundObservation(**plain['observation'])) if plain else None

    def to_plain(self) -> dict[str, Any]:
        """In plain Python."""
        return {'memory': self.memory, 'observation': asdict(self.observation)}

    def again(self, policy: MixturePolicy) -> NDArray[np.float64]:
        """What the policy, as it is now, makes of it: proportions ``[k]``. Its memory is then what that leaves."""
        policy.load_state_dict(self.memory)
        return policy.update(self.observation)
