"""ODM: more of the skills whose training losses are high (Albalak et al. 2023, arXiv 2312.02406)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.checks import (
    number_within,
    one_of,
    proportions_of_data,
    whole_number,
)
from skillit_stream.mixture.exp3 import exploration
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation, array
from skillit_stream.mixture.registry import register
from skillit_stream.mixture.simplex import by_name, softmax, take_over

METHODS = ('smoothed_mean', 'ema', 'naive_validation')
STEPS = 100
SMOOTHING = 0.9
WARMUP_STEPS, OF_STEPS = 2_000, 100_000
"""Of the published runs."""


@register('odm')
class OnlineDataMixing(MixturePolicy):
    """Online data mixing by the losses of the round just trained.

    With t the steps trained on so far, L_i the loss of skill i in the round, k skills and
    ε_t = min(1/k, sqrt(ln k / (k t))), the paper's method (``smoothed_mean``) is::

        R_i ← α R_i + (1 - α) exp(L_i),   R = 0 at first
        π   = (1 - k ε_t) R / Σ R + ε_t

    Two others of the published code are ``ema``, without exploration, R = π_0 at first::

        R_i ← (2 / (1+t)) L_i + (1 - 2 / (1+t)) R_i,   π = R / Σ R

    and ``naive_validation``, Exp3 on eval losses, with ε of the update before::

        R_i ← R_i + (L_i - min L) / (max L - min L),   π = (1 - k ε_t) softmax(ε_before R) + ε_t

    A skill that was not drawn keeps its R. Until `warmup` steps are over the mixture is the first one, π_0, and
    nothing is learned. One update is done a round, as the published code does with its
    ``data_sampling_update_frequency`` at the steps of a round, but on the mean losses of the round; its runs
    have one a step.
    """

    name = 'odm'
    remembers: ClassVar = {'estimates': array, 'steps': int, 'floor': float}

    def __init__(
        self,
        skills: Sequence[str],
        sizes: Mapping[str, int] | None = None,
        rounds: int | None = None,
        round_steps: int | None = None,
        *,
        method: str = 'smoothed_mean',
        smoothing: float | None = None,
        warmup: int | None = None,
        steps: int | None = None,
        initial: Mapping[str, float] | None = None,
    ) -> None:
        """Check the parameters.

        Args:
            skills: Skills that are mixed, k of them.
            sizes: Size of each skill in samples: π_0 where `initial` is not given.
            rounds: Rounds of the run, if known.
            round_steps: Steps of a round, if known.
            method: 'smoothed_mean', 'ema' or 'naive_validation'.
            smoothing: α of 'smoothed_mean', 0 to below 1; None: 0.9.
            warmup: Steps on the first mixture. None: 2 % of the run, as published, or 2,000 where its length is
                not known.
            steps: Steps that a round counts for, at least 1; None: those it has, or 100 where that is not known.
            initial: Proportions π_0, summing to 1; None: by size, or the same for every skill without `sizes`.

        Raises:
            InputError: If a parameter is out of range, or the run ends before the warm-up does.
        """
        one_of('method', method, METHODS)
        validation = method == 'naive_validation'
        super().__init__(skills, skills if validation else ())
        self.needs_train_losses = not validation
        self.method = method
        if smoothing is not None and method != 'smoothed_mean':
            raise InputError(
                f"smoothing is of method 'smoothed_mean' alone, but got: {smoothing!r} with {method!r}"
            )
        self.smoothing = number_within(
            'smoothing', SMOOTHING if smoothing is None else smoothing, 0.0, 0.9999
        )
        known = STEPS if round_steps is None else round_steps
        self.steps = whole_number('steps', known if steps is None else steps, at_least=1)
        self.warmup = self._warmup_steps(warmup, rounds)
        self._initial = proportions_of_data('initial', initial, sizes, self.skills)
        self._estimates = self._initial if method == 'ema' else np.zeros(len(self.skills))
        self._steps = 0
        self._floor = exploration(len(self.skills), 0)

    def initial(self) -> NDArray[np.float64]:
        """Return the first mixture, float64 ``[k]``."""
        return self._initial.copy()

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Take in the losses of a round and return the mixture of the next, float64 ``[k]``.

        Raises:
            InputError: If there are no losses of the kind the method needs, one is not finite, or its exponential
                overflows.
        """
        losses = observation.losses_of(self.skills, 'train' if self.needs_train_losses else 'eval')
        self._notes = []
        self._steps += self.steps
        if self._steps <= self.warmup:
            return self.initial()
        before, self._floor = self._floor, exploration(len(self.skills), self._steps)
        self._estimates = np.where(np.isnan(losses), self._estimates, self._estimated(losses))
        proportions = self._mixture(before)
        self._notes = take_over(self.skills, proportions, observation.eval_losses)
        return proportions

    def describe(self) -> dict[str, Any]:
        """Name and parameters."""
        own = ('smoothing',) if self.method == 'smoothed_mean' else ()
        keys = ('name', 'method', *own, 'warmup', 'steps')
        return {**{key: getattr(self, key) for key in keys}, 'initial': by_name(self.skills, self._initial)}

    def _warmup_steps(self, warmup: int | None, rounds: int | None) -> int:
        if warmup is None:
            return WARMUP_STEPS if rounds is None else rounds * self.steps * WARMUP_STEPS // OF_STEPS
        whole_number('warmup', warmup)
        if rounds is not None and warmup > 0 and rounds * self.steps <= warmup:
            raise InputError(
                f"policy 'odm' keeps its first mixture for {warmup} steps, but the run has {rounds * self.steps}; "
                'lower warmup or make the run longer'
            )
        return warmup

    def _estimated(self, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """The estimates R after these losses, float64 ``[k]``; NaN where there is no loss."""
        if self.method == 'ema':
            newest = 2.0 / (1.0 + self._steps)
            return newest * losses + (1.0 - newest) * self._estimates
        if self.method == 'naive_validation':
            lowest, spread = losses.min(), np.ptp(losses)
            return self._estimates + (losses - lowest) / (spread if spread > 0 else 1.0)
        with np.errstate(over='ignore'):
            rewards = np.exp(losses)
        if np.isinf(rewards).any():
            name, loss = self.skills[int(np.nanargmax(losses))], np.nanmax(losses)
            raise InputError(
                f'exp of the training loss of {name!r} overflows: {loss:g}; the run has diverged'
            )
        return self.smoothing * self._estimates + (1.0 - self.smoothing) * rewards

    def _mixture(self, before: float) -> NDArray[np.float64]:
        """π of the estimates; `before` is ε of the update before."""
        explored = (1.0 - len(self.skills) * self._floor, self._floor)
        if self.method == 'naive_validation':
            return explored[0] * softmax(before * self._estimates) + explored[1]
        total = self._estimates.sum()
        if not total > 0:  # no skill has been drawn since the warm-up
            return self.initial()
        greedy = self._estimates / total
        return greedy if self.method == 'ema' else explored[0] * greedy + explored[1]

    def _restore(self, memory: Mapping[str, Any]) -> None:
        if 'rewards' in memory:
            raise InputError(
                "policy state does not fit: it is of the bandit that is called 'exp3' now; resume with policy: exp3"
            )
        super()._restore(memory)
