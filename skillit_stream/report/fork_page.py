"""fork.html: what a fork has found, as a page that stands alone; from its ``result.json`` and ``graph.json``."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import write_text
from skillit_stream.formats.fork_result import GRAPH, MIXTURE, PAGE, TAKE, ForkResult, read_fork_result
from skillit_stream.mixture import SkillsGraph
from skillit_stream.report.comparison import number, percent
from skillit_stream.report.figures import graph_sheet, pictures
from skillit_stream.report.fork_drawing import Gain, gains_sheet, moves_sheet
from skillit_stream.report.templates import rendered

MAX_ROWS = 40  # skills in a table, and in the figure of the mixture
MAX_COLUMNS = 20  # losses in the table of effects


def write_fork_page(folder: Path, out: Path | None = None) -> Path:
    """Write the page of a fork that has ended; returns its path.

    Args:
        folder: Of the fork.
        out: Folder to write to; None: the fork's.

    Raises:
        InputError: The fork has not ended, a file of it is damaged, or the page cannot be written.
    """
    result, path = read_fork_result(folder), (out or folder) / PAGE
    page = build_fork_page(folder, result, SkillsGraph.load(folder / GRAPH))
    try:
        write_text(path, page)
    except OSError as error:
        raise InputError(f'{path} cannot be written ({error.strerror}): choose another folder.') from None
    return path


def build_fork_page(folder: Path, result: ForkResult, graph: SkillsGraph) -> str:
    """The page as HTML; raises InputError if the graph is not that of the result."""
    measured = graph.measured
    fits = (set(result.present), set(result.losses.present)) == (
        set(graph.train_skills),
        set(graph.eval_skills),
    )
    if measured is None or measured.standard_errors is None or not fits:
        raise InputError(
            f'{folder / GRAPH} is not that of the fork beside it: type `skillit fork` again, which writes it anew.'
        )
    length = '' if result.of_steps is None else f' of {result.of_steps:,}'
    gains = _gains(result)
    return rendered(
        'fork.html',
        title=f'Skill-It fork: {Path(result.run).name}, step {result.step:,}{length}',
        result=result,
        commands=_commands(folder, result),
        taken=result.verdict == TAKE,
        mixture=_mixture(result),
        gains=gains,
        gains_picture=[(one, None) for one in pictures(gains_sheet(gains))],
        effects=_effects(result, graph),
        heat_map=[(one, None) for one in pictures(graph_sheet([('effects', graph)]))],
        share=percent(result.cost.steps / result.of_steps) if result.of_steps else None,
    )


def _commands(folder: Path, result: ForkResult) -> list[tuple[str, str]]:
    """What takes the mixture over: when, and the command; none for a mixture that no pairs have tried."""
    if result.confirmed is None:
        return []
    run = result.run.rstrip('/')
    mixing = json.dumps({'policy': 'static', 'proportions': dict(result.mixture)}, ensure_ascii=False)
    anew = [
        f'load_path={result.checkpoint}',
        f'save_folder={run}-moved',
        'checkpoint_folder=null',
        f'run_name={Path(run).name}-moved',
        'method=moved',
        f'algorithms.data_mixing={mixing}',
    ]
    return [
        (
            'A run that goes on takes the mixture at its next round, without a restart:',
            shlex.join(['skillit', 'apply', run, str(folder.resolve() / MIXTURE)]),
        ),
        (
            'A run that has ended is trained again from the checkpoint, in a folder of its own:',
            shlex.join(['skillit', 'train', f'{run}/config.yaml', *anew]),
        ),
    ]


def _mixture(result: ForkResult) -> dict[str, Any]:
    """The present and the chosen mixture: of too many skills those that move most."""
    skills, present = list(result.present), np.array(list(result.present.values()))
    chosen = np.array([result.mixture[skill] for skill in skills])
    kept = np.sort(np.argsort(-np.abs(chosen - present), kind='stable')[:MAX_ROWS])
    shown = [skills[at] for at in kept]
    return {
        'rows': list(zip(shown, present[kept].tolist(), chosen[kept].tolist(), strict=True)),
        'pictures': [(one, None) for one in pictures(moves_sheet(shown, present[kept], chosen[kept]))],
        'left_out': len(skills) - len(shown),
    }


def _gains(result: ForkResult) -> list[Gain]:
    low, high = result.predicted.interval
    found = [Gain(name='predicted by the law', low=low, mean=result.predicted.gain, high=high)]
    if confirmed := result.confirmed:
        (low, high), pairs = confirmed.interval, len(confirmed.gains)
        found.append(
            Gain(
                name=f'confirmed by {pairs} pairs',
                low=low,
                mean=confirmed.gain,
                high=high,
                parts=confirmed.gains,
            )
        )
    return found


def _effects(result: ForkResult, graph: SkillsGraph) -> dict[str, Any]:
    """The effect of each skill on each loss, the targets first."""
    measured = graph.measured
    if measured is None or measured.standard_errors is None:
        raise RuntimeError('Internal error: a graph that was not measured.')
    others = [skill for skill in graph.eval_skills if skill not in result.targets]
    columns = [graph.eval_skills.index(skill) for skill in (*result.targets, *others)][:MAX_COLUMNS]
    noise, errors = measured.within_noise, measured.standard_errors
    rows = [
        (
            skill,
            [(f'{graph.weights[row, at]:+.4f}', number(errors[row, at]), noise[row, at]) for at in columns],
        )
        for row, skill in enumerate(graph.train_skills[:MAX_ROWS])
    ]
    names = [graph.eval_skills[at] for at in columns]
    return {
        'columns': [name + (' (target)' if name in result.targets else '') for name in names],
        'rows': rows,
        'losses': [
            (number(result.losses.present[name]), number(result.losses.noise[name])) for name in names
        ],
        'cut': len(columns) < len(graph.eval_skills) or len(rows) < len(graph.train_skills),
    }
