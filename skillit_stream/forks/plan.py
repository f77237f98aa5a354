"""What a fork does, decided before anything is trained: its branches by name, its lengths, its limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from composer.core import Time

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import nearest, unique_names
from skillit_stream.forks.choice import Array, branch_mixtures, raised_mixture
from skillit_stream.mixture.trials import Branch
from skillit_stream.training.config import TrainConfig
from skillit_stream.training.run_policy import run_units

LONGEST = 4
"""Branches are lengthened up to this many times --steps, unless --max-steps says otherwise."""
FIT, CONFIRM = 0, 1
"""Halves of the eval samples."""
_FRESH = 2**16
"""How far the orders of the pairs are from those of the repeats."""


@dataclass(frozen=True, kw_only=True)
class ForkOptions:
    """What is asked for."""

    steps: int
    """H, of each branch."""
    max_steps: int | None = None
    """Up to which H is doubled where the branches differ too little; None: `LONGEST` times `steps`."""
    targets: tuple[str, ...] = ()
    """Eval skills whose mean loss shall fall; (): all."""
    repeats: int = 3
    confirm: int = 3
    """Pairs."""
    min_gain: float = 0.0
    """Nats per token; a gain that is not clearly above it is none."""
    max_passes: float | None = None
    """How often the run may walk a stream by its end; None: its `warn_passes`, or 1 with `on_exhausted: error`."""

    def __post_init__(self) -> None:
        lowest = {'steps': 1, 'repeats': 2, 'confirm': 2}
        for name, least in lowest.items():
            if getattr(self, name) < least:
                raise InputError(f'`--{name}` must be at least {least}, but got: {getattr(self, name)}.')
        if self.max_steps is not None and self.max_steps < self.steps:
            raise InputError(
                f'`--max-steps` must be at least --steps, {self.steps}, but got: {self.max_steps}.'
            )
        if not 0 <= self.min_gain < inf:
            raise InputError(f'`--min-gain` must be 0 or more nats per token, but got: {self.min_gain:g}.')
        if self.max_passes is not None and not self.max_passes > 0:
            raise InputError(f'`--max-passes` must be above 0, but got: {self.max_passes:g}.')


@dataclass(frozen=True, kw_only=True)
class ForkPlace:
    """Where in its run the checkpoint is."""

    step: int
    of_steps: int | None
    """None: not known beforehand."""
    present: Mapping[str, float]
    """Train skill -> proportion that the run would go on with."""
    drawn: Mapping[str, int]
    """Train skill -> samples by there."""
    sizes: Mapping[str, int]
    """Train skill -> samples of a pass."""
    shuffle_seed: int


@dataclass(frozen=True, kw_only=True)
class ForkPlan:
    """The branches of a fork."""

    options: ForkOptions
    place: ForkPlace
    eval_skills: tuple[str, ...]
    lengths: tuple[int, ...]
    """Steps to try, each twice the one before."""

    @property
    def skills(self) -> tuple[str, ...]:
        """Train skills, in the order of all arrays."""
        return tuple(self.place.present)

    @property
    def present(self) -> Array:
        """Proportions, float64 ``[k]``."""
        return np.array(list(self.place.present.values()))

    @property
    def targets(self) -> list[int]:
        """Their places among the eval skills."""
        return [self.eval_skills.index(skill) for skill in self.options.targets or self.eval_skills]

    @property
    def count(self) -> int:
        """Branches of one length, the pairs among them."""
        return len(self.skills) + self.options.repeats + 2 * self.options.confirm

    def raised(self, steps: int) -> list[Branch]:
        """One a skill, in the order that the run itself would have."""
        return [
            self._branch(f'{skill} raised', raised_mixture(self.present, at), steps, 0)
            for at, skill in enumerate(self.skills)
        ]

    def repeats(self, steps: int) -> list[Branch]:
        """Of the present mixture, the first in the order that the run itself would have."""
        return [
            self._branch(f'present {number + 1}', self.present, steps, number)
            for number in range(self.options.repeats)
        ]

    def pairs(self, steps: int, chosen: Array) -> list[tuple[Branch, Branch]]:
        """The present mixture and the chosen one, in orders that no other branch has."""
        return [
            (
                self._branch(f'pair {number + 1} present', self.present, steps, _FRESH + number, CONFIRM),
                self._branch(f'pair {number + 1} chosen', chosen, steps, _FRESH + number, CONFIRM),
            )
            for number in range(self.options.confirm)
        ]

    def highest(self, batch_size: int) -> Array:
        """Upper limits of the proportions, float64 ``[k]``: what is left of each stream by --max-passes.

        A skill is not raised beyond it; its present proportion is never held to be too much.

        Args:
            batch_size: Samples in a step.
        """
        sizes, drawn = (
            np.array([of[skill] for skill in self.skills]) for of in (self.place.sizes, self.place.drawn)
        )
        # Inside a round the whole of it counts as drawn.
        begun = max(self.place.step, int(drawn.sum()) // batch_size)
        left = 0 if self.place.of_steps is None else self.place.of_steps - begun
        if left <= 0 or self.options.max_passes is None:
            return np.ones(len(self.skills))
        room = self.options.max_passes * sizes - drawn
        return np.clip(np.maximum(room / (left * batch_size), self.present), 0.0, 1.0)

    def _branch(self, name: str, mixture: Array, steps: int, order: int, half: int = FIT) -> Branch:
        proportions = dict(zip(self.skills, mixture.tolist(), strict=True))
        seed = (self.place.shuffle_seed + order) % 2**32
        return Branch(name=name, mixture=proportions, steps=steps, shuffle_seed=seed, half=half)


def steps_of_run(config: TrainConfig, seq_len: int) -> int | None:
    """Steps of a whole run; None where that is not known beforehand."""
    samples = run_units(config, seq_len).samples(Time.from_timestring(config.max_duration))
    return None if samples is None else -(-samples // config.global_train_batch_size)


def plan_fork(options: ForkOptions, place: ForkPlace, eval_skills: Sequence[str]) -> ForkPlan:
    """Check what is asked for against the run.

    Raises:
        InputError: A target is none of the eval skills, there is one skill alone, or the run has too few steps left.
    """
    for target in unique_names('--targets', options.targets) if options.targets else ():
        if target not in eval_skills:
            raise InputError(
                f'`--targets` names {target!r}, which the run does not evaluate: {nearest(target, eval_skills)}'
            )
    if len(place.present) < 2:
        raise InputError(
            f'The run trains on {next(iter(place.present))} alone: there is no mixture to change.'
        )
    try:
        branch_mixtures(np.array(list(place.present.values())), options.repeats)
    except InputError as error:
        raise InputError(
            f'The run is on one skill alone, so that nothing can be told of raising it: {error}'
        ) from None
    left = None if place.of_steps is None else place.of_steps - place.step
    if left is not None and left < options.steps:
        raise InputError(
            f'The checkpoint is of step {place.step} of {place.of_steps}, and a branch takes {options.steps} more: '
            f'name an earlier one with --checkpoint.'
        )
    longest = LONGEST * options.steps if options.max_steps is None else options.max_steps
    longest = longest if left is None else min(longest, left)
    lengths = [options.steps]
    while 2 * lengths[-1] <= longest:
        lengths.append(2 * lengths[-1])
    return ForkPlan(options=options, place=place, eval_skills=tuple(eval_skills), lengths=tuple(lengths))
