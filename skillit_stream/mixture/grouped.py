"""A policy over groups of streams: the skills are the groups, and each stream of a group is drawn as often."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import unique_names
from skillit_stream.mixture.context import RunContext
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.wrapped import WrappedPolicy

Groups = Mapping[str, Sequence[str]]
"""Group -> its streams."""


def groups_of(given: Any, streams: Sequence[str]) -> dict[str, list[str]]:
    """The groups of a run's streams, those without one of them left out.

    Args:
        given: Group -> streams, or a text such as ``--``: the group of a stream is its name up to there.
        streams: Of the run, in order.

    Raises:
        InputError: A stream is in no group or in two, or `given` is neither.
    """
    if isinstance(given, str) and given:
        ends = {name: name.partition(given) for name in streams}
        lone = [name for name, (group, found, _) in ends.items() if not (group and found)]
        of = {name: group for name, (group, _, _) in ends.items()}
    elif isinstance(given, Mapping) and all(isinstance(names, list | tuple) for names in given.values()):
        pairs = [(str(name), str(group)) for group, names in given.items() for name in names]
        of = dict(pairs)
        twice = next((name for name, group in pairs if of[name] != group), None)
        if twice is not None:
            raise InputError(f'groups must have a stream in one group, but {twice!r} is in two')
        lone = [name for name in streams if name not in of]
    else:
        raise InputError(
            f'groups must be group -> streams, or what ends the name of a group, but got: {given!r}'
        )
    if lone:
        raise InputError(f'groups has no group for {len(lone)} of {len(streams)} streams ({lone[0]}); add it')
    groups: dict[str, list[str]] = {}
    for name in streams:
        groups.setdefault(of[name], []).append(name)
    return dict(sorted(groups.items()))


def context_of_groups(context: RunContext, groups: Groups) -> RunContext:
    """What a run knows, of groups in the place of streams; losses of single samples are not."""
    sizes = context.sizes
    summed = sizes and {group: sum(sizes[name] for name in names) for group, names in groups.items()}
    return replace(context, skills=list(groups), sizes=summed, sample_losses=None)


class GroupedPolicy(WrappedPolicy):
    """Shares the proportion of each group evenly among its streams.

    With tasks as streams and their categories as groups this draws tasks uniformly within a category, as the
    published code of Skill-It does for Natural Instructions (HazyResearch/skill-it, dataset/ni_dataset.py).
    """

    def __init__(self, policy: MixturePolicy, groups: Groups) -> None:
        """Take a policy whose skills are the groups.

        Raises:
            InputError: A skill of it is no group, it orders the samples of its skills, or it asks for branches.
        """
        super().__init__(policy)
        if set(policy.skills) != set(groups) or not all(groups.values()):
            raise InputError(
                f'groups must be the skills of the policy, {", ".join(policy.skills)}, each with a stream'
            )
        if policy.sample_orders():
            raise InputError(
                f'policy {policy.name!r} orders the samples of each skill, which groups do not have'
            )
        if policy.needs_branches or policy.needs_short_runs:
            raise InputError(f'policy {policy.name!r} trains branches of single streams, not of groups')
        self.groups = {group: list(groups[group]) for group in policy.skills}
        self.skills = unique_names('streams', (name for names in self.groups.values() for name in names))
        self._counts = np.array([len(names) for names in self.groups.values()])

    def initial(self) -> NDArray[np.float64]:
        """Return the first mixture of the streams, float64 ``[streams]``."""
        return self._shared(self.policy.initial())

    def begin(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the first mixture of the streams inside a run, float64 ``[streams]``."""
        return self._shared(self.policy.begin(self._of_groups(observation)))

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the next mixture of the streams, float64 ``[streams]``."""
        return self._shared(self.policy.update(self._of_groups(observation)))

    def objective(self) -> NDArray[np.float64] | None:
        """Return the objective of the streams, float64 ``[streams]``."""
        objective = self.policy.objective()
        return None if objective is None else self._shared(objective)

    def observe(self, observation: RoundObservation) -> None:
        """Pass an evaluation on."""
        self.policy.observe(self._of_groups(observation))

    def describe(self) -> dict[str, Any]:
        """Return the inner policy's description, and the groups."""
        return {**self.policy.describe(), 'groups': self.groups}

    def _shared(self, proportions: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.repeat(proportions / self._counts, self._counts)

    def _of_groups(self, observation: RoundObservation) -> RoundObservation:
        """Proportions and samples summed over the streams of a group; of training losses the mean of those drawn."""
        train, mixed, seen = observation.train_losses, observation.proportions, observation.samples_seen
        drawn = {
            group: [train[name] for name in names if train and name in train]
            for group, names in self.groups.items()
        }
        return replace(
            observation,
            train_losses=train
            and {group: float(np.mean(losses)) for group, losses in drawn.items() if losses},
            proportions=mixed and self._sums(mixed),
            samples_seen=seen and {group: int(count) for group, count in self._sums(seen).items()},
        )

    def _sums(self, values: Mapping[str, float]) -> dict[str, float]:
        return {group: sum(values.get(name, 0) for name in names) for group, names in self.groups.items()}
