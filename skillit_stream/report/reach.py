"""How soon a method reaches the loss at which a baseline ends."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skillit_stream.report.methods import Method, common_eval_skills
from skillit_stream.report.run_folder import RecordedRun


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
            return f'not on any of {len(self.steps)} seeds'
        every = len(self.reached) == len(self.steps)
        where = '' if every else f', on {len(self.reached)} of {len(self.steps)} seeds'
        return f'{np.mean(self.reached):,.0f}{where}'


@dataclass(frozen=True, slots=True)
class ReachView:
    """The steps of all methods, to be drawn."""

    baseline: str
    reaches: tuple[Reach, ...]
    """One a method, in their order."""
    last_step: int
    """Of the last evaluation of any run."""


def reach_view(methods: Sequence[Method], baseline: str | None) -> ReachView | None:
    """What a figure shows of the steps to the baseline's final loss; None where there is nothing to compare."""
    reaches = find_reaches(methods, baseline) if baseline is not None else []
    if baseline is None or not any(reach.steps for reach in reaches):
        return None
    last = max(run.final_step or 0 for method in methods for run in method.runs)
    return ReachView(baseline, tuple(reaches), last)


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
    goals = {run.seed: _means(run, common)[-1][1] for run in reference.runs if _means(run, common)}
    return [
        Reach(
            method.name,
            tuple(_first(_means(run, common), goals[run.seed]) for run in method.runs if run.seed in goals),
        )
        for method in methods
    ]


def _means(run: RecordedRun, skills: Sequence[str]) -> list[tuple[int, float]]:
    return [
        (record.step, float(np.mean([record.losses[skill] for skill in skills])))
        for record in run.evaluations
        if all(skill in record.losses for skill in skills)
    ]


def _first(means: Sequence[tuple[int, float]], goal: float) -> int | None:
    return next((step for step, mean in means if mean <= goal), None)


def reach_sentences(methods: Sequence[Method], baseline: str) -> list[str]:
    """The steps to the baseline's final loss, a sentence for each other method."""
    return [
        f'{reach.method} is at the final loss of {baseline} at step {reach}.'
        if reach.reached
        else f'{reach.method} is never at the final loss of {baseline} ({len(reach.steps)} seeds).'
        for reach in find_reaches(methods, baseline)
        if reach.method != baseline and reach.steps
    ]
