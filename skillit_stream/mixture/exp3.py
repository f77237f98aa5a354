"""Exp3: a bandit over skills whose reward is the training loss (published beside ODM, arXiv 2312.02406)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skillit_stream.mixture.checks import (
    number_within,
    proportions_or_even,
    whole_number,
)
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation, array
from skillit_stream.mixture.registry import register
from skillit_stream.mixture.simplex import by_name, softmax, take_over


@register('exp3')
class Exp3(MixturePolicy):
    """Exp3 with the training losses as rewards, a round at a time.

    The bandit draws one skill a step, t = 1, 2, ..., with loss L_i, and updates::

        R_i += (L_i / scale) / π_i          for the skill drawn
        ε_t  = `exploration`: min(1/k, sqrt(ln k / (k t)))
        π    = (1 - k ε_t) softmax(ε_{t-1} R) + ε_t

    Here a round stands for `draws` steps with the same π, and R takes their expectation: skill i is
    drawn π_i draws times, each adding L_i / (scale π_i), so ``R_i += draws L_i / scale``; the proportion
    cancels, and t grows by `draws`. No random numbers are drawn. A skill that was not drawn has no loss
    and keeps its R; its proportion never falls below ε_t.

    The formulas and scale = 10 are the method ``exp3`` of ODM's published code (`Exp3WeightUpdater.update`);
    the paper's own method is the policy ``odm``.
    """

    name = 'exp3'
    remembers: ClassVar = {'rewards': array, 'steps': int}
    needs_train_losses = True

    def __init__(
        self,
        skills: Sequence[str],
        *,
        draws: int = 100,
        scale: float = 10.0,
        initial: Mapping[str, float] | None = None,
    ) -> None:
        """Check the parameters.

        Args:
            skills: Skills that are mixed, k of them.
            draws: Steps of the bandit that a round stands for, at least 1. The mixture is uniform for the
                first k ln k steps, whatever the losses.
            scale: Loss that is a reward of 1, nats per token, above 0.
            initial: Proportions of the first round, summing to 1; None: the same for every skill.

        Raises:
            InputError: If a parameter is out of range.
        """
        super().__init__(skills)
        self.draws = whole_number('draws', draws, at_least=1)
        self.scale = number_within('scale', scale, low=1e-9)
        k = len(self.skills)
        self._initial = proportions_or_even('initial', initial, self.skills)
        self._rewards = np.zeros(k)
        self._steps = 0

    def initial(self) -> NDArray[np.float64]:
        """Return the mixture of the first round, float64 ``[k]``."""
        return self._initial.copy()

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Take in the training losses of a round and return the mixture of the next, float64 ``[k]``.

        Raises:
            InputError: If there are no training losses, or one is not finite.
        """
        losses = observation.losses_of(self.skills, 'train')
        self._rewards = self._rewards + self.draws * np.nan_to_num(losses, nan=0.0) / self.scale
        self._steps += self.draws
        floor = exploration(len(self.skills), self._steps)
        greedy = softmax(exploration(len(self.skills), self._steps - 1) * self._rewards)
        proportions = (1.0 - len(self.skills) * floor) * greedy + floor
        self._notes = take_over(self.skills, proportions, observation.eval_losses)
        return proportions

    def describe(self) -> dict[str, Any]:
        """Name and parameters."""
        first = by_name(self.skills, self._initial)
        return {'name': self.name, 'draws': self.draws, 'scale': self.scale, 'initial': first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; this policy was called ``odm`` in states that hold its rewards."""
        if state.get('policy') == 'odm' and 'rewards' in state.get('memory', ()):
            state = {**state, 'policy': self.name}
        super().load_state_dict(state)


def exploration(k: int, step: int) -> float:
    """ε_t, the proportion below which none of k skills falls; ε_0 is 1/k."""
    return min(1.0 / k, math.sqrt(math.log(k) / (k * step))) if step > 0 else 1.0 / k
