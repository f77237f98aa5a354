"""Methods side by side: final losses with their spreads, pairs by seed, and the steps to a baseline's loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from skillit_stream.report.methods import (
    AVERAGE,
    Method,
    common_eval_skills,
    eval_skills,
    mean_over,
    means_by_step,
    plural,
)
from skillit_stream.report.run_folder import RecordedRun

MIN_SEEDS = 3  # fewer have no spread worth a number
LOWEST = 'lowest'
WITHIN = 'within 1 sd of the lowest'


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and spread of one loss over the seeds of one method, nats per token."""

    mean: float
    sd: float | None
    """Sample standard deviation (n - 1); None for fewer than `MIN_SEEDS` runs, which show no spread."""
    n: int

    def __str__(self) -> str:
        return number(self.mean) if self.sd is None else f'{number(self.mean)} ± {deviation(self.sd)}'


@dataclass(frozen=True, slots=True)
class LossRow:
    """One row of the table of final losses: one cell a method."""

    skill: str
    cells: tuple[Spread | None, ...]
    marks: tuple[str, ...]
    """Per cell: `LOWEST`, `WITHIN` or ''."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two methods compared on the seeds both have; `first` has the lower or equal mean."""

    first: str
    second: str
    seeds: tuple[int, ...]
    wins: int
    """Seeds on which `first` ends at the lower mean loss."""
    ties: int
    mean_difference: float
    """Mean loss of `second` minus `first`, nats per token."""
    sd: float
    """Sample standard deviation of the differences."""
    sign_test_p: float
    """How often fair coins would fall at least this unevenly (two-sided, ties left out)."""
    permutation_p: float
    """How often the mean difference would be at least this far from 0 if the methods were exchanged at random
    on each seed (two-sided); of n seeds it cannot be below 2 / 2**n."""

    def __str__(self) -> str:
        ties = f' ({self.ties} equal)' if self.ties else ''
        return (
            f'{self.first} ends lower than {self.second} on {self.wins} of {plural(len(self.seeds), "seed")}{ties}, by '
            f'{number(self.mean_difference)} ± {deviation(self.sd)} on average '
            f'(sign test: p = {self.sign_test_p:.2g}; permutation test: p = {self.permutation_p:.2g})'
        )


@dataclass(frozen=True, slots=True)
class Reach:
    """Steps of one method to the final mean loss of the baseline's run of the same seed."""

    method: str
    steps: tuple[int | None, ...]
    """Per seed that both have, the step of the first evaluation at or below it; None: not reached."""

    @property
    def reached(self) -> tuple[int, ...]:
        """The steps of the seeds on which it was reached."""
        return tuple(step for step in self.steps if step is not None)

    def __str__(self) -> str:
        if not self.reached:
            return f'not on any of {plural(len(self.steps), "seed")}'
        every = len(self.reached) == len(self.steps)
        where = '' if every else f', on {len(self.reached)} of {plural(len(self.steps), "seed")}'
        return f'{np.mean(self.reached):,.0f}{where}'


def number(value: float) -> str:
    """A loss as text: four decimals, or an exponent where those would hide it."""
    if not math.isfinite(value):
        return str(value)
    small = 0 < abs(value) < 0.0005
    return f'{value:.1e}' if small else f'{value:.4f}'


def percent(part: float) -> str:
    """A part of a whole as text: whole per cents, or two digits of few."""
    return f'{100 * part:.0f} %' if part >= 0.1 else f'{100 * part:.2g} %'


def deviation(sd: float) -> str:
    """A standard deviation as text, in the decimals of the losses beside it."""
    return '<0.0001' if 0 < sd < 0.00005 else f'{sd:.4f}'


def spread(values: np.ndarray) -> Spread | None:
    """Mean, sample standard deviation and count of float64 values; None without values."""
    if not len(values):
        return None
    sd = float(np.std(values, ddof=1)) if len(values) >= MIN_SEEDS else None
    return Spread(float(np.mean(values)), sd, len(values))


