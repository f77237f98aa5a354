"""Skills one after another: curriculum and anti-curriculum."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import unique_names
from skillit_stream.mixture.checks import (
    number_within,
    one_of,
    weights_by_skill,
)
from skillit_stream.mixture.context import required
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.registry import register
from skillit_stream.mixture.stages import mixture_of_round, run_length


@register('curriculum')
class Curriculum(MixturePolicy):
    """Skills one after another by how hard they are, earlier ones mixed in, all of them at the end.

    Skill-It's baseline (Chen et al. 2023, appendix; after Varshney et al. 2022, arXiv 2205.09898), as
    its published code computes it. With the k skills in order, their sizes n and the fraction f, stage
    i holds n_i samples of skill i and f n_j of each skill j before it; a last stage holds everything,
    n_j of each skill. All amounts are scaled so that the k + 1 stages fill the run.
    """

    name = 'curriculum'

    def __init__(
        self,
        skills: Sequence[str],
        sizes: Mapping[str, int] | None,
        rounds: int | None,
        *,
        order: Sequence[str] | None = None,
        anti: bool = False,
        mixing: float = 0.0,
    ) -> None:
        """Check the parameters.

        Args:
            skills: Skills that are mixed, k of them.
            sizes: Size of each skill in samples.
            rounds: Rounds of the run.
            order: Skills from first to last. None: by the losses before training, the lowest first.
            anti: Turn the order around.
            mixing: Fraction f of every earlier skill that is mixed into a later skill's stage, 0 to 1.

        Raises:
            InputError: If a parameter is out of range, or sizes or the run's length are not known.
        """
        by_loss = order is None
        super().__init__(skills, skills if by_loss else ())
        self.needs_initial_losses = by_loss
        self.rounds = run_length(self.name, rounds)
        sizes = required(self.name, 'the sizes of the streams', sizes)
        wanted = {name: sizes[name] for name in self.skills if name in sizes}
        self._sizes = weights_by_skill('sizes', wanted, self.skills)
        one_of('anti', anti, (False, True))
        self.anti, self.mixing = anti, number_within('mixing', mixing, 0.0, 1.0)
        self._order: list[str] | None = None
        if order is not None:
            names = unique_names('order', order)
            if set(names) != set(self.skills):
                raise InputError(f'order must name every skill once, but got: {", ".join(names)}')
            self._order = list(names)

    @property
    def order(self) -> tuple[str, ...]:
        """Skills in the order they are trained.

        Raises:
            InputError: If it depends on the losses before training and those are not known.
        """
        if self._order is None:
            raise InputError(
                "policy 'curriculum' orders skills by their losses before training, but none were observed: "
                "evaluate before training, or give the option 'order'"
            )
        return tuple(reversed(self._order)) if self.anti else tuple(self._order)

    def observe(self, observation: RoundObservation) -> None:
        """Order the skills by the losses before training (round -1); later ones change nothing.

        Raises:
            InputError: If a loss is missing or not finite.
        """
        if self.needs_initial_losses and self._order is None:
            losses = observation.losses_of(self.eval_skills)
            self._order = [self.skills[i] for i in np.argsort(losses, kind='stable')]

    def initial(self) -> NDArray[np.float64]:
        """Return the mixture of round 0, float64 ``[k]``."""
        return self._mixture(0)

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the mixture of the next round, float64 ``[k]``."""
        return self._mixture(observation.round + 1)

    def describe(self) -> dict[str, Any]:
        """Name and parameters; the order as far as it is known."""
        order = None if self._order is None else list(self.order)
        return {'name': self.name, 'order': order, 'anti': self.anti, 'mixing': self.mixing}

    def _mixture(self, round_number: int) -> NDArray[np.float64]:
        amounts = np.zeros((len(self.skills) + 1, len(self.skills)))
        earlier: list[int] = []
        for stage, name in enumerate(self.order):
            skill = self.skills.index(name)
            amounts[stage, earlier] = self.mixing * self._sizes[earlier]
            amounts[stage, skill] = self._sizes[skill]
            earlier.append(skill)
        amounts[-1] = self._sizes
        lengths = amounts.sum(axis=1)
        # A skill without samples has no stage.
        stages, lengths = amounts[lengths > 0], lengths[lengths > 0]
        return mixture_of_round(stages / lengths[:, None], lengths, round_number, self.rounds)

    def _memory(self) -> dict[str, Any]:
        return {'order': self._order}

    def _restore(self, memory: Mapping[str, Any]) -> None:
        if self.needs_initial_losses:
            self._order = None if memory['order'] is None else list(memory['order'])
