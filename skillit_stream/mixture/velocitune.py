"""Velocitune: more of the skills that are slow on their way to a target loss (Luo et al. 2024, arXiv 2411.14318)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.checks import proportions_of_data
from skillit_stream.mixture.excess_loss import Reference, reference_losses
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation, array
from skillit_stream.mixture.registry import register
from skillit_stream.mixture.simplex import by_name, log, played, softmax, take_over


@register('velocitune')
class Velocitune(MixturePolicy):
    """Multiply by the exponential of what is left of the way from the first loss to the target.

    With L_0 the losses before training, L those at the end of the round, L* the target losses, and p the mixture that
    was trained on::

        V_i = (L_i - L*_i) / (L_0i - L*_i), between 0 and 1
        p   ∝ p_i exp(V_i)

    The paper calls V the learning velocity: it is 1 at the start and 0 at the target, so that the slow weigh more. A
    skill whose first loss is not above its target has V = 0. There is no published code; the paper was read in
    summaries, one of which names the bounds 0 and 1. It starts from the proportions of the data and takes its targets
    from a scaling law fitted to a small run.
    """

    name = 'velocitune'
    remembers: ClassVar = {'mixture': array, 'first': array}

    def __init__(
        self,
        skills: Sequence[str],
        sizes: Mapping[str, int] | None = None,
        *,
        target_losses: Reference,
        initial: Mapping[str, float] | None = None,
    ) -> None:
        """Check the parameters.

        Args:
            skills: Skills that are mixed, k of them; their eval losses are needed.
            sizes: Size of each skill in samples: the first mixture where `initial` is not given.
            target_losses: L* of each skill, nats per token, or the path of a JSON file of them.
            initial: Proportions of the first round, summing to 1; None: by size, or the same for every skill without
                `sizes`.

        Raises:
            InputError: If a parameter is out of range or a skill has no target loss.
        """
        super().__init__(skills, skills)
        self.needs_initial_losses = True
        self.target_losses = reference_losses(target_losses, self.skills, 'target_losses')
        self._initial = proportions_of_data('initial', initial, sizes, self.skills)
        self._mixture = self._initial
        self._first: NDArray[np.float64] | None = None

    def initial(self) -> NDArray[np.float64]:
        """Return the mixture of the first round, float64 ``[k]``."""
        return self._initial.copy()

    def observe(self, observation: RoundObservation) -> None:
        """Take in the losses before training; evaluations inside a round change nothing.

        Raises:
            InputError: If a loss is missing or not finite.
        """
        if observation.round < 0:
            self._first = observation.losses_of(self.skills)

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Take in the losses at the end of a round and return the mixture of the next, float64 ``[k]``.

        Raises:
            InputError: If a loss is missing or not finite, or there are none of before training.
        """
        losses = observation.losses_of(self.skills)
        if self._first is None:
            raise InputError(
                f'velocitune needs the losses before training, but got those of round {observation.round}: evaluate '
                'before training and pass them to observe() as round -1'
            )
        way = self._first - self.target_losses
        left = np.divide(losses - self.target_losses, way, out=np.zeros(len(way)), where=way > 0)
        before = played(self.skills, observation.proportions, self._mixture)
        self._mixture = softmax(log(before) + np.clip(left, 0.0, 1.0))
        self._notes = take_over(self.skills, self._mixture, observation.eval_losses)
        return self._mixture.copy()

    def describe(self) -> dict[str, Any]:
        """Name and parameters."""
        return {
            'name': self.name,
            'target_losses': by_name(self.skills, self.target_losses),
            'initial': by_name(self.skills, self._initial),
        }
