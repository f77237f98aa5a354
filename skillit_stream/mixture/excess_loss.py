"""DoReMi and Sheared-LLaMA's dynamic batch loading: towards skills whose loss exceeds a reference."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import read_json
from skillit_stream.mixture.checks import (
    nearest,
    number_within,
    one_of,
    proportions_or_even,
)
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation, array
from skillit_stream.mixture.registry import register
from skillit_stream.mixture.simplex import by_name, log, played, softmax, take_over

Reference = Mapping[str, float] | str | os.PathLike[str]
"""Reference loss of each skill in nats per token, or a JSON file that holds such a mapping."""


class ExcessLoss(MixturePolicy):
    """Multiplicative weights on the excess over reference losses.

    With p_t the mixture round t was trained on, L the losses seen and R the reference losses::

        excess_i = max(L_i - R_i, 0)                  (without the maximum if clamp is off)
        q_i      ∝ p_t,i exp(eta excess_i)            (exp(p_t,i + eta excess_i) if update is 'bandit')
        p_{t+1}  = (1 - smoothing) q + smoothing / k

    A skill whose loss is not known in a round (it was not drawn) keeps its last excess, 0 at first.
    """

    eta_default: float = 1.0
    smoothing_default: float = 0.0
    losses_default: str = 'eval'
    remembers: ClassVar = {'mixture': array, 'excess': array, 'sum': array, 'updates': int}

    def __init__(
        self,
        skills: Sequence[str],
        *,
        reference: Reference,
        eta: float | None = None,
        smoothing: float | None = None,
        clamp: bool = True,
        losses: str | None = None,
        initial: Mapping[str, float] | None = None,
        update: str = 'doremi',
    ) -> None:
        """Check the parameters.

        Args:
            skills: Skills that are mixed, k of them.
            reference: Reference loss of each skill, nats per token, or the path of a JSON file of them.
            eta: Step size, per nat; None: the paper's.
            smoothing: Part of the mixture that is spread evenly, 0 to 1; None: the paper's.
            clamp: Read a loss below its reference as one that equals it.
            losses: 'eval' losses, or 'train' losses of the round; None: the paper's.
            initial: Proportions of the first round, summing to 1; None: the same for every skill.
            update: 'doremi', multiplicative weights, or 'bandit', as Sheared LLaMA's code calls them.

        Raises:
            InputError: If a parameter is out of range or a skill has no reference loss.
        """
        self.losses = self.losses_default if losses is None else losses
        one_of('losses', self.losses, ('eval', 'train'))
        one_of('clamp', clamp, (False, True))
        one_of('update', update, ('doremi', 'bandit'))
        super().__init__(skills, skills if self.losses == 'eval' else ())
        self.needs_train_losses = self.losses == 'train'
        self.reference = reference_losses(reference, self.skills)
        self.eta = number_within('eta', self.eta_default if eta is None else eta)
        self.smoothing = number_within(
            'smoothing', self.smoothing_default if smoothing is None else smoothing, 0.0, 1.0
        )
        self.clamp, self.move = clamp, update
        self._initial = proportions_or_even('initial', initial, self.skills)
        self._mixture = self._initial
        self._excess = np.zeros(len(self.skills))
        self._sum = np.zeros(len(self.skills))
        self._updates = 0

    def initial(self) -> NDArray[np.float64]:
        """Return the mixture of the first round, float64 ``[k]``."""
        return self._initial.copy()

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Take in the losses of a round and return the mixture of the next, float64 ``[k]``.

        Raises:
            InputError: If a loss is not finite, or one that is needed is missing.
        """
        excess = observation.losses_of(self.skills, self.losses) - self.reference
        if self.clamp:
            excess = np.maximum(excess, 0.0)
        self._excess = np.where(np.isnan(excess), self._excess, excess)
        before = played(self.skills, observation.proportions, self._mixture)
        proportions = softmax((log(before) if self.move == 'doremi' else before) + self.eta * self._excess)
        self._mixture = (1.0 - self.smoothing) * proportions + self.smoothing / len(self.skills)
        self._notes = take_over(self.skills, self._mixture, observation.eval_losses)
        self._sum = self._sum + self._mixture
        self._updates += 1
        return self._mixture.copy()

    def average(self) -> NDArray[np.float64]:
        """Return the mean of the mixtures of all updates so far, float64 ``[k]``; the first one before any."""
        return self._sum / self._updates if self._updates else self.initial()

    def describe(self) -> dict[str, Any]:
        """Name and parameters."""
        keys = ('name', 'eta', 'smoothing', 'clamp', 'losses')
        return {
            **{key: getattr(self, key) for key in keys},
            'update': self.move,
            'reference': by_name(self.skills, self.reference),
            'initial': by_name(self.skills, self._initial),
        }

    def _restore(self, memory: Mapping[str, Any]) -> None:
        # Checkpoints may call the mixture `shares`.
        super()._restore({'mixture': memory.get('shares'), **memory})


@register('sheared')
class DynamicBatchLoading(ExcessLoss):
    """Dynamic batch loading of Sheared LLaMA (Xia et al. 2023, arXiv 2310.06694, Algorithm 1).

    Δ_t[i] = max(ℓ_t[i] - ℓ_ref[i], 0) on held-out data, w_t ∝ w_{t-1} exp(Δ_t). The paper starts from
    the proportions of its corpus (`initial`). Its published code has no maximum and smooths by 1e-4:
    ``clamp=False, smoothing=1e-4``, for its update types ``doremi`` and ``bandit`` alike.
    """

    name = 'sheared'


@register('doremi')
class DoReMi(ExcessLoss):
    """The domain weights of DoReMi (Xie et al. 2023, arXiv 2305.10429, Algorithm 1, step 2).

    α_t ∝ α_{t-1} exp(η λ_t), then smoothed by c = 1e-3, with η = 1 and λ_t the excess of the training
    losses over those of a reference model. Three things differ from the paper. There λ_t clamps the
    excess token by token and averages it, here it is clamped as a mean over the round. There the weights
    scale the loss of a proxy model that draws all domains alike, here they are the mixture that is drawn,
    so the run is its own proxy. And the paper's result, to train a larger model with, is the `average`
    of the weights over the proxy's run.
    """

    name = 'doremi'
    smoothing_default = 1e-3
    losses_default = 'train'


def reference_losses(
    reference: Reference, skills: Sequence[str], what: str = 'reference'
) -> NDArray[np.float64]:
    """Put reference losses into the order of `skills`; losses of other skills are left out.

    Args:
        reference: By skill, or the path of a JSON file of them.
        skills: All skills, k of them.
        what: What to call them in errors.

    Returns:
        Losses in nats per token, float64 ``[k]``.

    Raises:
        InputError: If the file is missing or no mapping, or a skill has no loss that is a number.
    """
    where = what
    if isinstance(reference, str | os.PathLike):
        where = f'{what} {reference}'
        reference = read_json(Path(reference))
    if not isinstance(reference, Mapping):
        raise InputError(f'{where} must map each skill to a loss, but holds: {reference!r}')
    missing = [name for name in skills if name not in reference]
    if missing:
        raise InputError(f'{where} lacks the loss of {missing[0]!r}; {nearest(missing[0], reference)}')
    return np.array([number_within(f'{where}: the loss of {name!r}', reference[name]) for name in skills])
