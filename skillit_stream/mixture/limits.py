"""Floors, ceilings and a bound on repeats for the mixtures of any policy, and weights that make up for them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import nearest
from skillit_stream.mixture.checks import number_within
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.simplex import by_name
from skillit_stream.mixture.wrapped import WrappedPolicy

NOISE = 1e-12
"""Proportions that differ by less are the same."""

NO_PROPORTION = 1e-200
"""A smaller proportion counts as none: its ratio to the others is no longer a number."""


def fill(
    proportions: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Bring a mixture within limits, keeping the ratios between all skills that no limit holds.

    The result is ``clip(x * proportions, low, high)`` for the one x that makes it sum to 1 (water filling),
    found exactly from the points at which a skill reaches a limit. Skills with a proportion of 0 stay at their
    floor unless all others are at their ceilings; then they share what is left evenly in the same way.

    Args:
        proportions: Mixture ``[k]``, summing to 1.
        low: Smallest proportions ``[k]``, summing to 1 or less.
        high: Largest proportions ``[k]``, not below `low`, summing to 1 or more.

    Returns:
        Mixture within the limits, float64 ``[k]``; `proportions` itself where no limit binds.
    """
    if (proportions >= low).all() and (proportions <= high).all():
        return proportions.copy()
    positive = proportions > NO_PROPORTION
    if high[positive].sum() + low[~positive].sum() < 1:
        if positive.all():
            return high / high.sum()  # ceilings that sum to 1 but for float noise
        result = high.copy()
        left = 1.0 - high[positive].sum()
        result[~positive] = _scaled(np.ones(int((~positive).sum())), low[~positive], high[~positive], left)
        return result
    result = low.copy()
    left = 1.0 - low[~positive].sum()
    result[positive] = _scaled(proportions[positive], low[positive], high[positive], left)
    return result


def _scaled(
    weights: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], total: float
) -> NDArray[np.float64]:
    """``clip(x * weights, low, high)`` that sums to `total`; all weights above 0."""
    starts, ends = low / weights, high / weights
    corners = np.unique(np.concatenate([starts, ends]))
    sums = np.array([np.clip(x * weights, low, high).sum() for x in corners])
    # Between two corners the sum is a straight line: the corner below the total says who is free.
    below = corners[max(int(np.searchsorted(sums, total, side='right')) - 1, 0)]
    free = (starts <= below) & (ends > below)
    result = np.clip(below * weights, low, high)
    if free.any():
        x = (total - result[~free].sum()) / weights[free].sum()
        result[free] = np.clip(x * weights[free], low[free], high[free])
    return result


def reachable_objective(
    wanted: NDArray[np.float64], drawn: NDArray[np.float64], max_weight: float
) -> NDArray[np.float64]:
    """The mixture nearest to `wanted` that weights of tokens make of what is drawn.

    Weights w_i / q_i above `max_weight` are held there, and what that leaves goes to the others in their ratio. Drawn
    by q, a token has a mean weight of Σ q_i w_i / q_i = 1.

    Args:
        wanted: Mixture ``[k]``, summing to 1.
        drawn: Mixture q ``[k]``, summing to 1.
        max_weight: Of a token, 1 or more.

    Returns:
        Objective w, float64 ``[k]``, summing to 1; 0 where nothing is drawn.
    """
    return fill(wanted, np.zeros(len(wanted)), max_weight * drawn)


