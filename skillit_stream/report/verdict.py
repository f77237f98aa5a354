"""The verdict: which method ended lowest, by how much, and whether that is more than noise, in a sentence or two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from skillit_stream.base.errors import InputError
from skillit_stream.report.comparison import MIN_SEEDS, losses_per_seed, number, trained_longer
from skillit_stream.report.methods import Method, common_eval_skills, plural

LEVEL = 0.95
STRATIFIED = 'stratified'
SAME = 1e-9  # proportions that differ by less are the same


@dataclass(frozen=True, slots=True)
class Gap:
    """How far a method ends below another, on the seeds both have."""

    differences: np.ndarray
    """Loss of the other minus that of the method, nats per token, float64, one a seed."""
    comparisons: int
    """How many methods the one was chosen from: the more there are, the wider the interval."""

    @property
    def mean(self) -> float:
        """Nats per token."""
        return float(self.differences.mean())

    @property
    def half_width(self) -> float:
        """Of the interval of Student's t around the mean, nats per token (Bonferroni's for several comparisons)."""
        n = len(self.differences)
        quantile = stats.t.ppf(1 - (1 - LEVEL) / 2 / self.comparisons, n - 1)
        return float(quantile * np.std(self.differences, ddof=1) / np.sqrt(n))

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves 0 out."""
        return abs(self.mean) > self.half_width


def chosen_baseline(methods: Sequence[Method]) -> str | None:
    """The method that others are compared with where none is named.

    That is the stratified one (of several that named so, else the first), else the only one whose mixture is fixed;
    None without one.
    """
    fixed = [method for method in methods if method.fixed_mixture]
    even = [method for method in fixed if np.ptp(list(method.fixed_mixture.values())) < SAME]
    even.sort(key=lambda method: method.name != STRATIFIED)
    chosen = even[:1] or (fixed if len(fixed) == 1 else [])
    return chosen[0].name if chosen and len(methods) > 1 else None


def compared(methods: Sequence[Method], baseline: str | None = None) -> tuple[list[Method], str | None]:
    """The methods, the baseline first, and the baseline: the one named, else `chosen_baseline`.

    Raises:
        InputError: `baseline` is none of the methods.
    """
    names = [method.name for method in methods]
    if baseline is not None and baseline not in names:
        raise InputError(
            f'the baseline must be one of the methods, {", ".join(names)}, but got: {baseline!r}'
        )
    baseline = baseline or chosen_baseline(methods)
    return sorted(methods, key=lambda method: method.name != baseline), baseline


def verdict(methods: Sequence[Method], baseline: str | None = None) -> str:
    """Which method ended lowest against the baseline, by how much, on how many seeds, and what noise says to it.

    Fewer than three seeds in common show no noise: then no method is called lower than another. Methods that were
    trained on more samples than the baseline are named, and not compared.

    Args:
        methods: The runs, grouped.
        baseline: The method to compare with; None: the one behind the lowest.
    """
    common = common_eval_skills(methods)
    longer = trained_longer(methods, baseline)
    note = [f'Not compared, as trained on more samples: {", ".join(longer)}.'] if longer else []
    losses = {method.name: losses_per_seed(method, common) for method in methods}
    losses = {name: by_seed for name, by_seed in losses.items() if by_seed and name not in longer}
    control = _control(methods, losses, baseline)
    reordered = losses.pop(control.name) if control else {}
    if not losses and not longer:
        return 'There is no verdict: no run has a finite loss on the same skills as the others.'
    if longer and len(losses) < 2:
        return ' '.join([f'There is no verdict: nothing can be compared with {baseline}.', *note])
    if len(losses) == 1:
        return _alone(losses, len(common), methods)
    if baseline is not None and baseline not in losses:
        return f'There is no verdict: the baseline {baseline} has no loss to compare the others with.'
    ranked = sorted(losses, key=lambda name: float(np.mean(list(losses[name].values()))))
    best = next(name for name in ranked if name != baseline)
    other = baseline or ranked[1]
    seeds = sorted(set(losses[best]) & set(losses[other]))
    if len(seeds) < MIN_SEEDS:
        return ' '.join([_too_few(best, other, losses, seeds), *note])
    by_seed = np.array([losses[other][seed] - losses[best][seed] for seed in seeds])
    gap = Gap(by_seed, len(losses) - 1)
    order = _order_noise(gap, control.name, reordered, losses[other]) if control and gap.is_clear else None
    sentence = _compared(best, f'the baseline {other}' if other == baseline else other, gap, order)
    return ' '.join([sentence, *_one_order(methods), *note])


