"""Two nodes, emulated on one machine: launchers in mount namespaces of their own, gloo over loopback."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skillit_stream.cli import main
from tests.support.jobs import free_port
from tests.support.launching import NEEDS, Launch, Launcher, finish
from tests.support.paths import SUPPORT
from tests.support.run_folders import drawn_samples, mixture_lines, without_clocks
from tests.support.training_runs import settings, write_yaml

NOISY = SUPPORT / 'noisy_policy.py'
# Rounds of 10 steps of 8 samples; checkpoints inside rounds too.
STEPS, ROUNDS = 10, 5
AsNode = Callable[[Path], list[str]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), *NEEDS]


@pytest.fixture
def yaml_of(tmp_path: Path, streams: Path) -> Callable[..., Path]:
    """The YAML of a run whose ranks do not decide quite alike, in the folder of the given name."""

    def write(name: str, **keys: Any) -> Path:
        run = tmp_path / name
        run.mkdir(exist_ok=True)
        policy = {'policy': f'{NOISY}:NoisySkillIt', 'graph': 'streams', 'folder': str(run)}
        fixed: dict[str, Any] = {'max_duration': f'{ROUNDS}ep', 'save_interval': '4ba'}
        fixed |= {'global_train_batch_size': 8, 'algorithms': {'data_mixing': policy}, 'autoresume': True}
        fixed['train_loader'] = {'round_size': 8 * STEPS, 'num_workers': 1}
        return write_yaml(tmp_path / f'{name}.yaml', {**settings(streams, run), **fixed, **keys})

    return write


@pytest.fixture
def two_nodes(
    launcher: Launcher, streams: Path, tmp_path: Path, as_node: AsNode
) -> Callable[..., list[Launch]]:
    """Start a YAML on two nodes of one rank; node 1 cannot see `hidden`."""

    def start(yaml: Path, hidden: Path | None = None) -> list[Launch]:
        nothing = tmp_path / 'nothing'
        nothing.mkdir(exist_ok=True)
        world = ['-n', '1', '--world_size', '2', '--master_addr', '127.0.0.1']
        world += ['--master_port', str(free_port())]
        prefixes = [as_node(nothing), as_node(hidden or nothing)]
        return [
            launcher.composer(yaml, streams, *world, '--node_rank', str(node), prefix=prefix)
            for node, prefix in enumerate(prefixes)
        ]

    return start


def progress(run: Path) -> int:
    """The last step that both ranks have drawn samples for."""
    files = [run / 'samples' / f'samples-rank{rank}.jsonl' for rank in (0, 1)]
    return min(file.read_text().count('\n') - 1 if file.exists() else -1 for file in files)


def ended(launch: Launch) -> int:
    """The exit code of a launch that has to end by itself."""
    deadline = time.monotonic() + 100
    while (code := launch.exit_code()) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert code is not None, launch.output.read_text()[-3000:]
    return code


def mixtures(run: Path, rank: int) -> dict[int, list[dict[str, float]]]:
    """Round -> the proportions that a rank's dataset had in it, once for every time it was trained."""
    played: dict[int, list[dict[str, float]]] = {}
    for line in (run / f'mixtures-rank{rank}.jsonl').read_text().splitlines():
        number, proportions = json.loads(line)
        played.setdefault(number, []).append(proportions)
    return played


def test_a_lost_node_costs_the_steps_since_the_last_checkpoint(
    tmp_path: Path,
    launcher: Launcher,
    streams: Path,
    yaml_of: Callable[..., Path],
    two_nodes: Callable[..., list[Launch]],
):
    run = tmp_path / 'lost'
    # Before, for a job of a few seconds does not wait to be disturbed.
    finish(launcher.ranks(yaml_of('undisturbed'), streams, 2, nodes=2))
    stays, lost = two_nodes(yaml_of('lost'))
    stays.wait_until(lambda: progress(run) >= STEPS + 4 and progress(run) % STEPS in range(3, 8))
    lost.kill()
    # The node that is left does not wait for ever for the one that is gone.
    assert ended(stays) != 0
    assert stays.pids() == []
    reached = max(drawn_samples(run))
    assert STEPS < reached < STEPS * ROUNDS - 1

    finish(*two_nodes(yaml_of('lost')))
    trained = (run / 'samples' / 'samples-rank1.jsonl').read_text().count('\n')
    # It went on, and not from the start.
    assert STEPS * ROUNDS <= trained < STEPS * ROUNDS + 10
    expected = drawn_samples(tmp_path / 'undisturbed')
    assert list(expected) == list(range(STEPS * ROUNDS))
    assert drawn_samples(run) == expected
    lines = without_clocks(mixture_lines(run))
    assert lines == without_clocks(mixture_lines(tmp_path / 'undisturbed'))

    rounds = [line['proportions'] for line in lines[1:]]
    assert len({tuple(mixture.values()) for mixture in rounds}) == ROUNDS
    for rank in (0, 1):
        played = mixtures(run, rank)
        assert list(played) == list(range(ROUNDS))
        assert all(one == rounds[number] for number, times in played.items() for one in times)


def test_nodes_that_do_not_share_the_run_folder_are_told_to(
    tmp_path: Path, yaml_of: Callable[..., Path], two_nodes: Callable[..., list[Launch]]
):
    assert main(['train', str(yaml_of('apart', max_duration='1ep'))]) == 0
    before = drawn_samples(tmp_path / 'apart')
    nodes = two_nodes(yaml_of('apart'), hidden=tmp_path / 'apart')
    for node in nodes:
        assert ended(node) == 2
        printed = node.output.read_text()
        assert 'but this is not what node 1 has there: put `save_folder` where all nodes see it' in printed
    assert drawn_samples(tmp_path / 'apart') == before
