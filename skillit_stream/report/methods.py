"""Runs grouped into methods: what several seeds of one method say together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from skillit_stream.formats.run_log import Evaluation, RoundRecord
from skillit_stream.report.run_folder import RecordedRun

AVERAGE = 'mean of the skills'
LOSS = 'loss'  # beside the names in `run_log.FIGURES`
DIFFERENCE = 'difference'  # of a loss from the baseline's
TRAIN_LOSS, LEARNING_RATE = 'training loss', 'learning rate'
TOKENS, SAMPLES = 'tokens a second', 'samples a second'  # evaluating left out
PASSES = 'passes'


@dataclass(frozen=True, eq=False)
class Curve:
    """One eval loss (or another figure) over training for one method; each array has one entry a step."""

    steps: np.ndarray
    mean: np.ndarray
    """Mean over the seeds; a loss in nats per token."""
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, eq=False)
class Method:
    """All runs of one method, usually one a seed."""

    name: str
    runs: tuple[RecordedRun, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in the order of the runs."""
        return tuple(run.seed for run in self.runs)

    @property
    def title(self) -> str:
        """The name, with the number of seeds where there are several."""
        return f'{self.name} (mean of {plural(len(self.runs), "seed")})' if len(self.runs) > 1 else self.name

    @property
    def fixed_mixture(self) -> dict[str, float]:
        """Proportions of a mixture that never moves; empty for other policies."""
        policy = self.runs[0].policy
        found = policy.get('proportions') if policy.get('name') == 'static' else None
        return found if isinstance(found, dict) else {}

    @property
    def shuffle_seeds(self) -> tuple[Any, ...]:
        """What the order of the samples came from, a seed a run; None where the run folder does not say."""
        return tuple(run.dataset.get('shuffle_seed') for run in self.runs)

    @property
    def settings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The policy's and the dataset's settings, but for the seed of the order."""
        first = self.runs[0]
        return _policy(first), {key: value for key, value in first.dataset.items() if key != 'shuffle_seed'}

    def finals(self, skills: Sequence[str], figure: str = LOSS) -> np.ndarray:
        """Final loss (or `figure`) of each run, averaged over `skills`: float64, one a run that has them all."""
        ends = (
            mean_over(measured(run.evaluations[-1], figure), skills) for run in self.runs if run.evaluations
        )
        return np.array([mean for mean in ends if mean is not None], dtype=np.float64)

    def curve(self, skills: Sequence[str], figure: str = LOSS) -> Curve | None:
        """Loss (or `figure`) over training, averaged over `skills`, at the steps all seeds have; None without."""
        return _curve([points for run in self.runs if (points := means_by_step(run, skills, figure))])

    def difference(self, baseline: 'Method', skills: Sequence[str]) -> Curve | None:
        """Loss minus that of the baseline's run of the same seed, averaged over `skills`; None without such a run."""
        theirs = {run.seed: means_by_step(run, skills) for run in reversed(baseline.runs)}
        mine = ((theirs.get(run.seed, {}), means_by_step(run, skills)) for run in self.runs)
        apart = (
            {step: points[step] - base[step] for step in points if step in base} for base, points in mine
        )
        return _curve([points for points in apart if points])

    def round_curve(self, value: Callable[[RoundRecord], float | None]) -> Curve | None:
        """What `value` says of each round, at the steps where rounds of all seeds end; None where it says nothing."""
        per_run = (
            {record.step: found for record in run.rounds if (found := value(record)) is not None}
            for run in self.runs
        )
        return _curve([points for points in per_run if points])

    @cached_property
    def train_skills(self) -> tuple[str, ...]:
        """Skills of the mixture over all runs."""
        return tuple(dict.fromkeys(skill for run in self.runs for skill in run.train_skills))

    def mixture(self) -> tuple[np.ndarray, np.ndarray]:
        """Proportions over the rounds all seeds have, averaged over the seeds.

        Returns:
            Steps where rounds begin and end (rounds + 1), and proportions: float64, rounds x train skills.
        """
        n_rounds = min(len(run.rounds) for run in self.runs)
        proportions = np.zeros((n_rounds, len(self.train_skills)))
        for run in self.runs:
            columns = [self.train_skills.index(skill) for skill in run.train_skills]
            proportions[:, columns] += run.proportions()[:n_rounds] / len(self.runs)
        return self.runs[0].edges[: n_rounds + 1], proportions

    def passes(self) -> dict[str, float]:
        """Passes per skill at the end of training, averaged over the runs that logged them."""
        ends = [run.rounds[-1].passes for run in self.runs]
        found = {skill: [end[skill] for end in ends if skill in end] for skill in self.train_skills}
        return {skill: float(np.mean(values)) for skill, values in found.items() if values}


def _curve(per_run: Sequence[Mapping[int, float]]) -> Curve | None:
    """Runs, each step -> value, at the steps that all of them have; None where there is none."""
    steps = sorted(set.intersection(*map(set, per_run))) if per_run else []
    if not steps:
        return None
    values_NS = np.array([[points[step] for step in steps] for points in per_run])  # runs x steps
    return Curve(np.array(steps), values_NS.mean(axis=0), values_NS.min(axis=0), values_NS.max(axis=0))


