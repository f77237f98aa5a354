"""summary.json: every number behind the page, for programs to read."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from skillit_stream.base.files import finite_or_null
from skillit_stream.report.comparison import Spread, find_reaches, loss_rows, pairs, verdicts
from skillit_stream.report.methods import AVERAGE, LOSS, Method, common_eval_skills, eval_skills, notes
from skillit_stream.report.run_folder import RecordedRun
from skillit_stream.report.verdict import verdict
from skillit_stream.report.views import common_measured, measured_skills

SUMMARY_VERSION = 1


def summarise(methods: Sequence[Method], baseline: str | None = None) -> dict[str, Any]:
    """The numbers of the report as plain Python.

    Args:
        methods: The runs, grouped.
        baseline: The method to compare the others with; None: every two.

    Returns:
        Runs, methods (mean, sd and n of each final loss in nats per token), pairs, the verdict, sentences, notes.
    """
    rows = loss_rows(methods)
    return {
        'version': SUMMARY_VERSION,
        'eval_skills': eval_skills(methods),
        'skills_in_the_mean': common_eval_skills(methods),
        'runs': [_run(run) for method in methods for run in method.runs],
        'methods': [
            {
                'name': method.name,
                'seeds': list(method.seeds),
                'mean_loss': next((_cell(row.cells[i]) for row in rows if row.skill == AVERAGE), None),
                'losses': {row.skill: _cell(row.cells[i]) for row in rows if row.skill != AVERAGE},
                'passes': method.passes(),
            }
            for i, method in enumerate(methods)
        ],
        'pairs': [asdict(pair) for pair in pairs(methods, baseline)],
        'verdict': verdict(methods, baseline),
        'verdicts': verdicts(methods, baseline),
        'baseline': baseline,
        'steps_to_the_baseline': {
            reach.method: list(reach.steps) for reach in (find_reaches(methods, baseline) if baseline else ())
        },
        'notes': notes(methods),
    }


def learning_curves(methods: Sequence[Method]) -> dict[str, Any]:
    """Loss and exact match over training, averaged over the seeds of each method.

    Returns:
        Method -> `loss` (nats per token) and `exact_match` (share of answers right) -> `mean` over the skills that
        all runs have, and `skills` -> each; the curves are `steps`, those that all seeds evaluated, and `values`.
        What no run of a method measured is left out.
    """
    figures = (LOSS, 'exact_match')
    found = {
        method.name: {figure: _curves(method, methods, figure) for figure in figures} for method in methods
    }
    return {
        name: {figure: one for figure, one in curves.items() if one['skills']}
        for name, curves in found.items()
    }


def _curves(method: Method, methods: Sequence[Method], figure: str) -> dict[str, Any]:
    by_skill = {skill: _curve(method, [skill], figure) for skill in measured_skills(figure, methods)}
    return {
        'mean': _curve(method, common_measured(figure, methods), figure),
        'skills': {skill: curve for skill, curve in by_skill.items() if curve},
    }


def _curve(method: Method, skills: Sequence[str], figure: str) -> dict[str, Any] | None:
    curve = method.curve(skills, figure)
    return curve and {'steps': curve.steps.tolist(), 'values': curve.mean.tolist()}


def to_json(summary: dict[str, Any]) -> bytes:
    """Strict JSON: a number that is not finite becomes null."""
    return json.dumps(finite_or_null(summary), indent=1, ensure_ascii=False, allow_nan=False).encode() + b'\n'


def _run(run: RecordedRun) -> dict[str, Any]:
    miss = run.largest_miss()
    return {
        'folder': str(run.folder),
        'name': run.name,
        'method': run.method,
        'seed': run.seed,
        'policy': run.policy,
        'rounds': len(run.rounds),
        'steps': run.rounds[-1].step,
        'samples': run.samples,
        'final_step': run.final_step,
        'final_losses': run.final_losses,
        'final_figures': run.final_figures,
        'first_proportions': run.rounds[0].proportions,
        'last_proportions': run.rounds[-1].proportions,
        'passes': run.rounds[-1].passes,
        'largest_miss': miss and {'difference': miss[0], 'skill': miss[1], 'round': miss[2]},
        'seconds': sum(record.seconds for record in run.rounds),
        'stalled_seconds': sum(record.stalled_seconds for record in run.rounds),
        'eval_seconds': sum(record.eval_seconds for record in run.rounds),
    }


def _cell(cell: Spread | None) -> dict[str, Any] | None:
    return None if cell is None else asdict(cell)
