"""Real processes: a run goes on in a world of another size, and on two emulated nodes, with one global order."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skillit_stream.cli import main
from tests.support.jobs import free_port
from tests.support.launching import NEEDS, Launcher, finish
from tests.support.run_folders import drawn_samples, rounds_of
from tests.support.training_runs import SKILLS, settings, tiny_dataset, write_yaml

ROUND, BATCH, SEED = 72, 12, 3
STEPS = ROUND // BATCH
# Fixed: sums of gradients differ by float noise between worlds, and with them a mixture that follows losses.
WEIGHTS = dict(zip(SKILLS, (1, 2, 5), strict=True))
# In the middle of the second of four rounds.
STOP, ROUNDS = 9, 4
# The smallest shards that the converter writes: 72 of these samples.
SHARD_SIZE = 4198
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), *NEEDS]


def convert(root: Path, train_samples: int) -> Path:
    """The addition corpus in the smallest shards."""
    counts = ['--train-samples', str(train_samples), '--eval-samples', '12', '--shard-size', str(SHARD_SIZE)]
    assert main(['convert', 'addition', '--out', str(root), *counts]) == 0
    return root


def static_yaml(
    path: Path, streams: Path, run: Path, *, workers: int, dataset: Any = None, **keys: Any
) -> Path:
    """The YAML of a run with a fixed mixture, rounds of 6 steps of 12 samples; `dataset`: its options."""
    fixed: dict[str, Any] = {'global_train_batch_size': BATCH, 'seed': SEED}
    fixed['algorithms'] = {'data_mixing': {'policy': 'static', 'weights': WEIGHTS}}
    fixed['train_loader'] = {'round_size': ROUND, 'num_workers': workers, 'dataset': dataset or {}}
    return write_yaml(path, {**settings(streams, run), **fixed, **keys})


def lines_of_ranks(run: Path) -> list[int]:
    """How many steps each rank has drawn samples for, over all starts."""
    files = sorted((run / 'samples').glob('samples-rank*.jsonl'))
    return [file.read_text().count('\n') for file in files]


def test_a_run_stopped_inside_a_round_goes_on_with_other_ranks_workers_and_nodes(
    tmp_path: Path, launcher: Launcher
):
    # So few samples that the run ends in the second pass of a skill.
    streams = convert(tmp_path / 'streams', 120)

    def yaml_of(name: str, workers: int, nodes: int = 2, **keys: Any) -> Path:
        keys = {'max_duration': f'{ROUNDS}ep', 'dataset': {'num_canonical_nodes': nodes}, **keys}
        return static_yaml(tmp_path / f'{name}.yaml', streams, tmp_path / name, workers=workers, **keys)

    stopping = yaml_of('stopped', 3, max_duration=f'{STOP}ba', save_interval='3ba')
    stopped = launcher.composer(stopping, streams, '-n', '2')
    assert main(['train', str(yaml_of('undisturbed', 0))]) == 0
    finish(stopped)
    expected = drawn_samples(tmp_path / 'undisturbed')
    assert {step: len(samples) for step, samples in expected.items()} == dict.fromkeys(
        range(STEPS * ROUNDS), BATCH
    )
    assert drawn_samples(tmp_path / 'stopped') == {step: expected[step] for step in range(STOP)}

    for name in ('fewer', 'more'):
        shutil.copytree(tmp_path / 'stopped', tmp_path / name, symlinks=True)
    # Not their own number of canonical nodes, but the one that the run was begun with.
    latest = str(tmp_path / 'stopped' / 'checkpoints' / 'latest-rank0.pt')
    resumed = [
        launcher.ranks(yaml_of('fewer', 0, 1, autoresume=True), streams, 1),
        launcher.ranks(yaml_of('more', 2, autoresume=True), streams, 3),
        launcher.ranks(yaml_of('nodes', 3, 4, load_path=latest), streams, 2, nodes=2),
    ]
    finish(*resumed)
    # They went on, and not from the start.
    assert lines_of_ranks(tmp_path / 'fewer') == [STEPS * ROUNDS, STOP]
    assert lines_of_ranks(tmp_path / 'more') == [STEPS * ROUNDS, STEPS * ROUNDS, STEPS * ROUNDS - STOP]
    assert lines_of_ranks(tmp_path / 'nodes') == [STEPS * ROUNDS - STOP] * 2

    rounds = rounds_of(tmp_path / 'undisturbed')
    assert rounds[-1]['passes'] == {'digit_0': 0.3, 'digit_1': 0.6, 'digit_2': 1.5}
    for name, first in (('fewer', 0), ('more', 0), ('nodes', STOP)):
        assert drawn_samples(tmp_path / name) == {
            step: expected[step] for step in range(first, STEPS * ROUNDS)
        }
        assert dataset_of(tmp_path / name)['num_canonical_nodes'] == 2
        for line, other in zip(rounds_of(tmp_path / name), rounds[first // STEPS :], strict=True):
            same = ('round', 'step', 'proportions', 'samples', 'passes')
            assert {key: line[key] for key in same} == {key: other[key] for key in same}


def dataset_of(run: Path) -> dict[str, Any]:
    """What a run folder says about the dataset."""
    return json.loads((run / 'run.json').read_text())['dataset']


def shard_files(streams: Path) -> tuple[list[Path], NDArray[np.int64]]:
    """The train shards in the order of sample ids, relative to the folder, and int64 [shards] their last ids."""
    files, sizes = [], []
    for skill in SKILLS:
        index = json.loads((streams / skill / 'train' / 'index.json').read_text())
        files += [Path(skill, 'train', shard['raw_data']['basename']) for shard in index['shards']]
        sizes += [shard['samples'] for shard in index['shards']]
    return files, np.cumsum(sizes) - 1


def shards_of(streams: Path, ids: NDArray[np.int64]) -> set[Path]:
    """The shards that hold the given samples."""
    files, last = shard_files(streams)
    return {files[number] for number in np.unique(np.searchsorted(last, ids))}


def shared_by_skill(first: set[Path], second: set[Path]) -> dict[str, int]:
    """Skill -> how many shards are in both sets."""
    return {skill: sum(path.parts[0] == skill for path in first & second) for skill in SKILLS}


def planned_halves(streams: Path, canonical_nodes: int) -> list[NDArray[np.int64]]:
    """The order of three rounds as one node plans it: sample ids int64 [steps, BATCH / 2] of either half."""
    proportions = {skill: weight / sum(WEIGHTS.values()) for skill, weight in WEIGHTS.items()}
    dataset = tiny_dataset(
        streams,
        round_size=ROUND,
        batch_size=BATCH,
        shuffle_seed=SEED,
        num_canonical_nodes=canonical_nodes,
        proportions=proportions,
    )
    order = np.concatenate([dataset.sample_ids(number) for number in range(3)])
    return np.split(order.reshape(-1, BATCH), 2, axis=1)


def node_copy(streams: Path, folder: Path, keep: set[Path]) -> Path:
    """A copy of the streams that lacks all train shards but some: whoever reads another one fails."""
    shutil.copytree(streams, folder)
    for path in shard_files(streams)[0]:
        if path not in keep:
            (folder / path).unlink()
    return folder


def test_two_nodes_read_disjoint_shards_in_the_order_of_one_which_goes_on_with_it(
    tmp_path: Path, launcher: Launcher, as_node: Callable[[Path], list[str]]
):
    # 10 shards a skill, the last one smaller: the edge between two spans lies inside a shard.
    streams, run = convert(tmp_path / 'streams', 700), tmp_path / 'run'
    planned = planned_halves(streams, canonical_nodes=2)
    # In the middle of the third round.
    stop = 2 * STEPS + 3
    needed = [shards_of(streams, ids[:stop]) for ids in planned]
    copies = [node_copy(streams, tmp_path / f'node-{node}', needed[node]) for node in (0, 1)]
    world = ['--nproc', '1', '--world_size', '2', '--master_addr', '127.0.0.1']
    world += ['--master_port', str(free_port())]
    launches = []
    for node, copy in enumerate(copies):
        keys = {'max_duration': f'{stop}ba', 'save_interval': '3ba'}
        yaml = static_yaml(tmp_path / f'node-{node}.yaml', copy, run, workers=1, **keys)
        hide = as_node(copies[1 - node])
        launches.append(launcher.composer(yaml, copy, *world, '--node_rank', str(node), prefix=hide))
    finish(*launches)

    # Nobody said so: it is the number of nodes that the dataset has found.
    assert dataset_of(run)['num_canonical_nodes'] == 2
    order = dict(enumerate(np.concatenate(planned, axis=1).tolist()))
    assert drawn_samples(run) == {step: order[step] for step in range(stop)}

    drawn = np.array(list(drawn_samples(run).values()))
    read = [shards_of(streams, ids) for ids in np.split(drawn, 2, axis=1)]
    assert read == needed
    assert max(rounds_of(run)[-1]['passes'].values()) < 1
    assert all(count <= 1 for count in shared_by_skill(*read).values())
    # The whole stream is read all the same, and with one span the halves of a batch do share shards.
    assert {path for path in shard_files(streams)[0] if path.parts[0] == 'digit_2'} <= read[0] | read[1]
    alike = [shards_of(streams, ids[:stop]) for ids in planned_halves(streams, canonical_nodes=1)]
    assert shared_by_skill(*alike)['digit_2'] > 5

    alone = static_yaml(tmp_path / 'alone.yaml', streams, run, workers=0, max_duration='3ep', autoresume=True)
    assert main(['train', str(alone)]) == 0
    assert drawn_samples(run) == order
    # It has found one node.
    assert dataset_of(run)['num_canonical_nodes'] == 2