def plural(n: int, noun: str) -> str:
    """A count and its noun, as ``1 seed`` or ``2,000 seeds``."""
    return f'{n:,} {noun}' if n == 1 else f'{n:,} {noun}s'


def measured(record: Evaluation, figure: str) -> dict[str, float]:
    """What an evaluation measured: eval skill -> loss, or the value of `figure`; empty where it did not."""
    return record.losses if figure == LOSS else record.figures.get(figure, {})


def mean_over(values: Mapping[str, float], skills: Sequence[str]) -> float | None:
    """The mean of `values` over `skills`; None where one is missing, or there are none."""
    if not skills or any(skill not in values for skill in skills):
        return None
    return float(np.mean([values[skill] for skill in skills]))


def means_by_step(run: RecordedRun, skills: Sequence[str], figure: str = LOSS) -> dict[int, float]:
    """Step -> loss (or `figure`) averaged over `skills`, of the evaluations that measured them all."""
    means = ((record.step, mean_over(measured(record, figure), skills)) for record in run.evaluations)
    return {step: mean for step, mean in means if mean is not None}


def group_runs(runs: Sequence[RecordedRun]) -> list[Method]:
    """Group runs by method, both in the order given; runs of a method go by seed."""
    groups: dict[str, list[RecordedRun]] = {}
    for run in runs:
        groups.setdefault(run.method, []).append(run)
    return [Method(name, tuple(sorted(group, key=lambda run: run.seed))) for name, group in groups.items()]


def eval_skills(methods: Sequence[Method]) -> list[str]:
    """Eval skills with a final loss in any run, in the order of first appearance."""
    return list(
        dict.fromkeys(skill for method in methods for run in method.runs for skill in run.final_losses)
    )


def common_eval_skills(methods: Sequence[Method]) -> list[str]:
    """Eval skills that every run with an evaluation has: only these can be averaged and compared."""
    finals = [run.final_losses for method in methods for run in method.runs if run.final_losses]
    return [skill for skill in eval_skills(methods) if all(skill in losses for losses in finals)]


def notes(methods: Sequence[Method]) -> list[str]:
    """What a reader must know before trusting the numbers, a sentence each."""
    found = [note for method in methods for run in method.runs for note in _run_notes(run)]
    for method in methods:
        found += _method_notes(method)
    measured = [run for method in methods for run in method.runs if run.final_losses]
    steps = sorted({run.evaluations[-1].step for run in measured})
    if len(steps) > 1:
        found.append(
            f'The last evaluations are at different steps ({steps[0]} to {steps[-1]}): '
            'final losses compare unequal amounts of training.'
        )
    n_all, n_common = len(eval_skills(methods)), len(common_eval_skills(methods))
    if n_common < n_all:
        found.append(
            f'The runs were evaluated on different skills: means are over the {n_common} of {n_all} in all.'
        )
    return found


def _run_notes(run: RecordedRun) -> list[str]:
    found = []
    if run.log.half_written:
        found.append(
            f'{run.folder}: the last line of mixture.jsonl breaks off (run killed?); it was left out.'
        )
    if run.log.replaced:
        found.append(
            f'{run.folder}: resumed; {plural(run.log.replaced, "line")} written again after it, the newer count.'
        )
    if run.is_finished is False:
        found.append(
            f'{run.folder}: the run has not ended: {run.rounds[-1].round + 1:,} of '
            f'{plural(run.planned_rounds or 0, "round")}.'
        )
    if not run.evaluations:
        found.append(f'{run.folder}: no evaluation ran, so there are no losses.')
    elif run.evaluations[-1].step < run.rounds[-1].step:
        found.append(
            f'{run.folder}: the last evaluation is at step {run.evaluations[-1].step}, '
            f'before the end of training (step {run.rounds[-1].step}).'
        )
    if any(not np.isfinite(loss) for loss in run.final_losses.values()):
        found.append(f'{run.folder}: a final loss is not a finite number (the run diverged?).')
    return found


def _method_notes(method: Method) -> list[str]:
    found = []
    twice = sorted({seed for seed in method.seeds if method.seeds.count(seed) > 1})
    if twice:
        found.append(
            f'{method.name}: several runs have the same seed {twice}; they do not count as independent seeds.'
        )
    if any(_policy(run) != _policy(method.runs[0]) for run in method.runs):
        found.append(
            f'{method.name}: its runs differ in their policy, so its spread is not over seeds alone.'
        )
    lengths = sorted({len(run.rounds) for run in method.runs})
    if len(lengths) > 1:
        found.append(
            f'{method.name}: its runs have {lengths[0]} to {lengths[-1]} rounds; '
            f'means over seeds show the first {lengths[0]}.'
        )
    return found


def _policy(run: RecordedRun) -> dict[str, Any]:
    """What makes the policy of a run: the losses of samples are of its own initial model, their name is no setting."""
    named = run.policy.get('name') == 'sample_curriculum'
    return {key: value for key, value in run.policy.items() if not (named and key == 'losses')}
