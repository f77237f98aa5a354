"""GRAPE: towards what helps the targets that improve least (Fan et al. 2025, arXiv 2505.20380), by losses alone."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.checks import number_within, proportions_or_even
from skillit_stream.mixture.context import NO_GRAPH, required
from skillit_stream.mixture.graph import SkillsGraph
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation, array
from skillit_stream.mixture.registry import register
from skillit_stream.mixture.simplex import by_name, log, played, softmax, take_over


@register('grape')
class Grape(MixturePolicy):
    """Weigh the targets by how little they improve, and mix what helps those.

    With A the skills graph, L and L' the losses of the m targets now and an evaluation before, z their weights
    (equal at first) and p the mixture that was trained on::

        r_n = (L'_n - L_n) / L'_n                          the rate of improvement
        z   ∝ z_n exp(-mu_targets r_n),  then z = (1 - smoothing) z + smoothing / m
        p   ∝ p_k exp(mu_skills Σ_n A_kn z_n / L_n)

    The paper (equations 3 and 4) has inner products of gradients in both places: of the batch with ∇ log L_n for r,
    of skill k with Σ_n z_n ∇ log L_n for the sum. Here the rate is measured, of which that product is the first
    order, and the graph stands for the products with ∇L_n. The defaults are those of the published code's ClimbLab
    configuration. Its own loss-only variant (``tgt_reweight_step_offline``) has the rate with the other sign, which
    weighs the targets more that improve most; here it is the paper's.
    """

    name = 'grape'
    remembers: ClassVar = {'mixture': array, 'targets': array, 'losses': array}

    def __init__(
        self,
        skills: Sequence[str],
        graph: SkillsGraph | None = None,
        *,
        targets: Sequence[str] | None = None,
        mu_targets: float = 5.0,
        mu_skills: float = 1.5,
        smoothing: float = 1e-3,
        initial: Mapping[str, float] | None = None,
    ) -> None:
        """Check the parameters.

        Args:
            skills: Skills that are mixed, k of them.
            graph: Skills graph; its rows are reduced to `skills`, its columns to `targets`.
            targets: Eval skills that are to improve, m of them; None: the columns of the graph.
            mu_targets: Step size of the targets' weights.
            mu_skills: Step size of the mixture.
            smoothing: Part of the targets' weights that is spread evenly, 0 to 1.
            initial: Proportions of the first round, summing to 1; None: the same for every skill.

        Raises:
            InputError: If a parameter is out of range, or there is no graph.
        """
        self._graph = required('grape', 'a skills graph', graph, NO_GRAPH).select(skills, targets)
        super().__init__(self._graph.train_skills, self._graph.eval_skills)
        self.needs_initial_losses = True
        self.mu_targets = number_within('mu_targets', mu_targets)
        self.mu_skills = number_within('mu_skills', mu_skills)
        self.smoothing = number_within('smoothing', smoothing, 0.0, 1.0)
        self._initial = proportions_or_even('initial', initial, self.skills)
        self._mixture = self._initial
        self._targets = np.full(len(self.eval_skills), 1.0 / len(self.eval_skills))
        self._losses: NDArray[np.float64] | None = None

    @property
    def target_weights(self) -> NDArray[np.float64]:
        """z, float64 ``[m]`` in the order of `eval_skills`."""
        return self._targets.copy()

    def initial(self) -> NDArray[np.float64]:
        """Return the mixture of the first round, float64 ``[k]``."""
        return self._initial.copy()

    def observe(self, observation: RoundObservation) -> None:
        """Take in the losses before training; evaluations inside a round change nothing.

        Raises:
            InputError: If a loss is missing, not finite or not above 0.
        """
        if observation.round < 0:
            self._losses = self._positive(observation)

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Take in the losses at the end of a round and return the mixture of the next, float64 ``[k]``.

        Raises:
            InputError: If a loss is missing, not finite or not above 0.
        """
        losses = self._positive(observation)
        # Without an evaluation before, no target is known to lag.
        rate = np.zeros(len(losses)) if self._losses is None else (self._losses - losses) / self._losses
        weights = softmax(log(self._targets) - self.mu_targets * rate)
        self._targets = (1.0 - self.smoothing) * weights + self.smoothing / len(weights)
        before = played(self.skills, observation.proportions, self._mixture)
        gain = self._graph.weights @ (self._targets / losses)
        self._mixture = softmax(log(before) + self.mu_skills * gain)
        self._losses = losses
        self._notes = take_over(self.skills, self._mixture, observation.eval_losses)
        return self._mixture.copy()

    def describe(self) -> dict[str, Any]:
        """Name and parameters."""
        keys = ('name', 'mu_targets', 'mu_skills', 'smoothing')
        return {
            **{key: getattr(self, key) for key in keys},
            'targets': list(self.eval_skills),
            'initial': by_name(self.skills, self._initial),
        }

    def _positive(self, observation: RoundObservation) -> NDArray[np.float64]:
        losses = observation.losses_of(self.eval_skills)
        if not (losses > 0).all():
            name = self.eval_skills[int(np.argmin(losses))]
            raise InputError(
                f'grape divides by the losses, but that of {name!r} in round {observation.round} is not above 0'
            )
        return losses
