"""A skills graph on the terminal, as facts and as a picture: weights, noise, how it was learned, and warnings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import read_array, write_atomically
from skillit_stream.base.terminal import default_console
from skillit_stream.mixture import SkillsGraph
from skillit_stream.mixture.graph_warnings import density_of, edges_within_noise, learned_line, warnings_of
from skillit_stream.report.figures import graph_sheet, png

MOST_COLUMNS = 12  # up to which the matrix is printed, else its heaviest edges
MOST_EDGES = 20
WITHIN = '~'  # marks an edge within its noise


def warnings_of_losses(not_learned: Sequence[str]) -> list[str]:
    """A sentence on the columns that say nothing, of eval skills whose own run taught nothing; none without any."""
    if not not_learned:
        return []
    return [
        f'training on {", ".join(not_learned)} alone did not lower its own loss, so nothing can be said of what helps '
        f'it: take more --steps or another learning rate.'
    ]


def load_graph(path: str) -> SkillsGraph:
    """Read a graph; the skills of a .npy without names beside it are numbered from 1.

    Raises:
        InputError: There is none, or it cannot be read.
    """
    file = Path(path)
    if file.suffix != '.npy' or file.with_suffix('.names.json').is_file():
        return SkillsGraph.load(file)
    weights = read_array(file)
    if weights.ndim != 2:
        raise InputError(f'{path} must hold a matrix, but got an array of shape {weights.shape}.')
    rows, columns = weights.shape
    train = [f'{number}' if rows == columns else f'train {number}' for number in range(1, rows + 1)]
    evals = train if rows == columns else [f'eval {number}' for number in range(1, columns + 1)]
    return SkillsGraph.load(file, train_skills=train, eval_skills=evals)


def as_facts(graph: SkillsGraph) -> dict[str, Any]:
    """The graph and what `print_graph` says of it, in plain Python."""
    density = density_of(graph)
    return {
        **graph.to_dict(),
        'pairs': density.pairs,
        'edges': density.edges,
        'density': density.fraction,
        'mean_weight': density.mean_weight,
        'negative': density.negative,
        'edges_above_noise': density.above_noise,
        'learned': learned_line(graph),
        'lone_skills': list(graph.lone_skills),
        'warnings': warnings_of(graph),
    }


def print_graph(graph: SkillsGraph, title: str, *, console: Console | None = None) -> None:
    """Print the weights, how dense the graph is, how it was learned, lone skills and warnings."""
    console = console or default_console()
    console.print(
        f'{title}: {len(graph.train_skills)} train skills x {len(graph.eval_skills)} eval skills',
        style='bold',
        markup=False,
        highlight=False,
    )
    console.print(_matrix(graph) if len(graph.eval_skills) <= MOST_COLUMNS else _heaviest(graph))
    lines = [_counted(graph), *_legend(graph)]
    if graph.lone_skills:
        lines.append(f'Without an edge to or from another skill: {", ".join(graph.lone_skills)}')
    learned = learned_line(graph)
    if learned:
        lines.append(f'Learned: {learned}')
    for line in lines:
        console.print(line, markup=False, highlight=False)
    for line in warnings_of(graph):
        console.print(f'warning: {line}', markup=False, highlight=False, style='yellow')


def write_picture(graph: SkillsGraph, title: str, path: str) -> None:
    """Write the graph as a heat map.

    Raises:
        InputError: The path does not end in .png, or cannot be written to.
    """
    if Path(path).suffix != '.png':
        raise InputError(f'`--out` must be a .png file, but got: {path}.')
    picture = png(graph_sheet([(title, graph)]))
    try:
        write_atomically(Path(path), lambda file: file.write(picture))
    except OSError as error:
        raise InputError(f'{path} cannot be written ({error.strerror}): choose another --out.') from None


def _counted(graph: SkillsGraph) -> str:
    density = density_of(graph)
    negative = f'; {density.negative} are negative' if density.negative else ''
    return (
        f'{density.edges} of {density.pairs} possible edges ({density.fraction:.0%}), of mean weight '
        f'{density.mean_weight:.3g}{negative}'
    )


def _legend(graph: SkillsGraph) -> list[str]:
    """What the marks of the table mean, those that are in it."""
    measured = graph.measured
    if measured is None:
        return []
    marks = []
    if edges_within_noise(graph).any():
        marks.append(f'{WITHIN} within its noise (its 95 % interval holds 0)')
    if (measured.effects < 0).any():
        marks.append('(in brackets) an effect below 0, which gives no edge')
    if measured.standard_errors is not None:
        marks.append('± standard error')
    return [', '.join(marks)] if marks else []


def _cell(graph: SkillsGraph, row: int, column: int) -> str:
    """A weight, its mark and its standard error; the effect in brackets where it was clipped."""
    weight, measured = graph.weights[row, column], graph.measured
    if measured is None:
        return f'{weight:.3g}'
    effect = measured.effects[row, column]
    text = f'({effect:.2g})' if effect < 0 and weight == 0 else f'{weight:.3g}'
    if edges_within_noise(graph)[row, column]:
        text += WITHIN
    errors = measured.standard_errors
    if errors is not None and np.isfinite(errors[row, column]):
        text += f' ±{errors[row, column]:.1g}'
    return text


def _matrix(graph: SkillsGraph) -> Table:
    table = Table()
    table.add_column('trained on', overflow='fold')
    for name in graph.eval_skills:
        table.add_column(escape(name), justify='right', overflow='fold')
    for row, name in enumerate(graph.train_skills):
        cells = [_cell(graph, row, column) for column in range(len(graph.eval_skills))]
        dim = graph.same_skill[row].tolist()
        table.add_row(
            escape(name),
            *(f'[dim]{cell}[/dim]' if own else cell for cell, own in zip(cells, dim, strict=True)),
        )
    return table


def _heaviest(graph: SkillsGraph) -> Table:
    between = np.where(graph.same_skill, 0.0, graph.weights)
    order = np.argsort(-np.abs(between), axis=None, kind='stable')[:MOST_EDGES]
    table = Table(title=f'the {len(order)} heaviest edges', title_justify='left')
    table.add_column('trained on', overflow='fold')
    table.add_column('helps', overflow='fold')
    table.add_column('weight', justify='right')
    for at in order.tolist():
        row, column = divmod(at, len(graph.eval_skills))
        if between[row, column]:
            names = escape(graph.train_skills[row]), escape(graph.eval_skills[column])
            table.add_row(*names, _cell(graph, row, column))
    return table
