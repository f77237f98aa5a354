"""Fixtures of the tests of forks: a run of ten rounds, and `skillit fork`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support import commands, fork_runs

CHECKPOINT = 'ep4-ba32-rank0.pt'


@pytest.fixture(scope='session')
def forked_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with all its checkpoints; tests must not change it, and forks do not."""
    import torch

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp('forks')
    return fork_runs.train(fork_runs.write_streams(root), root / 'run')


@pytest.fixture
def fork(capsys: pytest.CaptureFixture[str], forked_run: Path) -> Callable[..., tuple[str, str]]:
    """`skillit fork` of the run's fourth checkpoint; returns what it printed on stdout and on stderr."""

    def typed(out: Path, *arguments: object) -> tuple[str, str]:
        common = ['--checkpoint', CHECKPOINT, '--steps', 12, '--max-steps', 12, '--out', out]
        return commands.done(capsys, 'fork', forked_run, *common, *arguments)

    return typed


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`skillit fork ...` that must be refused: exit code 2 and one line on stderr, which is returned."""
    return partial(commands.refusal, capsys, 'fork')
