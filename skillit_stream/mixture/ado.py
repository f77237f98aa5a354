"""ADO: towards skills whose fitted scaling law still falls fast (Jiang et al. 2024, arXiv 2410.11820)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skillit_stream.mixture.checks import (
    number_within,
    one_of,
    proportions_by_skill,
    whole_number,
)
from skillit_stream.mixture.context import required
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation, array
from skillit_stream.mixture.power_law import fit_power_law
from skillit_stream.mixture.registry import register
from skillit_stream.mixture.simplex import by_name, played, take_over

POINTS = 3
"""Losses that a law of three parameters needs."""


@register('ado')
class AdaptiveDataOptimization(MixturePolicy):
    """Fit L_i(n) = ε_i + β_i n^-α_i to each skill's losses and train where they fall fastest.

    n counts the samples of all skills together, as in the authors' code; μ is the prior (the natural
    proportions), π the mixture, and after round t (from 1)::

        h     = γ1 π + (1 - γ1) h                            how much of late was trained on skill i
        ρ_i   ∝ μ_i h_i^s (-dL_i/dn),  -dL_i/dn = α_i (L_i(n) - ε_i) / n
        ρ     = at least `least` each, scaled to sum to 1
        π     = γ2 ρ + (1 - γ2) π̄,  then  π̄ = ρ / t + (1 - 1/t) π̄

    For the first `warmup` rounds π is μ. A skill with fewer than 3 losses keeps the part μ_i of ρ.

    γ1 = γ2 = 0.1, s = 0.5 and least = 0.01 are the authors' code's, as its correction of December 2024 has it;
    given the laws, the mixtures are its own. The laws are not: it fits a Huber loss of log L in many starts of
    L-BFGS to the losses of single steps, and reads an exponent α below 0.05 as 0.05; here `fit_power_law`
    fits L in nats to those of rounds, at the middle of the round for training losses, at its end for eval
    losses. A round counts as one t, where the authors have a step.
    """

    name = 'ado'
    remembers: ClassVar = {'series': list, 'recent': array, 'average': array, 'mixture': array}

    def __init__(
        self,
        skills: Sequence[str],
        sizes: Mapping[str, int] | None = None,
        *,
        prior: Mapping[str, float] | None = None,
        losses: str = 'train',
        warmup: int = 3,
        skip: int = 0,
        gamma1: float = 0.1,
        gamma2: float = 0.1,
        s: float = 0.5,
        least: float = 0.01,
    ) -> None:
        """Check the parameters.

        Args:
            skills: Skills that are mixed, k of them.
            sizes: Size of each skill in samples: the prior where none is given.
            prior: Proportions μ, summing to 1.
            losses: 'train' losses of the round, or 'eval' losses at its end.
            warmup: Rounds on the prior before the first fit, at least 3 more than `skip`.
            skip: Rounds at the start that the fit leaves out, where the learning rate still rises.
            gamma1: Weight of the newest round in h, 0 to 1.
            gamma2: Weight of ρ in the mixture, 0 to 1.
            s: Exponent of h, 0 or more.
            least: Smallest proportion in ρ before it is scaled, 0 to 1/k.

        Raises:
            InputError: If a parameter is out of range, or there is neither a prior nor sizes.
        """
        one_of('losses', losses, ('train', 'eval'))
        super().__init__(skills, skills if losses == 'eval' else ())
        self.losses, self.needs_train_losses = losses, losses == 'train'
        self.skip = whole_number('skip', skip)
        self.warmup = whole_number('warmup', warmup, at_least=self.skip + POINTS)
        self.gamma1, self.gamma2 = (
            number_within('gamma1', gamma1, 0.0, 1.0),
            number_within('gamma2', gamma2, 0.0, 1.0),
        )
        self.s, self.least = number_within('s', s), number_within('least', least, 0.0, 1 / len(self.skills))
        self._prior = self._natural(prior, sizes)
        self._recent = self._average = self._mixture = self._prior
        self._series: list[list[float | None]] = []

    def initial(self) -> NDArray[np.float64]:
        """Return the prior, float64 ``[k]``."""
        return self._prior.copy()

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Take in the losses of a round and return the mixture of the next, float64 ``[k]``.

        Raises:
            InputError: If a loss is not finite, or one that is needed is missing.
        """
        losses = observation.losses_of(self.skills, self.losses)
        self._series.append([None if np.isnan(loss) else float(loss) for loss in losses])
        trained = played(self.skills, observation.proportions, self._mixture)
        self._recent = self.gamma1 * trained + (1.0 - self.gamma1) * self._recent
        rounds = len(self._series)
        if rounds < self.warmup:
            return self._prior.copy()
        preferred = self._preferred()
        self._mixture = self.gamma2 * preferred + (1.0 - self.gamma2) * self._average
        self._average = preferred / rounds + (1.0 - 1.0 / rounds) * self._average
        self._notes = take_over(self.skills, self._mixture, observation.eval_losses)
        return self._mixture.copy()

    def describe(self) -> dict[str, Any]:
        """Name and parameters."""
        keys = ('name', 'losses', 'warmup', 'skip', 'gamma1', 'gamma2', 's', 'least')
        described = {key: getattr(self, key) for key in keys}
        return {**described, 'prior': by_name(self.skills, self._prior)}

    def _natural(
        self, prior: Mapping[str, float] | None, sizes: Mapping[str, int] | None
    ) -> NDArray[np.float64]:
        if prior is not None:
            return proportions_by_skill('prior', prior, self.skills)
        sizes = required(self.name, "the sizes of the streams or the option 'prior'", sizes)
        samples = {name: sizes.get(name, 0) for name in self.skills}
        return proportions_by_skill('sizes', samples, self.skills, any_sum=True)

    def _preferred(self) -> NDArray[np.float64]:
        """ρ: the mixture that the scaling laws ask for, float64 ``[k]``."""
        speeds = [self._speed(skill) for skill in range(len(self.skills))]
        known = np.array([speed is not None for speed in speeds])
        wanted = np.array([speed or 0.0 for speed in speeds]) * self._prior * self._recent**self.s
        proportions = self._prior.copy()
        # Where no loss falls any more there is nothing to prefer.
        if wanted.sum() > 0:
            proportions[known] = wanted[known] / wanted.sum() * self._prior[known].sum()
        proportions = np.maximum(proportions, self.least)
        return proportions / proportions.sum()

    def _speed(self, skill: int) -> float | None:
        """-dL/dn of a skill at the end of the newest round, in nats per round of samples; None: too few losses."""
        middle = 0.5 if self.losses == 'train' else 1.0
        points = [(number + middle, row[skill]) for number, row in enumerate(self._series)][self.skip :]
        measured = [(count, loss) for count, loss in points if loss is not None]
        if len(measured) < POINTS:
            return None
        counts, losses = np.array(measured, dtype=np.float64).T
        _, scale, exponent = fit_power_law(counts, losses)
        now = len(self._series)
        return exponent * scale * now**-exponent / now
