"""The tables of runs: the mixture each was trained on and the metrics it reached."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import read_text
from skillit_stream.base.names import unique_names

SUM_TOLERANCE = 1e-3
"""How far a run's proportions may sum from 1: tables are often rounded to a few digits. The rest is divided out."""

MIN_RUNS = 3


@dataclass(frozen=True, kw_only=True)
class RunTable:
    """Runs, their mixtures and their metrics, in one order."""

    runs: tuple[str, ...]
    """Names of the runs, n of them."""
    skills: tuple[str, ...]
    """Columns of the ratios, k of them."""
    metrics: tuple[str, ...]
    """Columns of the metrics, m of them."""
    proportions: NDArray[np.float64]
    """float64 ``[n, k]``, rows sum to 1."""
    values: NDArray[np.float64]
    """float64 ``[n, m]``: nats per token, or any metric that is better when lower."""
    warnings: tuple[str, ...] = ()
    """What a reader of a fit to it must know."""


def read_runs(ratios: str | Path, metrics: str | Path) -> RunTable:
    """Read both tables: CSV with a header, the first column the run's name, a column for each skill or metric.

    Args:
        ratios: The mixture of each run; a row sums to 1 within 0.001.
        metrics: The metrics of the same runs, in any order.

    Raises:
        InputError: A file is missing or no such table, a number is missing or not finite, proportions are negative or
            do not sum to 1, or a run is in one file alone.
    """
    skills, mixtures = _read_table(Path(ratios))
    names, measured = _read_table(Path(metrics))
    _refuse_unpaired(mixtures, measured, ratios, metrics)
    _refuse_unpaired(measured, mixtures, metrics, ratios)
    check_enough(str(ratios), len(mixtures))
    rows = {run: _proportions(ratios, run, skills, row) for run, row in mixtures.items()}
    return RunTable(
        runs=tuple(rows),
        skills=skills,
        metrics=names,
        proportions=np.array(list(rows.values())),
        values=np.array([measured[run] for run in rows], dtype=np.float64),
    )


def check_enough(source: str, runs: int) -> None:
    """Refuse a table of too few runs; raises InputError."""
    if runs < MIN_RUNS:
        raise InputError(
            f'{source} must hold at least {MIN_RUNS} runs to fit to and to hold out, but got: {runs}'
        )


def _refuse_unpaired(
    one: dict[str, list[float]], other: dict[str, list[float]], here: str | Path, there: str | Path
) -> None:
    alone = [run for run in one if run not in other]
    if alone:
        more = f' and {len(alone) - 1} more' if len(alone) > 1 else ''
        raise InputError(
            f'run {alone[0]!r}{more} of {here} is not in {there}: every run needs a row in both files'
        )


def _read_table(path: Path) -> tuple[tuple[str, ...], dict[str, list[float]]]:
    """Column names without the first, and the numbers of each row by its name."""
    lines = [row for row in csv.reader(read_text(path).lstrip('\ufeff').splitlines()) if any(row)]
    if not lines or len(lines[0]) < 2:
        raise InputError(
            f'{path} must have a header with the run and at least one column, separated by commas'
        )
    columns = unique_names(f'columns of {path}', [name.strip() for name in lines[0][1:]])
    rows: dict[str, list[float]] = {}
    for run, *cells in lines[1:]:
        if len(cells) != len(columns):
            raise InputError(
                f'{path}: run {run!r} has {len(cells)} numbers, but there are {len(columns)} columns'
            )
        if run in rows:
            raise InputError(f'{path}: run {run!r} has two rows; give each run its own name')
        rows[run] = [_number(path, run, *pair) for pair in zip(columns, cells, strict=True)]
    return columns, rows


def _number(path: Path, run: str, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f'{path}: run {run!r}, column {column!r} must be a finite number, but got: {text!r}; '
            'fill it in or leave the run out of both files'
        )
    return value


def _proportions(
    path: str | Path, run: str, skills: Sequence[str], row: Sequence[float]
) -> NDArray[np.float64]:
    proportions = np.array(row, dtype=np.float64)
    if proportions.min() < 0:
        where = int(proportions.argmin())
        raise InputError(
            f'{path}: run {run!r}, column {skills[where]!r} must be a proportion, but got: {proportions[where]:g}'
        )
    if abs(proportions.sum() - 1.0) > SUM_TOLERANCE:
        raise InputError(
            f'{path}: the proportions of run {run!r} must sum to 1, but got: {proportions.sum():.6g}; '
            'divide each by their sum'
        )
    return proportions / proportions.sum()
