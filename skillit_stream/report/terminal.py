"""The table of final losses on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from skillit_stream.base.terminal import default_console
from skillit_stream.report.comparison import (
    LOWEST,
    WITHIN,
    LossRow,
    has_spread,
    loss_rows,
    pairs,
    reach_sentences,
    verdicts,
)
from skillit_stream.report.methods import AVERAGE, Method, group_runs, notes, plural
from skillit_stream.report.run_folder import read_runs
from skillit_stream.report.verdict import compared, verdict

MAX_ROWS = 24  # skills on the terminal; the page has more, summary.json all
MAX_PAIRS = 10
SIGNS = {LOWEST: '*', WITHIN: '~', '': ' '}


def print_summary(
    runs: Sequence[str | Path], *, console: Console | None = None, baseline: str | None = None
) -> None:
    """Print final losses per method (mean, spread, number of seeds) and wins paired by seed.

    Args:
        runs: Run folders.
        console: Where to print; None: standard output.
        baseline: The method to compare the others with; None: see `verdict.chosen_baseline`.

    Raises:
        InputError: A folder is no run folder.
    """
    print_methods(group_runs(read_runs(runs)), console=console, baseline=baseline)


def print_methods(
    methods: Sequence[Method], *, console: Console | None = None, baseline: str | None = None
) -> None:
    """Print the summary of runs that are read already."""
    console = console or default_console()
    methods, baseline = compared(methods, baseline)
    console.print(verdict(methods, baseline), markup=False, highlight=False, style='bold')
    for note in notes(methods):
        console.print(f'note: {note}', markup=False, highlight=False, style='yellow')
    rows = loss_rows(methods)
    if not rows:
        console.print('No evaluation ran, so there are no losses to compare.', highlight=False)
        return
    spread = ': mean ± standard deviation over seeds' if any(map(has_spread, rows)) else ''
    console.print(f'final losses, nats per token{spread}', style='bold')
    console.print(loss_table(methods, rows[:MAX_ROWS]))
    if len(rows) > MAX_ROWS:
        console.print(f'{plural(len(rows) - MAX_ROWS, "more skill")}: see summary.json', highlight=False)
    if len(methods) > 1:
        near = '   ~ within one standard deviation of it' if any(map(has_spread, rows)) else ''
        console.print(f'* lowest{near}', style='dim', highlight=False)
    found = pairs(methods, baseline)
    sentences = [*verdicts(methods, baseline), *(f'{pair}.' for pair in found[:MAX_PAIRS])]
    if baseline is not None:
        sentences += reach_sentences(methods, baseline)
    for sentence in sentences:
        console.print(sentence, markup=False, highlight=False)
    if len(found) > MAX_PAIRS:
        console.print(f'{plural(len(found) - MAX_PAIRS, "more pair")}: see summary.json', highlight=False)


def loss_table(methods: Sequence[Method], rows: Sequence[LossRow]) -> Table:
    """Rows are eval skills, columns are methods with their number of seeds."""
    table = Table()
    table.add_column('eval skill', overflow='fold')
    for method in methods:
        seeds = plural(len(method.runs), 'seed')
        table.add_column(f'{escape(method.name)}\n({seeds})', justify='right', overflow='fold')
    for row in rows:
        cells = []
        for method, cell, mark in zip(methods, row.cells, row.marks, strict=True):
            fewer = '' if cell is None or cell.n == len(method.runs) else f' (n = {cell.n})'
            cells.append('not measured' if cell is None else f'{cell}{fewer} {SIGNS[mark]}')
        mean = row.skill == AVERAGE
        table.add_row(escape(row.skill), *cells, style='bold' if mean else None, end_section=mean)
    return table
