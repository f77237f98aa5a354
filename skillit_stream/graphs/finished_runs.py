"""Losses that are there already: run folders of runs on one skill or two, or a table."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import read_json, read_text
from skillit_stream.formats.run_log import RoundRecord, read_rounds
from skillit_stream.graphs.records import START_ROW
from skillit_stream.graphs.start import start_of
from skillit_stream.mixture.graph_formulas import MeasuredLosses, Mix, format_mix, mix_of
from skillit_stream.mixture.graph_measurement import CHECKPOINT, StartOfRuns
from skillit_stream.training.config import load_config

LOG, CONFIG = 'mixture.jsonl', 'config.yaml'
# Losses of the same weights differ by rounding where devices or ranks do.
SAME_START = 1e-3


@dataclass(frozen=True)
class FinishedLosses:
    """Losses with the names of both sides of a graph."""

    train_skills: tuple[str, ...]
    eval_skills: tuple[str, ...]
    losses: MeasuredLosses
    steps: int | None = None
    """Of each run; None: a table does not say."""
    started_from: StartOfRuns | None = None
    """None: a table does not say, or the runs have no config.yaml."""


@dataclass(frozen=True)
class _Run:
    """What counts of a run folder."""

    folder: str
    skills: tuple[str, ...]
    """Trained on, in the order of the run's streams."""
    order: tuple[str, ...]
    """All streams of the run."""
    start: dict[str, float]
    """Losses before training; empty if none were measured."""
    last: RoundRecord


def losses_of_runs(
    folders: Sequence[str], *, start_losses: str | None = None, steps: int | None = None
) -> FinishedLosses:
    """Read the losses of runs that kept one static mixture of one skill or of two in equal proportions.

    Args:
        folders: Run folders, with mixture.jsonl.
        start_losses: A JSON file, eval skill -> loss before training; None: round -1 of the runs.
        steps: Take the evaluation at this step; None: the last, at the same step in all runs.

    Raises:
        InputError: A run is of another mixture, of other starting weights or of another length, or is there twice.
    """
    runs = [_read_run(folder, steps) for folder in folders]
    if not runs:
        raise InputError('No runs given: name run folders, or a table with --losses.')
    _check_steps(runs)
    order = dict.fromkeys(skill for run in runs for skill in run.order)
    train_skills = tuple(skill for skill in order if any(skill in run.skills for run in runs))
    start = _read_start(start_losses) if start_losses else _common_start(runs)
    after: dict[Mix, dict[str, float]] = {}
    for run in runs:
        mix = mix_of(run.skills, train_skills)
        if mix in after:
            raise InputError(f'{run.folder} is a second run on {format_mix(mix)}: name one of them.')
        after[mix] = run.last.losses
    return FinishedLosses(
        train_skills, tuple(start), MeasuredLosses(start, after), runs[0].last.step, _started_from(folders)
    )


def losses_of_table(path: str) -> FinishedLosses:
    """Read a CSV table: a row a run, a column an eval skill, and a row `start` with the losses before training.

    The first column says what a row was trained on: a skill, or two as ``a + b``.

    Raises:
        InputError: The table cannot be read so.
    """
    rows = [row for row in csv.reader(read_text(Path(path)).splitlines()) if row]
    if len(rows) < 2 or len(rows[0]) < 2:
        raise InputError(f'{path} must have a heading with the eval skills and a row a run, but has neither.')
    eval_skills = tuple(name.strip() for name in rows[0][1:])
    losses = {
        row[0].strip(): _numbers(row, eval_skills, f'{path}, row {row[0].strip()!r}') for row in rows[1:]
    }
    if len(losses) < len(rows) - 1:
        raise InputError(f'{path} has two rows of the same name: a run may be there once.')
    start = losses.pop(START_ROW, None)
    if start is None:
        raise InputError(f'{path} has no row {START_ROW!r}: add one with the losses before training.')
    parts = {name: _parts(name, eval_skills) for name in losses}
    train_skills = tuple(dict.fromkeys(skill for names in parts.values() for skill in names))
    after: dict[Mix, dict[str, float]] = {}
    for name, row in losses.items():
        mix = mix_of(parts[name], train_skills)
        if mix in after:
            raise InputError(f'{path} has two rows on {format_mix(mix)}: a run may be there once.')
        after[mix] = row
    return FinishedLosses(train_skills, eval_skills, MeasuredLosses(start, after))


