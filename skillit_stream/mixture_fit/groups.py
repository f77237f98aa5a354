"""What is fitted: every skill, or, when an old mixture is reused, the changed skills and the kept rest as one.

Olmix's mixture reuse (Chen et al. 2026, arXiv 2602.12237; the published code folds a fixed part in the same way):
skills that did not change keep their ratio among themselves, so one proportion, their total, stands for all of them. A
law over the changed skills and that total has fewer parameters and needs fewer runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import nearest
from skillit_stream.mixture.checks import proportions_by_skill

Array = NDArray[np.float64]

KEPT = '(kept)'


@dataclass(frozen=True)
class Groups:
    """g groups of k skills; a mixture of groups stands for a mixture of skills."""

    inside: Array
    """Proportion of each skill within each group, float64 ``[g, k]``; rows sum to 1."""
    members: NDArray[np.bool_]
    """Whether a skill belongs to a group, bool ``[g, k]``: a kept skill may have proportion 0."""
    names: tuple[str, ...]

    def reduce(self, proportions: Array) -> Array:
        """Totals of the groups: float64 ``[..., k]`` -> ``[..., g]``."""
        return proportions @ self.members.T

    def expand(self, totals: Array) -> Array:
        """Proportions of the skills: float64 ``[..., g]`` -> ``[..., k]``."""
        return totals @ self.inside

    def reduce_limits(self, limits: Array) -> Array:
        """The largest total that keeps every skill of a group within its limit: ``[k]`` -> ``[g]``, at most 1."""
        with np.errstate(divide='ignore', invalid='ignore'):
            per_skill = np.where(self.inside > 0, limits / self.inside, np.inf)
        return np.minimum(per_skill.min(axis=1), 1.0)

    def log_base(self, natural: Array) -> Array:
        """log m with KL(expand(z) ‖ natural) = Σ z log(z / m) for every z: ``[k]`` -> ``[g]``; -inf: no data.

        For a skill of its own m is its natural proportion; for kept ones log m = Σᵤ qᵤ log(naturalᵤ / qᵤ).
        """
        with np.errstate(divide='ignore', invalid='ignore'):
            return np.where(self.inside > 0, self.inside * np.log(natural / self.inside), 0.0).sum(axis=1)

    def spread(self, proportions: Array) -> float:
        """How far the runs' ratios within groups are from the groups' own: the largest difference of a proportion."""
        return float(np.abs(proportions - self.expand(self.reduce(proportions))).max())


def every_skill(skills: Sequence[str]) -> Groups:
    """Each skill a group of its own."""
    k = len(skills)
    return Groups(np.eye(k), np.eye(k, dtype=np.bool_), tuple(skills))


def kept_as_one(skills: Sequence[str], keep: Mapping[str, float], changed: Sequence[str]) -> Groups:
    """The changed skills, and all others as one in the ratio that `keep` has.

    Args:
        skills: All skills.
        keep: The old mixture; proportions of changed skills and of skills that are no more are passed over.
        changed: Skills that changed or are new.

    Raises:
        InputError: If a changed skill is unknown, nothing is left to keep, or a kept one has no old proportion.
    """
    for name in changed:
        if name not in skills:
            raise InputError(f'--changed names the unknown skill {name!r}; {nearest(name, skills)}')
    kept = [name for name in skills if name not in changed]
    if not kept:
        raise InputError('--changed names every skill, so there is nothing to keep: leave --keep out')
    if not isinstance(keep, Mapping):
        raise InputError(f'--keep must map each skill to its proportion, but got: {keep!r}')
    kept_before = {name: keep[name] for name in kept if name in keep}
    own = [name for name in skills if name in changed]
    inside, members = np.zeros((len(own) + 1, len(skills))), np.zeros((len(own) + 1, len(skills)), np.bool_)
    for row, name in enumerate(own):
        inside[row, skills.index(name)] = 1.0
        members[row, skills.index(name)] = True
    columns = [skills.index(name) for name in kept]
    inside[-1, columns] = proportions_by_skill('--keep', kept_before, kept, any_sum=True)
    members[-1, columns] = True
    return Groups(inside, members, (*own, KEPT))
