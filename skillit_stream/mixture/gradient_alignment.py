"""More of the skills whose gradients point where others' do: policies on products of gradients, no graph."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import unique_names
from skillit_stream.mixture.checks import number_within, one_of, proportions_or_even
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation, array
from skillit_stream.mixture.registry import register
from skillit_stream.mixture.simplex import by_name

REWARDS = ('targets', 'others')


def alignment_with_targets(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """How a step on each skill lowers the mean loss of the targets, to first order: float64 ``[k]``.

    DGA's a_i = <grad L_i, grad L_target> (Fan, Grangier and Ablin 2024, arXiv 2410.02498), for one set of target data.

    Args:
        products: <grad L_i, grad L_j> of skill i and target j, float64 ``[k, m]``.
    """
    return products.mean(axis=1)


def alignment_with_others(
    products: NDArray[np.float64], *, low: float = -np.inf, high: float = np.inf
) -> NDArray[np.float64]:
    """AC-ODM's reward (Ma, Dang and Liao 2025, arXiv 2505.23878), as its code has it: float64 ``[k]``.

    The sum of a skill's products with the other skills, over the mean norm of all gradients, within bounds; then with a
    mean of 0 and a standard deviation of 1, and within 3 of them.

    Args:
        products: <grad L_i, grad L_j>, float64 ``[k, k]``.
        low: Of the bounds, the code's ``dw_min``.
        high: Of the bounds, the code's ``dw_max``.
    """
    norms = np.diag(products)
    sums = (products.sum(axis=1) - norms) / (np.sqrt(np.maximum(norms, 0.0)).mean() + 1e-6)
    sums = np.clip(sums, low, high)
    deviation = sums.std(ddof=1) if len(sums) > 1 else 0.0
    return np.clip((sums - sums.mean()) / (deviation + 1e-8), -3.0, 3.0)


@register('dga')
class GradientAlignment(MixturePolicy):
    """Dynamic gradient alignment: the mixture moves by exponentiated ascent on the skills' rewards.

    p ∝ p' exp(eta a), with rewards a; the mixture that is trained on is the average p'' = (1 - ema) p''' + ema p of the
    rounds so far (DGA's Algorithm 1, arXiv 2410.02498). With ``reward='others'`` the rewards are AC-ODM's, without its
    actor and critic. The gradients are of the last layer and sketched (``mixing.gradients``), where the papers take the
    whole model, or layers that are named.
    """

    name = 'dga'
    needs_gradients = True
    remembers: ClassVar = {'mixture': array, 'average': array}

    def __init__(
        self,
        skills: Sequence[str],
        eval_skills: Sequence[str],
        *,
        eta: float = 1.0,
        ema: float = 0.1,
        reward: str = 'targets',
        targets: Sequence[str] | None = None,
        scale: bool = True,
        initial: Mapping[str, float] | None = None,
    ) -> None:
        """Check the parameters.

        Args:
            skills: Skills that are mixed, k of them; their eval splits give their gradients.
            eval_skills: Skills that are evaluated.
            eta: Step of the mixture, per unit of reward.
            ema: Weight of the newest mixture in the average, above 0 and at most 1.
            reward: 'targets': alignment with the mean of the targets; 'others': with the sum of the other skills.
            targets: Eval skills that the mixture is for; None: all.
            scale: Whether rewards towards targets are divided by the largest of them, so that `eta` does not depend on
                the size of the gradients, which falls as the model learns. DGA does not.
            initial: Proportions of the first round; None: the same for every skill.

        Raises:
            InputError: A parameter is out of range, or a skill that is mixed is not evaluated.
        """
        unseen = [name for name in skills if name not in eval_skills]
        if unseen:
            raise InputError(
                f'policy {self.name!r} needs the gradient of every skill that is trained on, which its eval split '
                f'gives, but {unseen[0]!r} is not evaluated'
            )
        wanted = unique_names('targets', eval_skills if targets is None else targets)
        super().__init__(skills, dict.fromkeys([*skills, *wanted]))
        one_of('reward', reward, REWARDS)
        one_of('scale', scale, (False, True))
        if reward == 'others' and targets is not None:
            raise InputError("reward='others' looks at the skills that are trained on: leave targets out")
        self.targets, self.reward, self.scale = wanted, reward, scale
        self.eta = number_within('eta', eta)
        self.ema = number_within('ema', ema, 0.0, 1.0)
        if not self.ema:
            raise InputError('ema must be above 0, or the mixture never moves')
        self._mixture = proportions_or_even('initial', initial, self.skills)
        self._average = self._mixture.copy()

    def initial(self) -> NDArray[np.float64]:
        """Return the first mixture, float64 ``[k]``."""
        return self._average.copy()

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the next mixture, float64 ``[k]``.

        Raises:
            InputError: The observation has no products of gradients, or one is not finite.
        """
        if self.reward == 'others':
            rewards = alignment_with_others(observation.products_of(self.skills, self.skills))
        else:
            rewards = alignment_with_targets(observation.products_of(self.skills, self.targets))
            if self.scale:
                rewards = rewards / max(float(np.abs(rewards).max()), 1e-30)
        logits = np.log(np.maximum(self._mixture, 1e-300)) + self.eta * rewards
        weights = np.exp(logits - logits.max())
        self._mixture = weights / weights.sum()
        self._average = (1 - self.ema) * self._average + self.ema * self._mixture
        return self._average.copy()

    def describe(self) -> dict[str, Any]:
        """Name and parameters."""
        return {
            'name': self.name,
            'eta': self.eta,
            'ema': self.ema,
            'reward': self.reward,
            'scale': self.scale,
            'targets': list(self.targets),
            'initial': by_name(self.skills, self._average),
        }