@dataclass(frozen=True)
class Limits:
    """Limits on the proportions of a mixture, checked together.

    With `max_passes` N, what is left of a skill's tape before its N-th pass ends, spread evenly over the
    rounds left, is a ceiling of its own; without a known number of rounds, what is left is the ceiling
    of the next round. A floor above it gives way. By the end of the run a skill may exceed N passes by
    the few samples that rounding a proportion to whole samples adds.
    """

    skills: tuple[str, ...]
    floor: NDArray[np.float64]
    """Smallest proportion of each skill ``[k]``."""
    ceiling: NDArray[np.float64]
    """Largest proportion of each skill ``[k]``."""
    max_passes: float | None = None
    """Walks over a stream that no skill may exceed by the end of the run."""
    sizes: NDArray[np.float64] | None = None
    """Samples in each skill's stream ``[k]``."""
    round_size: int | None = None
    """Samples in a round."""
    rounds: int | None = None
    """Rounds of the run, if known."""

    @classmethod
    def build(
        cls,
        skills: Sequence[str],
        *,
        floor: float | Mapping[str, float] = 0.0,
        ceiling: float | Mapping[str, float] = 1.0,
        max_passes: float | None = None,
        sizes: Mapping[str, int] | None = None,
        round_size: int | None = None,
        rounds: int | None = None,
    ) -> 'Limits':
        """Check the limits.

        Args:
            skills: Skills that are mixed, k of them.
            floor: Smallest proportion, for all skills or by skill; skills not named have none.
            ceiling: Largest proportion, for all skills or by skill; skills not named have none.
            max_passes: Walks over a stream that no skill may exceed by the end of the run.
            sizes: Samples in each skill's stream, for `max_passes`.
            round_size: Samples in a round, for `max_passes`.
            rounds: Rounds of the run, for `max_passes`.

        Raises:
            InputError: If a limit is no proportion, or no mixture is within all of them.
        """
        names = tuple(skills)
        low, high = _by_skill('floor', floor, names, 0.0), _by_skill('ceiling', ceiling, names, 1.0)
        _check_bounds(names, low, high)
        limits = cls(names, low, high)
        if max_passes is None:
            return limits
        passes = number_within('max_passes', max_passes, low=1e-9)
        if sizes is None or round_size is None:
            raise InputError('max_passes needs the sizes of the streams and the size of a round')
        samples = np.array([sizes.get(name, 0) for name in names], dtype=np.float64)
        limits = cls(names, low, high, passes, samples, int(round_size), rounds)
        limits.check_run()
        return limits

    def check_run(self) -> None:
        """Refuse a run that the data under `max_passes` and the ceilings cannot fill from its start.

        Raises:
            InputError: Saying how many samples there are and how many the run draws.
        """
        if self.rounds is None:
            return
        proportions = np.minimum(self.ceiling, self.pass_ceiling(np.zeros(len(self.skills)), 0))
        if proportions.sum() < 1 - NOISE:
            drawn = self.rounds * (self.round_size or 0)
            raise InputError(
                f'max_passes={self.max_passes:g} leaves {int(proportions.sum() * drawn)} samples to draw within the '
                f'ceilings, but the run draws {drawn}; raise max_passes, or make the run shorter'
            )

    def pass_ceiling(self, seen: NDArray[np.float64], next_round: int) -> NDArray[np.float64]:
        """Largest proportion of each skill in `next_round` under `max_passes`, given the samples seen ``[k]``."""
        if self.max_passes is None or self.sizes is None or self.round_size is None:
            return np.ones(len(self.skills))
        left = np.maximum(self.max_passes * self.sizes - seen, 0.0)
        rounds_left = 1 if self.rounds is None else max(self.rounds - next_round, 1)
        return left / (float(self.round_size) * rounds_left)

    def apply(
        self, proportions: NDArray[np.float64], seen: NDArray[np.float64], next_round: int
    ) -> tuple[NDArray[np.float64], list[str]]:
        """Bring the mixture of `next_round` within the limits.

        Where the data left under `max_passes` cannot fill a round within the ceilings, every skill takes
        what it has left and more in that proportion, up to its ceiling: the bound on passes gives way.

        Args:
            proportions: Mixture ``[k]``.
            seen: Samples of each skill drawn so far ``[k]``.
            next_round: The round the mixture is for.

        Returns:
            The mixture, float64 ``[k]``, and a line for every skill that a limit holds.
        """
        by_passes = self.pass_ceiling(seen, next_round)
        high = np.minimum(self.ceiling, by_passes)
        if high.sum() < 1 - NOISE:
            weights = high / high.sum() if high.sum() > 0 else proportions
            result = fill(weights, np.zeros(len(proportions)), self.ceiling)
            return result, [
                f'limits: the data left under {self.max_passes:g} passes fills {high.sum():.3f} of round '
                f'{next_round}; max_passes gives way'
            ]
        high = high / min(high.sum(), 1.0)
        low = np.minimum(self.floor, high)
        result = fill(proportions, low, high)
        return result, self._notes(proportions, result, by_passes, high)

    def _notes(
        self,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
        by_passes: NDArray[np.float64],
        high: NDArray[np.float64],
    ) -> list[str]:
        lines = []
        for i, name in enumerate(self.skills):
            lowered, raised = before[i] > high[i] + NOISE, before[i] < self.floor[i] - NOISE
            if not lowered and not raised:
                continue
            reason = 'floor' if raised else 'ceiling'
            if by_passes[i] <= (self.ceiling[i] if lowered else after[i]) + NOISE and by_passes[i] < 1:
                reason = f'{self.max_passes:g} passes'
            lines.append(f'limits: {name} {before[i]:.4g} -> {after[i]:.4g} ({reason})')
        return lines


