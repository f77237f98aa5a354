"""The files of a fork: mixture.yaml, graph.json, result.json, its page, and lines on the terminal."""

from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

from skillit_stream.base.errors import as_input_error
from skillit_stream.base.files import write_text
from skillit_stream.base.terminal import default_console
from skillit_stream.forks.choice import Array, Choice
from skillit_stream.forks.forking import Result
from skillit_stream.forks.verdict import bound, confirmed, t_value
from skillit_stream.formats.fork_result import (
    GRAPH,
    MIXTURE,
    PAGE,
    RESULT,
    TAKE,
    ConfirmedGain,
    ForkResult,
    PredictedGain,
    PresentLosses,
    write_fork_result,
)
from skillit_stream.mixture import SkillsGraph
from skillit_stream.mixture.graph_measurement import CHECKPOINT, Measurement, StartOfRuns, student_95
from skillit_stream.report.comparison import number
from skillit_stream.report.fork_page import write_fork_page

METHOD = 'forks'
MOST_TARGETS = 8


def graph_of(result: Result) -> SkillsGraph:
    """The effect of raising each train skill on each loss, signed, with standard errors.

    A weight is how much lower a loss is, in nats per token, after `steps` steps on the mixture half way to the skill.
    """
    place, measured = result.plan.place, result.measured
    measurement = Measurement(
        method=METHOD,
        effects=measured.effects,
        steps=result.steps,
        start=StartOfRuns(
            weights=CHECKPOINT, path=result.origin.checkpoint, step=place.step, of_steps=place.of_steps
        ),
        repeats=result.plan.options.repeats,
        standard_errors=measured.standard_errors,
    )
    return SkillsGraph(result.plan.skills, result.plan.eval_skills, measured.effects, measured=measurement)


def predicted_interval(choice: Choice, repeats: int) -> tuple[float, float]:
    """Of the predicted gain, 95 %: what the noise of the branches allows, if the law is right."""
    width = student_95(repeats - 1) * choice.standard_error
    return choice.gain - width, choice.gain + width


def found(result: Result) -> ForkResult:
    """All that was found, as it is written down."""
    plan, choice, gains, measured = result.plan, result.choice, result.gains, result.measured

    def by_eval_skill(values: Array) -> dict[str, float]:
        return dict(zip(plan.eval_skills, values.tolist(), strict=True))

    return ForkResult(
        verdict=result.verdict.kind,
        reason=result.verdict.reason,
        more_pairs=result.verdict.more_pairs,
        run=result.origin.run,
        checkpoint=result.origin.checkpoint,
        step=plan.place.step,
        of_steps=plan.place.of_steps,
        steps=result.steps,
        spread=result.spread,
        targets=[plan.eval_skills[at] for at in plan.targets],
        max_passes=plan.options.max_passes,
        present=dict(plan.place.present),
        mixture=_by_skill(result, choice.mixture),
        predicted=_predicted(choice, plan.options.repeats),
        confirmed=None if gains is None else _confirmed(gains, plan.options.min_gain),
        losses=PresentLosses(
            present=by_eval_skill(measured.repeats.mean(axis=0)), noise=by_eval_skill(measured.noise)
        ),
        cost=result.cost,
    )


def write_files(result: Result, out: Path) -> None:
    """Write them all.

    Raises:
        InputError: The folder cannot be written to.
    """
    with as_input_error(f'--out {out} cannot be written to', OSError):
        graph_of(result).save(out / GRAPH)
        write_text(out / MIXTURE, _yaml(result))
        write_fork_result(out, found(result))
    # Last, from what was written.
    write_fork_page(out)


def print_result(result: Result, out: Path) -> None:
    """The verdict first, then the grounds for it."""
    console = default_console()
    print(result.verdict)
    plan, choice = result.plan, result.choice
    low, high = predicted_interval(choice, plan.options.repeats)
    print(
        f'predicted gain: {number(choice.gain)} nats per token (95 % interval {number(low)} to {number(high)})'
    )
    if result.gains is not None:
        gap = confirmed(result.gains)
        low, high = gap.mean - gap.half_width, gap.mean + gap.half_width
        print(
            f'confirmed gain: {number(gap.mean)} nats per token (95 % interval {number(low)} to {number(high)}, '
            f'{len(result.gains)} pairs)'
        )
    console.print(_table(result))
    print(
        '* within noise; an effect is how much lower the loss is for moving the mixture half way to the skill'
    )
    print(
        f'{result.steps} steps from step {plan.place.step} ({Path(result.origin.checkpoint).name}); the branches '
        f'differ by {result.spread:.1f} times what the order alone does'
    )
    print(f'written: {", ".join(str(out / name) for name in (PAGE, MIXTURE, GRAPH, RESULT))}')


def _table(result: Result) -> Table:
    plan, graph = result.plan, graph_of(result)
    shown = plan.targets[:MOST_TARGETS]
    table = Table()
    table.add_column('skill', overflow='fold')
    table.add_column('present', justify='right')
    table.add_column('chosen', justify='right')
    for at in shown:
        table.add_column(escape(plan.eval_skills[at]), justify='right', overflow='fold')
    noise = graph.measured.within_noise if graph.measured else np.zeros(graph.weights.shape, dtype=bool)
    for row, skill in enumerate(plan.skills):
        effects = [f'{graph.weights[row, at]:+.4f}{"*" if noise[row, at] else " "}' for at in shown]
        table.add_row(
            escape(skill), f'{plan.present[row]:.4f}', f'{result.choice.mixture[row]:.4f}', *effects
        )
    return table


def _yaml(result: Result) -> str:
    from omegaconf import OmegaConf

    what = '' if result.verdict.kind == TAKE else f' The verdict: {result.verdict.kind}.'
    comment = f'# By `skillit fork`, {result.steps} steps from step {result.plan.place.step}.{what}\n'
    return comment + OmegaConf.to_yaml(OmegaConf.create(_by_skill(result, result.choice.mixture)))


def _by_skill(result: Result, values: Array) -> dict[str, float]:
    return dict(zip(result.plan.skills, values.tolist(), strict=True))


def _predicted(choice: Choice, repeats: int) -> PredictedGain:
    interval = predicted_interval(choice, repeats)
    return PredictedGain(gain=choice.gain, standard_error=choice.standard_error, interval=list(interval))


def _confirmed(gains: Array, min_gain: float) -> ConfirmedGain:
    gap = confirmed(gains)
    return ConfirmedGain(
        gain=gap.mean,
        interval=[gap.mean - gap.half_width, gap.mean + gap.half_width],
        gains=gains.tolist(),
        t=t_value(gains - min_gain),
        bound=bound(len(gains)),
        min_gain=min_gain,
    )
