"""mixture.jsonl as an audit needs it: what every finished round drew, without gaps."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillit_stream.errors import InputError


@dataclass(frozen=True, kw_only=True)
class RoundLine:
    """One finished round."""

    number: int
    step: int
    """Steps trained by its end."""
    proportions: dict[str, float]
    """Share asked for, by skill."""
    samples: dict[str, int]
    """Samples drawn, by skill."""
    where: str
    """``file:line``, for error messages."""


def read_round_lines(path: Path) -> list[RoundLine]:
    """Read the finished rounds of a mixture.jsonl, 0 to the last.

    A half line at the end (the run was killed while it wrote) is left out. A round that stands there twice
    was trained again: the later line counts, and what stood after the earlier one did not happen.

    Args:
        path: The file.

    Raises:
        InputError: The file is missing, a line is no round, or a round is missing.
    """
    try:
        texts = path.read_bytes().split(b'\n')
    except OSError:
        raise InputError(f'{path.parent} has no {path.name}: no round of this run has ended yet.') from None
    lines: list[RoundLine] = []
    for number, text in enumerate(texts, start=1):
        is_last = number == len(texts)
        if is_last and not _is_json(text):
            break
        line = _parse(text, f'{path}:{number}')
        if line is None:
            lines.clear()
            continue
        while lines and lines[-1].number >= line.number:
            lines.pop()
        if line.number != len(lines):
            raise InputError(
                f'{line.where} is round {line.number}, but round {len(lines)} is not in the file: the order of a '
                f'round depends on all rounds before it; audit the folder of a run that began at round 0.'
            )
        lines.append(line)
    return lines


def _parse(text: bytes, where: str) -> RoundLine | None:
    """One line; None for an evaluation before training."""
    try:
        entry = json.loads(text)
        number, step = _whole(entry['round']), _whole(entry['step'])
        if number < 0:
            return None
        return RoundLine(
            number=number,
            step=step,
            proportions={skill: float(share) for skill, share in entry['proportions'].items()},
            samples={skill: _whole(count) for skill, count in entry['samples'].items()},
            where=where,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f'{type(error).__name__}: {error}'
        raise InputError(f'{where} is not the line of a round ({what}): restore the file.') from None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'not a whole number: {value!r}')
    return value


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
