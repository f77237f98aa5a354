"""What a skills graph is like: how dense, which skills stand alone, and whether Skill-It can be expected to help."""

from collections.abc import Sequence
from dataclasses import dataclass
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
from skillit_stream.report.figures import graph_sheet, png

# The authors give no numbers for "nearly"; these are ours.
NEARLY_EMPTY, NEARLY_COMPLETE = 0.05, 0.95
# Rows that differ by less than this fraction of their mean move a mixture hardly at all.
EVEN_ROWS = 0.05
ADVICE = (
    'Skill-It should not be expected to help, as the graph suggests no clear order of the skills; try another '
    "partition of the data into skills (the advice of Skill-It's authors, arXiv 2307.14430 and its code's README)"
)
MOST_COLUMNS = 12  # up to which the matrix is printed, else its heaviest edges
MOST_EDGES = 20


@dataclass(frozen=True)
class Density:
    """How much of a graph is there. A skill's weight on itself is no edge."""

    pairs: int
    """Pairs of a train skill and another eval skill."""
    edges: int
    """Those of a weight above 0."""
    mean_weight: float
    """Over the edges; 0 where there is none."""
    negative: int
    """Pairs of a weight below 0: training on one hurts the other."""

    @property
    def fraction(self) -> float:
        """Edges over pairs; 0 where there is no pair."""
        return self.edges / self.pairs if self.pairs else 0.0


def density_of(graph: SkillsGraph) -> Density:
    """Count the edges between skills of different names."""
    between = graph.weights[~graph.same_skill]
    edges = between[between > 0]
    mean = float(edges.mean()) if edges.size else 0.0
    return Density(between.size, edges.size, mean, int((between < 0).sum()))


def warnings_of(graph: SkillsGraph) -> list[str]:
    """Sentences on why Skill-It may not help with this graph; none where nothing speaks against it."""
    found, density = [], density_of(graph)
    if not density.pairs:
        return ['There is no pair of different skills: there is nothing to mix.']
    counted = f'{density.edges} of {density.pairs} possible edges'
    sums = graph.weights.sum(axis=1)
    even = bool(np.ptp(sums) <= EVEN_ROWS * abs(sums.mean()))
    if density.fraction < NEARLY_EMPTY:
        found.append(f'The graph is nearly empty ({counted}): {ADVICE}.')
    elif density.fraction > NEARLY_COMPLETE and not set(graph.train_skills).isdisjoint(graph.eval_skills):
        # Where no skill is both, nothing speaks against it that all help: how much each does is what decides.
        weights = (
            ''
            if even
            else f'; only the weights differ (sums of the rows: {sums.min():.3g} to {sums.max():.3g})'
        )
        found.append(f'The graph is nearly complete ({counted}{weights}): {ADVICE}.')
    if even and len(graph.train_skills) > 1:
        found.append(
            f'All rows sum to about the same ({sums.min():.3g} to {sums.max():.3g}): while the losses are alike, '
            f'Skill-It gives every skill about the same proportion.'
        )
    return found


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
        'lone_skills': list(graph.lone_skills),
        'warnings': warnings_of(graph),
    }


def print_graph(graph: SkillsGraph, title: str, *, console: Console | None = None) -> None:
    """Print the weights, how dense the graph is, lone skills and warnings."""
    console = console or default_console()
    console.print(
        f'{title}: {len(graph.train_skills)} train skills x {len(graph.eval_skills)} eval skills',
        style='bold',
        markup=False,
        highlight=False,
    )
    console.print(_matrix(graph) if len(graph.eval_skills) <= MOST_COLUMNS else _heaviest(graph))
    density = density_of(graph)
    negative = f'; {density.negative} are negative' if density.negative else ''
    lines = [
        f'{density.edges} of {density.pairs} possible edges ({density.fraction:.0%}), of mean weight '
        f'{density.mean_weight:.3g}{negative}'
    ]
    if graph.lone_skills:
        lines.append(f'Without an edge to or from another skill: {", ".join(graph.lone_skills)}')
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


def _matrix(graph: SkillsGraph) -> Table:
    table = Table()
    table.add_column('trained on', overflow='fold')
    for name in graph.eval_skills:
        table.add_column(escape(name), justify='right', overflow='fold')
    for name, row, own in zip(graph.train_skills, graph.weights, graph.same_skill, strict=True):
        cells = [
            f'[dim]{weight:.3g}[/dim]' if same else f'{weight:.3g}'
            for weight, same in zip(row.tolist(), own.tolist(), strict=True)
        ]
        table.add_row(escape(name), *cells)
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
            weight = f'{between[row, column]:.3g}'
            table.add_row(escape(graph.train_skills[row]), escape(graph.eval_skills[column]), weight)
    return table
