"""Tables of runs drawn from known laws."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skillit_stream.formats.run_log import RoundRecord
from skillit_stream.mixture_fit import RunTable

SKILLS = ('web', 'code', 'books')

# Two metrics of c + exp(t · p): code lowers the first, books the second.
CONSTANTS = np.array([1.5, 2.0])
SLOPES = np.array([[0.4, -1.2, 0.1], [0.3, 0.5, -0.8]])


def drawn_mixtures(runs: int, skills: int, seed: int = 0) -> NDArray[np.float64]:
    """Mixtures spread over the simplex, float64 ``[runs, skills]``."""
    return np.random.default_rng(seed).dirichlet(np.ones(skills), size=runs)


def table(
    runs: int = 24,
    *,
    constants: NDArray[np.float64] = CONSTANTS,
    slopes: NDArray[np.float64] = SLOPES,
    skills: Sequence[str] = SKILLS,
    noise: float = 0.0,
) -> RunTable:
    """Runs whose metrics follow the exponential law with the given parameters."""
    shares = drawn_mixtures(runs, len(skills))
    values = constants + np.exp(shares @ slopes.T)
    values = values + noise * np.random.default_rng(1).standard_normal(values.shape)
    return RunTable(
        runs=tuple(f'run{i}' for i in range(runs)),
        skills=tuple(skills),
        metrics=tuple(f'eval{i}' for i in range(len(constants))),
        proportions=shares,
        values=values,
    )


def write_table(runs: RunTable, folder: Path) -> tuple[str, str]:
    """Write ratios.csv and metrics.csv; returns their paths."""
    paths = []
    for name, columns, rows in (
        ('ratios.csv', runs.skills, runs.proportions),
        ('metrics.csv', runs.metrics, runs.values),
    ):
        path = folder / name
        with path.open('w', newline='', encoding='utf-8') as file:
            writer = csv.writer(file)
            writer.writerow(['run', *columns])
            writer.writerows([run, *row] for run, row in zip(runs.runs, rows.tolist(), strict=True))
        paths.append(str(path))
    return paths[0], paths[1]


def simplex_grid(parts: int) -> NDArray[np.float64]:
    """All mixtures of three skills in multiples of 1 / parts."""
    return np.array(
        [(i, j, parts - i - j) for i in range(parts + 1) for j in range(parts + 1 - i)], dtype=np.float64
    ) / float(parts)


def write_logs(
    folder: Path, mixtures: NDArray[np.float64], losses: NDArray[np.float64], skills: Sequence[str] = SKILLS
) -> list[str]:
    """Run folders with a log each.

    Args:
        folder: They are made in it: run0, run1, ...
        mixtures: Of each run and round, float64 ``[n, S, k]``.
        losses: Of each eval skill before the first and after every round, float64 ``[n, S + 1, m]``; skills are the
            first m of `skills`.
        skills: Train skills.
    """
    made = []
    for number, (rounds, measured) in enumerate(zip(mixtures, losses, strict=True)):
        run = folder / f'run{number}'
        run.mkdir()
        named = [dict(zip(skills, row.tolist(), strict=False)) for row in measured]
        lines = [RoundRecord(round=-1, step=0, losses=named[0])]
        for at, (mixture, after) in enumerate(zip(rounds, named[1:], strict=True)):
            # The objective is what counts where there is one; samples would have to be whole numbers.
            trained_for = dict(zip(skills, mixture.tolist(), strict=True))
            drawn = dict.fromkeys(skills, 10.0)
            lines.append(
                RoundRecord(round=at, step=at + 1, samples=drawn, objective=trained_for, losses=after)
            )
        (run / 'mixture.jsonl').write_text(''.join(f'{line.to_line()}\n' for line in lines))
        made.append(str(run))
    return made