class LimitedPolicy(WrappedPolicy):
    """Any policy, its mixtures brought within limits; each change is a note."""

    def __init__(self, policy: MixturePolicy, limits: Limits, *, max_weight: float | None = None) -> None:
        """Wrap a policy.

        Args:
            policy: Whose mixtures are limited.
            limits: Of its skills.
            max_weight: What the policy wants stays the objective where the limits hold what is drawn: tokens are
                weighed, none by more than this. None: what is drawn is the objective.

        Raises:
            InputError: If the limits are those of other skills, or leave a skill that is to be weighed out.
        """
        super().__init__(policy)
        if limits.skills != policy.skills:
            raise InputError(
                f'limits are for {", ".join(limits.skills)}, but the policy mixes: {", ".join(policy.skills)}'
            )
        if max_weight is not None and not limits.ceiling.all():
            never = limits.skills[int(np.argmin(limits.ceiling))]
            raise InputError(
                f'token_weights weigh what is drawn, but the ceiling of {never!r} is 0; raise it, or leave the '
                'skill out'
            )
        self.limits, self.max_weight = limits, max_weight
        self.weighs_tokens = policy.weighs_tokens or max_weight is not None
        self._objective: NDArray[np.float64] | None = None

    def initial(self) -> NDArray[np.float64]:
        """Return the first mixture within the limits, float64 ``[k]``; nothing counts as drawn yet."""
        return self._limited(self.policy.initial(), np.zeros(len(self.skills)), 0)

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the next mixture within the limits, float64 ``[k]``.

        Raises:
            InputError: If `max_passes` is set and the observation does not say what was drawn.
        """
        seen = np.zeros(len(self.skills))
        if observation.samples_seen is not None:
            seen = np.array([observation.samples_seen.get(name, 0) for name in self.skills], dtype=np.float64)
        elif self.limits.max_passes is not None:
            raise InputError(f'max_passes needs samples_seen, but round {observation.round} has none')
        return self._limited(self.policy.update(observation), seen, observation.round + 1)

    def objective(self) -> NDArray[np.float64] | None:
        """Return what the policy wanted, as far as weights reach it, float64 ``[k]``; None where that is drawn."""
        return self._objective

    def describe(self) -> dict[str, Any]:
        """Return the inner policy's description and the limits."""
        return {
            **self.policy.describe(),
            'floor': by_name(self.skills, self.limits.floor),
            'ceiling': by_name(self.skills, self.limits.ceiling),
            'max_passes': self.limits.max_passes,
            **({} if self.max_weight is None else {'token_weights': True, 'max_weight': self.max_weight}),
        }

    def _limited(
        self, proportions: NDArray[np.float64], seen: NDArray[np.float64], number: int
    ) -> NDArray[np.float64]:
        drawn, notes = self.limits.apply(proportions, seen, number)
        self._notes, self._objective = notes, self.policy.objective()
        if self.max_weight is not None:
            wanted = proportions if self._objective is None else self._objective
            objective = reachable_objective(wanted, drawn, self.max_weight)
            held = [
                f'token_weights: {self.skills[i]} is {objective[i]:.4g} of the objective, not {wanted[i]:.4g} '
                f'({drawn[i]:.4g} is drawn, max_weight is {self.max_weight:g})'
                for i in np.flatnonzero(objective < wanted - NOISE)
            ]
            self._notes = [*notes, *held]
            self._objective = None if np.abs(objective - drawn).max() <= NOISE else objective
        return drawn


def _by_skill(
    what: str, value: float | Mapping[str, float], skills: Iterable[str], default: float
) -> NDArray[np.float64]:
    names = list(skills)
    if not isinstance(value, Mapping):
        return np.full(len(names), number_within(what, value, 0.0, 1.0))
    for name in value:
        if name not in names:
            raise InputError(f'{what} names the unknown skill {name!r}; {nearest(str(name), names)}')
    given = {name: number_within(f'{what} of {name!r}', own, 0.0, 1.0) for name, own in value.items()}
    return np.array([given.get(name, default) for name in names])


def _check_bounds(skills: tuple[str, ...], low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
    for i, name in enumerate(skills):
        if low[i] > high[i]:
            raise InputError(f'floor of {name!r} is {low[i]:g}, above its ceiling of {high[i]:g}')
    if low.sum() > 1 + NOISE:
        raise InputError(f'floors must leave a mixture, but they sum to {low.sum():.6g}; lower them')
    if high.sum() < 1 - NOISE:
        raise InputError(f'ceilings must leave a mixture, but they sum to {high.sum():.6g}; raise them')
