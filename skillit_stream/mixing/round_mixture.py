"""The mixture that a policy has decided for a round: what is drawn, and what the loss of its tokens is the mean of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.loader.dataset import SkillStreamingDataset
from skillit_stream.mixing.last_decision import SAME
from skillit_stream.mixing.ranks import from_rank_zero
from skillit_stream.mixture import MixturePolicy


@dataclass(frozen=True)
class RoundMixture:
    """A round's mixture; mappings are by skill, in the order of the dataset's."""

    round: int
    proportions: dict[str, float]
    """That are drawn."""
    objective: dict[str, float] | None
    """That are trained for, by weights of tokens; None: those that are drawn."""

    @classmethod
    def agreed(
        cls, policy: MixturePolicy, dataset: SkillStreamingDataset, decide: Callable[[], NDArray[np.float64]]
    ) -> 'RoundMixture':
        """Rank 0's mixture of the dataset's next round on every rank: float noise must not split the ranks.

        Args:
            policy: Every rank's decides, so that each holds the state; one decision is played.
            dataset: That is trained on.
            decide: Asks the policy.

        Raises:
            InputError: A skill is part of the objective, but not drawn.
        """
        drawn = decide()
        drawn, objective = from_rank_zero((_by_skill(policy, drawn), _by_skill(policy, policy.objective())))
        if drawn is None:
            raise RuntimeError('Internal error: a policy has decided nothing.')
        for skill, proportion in (objective or {}).items():
            if proportion > 0 and drawn[skill] <= 0:
                raise InputError(
                    f'The policy {policy.name} has {proportion:.4g} of {skill} as its objective, but draws none of it, '
                    f'and no weight makes up for that: draw some of it (`floor`), or take it out of the objective.'
                )
        skills = dataset.skills
        return cls(
            dataset.next_round,
            {skill: drawn[skill] for skill in skills},
            objective and {skill: objective[skill] for skill in skills},
        )

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any] | None) -> 'RoundMixture | None':
        """Inverse of `to_plain`; nothing of nothing."""
        return cls(**plain) if plain else None

    def to_plain(self) -> dict[str, Any]:
        """In plain Python."""
        return asdict(self)

    def is_as(self, proportions: Mapping[str, float], objective: Mapping[str, float] | None) -> bool:
        """Whether this mixture is the same but for float noise."""
        return _are_same(self.proportions, proportions) and _are_same(
            self.objective or self.proportions, objective or proportions
        )

    def token_weights(self, skills: Sequence[str], number: int) -> dict[str, float] | None:
        """Weight of the loss of each token of these skills in a round; None: all are 1, as those of another round are.

        Streams that have come since have a weight of 1.
        """
        if self.objective is None or number != self.round:
            return None
        drawn = self.proportions
        weights = {skill: part / drawn[skill] if part else 0.0 for skill, part in self.objective.items()}
        return {skill: weights.get(skill, 1.0) for skill in skills}


def _by_skill(policy: MixturePolicy, proportions: NDArray[np.float64] | None) -> dict[str, float] | None:
    return None if proportions is None else dict(zip(policy.skills, map(float, proportions), strict=True))


def _are_same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return all(abs(value - other[skill]) <= SAME for skill, value in one.items())