def _alone(losses: Mapping[str, Mapping[int, float]], skills: int, methods: Sequence[Method]) -> str:
    ((name, by_seed),) = losses.items()
    is_baseline = any(method.name == name and method.fixed_mixture for method in methods)
    other = (
        'of `policy: skill_it`, for example, after it' if is_baseline else 'of `policy: stratified` before it'
    )
    mean = number(float(np.mean(list(by_seed.values()))))
    return (
        f'{name} ended at {mean} nats per token (mean of {plural(skills, "skill")}, {plural(len(by_seed), "seed")}); '
        f'nothing says yet whether that is good: name a run {other} (`skillit report BASELINE RUN`).'
    )


def _too_few(best: str, other: str, losses: Mapping[str, Mapping[int, float]], seeds: Sequence[int]) -> str:
    ends = [number(float(np.mean(list(losses[name].values())))) for name in (best, other)]
    apart = f'{best} ended at {ends[0]} and {other} at {ends[1]} nats per token'
    if not seeds:
        return f'{apart}, but no seed is common to both: run both with the same {MIN_SEEDS} seeds or more.'
    once = len(seeds) == 1
    return (
        f'{apart} on {plural(len(seeds), "seed")}: {"one seed" if once else "two seeds"} cannot show whether '
        f'the difference is more than another seed or another order of the samples makes; run at least {MIN_SEEDS} '
        'seeds of each.'
    )


def _compared(best: str, other: str, gap: Gap, order: tuple[bool, str] | None) -> str:
    """The sentence of two methods with seeds enough; `order` says whether the gap is above that noise, and how large
    it is."""
    seeds, size = len(gap.differences), f'{number(abs(gap.mean))} nats per token'
    wins = int(np.sum(gap.differences > 0))
    low, high = gap.mean - gap.half_width, gap.mean + gap.half_width
    several = f', chosen among {gap.comparisons} methods' if gap.comparisons > 1 else ''
    interval = f'(95 % interval {number(low)} to {number(high)}{several})'
    if not gap.is_clear or (order and not order[0]):
        noise = f'within the noise of the seeds {interval}'
        if order:
            noise = f'above the noise of the seeds {interval}, but not above that of the order: {order[1]}'
        return (
            f'{best} and {other} cannot be told apart: their difference, {number(gap.mean)} nats per token on '
            f'average and in favour of {best} on {wins} of {seeds} seeds, is {noise}.'
        )
    noise = f'that is above the noise of the seeds {interval}'
    if order:
        noise += f' and of the order ({order[1]})'
    if gap.mean > 0:
        return f'{best} ended lowest: {size} below {other} on average, lower on {wins} of {seeds} seeds; {noise}.'
    higher = int(np.sum(gap.differences < 0))
    return (
        f'No method ended below {other}: {best}, the nearest, is {size} above it on average, '
        f'higher on {higher} of {seeds} seeds; {noise}.'
    )


def _order_noise(
    gap: Gap, name: str, reordered: Mapping[int, float], losses: Mapping[int, float]
) -> tuple[bool, str] | None:
    """Whether the gap is above what a control of another order shows, and how much that is in words."""
    moved = [abs(reordered[seed] - losses[seed]) for seed in sorted(set(reordered) & set(losses))]
    if not moved:
        return None
    size = (
        f'{name}, the same mixture in another order, ends up to {number(max(moved))} away from the baseline '
        f'on {plural(len(moved), "seed")}'
    )
    return abs(gap.mean) > max(moved), size


def _control(
    methods: Sequence[Method], losses: Mapping[str, Mapping[int, float]], baseline: str | None
) -> Method | None:
    """The method that has the baseline's settings and draws its samples in another order."""
    reference = next((method for method in methods if method.name == baseline), None)
    if reference is None:
        return None
    alike = (method for method in methods if method is not reference and method.name in losses)
    return next(
        (
            method
            for method in alike
            if method.settings == reference.settings and method.shuffle_seeds != reference.shuffle_seeds
        ),
        None,
    )


def _one_order(methods: Sequence[Method]) -> list[str]:
    """A warning where every run draws its samples in one order, whose noise no seed then shows."""
    seeds = [seed for method in methods for seed in method.shuffle_seeds]
    if None in seeds or len(set(seeds)) > 1:
        return []
    return [
        f'All runs share one order of the samples (shuffle_seed {seeds[0]}), whose noise is not in this: vary it with '
        'the seed.'
    ]
