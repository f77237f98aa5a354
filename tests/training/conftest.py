"""Fixtures of the tests of the training side: small streams, a tiny run's YAML, the command line."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streaming import MDSWriter

from skillit_stream.cli import main
from tests.support import commands
from tests.support.launching import AS_NODE, Launcher, RankServer
from tests.support.streams_reading import samples_in
from tests.support.training_runs import EVAL_SAMPLES, SKILLS, TRAIN_SAMPLES, settings, write_yaml


@pytest.fixture(scope='session', autouse=True)
def one_thread() -> None:
    """A model this small only loses time to more."""
    torch.set_num_threads(1)


@pytest.fixture(scope='session')
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The addition corpus, converted once; tests must not change it."""
    root = tmp_path_factory.mktemp('training') / 'addition'
    counts = ['--train-samples', str(TRAIN_SAMPLES), '--eval-samples', str(EVAL_SAMPLES)]
    assert main(['convert', 'addition', '--out', str(root), *counts]) == 0
    return root


@pytest.fixture
def uneven(streams: Path, tmp_path: Path) -> Path:
    """The streams, but the first few to all tokens of a sample are targets."""
    root = Path(shutil.copytree(streams, tmp_path / 'uneven'))
    generator = np.random.default_rng(1)
    for skill in SKILLS:
        samples = samples_in(streams / skill / 'train')
        shutil.rmtree(root / skill / 'train')
        columns = {'tokens': 'ndarray:uint16:17', 'loss_mask': 'ndarray:uint8:17'}
        with MDSWriter(out=str(root / skill / 'train'), columns=columns) as writer:
            for sample in samples:
                mask = np.zeros(17, np.uint8)
                mask[: generator.integers(2, 18)] = 1
                writer.write({'tokens': sample['tokens'], 'loss_mask': mask})
    return root


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """Where the test's run goes."""
    return tmp_path / 'run'


@pytest.fixture
def tiny_yaml(tmp_path: Path, streams: Path, run_folder: Path) -> Path:
    """The YAML of a tiny run."""
    return write_yaml(tmp_path / 'tiny.yaml', settings(streams, run_folder))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tiny_yaml: Path) -> Callable[..., str]:
    """Train with overrides that must be refused: exit code 2 and one line on stderr, which is returned."""

    def run(*overrides: str, path: Any = tiny_yaml) -> str:
        return commands.refusal(capsys, 'train', path, *overrides)

    return run


@pytest.fixture
def trained(capsys: pytest.CaptureFixture[str], tiny_yaml: Path) -> Callable[..., None]:
    """Train with overrides that must work."""

    def run(*overrides: str) -> None:
        commands.done(capsys, 'train', tiny_yaml, *overrides)

    return run


@pytest.fixture
def launcher(tmp_path: Path, rank_server: RankServer) -> Iterator[Launcher]:
    """Starts training processes; whatever is left of them goes with the test."""
    launcher = Launcher(tmp_path, rank_server)
    yield launcher
    launcher.close()


@pytest.fixture
def as_node(tmp_path: Path) -> Callable[[Path], list[str]]:
    """What to put before a command so that it runs as a node that cannot see the given folder."""
    hidden = tmp_path / 'probe'
    hidden.mkdir()

    def prefix(hidden: Path) -> list[str]:
        return ['unshare', '-m', 'bash', '-c', AS_NODE, str(hidden)]

    command = [*prefix(hidden), 'true']
    if not shutil.which('unshare') or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip('needs `unshare -m` and the right to mount (root), to give each node its own /dev/shm')
    return prefix