def _read_run(folder: str, steps: int | None) -> _Run:
    path = Path(folder) / LOG
    if not path.is_file():
        raise InputError(f'{folder} has no {LOG}: name the run folder of a run that has finished a round.')
    records = read_rounds(path).records
    rounds = [record for record in records if record.round >= 0]
    evaluated = [record for record in rounds if record.losses and steps in (None, record.step)]
    if not evaluated:
        what = 'no evaluation' if steps is None else f'no evaluation at step {steps}'
        raise InputError(f'{path} has {what}: let the evaluators run at the end of that round.')
    start = next((record.losses for record in records if record.round < 0), {})
    return _Run(folder, _skills_of(rounds, folder), tuple(rounds[0].proportions), start, evaluated[-1])


def _skills_of(rounds: Sequence[RoundRecord], folder: str) -> tuple[str, ...]:
    """The one or two skills of a run's mixture."""
    drawn = tuple(skill for skill, part in rounds[0].proportions.items() if part > 0)
    for record in rounds:
        even = {skill: 1 / len(drawn) if skill in drawn else 0.0 for skill in rounds[0].proportions}
        same = record.proportions.keys() == even.keys() and all(
            abs(record.proportions[skill] - even[skill]) < 1e-6 for skill in even
        )
        if len(drawn) > 2 or not same:
            mixture = ', '.join(f'{skill} {part:.3g}' for skill, part in record.proportions.items() if part)
            raise InputError(
                f'{folder}: round {record.round} was trained on {mixture}, but a graph is read from runs on one skill, '
                f'or on two in equal proportions, in every round: leave the run out.'
            )
    return drawn


def _check_steps(runs: Sequence[_Run]) -> None:
    first = runs[0]
    for run in runs[1:]:
        if run.last.step != first.last.step:
            raise InputError(
                f'{run.folder} ends at step {run.last.step}, {first.folder} at {first.last.step}: say at which step '
                f'to compare them with --steps.'
            )


def _common_start(runs: Sequence[_Run]) -> dict[str, float]:
    """The losses before training, which must be the same in all runs."""
    for run in runs:
        if not run.start:
            raise InputError(
                f'{run.folder} has no losses before training (round -1 of {LOG}): give them with --start-losses.'
            )
        for skill, loss in run.start.items():
            first = runs[0].start.get(skill)
            if first is None or abs(loss - first) > SAME_START * abs(first):
                raise InputError(
                    f'{run.folder} starts at a loss of {loss:.6g} of {skill!r}, {runs[0].folder} at '
                    f'{"none" if first is None else f"{first:.6g}"}: the runs of a graph start from the same weights; '
                    f'train them with one seed, or give --start-losses.'
                )
    return runs[0].start


def _started_from(folders: Sequence[str]) -> StartOfRuns | None:
    """What all runs started from, as their config.yaml says; None where one has none or they differ."""
    files = [Path(folder) / CONFIG for folder in folders]
    if not all(file.is_file() for file in files):
        return None
    try:
        configs = [load_config(file) for file in files]
    except InputError:
        return None  # of a version with other keys
    first = configs[0]
    if any((config.load_path, config.model) != (first.load_path, first.model) for config in configs):
        return None
    try:
        return start_of(first)
    except InputError:
        return StartOfRuns(weights=CHECKPOINT, path=first.load_path)  # the checkpoint is gone


def _read_start(path: str) -> dict[str, float]:
    data = read_json(Path(path))
    if not isinstance(data, dict) or not data:
        raise InputError(f'{path} must be a JSON object, eval skill -> loss before training.')
    for skill, loss in data.items():
        if not isinstance(loss, (int, float)) or isinstance(loss, bool):
            raise InputError(f'{path}: the loss of {skill!r} must be a number, but got: {loss!r}.')
    return {skill: float(loss) for skill, loss in data.items()}


def _numbers(row: Sequence[str], skills: Sequence[str], where: str) -> dict[str, float]:
    if len(row) != len(skills) + 1:
        raise InputError(f'{where}: must have {len(skills)} losses, but has {len(row) - 1}.')
    try:
        return {skill: float(cell) for skill, cell in zip(skills, row[1:], strict=True)}
    except ValueError:
        raise InputError(f'{where}: must hold numbers, but got: {", ".join(row[1:])}.') from None


def _parts(name: str, eval_skills: Sequence[str]) -> tuple[str, ...]:
    """A row's skills: what stands around a plus, unless all of it is the name of an eval skill."""
    first, plus, second = (part.strip() for part in name.partition(' + '))
    return (first, second) if plus and name not in eval_skills else (name,)
