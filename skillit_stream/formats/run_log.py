"""mixture.jsonl as training leaves it: one line a round, read and checked into records.

Reports and audits read it here. Lines may differ in their skills: streams come and go in a run.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillit_stream.base.errors import InputError

FIGURES = ('bits_per_byte', 'accuracy', 'exact_match')


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation measured."""

    step: int
    """Batches trained before it."""
    losses: dict[str, float]
    """Nats per token per eval skill."""
    figures: dict[str, dict[str, float]]
    """What else, of `FIGURES`: figure -> eval skill -> value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """One line of mixture.jsonl; an evaluation before training has round -1."""

    round: int
    step: int
    """Batches trained by the end of the round."""
    proportions: dict[str, float] = field(default_factory=dict)
    """Asked-for share per train skill, in the order of the run's streams."""
    realised: dict[str, float] = field(default_factory=dict)
    samples: dict[str, float] = field(default_factory=dict)
    """Samples drawn in this round per train skill."""
    passes: dict[str, float] = field(default_factory=dict)
    """Walks over each stream since the start of the run."""
    losses: dict[str, float] = field(default_factory=dict)
    """Nats per token per eval skill at the end of the round; empty where no evaluation ran."""
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    """What else the evaluation measured, of `FIGURES`: figure -> eval skill -> value."""
    within: tuple[Evaluation, ...] = ()
    """The evaluations inside the round, before its end."""
    stalled_seconds: float = 0.0
    seconds: float = 0.0
    """Of the whole round, waiting for data (`stalled_seconds`) and evaluating (`eval_seconds`) included."""
    eval_seconds: float = 0.0
    order: dict[str, Any] | None = None
    """Settings and streams that the order of samples depends on; None: as in the rounds before."""
    where: str = ''
    """``file:line``, for error messages."""

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Those inside the round and the one at its end, where it ran."""
        end = Evaluation(self.step, self.losses, self.figures)
        return (*self.within, end) if self.losses else self.within


@dataclass(frozen=True, slots=True)
class MixtureLog:
    """The rounds of one run in order, and what had to be left out to get there."""

    records: tuple[RoundRecord, ...]
    half_written: int
    """1 where the last line breaks off (the run was killed while writing it), else 0."""
    replaced: int
    """Lines a resumed run wrote again: the newer ones count."""


def read_mixture_lines(path: Path, *, gapless: bool = False) -> MixtureLog:
    """Read a mixture.jsonl; one without any line has no records.

    Args:
        path: The file. Its last line may break off; any other broken line is an error.
        gapless: Refuse a file in which a round from 0 on is missing.

    Raises:
        InputError: The file is missing, a line is not a round, or (`gapless`) a round is missing.
    """
    try:
        lines = path.read_bytes().split(b'\n')
    except OSError:
        raise InputError(f'{path.parent} has no {path.name}: no round of this run has ended yet.') from None
    ends_with_newline = not lines[-1]
    if ends_with_newline:
        lines.pop()
    records: list[RoundRecord] = []
    half_written = replaced = 0
    for number, line in enumerate(lines, start=1):
        where = f'{path}:{number}'
        if number == len(lines) and not ends_with_newline and not _is_json(line):
            half_written = 1
            continue
        record = parse_record(line, where=where)
        # A resumed run goes on from its checkpoint: what the log held from there on did not happen.
        while records and records[-1].round >= record.round:
            records.pop()
            replaced += 1
        if gapless:
            _refuse_gap(record, records[-1].round + 1 if records else 0)
        records.append(record)
    return MixtureLog(tuple(records), half_written, replaced)


def _refuse_gap(record: RoundRecord, following: int) -> None:
    if record.round > following:
        raise InputError(
            f'{record.where} is round {record.round}, but round {following} is not in the file: the order of a '
            f'round depends on all rounds before it; audit the folder of a run that began at round 0.'
        )


def parse_record(line: bytes, *, where: str) -> RoundRecord:
    """Parse one line of mixture.jsonl.

    Args:
        line: The line without its newline.
        where: ``file:line``, for error messages.

    Raises:
        InputError: The line is empty, no JSON object, or a field has the wrong type.
    """
    remedy = 'remove the line or restore the file'
    if not line.strip():
        raise InputError(f'{where} is an empty line: {remedy}')
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise InputError(f'{where} is not JSON ({error}): {remedy}') from None
    if not isinstance(entry, dict):
        raise InputError(f'{where} must be a JSON object, but got a {type(entry).__name__}: {remedy}')
    return RoundRecord(
        round=_integer(entry, 'round', where=where),
        step=_integer(entry, 'step', where=where),
        stalled_seconds=_number(entry.get('stalled_seconds', 0.0), 'stalled_seconds', where=where),
        seconds=_number(entry.get('seconds', 0.0), 'seconds', where=where),
        eval_seconds=_number(entry.get('eval_seconds', 0.0), 'eval_seconds', where=where),
        order=_order(entry, where=where),
        where=where,
        **{
            key: _numbers(entry.get(key, {}), key, where=where)
            for key in ('proportions', 'realised', 'samples', 'passes', 'losses')
        },
        figures=_figures(entry, where=where),
        within=_within(entry, where=where),
    )


def _within(entry: dict[str, Any], *, where: str) -> tuple[Evaluation, ...]:
    value = entry.get('within', [])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise InputError(
            f"{where}: 'within' must be a list of evaluations, but got {value!r}: restore the file"
        )
    return tuple(_evaluation(one, where=where) for one in value)


def _evaluation(entry: dict[str, Any], *, where: str) -> Evaluation:
    losses = _numbers(entry.get('losses', {}), 'losses', where=where)
    return Evaluation(_integer(entry, 'step', where=where), losses, _figures(entry, where=where))


def _figures(entry: dict[str, Any], *, where: str) -> dict[str, dict[str, float]]:
    return {key: _numbers(entry[key], key, where=where) for key in FIGURES if entry.get(key)}


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _integer(entry: dict[str, Any], key: str, *, where: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f'{where}: {key!r} must be an integer, but got {value!r}: restore the file')
    return value


def _number(value: object, key: str, *, where: str) -> float:
    """A number; null stands for a loss that is not a number, as strict JSON writers put it."""
    if value is None:
        return math.nan
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InputError(f'{where}: {key!r} must hold numbers, but got {value!r}: restore the file')
    return float(value)


def _numbers(value: object, key: str, *, where: str) -> dict[str, float]:
    if not isinstance(value, dict):
        raise InputError(f'{where}: {key!r} must map skills to numbers, but got {value!r}: restore the file')
    return {skill: _number(number, f'{key}.{skill}', where=where) for skill, number in value.items()}


def _order(entry: dict[str, Any], *, where: str) -> dict[str, Any] | None:
    value = entry.get('order')
    if value is not None and not isinstance(value, dict):
        raise InputError(f"{where}: 'order' must be a JSON object, but got {value!r}: restore the file")
    return value
