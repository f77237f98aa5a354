"""Fixtures of the tests of graphs: small streams, their training YAML, the command line."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from skillit_stream.cli import main
from tests.support.graph_runs import settings, write_yaml
from tests.support.refusals import refused_line


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
    return partial(refused_line, capsys, 'graph')


@pytest.fixture
def done(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """`skillit graph ...` that must work; returns what it printed on stdout and on stderr."""

    def run(*arguments: object) -> tuple[str, str]:
        capsys.readouterr()
        code = main(['graph', *map(str, arguments)])
        output = capsys.readouterr()
        assert code == 0, output.err
        return output.out, output.err

    return run
