"""Runs that are audited: their files changed by hand, questions asked of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from skillit_stream.formats.run_log import RoundRecord
from skillit_stream.loader.dataset import SkillStreamingDataset
from tests.support import commands


def change_line(path: Path, number: int, **values: Any) -> None:
    """Change keys of one line of mixture.jsonl, counted from 1."""
    lines = path.read_text().splitlines()
    lines[number - 1] = json.dumps({**json.loads(lines[number - 1]), **values})
    path.write_text('\n'.join(lines) + '\n')


def record_of(dataset: SkillStreamingDataset, step: int) -> RoundRecord:
    """The line of the round that a dataset has just played, as the driver writes it."""
    samples = dataset.samples
    return RoundRecord(
        round=dataset.round,
        step=step,
        proportions=dataset.proportions,
        realised={skill: count / dataset.round_size for skill, count in samples.items()},
        samples=dict(samples),
        passes=dataset.passes,
        state=dataset.round_state(),
    )


def asked(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    """What `skillit audit ... --json` answers."""
    return json.loads(commands.done(capsys, 'audit', *arguments, '--json')[0])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line with which `skillit audit` refuses, with exit code 2."""
    return commands.refusal(capsys, 'audit', *arguments)