def loss_rows(methods: Sequence[Method]) -> list[LossRow]:
    """The table of final losses: the mean over the common skills first, then a row per eval skill."""
    common = common_eval_skills(methods)
    groups = [(AVERAGE, common)] if common else []
    groups += [(skill, [skill]) for skill in eval_skills(methods)]
    rows = []
    for label, skills in groups:
        cells = tuple(spread(method.finals(skills)) for method in methods)
        rows.append(LossRow(label, cells, marks(cells)))
    return rows


def has_spread(row: LossRow) -> bool:
    """Whether any method has seeds enough for a spread."""
    return any(cell is not None and cell.sd is not None for cell in row.cells)


def marks(cells: Sequence[Spread | None]) -> tuple[str, ...]:
    """Which cells hold the lowest mean, and which cannot be told from it."""
    known = [cell for cell in cells if cell is not None and math.isfinite(cell.mean)]
    if len({cell.mean for cell in known}) < 2:
        return ('',) * len(cells)
    best = min(known, key=lambda cell: cell.mean)
    return tuple(_mark(cell, best) for cell in cells)


def _mark(cell: Spread | None, best: Spread) -> str:
    if cell is None or not math.isfinite(cell.mean):
        return ''
    if cell.mean == best.mean:
        return LOWEST
    width = common_sd(cell, best)
    return WITHIN if width is not None and cell.mean - best.mean <= width else ''


def common_sd(one: Spread, other: Spread) -> float | None:
    """Root mean square of two standard deviations; None where either is unknown."""
    if one.sd is None or other.sd is None:
        return None
    return math.sqrt((one.sd**2 + other.sd**2) / 2)


def trained_longer(methods: Sequence[Method], baseline: str | None) -> list[str]:
    """Names of the methods that were trained on more samples than the baseline; none without one."""
    samples = {method.name: max((run.samples for run in method.runs), default=0) for method in methods}
    return [name for name, count in samples.items() if count > samples.get(baseline or '', count)]


def verdicts(methods: Sequence[Method], baseline: str | None = None) -> list[str]:
    """The row of means in words, a sentence per method behind the lowest.

    Methods that were trained longer than the baseline are left out.
    """
    longer = trained_longer(methods, baseline)
    methods = [method for method in methods if method.name not in longer]
    rows = [row for row in loss_rows(methods) if row.skill == AVERAGE]
    cells = {
        method.name: cell
        for method, cell in zip(methods, rows[0].cells if rows else (), strict=False)
        if cell is not None and math.isfinite(cell.mean)
    }
    if len(cells) < 2:
        return []
    ranked = sorted(cells, key=lambda name: cells[name].mean)
    best = ranked[0]
    return [_verdict(best, name, cells[best], cells[name]) for name in ranked[1:]]


def _verdict(best: str, name: str, lowest: Spread, cell: Spread) -> str:
    difference = cell.mean - lowest.mean
    if difference == 0:
        return f'{best} and {name} end at the same mean loss.'
    width = common_sd(lowest, cell)
    if width is None:
        return (
            f'{best} and {name} end {number(difference)} nats per token apart; of fewer than {MIN_SEEDS} seeds the '
            'spread is unknown, so this may be chance.'
        )
    text = f'{best} ends {number(difference)} nats per token lower than {name}'
    if difference <= width:
        sd = deviation(width)
        return f'{text}: within one standard deviation ({sd}), so the means alone do not tell them apart.'
    return f'{text}: more than one standard deviation ({deviation(width)}).'


