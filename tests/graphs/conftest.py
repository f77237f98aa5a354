"""Fixtures of the tests of graphs: small streams, their training YAML, the command line."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from skillit_stream.cli import main
from tests.support import commands
from tests.support.graph_runs import settings
from tests.support.training_runs import write_yaml


@pytest.fixture(scope='session')
def addition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The addition corpus, converted once; tests must not change it."""
    import torch

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp('graphs') / 'addition'
    counts = ['--train-samples', '100', '--eval-samples', '20']
    assert main(['convert', 'addition', '--out', str(root), *counts]) == 0
    return root


@pytest.fixture(scope='session')
def training_yaml(addition: Path) -> Path:
    """The YAML of the short runs."""
    return write_yaml(addition.parent / 'tiny.yaml', settings(addition))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`skillit graph ...` that must be refused: exit code 2 and one line on stderr, which is returned."""

    return partial(commands.refusal, capsys, 'graph')


@pytest.fixture
def done(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """`skillit graph ...` that must work; returns what it printed on stdout and on stderr."""

    return partial(commands.done, capsys, 'graph')
