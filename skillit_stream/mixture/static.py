"""Mixtures that stay as they are: the baselines, and the tool of ablations."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import unique_names
from skillit_stream.mixture.checks import (
    number_within,
    proportions_by_skill,
    weights_by_skill,
    whole_number,
)
from skillit_stream.mixture.context import NO_GRAPH, required
from skillit_stream.mixture.graph import SkillsGraph
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.registry import register
from skillit_stream.mixture.simplex import by_name


class StaticMixture(MixturePolicy):
    """The same proportions in every round; needs no losses."""

    name = 'static'

    def __init__(self, proportions: Mapping[str, float]) -> None:
        """Keep the proportions.

        Args:
            proportions: Proportion of each skill, in the order they are to be returned; they sum to 1
                within 1e-6. For weights such as 1:2:1 use `weighted`.

        Raises:
            InputError: If a proportion is negative or not finite, or they do not sum to 1.
        """
        if not isinstance(proportions, Mapping):
            raise InputError(f'proportions must map each skill to its proportion, but got: {proportions!r}')
        super().__init__(proportions)
        self._proportions = proportions_by_skill('proportions', proportions, self.skills)

    @classmethod
    def weighted(cls, weights: Mapping[str, float]) -> 'StaticMixture':
        """Proportions from weights that need not sum to 1: ``{'a': 1, 'b': 2, 'c': 1}``."""
        return cls.proportional(weights, what='weights')

    @classmethod
    def stratified(cls, skills: Iterable[str]) -> 'StaticMixture':
        """The same proportion for every skill."""
        names = unique_names('skills', skills)
        return cls(dict.fromkeys(names, 1.0 / len(names)))

    @classmethod
    def proportional(cls, sizes: Mapping[str, float], *, what: str = 'sizes') -> 'StaticMixture':
        """Proportions by size: what drawing from the pooled corpus gives ("random" in the paper).

        Args:
            sizes: Size of each skill in any one unit; samples where the skills are streams.
            what: What to call them in errors.
        """
        names = unique_names(what, sizes)
        return cls(by_name(names, proportions_by_skill(what, sizes, names, any_sum=True)))

    def initial(self) -> NDArray[np.float64]:
        """Return the proportions, float64 ``[k]``."""
        return self._proportions.copy()

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:  # noqa: ARG002
        """Return the proportions, whatever was observed."""
        return self._proportions.copy()

    def describe(self) -> dict[str, Any]:
        """Name and proportions."""
        return {'name': self.name, 'proportions': by_name(self.skills, self._proportions)}


@register('static')
def build_static(
    skills: Sequence[str],
    *,
    proportions: Mapping[str, float] | None = None,
    weights: Mapping[str, float] | None = None,
) -> StaticMixture:
    """Build a fixed mixture from either `proportions` (sum 1) or `weights` (any sum)."""
    if (proportions is None) == (weights is None):
        raise InputError("policy 'static' needs one of the options 'proportions' and 'weights'")
    if weights is not None:
        return StaticMixture.weighted(by_name(skills, weights_by_skill('weights', weights, skills)))
    return StaticMixture(by_name(skills, proportions_by_skill('proportions', proportions or {}, skills)))


@register('stratified')
def build_stratified(
    skills: Sequence[str], graph: SkillsGraph | None = None, *, targets: Sequence[str] | None = None
) -> StaticMixture:
    """Build the mixture of equal proportions: of all skills or, with `targets`, of those that matter to them.

    These are the targets themselves, as far as they are trained on, and their prerequisites: the skills
    with a positive weight on one of them in the skills graph. All others get 0.
    """
    if targets is None:
        return StaticMixture.stratified(skills)
    wanted = unique_names('targets', targets)
    selected = required('stratified', 'a skills graph for its targets', graph, NO_GRAPH).select(
        skills, wanted
    )
    chosen = selected.weights.max(axis=1) > 0
    chosen |= np.array([name in wanted for name in selected.train_skills])
    if not chosen.any():
        raise InputError(
            f'no skill helps the targets {", ".join(wanted)}: their columns hold no positive weight'
        )
    return StaticMixture.weighted(by_name(skills, chosen.astype(float)))


@register('proportional')
def build_proportional(skills: Sequence[str], sizes: Mapping[str, int] | None) -> StaticMixture:
    """Build the mixture proportional to the sizes of the streams."""
    values = weights_by_skill('sizes', required('proportional', 'the sizes of the streams', sizes), skills)
    return StaticMixture.proportional(by_name(skills, values))


@register('dirichlet')
def build_dirichlet(
    skills: Sequence[str], sizes: Mapping[str, int] | None, *, seed: int, strength: float = 1.0
) -> StaticMixture:
    """Draw a fixed mixture from Dirichlet(strength × proportions of the data).

    The mixtures of many small runs to fit a law to are drawn so (RegMix, Liu et al. 2024, arXiv 2407.01492, whose
    strengths go from 0.1 to 5): 0.1 gives nearly all to one skill, 100 stays near the data's own proportions.
    """
    known = required('dirichlet', 'the sizes of the streams', sizes)
    centre = proportions_by_skill('sizes', known, skills, any_sum=True)
    shape = number_within('strength', strength, low=1e-3) * np.maximum(centre, 1e-6)
    # Its stream is frozen, so that a seed gives the same mixture with every NumPy.
    drawn = np.random.RandomState(whole_number('seed', seed, 0)).standard_gamma(shape)
    return StaticMixture.weighted(by_name(skills, np.maximum(drawn, 1e-300)))