def pairs(methods: Sequence[Method], baseline: str | None = None) -> list[Pair]:
    """Methods with at least `MIN_SEEDS` seeds in common, compared by mean final loss: every two, or all with one."""
    common = common_eval_skills(methods)
    losses = [losses_per_seed(method, common) for method in methods]
    found = []
    for (first, one), (second, other) in combinations(zip(methods, losses, strict=True), 2):
        seeds = sorted(set(one) & set(other))
        if baseline is not None and baseline not in (first.name, second.name):
            continue
        if len(seeds) >= MIN_SEEDS:
            differences = np.array([other[seed] - one[seed] for seed in seeds])
            found.append(_pair(first.name, second.name, seeds, differences))
    return found


def losses_per_seed(method: Method, skills: Sequence[str]) -> dict[int, float]:
    """Mean final loss per seed; runs that share a seed are averaged, runs without a finite loss left out."""
    values: dict[int, list[float]] = {}
    for run in method.runs:
        if (mean := mean_over(run.final_losses, skills)) is not None:
            values.setdefault(run.seed, []).append(mean)
    return {seed: float(np.mean(found)) for seed, found in values.items() if np.isfinite(np.mean(found))}


def _pair(first: str, second: str, seeds: Sequence[int], differences: np.ndarray) -> Pair:
    if differences.mean() < 0:
        first, second, differences = second, first, -differences
    wins, defeats = int(np.sum(differences > 0)), int(np.sum(differences < 0))
    return Pair(
        first=first,
        second=second,
        seeds=tuple(seeds),
        wins=wins,
        ties=len(seeds) - wins - defeats,
        mean_difference=float(differences.mean()),
        sd=float(np.std(differences, ddof=1)),
        sign_test_p=sign_test(wins, defeats),
        permutation_p=permutation_test(differences),
    )


def sign_test(wins: int, defeats: int) -> float:
    """Two-sided sign test: the chance of a split at least this uneven if both sides were equal."""
    # The smaller count: the value is the same for both sides to its last bit.
    return float(stats.binomtest(min(wins, defeats), wins + defeats).pvalue) if wins + defeats else 1.0


def permutation_test(differences: np.ndarray) -> float:
    """Two-sided paired permutation test (Fisher 1935) of differences float64 [n].

    Every way to turn differences around is counted, or 65,535 random ones and the way they are, whichever is
    fewer.
    """
    n, size = len(differences), np.abs(differences).sum() or 1.0
    found = stats.permutation_test(
        (differences,),
        # Rounded: sums of the same terms in another order may differ in their last bits.
        lambda turned, axis: np.round(np.abs(turned.sum(axis)) / size, 12),
        permutation_type='samples',
        vectorized=True,
        n_resamples=2**n if n <= 16 else 2**16 - 1,
        alternative='greater',
        rng=0,
    )
    return float(found.pvalue)


def find_reaches(methods: Sequence[Method], baseline: str) -> list[Reach]:
    """One entry a method, the baseline among them: it may be there before its end.

    Args:
        methods: The runs, grouped.
        baseline: Name of a method; there are no entries if it is none of them.
    """
    common = common_eval_skills(methods)
    reference = next((method for method in methods if method.name == baseline), None)
    if reference is None or not common:
        return []
    goals = {
        run.seed: [*means.values()][-1] for run in reference.runs if (means := means_by_step(run, common))
    }
    return [
        Reach(
            method.name,
            tuple(_first_step(run, common, goals[run.seed]) for run in method.runs if run.seed in goals),
        )
        for method in methods
    ]


def _first_step(run: RecordedRun, skills: Sequence[str], goal: float) -> int | None:
    """Step of the first evaluation whose mean over `skills` is at or below `goal`."""
    return next((step for step, mean in means_by_step(run, skills).items() if mean <= goal), None)


def reach_sentences(methods: Sequence[Method], baseline: str) -> list[str]:
    """The steps to the baseline's final loss, a sentence for each other method."""
    return [
        f'{reach.method} is at the final loss of {baseline} at step {reach}.'
        if reach.reached
        else f'{reach.method} is never at the final loss of {baseline} ({plural(len(reach.steps), "seed")}).'
        for reach in find_reaches(methods, baseline)
        if reach.method != baseline and reach.steps
    ]
