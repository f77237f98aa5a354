"""Real processes: `composer -n 2 -m skillit_stream.train` on a CPU, ended, killed and started again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skillit_stream.cli import main
from tests.support.launching import NEEDS, Launcher, finish
from tests.support.run_folders import drawn_samples, mixture_lines, without_clocks
from tests.support.training_runs import settings, write_yaml

# Rounds of 10 steps; a checkpoint every 4, so that a kill lies between two of them, and rounds between those.
STEPS, ROUNDS = 10, 4

pytestmark = [pytest.mark.timeout(240), *NEEDS]


@pytest.fixture
def own_streams(streams: Path, tmp_path: Path) -> Path:
    """A copy of the streams, in a folder that nothing else on the machine reads."""
    return Path(shutil.copytree(streams, tmp_path / 'own'))


@pytest.fixture
def long_yaml(tmp_path: Path, own_streams: Path) -> Callable[[str], Path]:
    """The YAML of a run of 4 rounds in the folder of the given name, with workers."""

    def write(name: str) -> Path:
        keys = settings(own_streams, tmp_path / name)
        keys |= {'max_duration': f'{ROUNDS}ep', 'save_interval': '4ba', 'save_num_checkpoints_to_keep': 2}
        keys['train_loader'] = {'round_size': 4 * STEPS, 'num_workers': 1}
        keys['algorithms']['data_mixing'] |= {'window': 2}
        return write_yaml(tmp_path / f'{name}.yaml', keys)

    return write


def progress(run: Path) -> int:
    """The last step that rank 0 has drawn samples for."""
    file = run / 'samples' / 'samples-rank0.jsonl'
    return file.read_text().count('\n') - 1 if file.exists() else -1


def outcome(run: Path) -> dict[str, Any]:
    """What must not depend on a kill."""
    return {'samples': drawn_samples(run), 'lines': without_clocks(mixture_lines(run))}


@pytest.mark.slow
def test_a_killed_run_goes_on_as_the_undisturbed_one(
    tmp_path: Path, launcher: Launcher, own_streams: Path, long_yaml: Callable[[str], Path]
):
    # Slow (about 15 s): three processes import everything anew.
    undisturbed = launcher.composer(long_yaml('undisturbed'), own_streams, '-n', '2')
    undisturbed.wait_until(lambda: progress(tmp_path / 'undisturbed') > 0)
    undisturbed.note_shared_memory()
    finish(undisturbed)
    assert undisturbed.pids() == []
    # A dataset to train on and one to evaluate on.
    assert sum(path.name.endswith('_locals') for path, _ in undisturbed.shared) == 2
    assert undisturbed.left_in_shared_memory() == []

    killed = launcher.ranks(long_yaml('killed'), own_streams, 2, overrides=['autoresume=true'])
    run = tmp_path / 'killed'
    # In the middle of the second round or, on a machine that looks up late, of a later one.
    killed.wait_until(lambda: progress(run) >= STEPS + 4 and progress(run) % STEPS in range(3, 8))
    killed.kill()
    reached = max(drawn_samples(run))
    assert STEPS < reached < STEPS * ROUNDS - 1
    assert len(mixture_lines(run)) <= ROUNDS

    finish(launcher.ranks(long_yaml('killed'), own_streams, 2, overrides=['autoresume=true']))
    rank = (run / 'samples' / 'samples-rank1.jsonl').read_text().splitlines()
    # It went on, and not from the start.
    assert STEPS * ROUNDS <= len(rank) < STEPS * ROUNDS + 10
    assert outcome(run) == outcome(tmp_path / 'undisturbed')

    # Two ranks share an odd number of eval samples; each counts once, as in one process.
    assert main(['train', str(long_yaml('alone')), 'max_duration=1ba', 'train_loader.num_workers=0']) == 0
    assert mixture_lines(run)[0]['losses'] == pytest.approx(
        mixture_lines(tmp_path / 'alone')[0]['losses'], rel=1e-6
    )

    expected = outcome(run)
    assert list(expected['samples']) == list(range(STEPS * ROUNDS))
    assert all(len(samples) == 4 for samples in expected['samples'].values())
    mixtures = [tuple(line['proportions'].values()) for line in expected['lines'][1:]]
    assert len(set(mixtures)) == ROUNDS
