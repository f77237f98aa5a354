"""`skillit graph learn`: real short runs of a tiny model on the addition corpus."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from skillit_stream import SkillsGraph
from skillit_stream.base.errors import InputError
from skillit_stream.base.tasks import Task
from skillit_stream.cli import main
from skillit_stream.graphs.learning import assemble, do_runs, plan_learning
from skillit_stream.graphs.short_runs import ShortRuns
from skillit_stream.graphs.start import start_of
from skillit_stream.mixture.graph_measurement import StartOfRuns
from skillit_stream.training.config import TrainConfig, load_config
from tests.support.graph_runs import STEPS, settings
from tests.support.training_runs import SKILLS, write_yaml

Done = Callable[..., tuple[str, str]]
Refused = Callable[..., str]


@pytest.fixture(scope='module')
def brute_force(tmp_path_factory: pytest.TempPathFactory, training_yaml: Path) -> Path:
    """Folder with graph.json and graph.runs of a whole brute-force command; tests must not change it."""
    folder = tmp_path_factory.mktemp('brute-force')
    assert main(learning(training_yaml, folder / 'graph.json', 'brute-force')) == 0
    return folder


@pytest.fixture
def kept(brute_force: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(brute_force, tmp_path / 'kept'))


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever builds a model fails."""

    def fail(self, config) -> None:
        raise AssertionError('a model was built')

    monkeypatch.setattr(ShortRuns, '__init__', fail)


def learning(yaml: Path, out: Path, method: str, *more: str) -> list[str]:
    """The arguments of a `skillit graph learn`."""
    steps = [] if '--steps' in more else ['--steps', str(STEPS)]
    return ['graph', 'learn', str(yaml), '--method', method, '--out', str(out), *steps, *more]


def stamps(folder: Path) -> dict[str, int]:
    """When each record of the folder was written."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / 'graph.runs').glob('*.json')}


def test_a_run_is_the_same_whatever_ran_before_it(training_yaml: Path):
    runs = ShortRuns(load_config(training_yaml))
    before = runs.losses_before()
    first = runs.losses_after(('digit_0',), STEPS)
    mixed = runs.losses_after(('digit_0', 'digit_2'), 2 * STEPS + 1)  # ends in the middle of a round
    assert runs.losses_after(('digit_0',), STEPS) == first
    assert runs.losses_before() == before
    assert len({tuple(losses.values()) for losses in (before, first, mixed)}) == 3
    assert set(before) == set(SKILLS)


def in_groups(yaml: Path, *digits: str) -> TrainConfig:
    groups = f'{{low: [{", ".join(digits)}], high: [digit_2]}}'
    skills = ', '.join([*digits, 'digit_2'])
    return load_config(
        yaml,
        [
            f'train_loader.skills=[{skills}]',
            f'algorithms.data_mixing={{policy: stratified, groups: {groups}}}',
        ],
    )


def test_a_run_on_a_group_is_on_all_its_streams_alike(training_yaml: Path, tmp_path: Path):
    grouped = in_groups(training_yaml, 'digit_0', 'digit_1')
    plan = plan_learning(grouped, 'approximate', STEPS, tmp_path)
    assert (plan.train_skills, plan.eval_skills) == (('high', 'low'), tuple(SKILLS))
    assert plan.mixes == [('high',), ('low',)]
    runs, plain = ShortRuns(grouped), ShortRuns(load_config(training_yaml))
    assert runs.losses_after(('low',), STEPS) == plain.losses_after(('digit_0', 'digit_1'), STEPS)
    assert runs.losses_after(('high',), STEPS) == plain.losses_after(('digit_2',), STEPS)
    do_runs(plan, Task(0, 1))
    found = assemble(plan)
    assert found is not None
    assert found[0].train_skills == ('high', 'low')


def test_runs_do_not_gather_in_memory(training_yaml: Path):
    def optimizers() -> int:
        gc.collect()
        return sum(isinstance(one, torch.optim.Optimizer) for one in gc.get_objects())

    runs = ShortRuns(load_config(training_yaml))
    alive = []
    for _ in range(3):
        runs.losses_after(('digit_0',), 1)
        alive.append(optimizers())
    # The last one may stay until the next.
    assert alive == alive[:1] * 3


def test_workers_change_nothing(training_yaml: Path):
    alone = ShortRuns(load_config(training_yaml))
    helped = ShortRuns(load_config(training_yaml, ['train_loader.num_workers=2']))
    for mix in (('digit_1',), ('digit_0', 'digit_1'), ('digit_1',)):
        assert helped.losses_after(mix, 2 * STEPS + 1) == alone.losses_after(mix, 2 * STEPS + 1)


def test_learn_writes_graph_records_and_a_table(brute_force: Path, done: Done, tmp_path: Path):
    graph = SkillsGraph.load(brute_force / 'graph.json')
    assert graph.train_skills == graph.eval_skills == SKILLS
    assert graph.weights.diagonal().tolist() == [1, 1, 1]
    assert len(stamps(brute_force)) == 7
    done('from-runs', '--losses', brute_force / 'graph.runs' / 'losses.csv', '--out', tmp_path / 'again.json')
    again = SkillsGraph.load(tmp_path / 'again.json')
    assert np.array_equal(again.weights, graph.weights)
    assert graph.measured is not None
    assert graph.measured.start == StartOfRuns(weights='scratch')
    assert (graph.measured.steps, graph.measured.repeats) == (STEPS, 1)
    # A table does not say what its runs started from.
    assert again.measured is not None
    assert (again.measured.start, again.measured.steps) == (None, None)
    assert np.array_equal(again.measured.effects, graph.measured.effects, equal_nan=True)


def test_learn_says_beforehand_how_long_it_will_take(done: Done, training_yaml: Path, tmp_path: Path):
    printed, told = done(*learning(training_yaml, tmp_path / 'graph.json', 'approximate')[1:])
    first, second, *rest = told.splitlines()
    assert first == f'approximate: 3 runs of {STEPS} steps, 0 done before.'
    assert second.startswith('About ')
    assert f': 3 runs of {STEPS} steps at ' in second
    assert [line.split(',')[0] for line in rest[:3]] == [
        f'Trained on {skill} ({number} of 3)' for number, skill in enumerate(SKILLS, start=1)
    ]
    assert 'possible edges' in printed


def test_finished_runs_are_kept(kept: Path, done: Done, training_yaml: Path, no_training: None):
    before = stamps(kept)
    _, told = done(*learning(training_yaml, kept / 'graph.json', 'brute-force')[1:])
    assert f'6 runs of {STEPS} steps, 6 done before.' in told
    assert stamps(kept) == before


def test_the_graph_that_is_to_be_learned_may_be_left_open(
    kept: Path, done: Done, addition: Path, tmp_path: Path, no_training: None
):
    mixing = {'algorithms': {'data_mixing': {'policy': 'skill_it', 'graph': '???'}}}
    template = write_yaml(tmp_path / 'open.yaml', {**settings(addition), **mixing})
    _, told = done(*learning(template, kept / 'graph.json', 'brute-force')[1:])
    assert f'6 runs of {STEPS} steps, 6 done before.' in told


def test_both_methods_share_their_runs(kept: Path, done: Done, training_yaml: Path, no_training: None):
    done(*learning(training_yaml, kept / 'graph.json', 'approximate')[1:])
    assert SkillsGraph.load(kept / 'graph.json').weights.diagonal().max() < 1


def test_only_a_missing_run_is_done(kept: Path, done: Done, training_yaml: Path):
    expected, before = (kept / 'graph.json').read_bytes(), stamps(kept)
    lost = 'on-digit_0+digit_2.json'
    (kept / 'graph.runs' / lost).unlink()
    done(*learning(training_yaml, kept / 'graph.json', 'brute-force')[1:])
    after = stamps(kept)
    assert [name for name in after if after[name] != before[name]] == [lost]
    assert (kept / 'graph.json').read_bytes() == expected


def test_other_settings_are_other_runs(kept: Path, done: Done, training_yaml: Path):
    arguments = learning(training_yaml, kept / 'graph.json', 'approximate', '--seed', '9')
    _, told = done(*arguments[1:])
    assert '0 done before' in told
    _, told = done(*learning(training_yaml, kept / 'graph.json', 'approximate', 'seed=9')[1:])
    assert '3 done before' in told


def test_tasks_give_the_graph_of_one_process(
    brute_force: Path, done: Done, training_yaml: Path, tmp_path: Path
):
    out = tmp_path / 'graph.json'
    _, told = done(*learning(training_yaml, out, 'brute-force', '--task', '1/2')[1:])
    assert 'brute-force: 3 runs of 6 (task 1/2)' in told
    assert 'Not done yet, by other tasks: digit_0, digit_2' in told
    assert not out.exists()
    done(*learning(training_yaml, out, 'brute-force', '--task', '0/2')[1:])
    assert out.read_bytes() == (brute_force / 'graph.json').read_bytes()
    out.unlink()
    done(*learning(training_yaml, out, 'brute-force')[1:])
    assert out.read_bytes() == (brute_force / 'graph.json').read_bytes()


@pytest.mark.slow
def test_a_ray_cluster_learns_the_same_graph(
    brute_force: Path, tmp_path: Path, done: Done, training_yaml: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip('ray')
    monkeypatch.setenv('RAY_USAGE_STATS_ENABLED', '0')
    out = tmp_path / 'graph.json'
    _, told = done(*learning(training_yaml, out, 'brute-force', '--ray', 'local')[1:])
    assert 'Ray: ' in told
    assert out.read_bytes() == (brute_force / 'graph.json').read_bytes()


def test_ranks_of_a_launcher_each_do_a_share(
    brute_force: Path, done: Done, training_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / 'graph.json'
    for rank in (0, 1):
        for name, value in {'RANK': rank, 'LOCAL_RANK': rank, 'WORLD_SIZE': 2, 'LOCAL_WORLD_SIZE': 2}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
        _, told = done(*learning(training_yaml, out, 'brute-force')[1:])
        assert f'3 runs of 6 (task {rank}/2)' in told
    assert out.read_bytes() == (brute_force / 'graph.json').read_bytes()


def test_targets_need_fewer_runs_and_other_eval_skills_the_approximate_method(
    done: Done, refused: Refused, training_yaml: Path, tmp_path: Path
):
    out, two = tmp_path / 'graph.json', 'train_loader.skills=[digit_0,digit_1]'
    assert "'digit_2' is not trained on" in refused(*learning(training_yaml, out, 'brute-force', two)[1:])
    done(*learning(training_yaml, out, 'approximate', two)[1:])
    assert SkillsGraph.load(out).weights.shape == (2, 3)
    done(*learning(training_yaml, out, 'brute-force', 'eval_loader.skills=[digit_1]')[1:])
    assert SkillsGraph.load(out).weights.shape == (3, 1)


def test_finished_trainings_give_the_same_graph(done: Done, training_yaml: Path, tmp_path: Path):
    # A training run of one round is what a short run is: same weights, same samples, same losses.
    folders = []
    for skill in SKILLS:
        folders.append(str(tmp_path / skill))
        shares = ','.join(f'{name}:{float(name == skill)}' for name in SKILLS)
        mixing = f'algorithms.data_mixing={{policy:static,proportions:{{{shares}}}}}'
        mixing = mixing.replace(':', ': ')
        assert main(['train', str(training_yaml), mixing, f'save_folder={folders[-1]}']) == 0
    done('from-runs', *folders, '--out', tmp_path / 'from_runs.json')
    done(*learning(training_yaml, tmp_path / 'learned.json', 'approximate')[1:])
    assert (tmp_path / 'from_runs.json').read_bytes() == (tmp_path / 'learned.json').read_bytes()


def test_runs_may_start_from_a_checkpoint(training_yaml: Path, tmp_path: Path):
    assert main(['train', str(training_yaml), f'save_folder={tmp_path}', 'run_name=first']) == 0
    checkpoint = tmp_path / 'checkpoints' / 'latest-rank0.pt'
    runs = ShortRuns(load_config(training_yaml, [f'load_path={checkpoint}']))
    trained = ShortRuns(load_config(training_yaml, [f'load_path={checkpoint}', 'seed=8']))
    fresh = ShortRuns(load_config(training_yaml))
    assert runs.weights_hash() == trained.weights_hash() != fresh.weights_hash()
    before = runs.losses_before()
    assert before == trained.losses_before() != fresh.losses_before()
    runs.losses_after(('digit_1',), 2)
    assert runs.losses_before() == before


@pytest.fixture(scope='module')
def trained(training_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four rounds of four steps; tests must not change it."""
    folder = tmp_path_factory.mktemp('trained')
    assert (
        main(
            [
                'train',
                str(training_yaml),
                f'save_folder={folder}',
                'max_duration=4ep',
                'save_num_checkpoints_to_keep=-1',
            ]
        )
        == 0
    )
    return folder


@pytest.mark.parametrize(('rounds', 'part'), [(1, 'early'), (2, 'middle'), (4, 'finished')])
def test_the_start_of_the_runs_is_named_with_its_part_of_the_run(
    trained: Path, done: Done, training_yaml: Path, tmp_path: Path, rounds: int, part: str
):
    checkpoint = trained / 'checkpoints' / f'ep{rounds}-ba{rounds * STEPS}-rank0.pt'
    out = tmp_path / 'graph.json'
    # The YAML's own max_duration, one round, is not that of the checkpoint's run.
    printed, _ = done(*learning(training_yaml, out, 'approximate', f'load_path={checkpoint}')[1:])
    measured = SkillsGraph.load(out).measured
    assert measured is not None
    assert measured.start == StartOfRuns(
        weights='checkpoint', path=str(checkpoint), step=rounds * STEPS, of_steps=4 * STEPS
    )
    assert f'start: {part}, step {rounds * STEPS} of 16 ({checkpoint.name})' in ' '.join(printed.split())


def test_a_run_folder_is_its_newest_checkpoint(
    trained: Path, done: Done, training_yaml: Path, tmp_path: Path
):
    out = tmp_path / 'graph.json'
    done(*learning(training_yaml, out, 'approximate', f'load_path={trained}')[1:])
    measured = SkillsGraph.load(out).measured
    assert measured is not None
    newest = trained / 'checkpoints' / f'ep4-ba{4 * STEPS}-rank0.pt'
    assert measured.start == StartOfRuns(
        weights='checkpoint', path=str(newest), step=4 * STEPS, of_steps=4 * STEPS
    )


def test_a_checkpoint_without_its_run_is_of_the_length_of_the_yaml(
    trained: Path, training_yaml: Path, tmp_path: Path
):
    checkpoint = tmp_path / 'copy.pt'
    shutil.copyfile(trained / 'checkpoints' / f'ep2-ba{2 * STEPS}-rank0.pt', checkpoint)
    start = start_of(load_config(training_yaml, [f'load_path={checkpoint}', 'max_duration=80ba']))
    assert (start.step, start.of_steps, start.part) == (8, 80, 'early')
    assert (
        start_of(load_config(training_yaml, [f'load_path={checkpoint}', 'max_duration=64sp'])).of_steps == 16
    )
    checkpoint.write_bytes(b'no checkpoint')
    with pytest.raises(InputError, match=r'copy\.pt is no checkpoint of Composer'):
        start_of(load_config(training_yaml, [f'load_path={checkpoint}']))


def test_pretrained_weights_are_a_start_of_their_own(training_yaml: Path):
    config = load_config(
        training_yaml, ['model.pretrained_model_name_or_path=org/model', 'model.config=null']
    )
    assert start_of(config) == StartOfRuns(weights='pretrained', path='org/model')
    config = load_config(
        training_yaml, ['model.pretrained_model_name_or_path=org/model', 'model.pretrained=false']
    )
    assert start_of(config) == StartOfRuns(weights='scratch')


@pytest.fixture(scope='module')
def repeated(tmp_path_factory: pytest.TempPathFactory, training_yaml: Path) -> Path:
    """Folder with graph.json and graph.runs of a command with three repeats; tests must not change it."""
    folder = tmp_path_factory.mktemp('repeated')
    assert main(learning(training_yaml, folder / 'graph.json', 'approximate', '--repeats', '3')) == 0
    return folder


def test_a_repeat_is_the_run_with_another_order_of_the_samples(repeated: Path, training_yaml: Path):
    runs = ShortRuns(load_config(training_yaml, ['train_loader.dataset.shuffle_seed=5']))
    kept = json.loads((repeated / 'graph.runs' / 'repeat-3' / 'on-digit_1.json').read_text())
    # The seed of the YAML is 3, the third repeat has 5.
    assert runs.losses_after(('digit_1',), STEPS) == kept['losses']
    first = json.loads((repeated / 'graph.runs' / 'on-digit_1.json').read_text())
    assert kept['losses'] != first['losses']
    assert kept['starting_weights'] == first['starting_weights']


def test_repeats_give_each_edge_a_standard_error(repeated: Path):
    folders = [repeated / 'graph.runs', *(repeated / 'graph.runs' / f'repeat-{number}' for number in (2, 3))]
    start = json.loads((folders[0] / 'start.json').read_text())['losses']
    after = np.array(
        [
            [
                [json.loads((folder / f'on-{row}.json').read_text())['losses'][column] for column in SKILLS]
                for row in SKILLS
            ]
            for folder in folders
        ]
    )
    before = np.array([start[column] for column in SKILLS])
    effects = (before - after) / before
    graph = SkillsGraph.load(repeated / 'graph.json')
    assert graph.measured is not None
    assert graph.measured.repeats == 3
    assert graph.measured.effects == pytest.approx(effects.mean(axis=0))
    assert graph.measured.standard_errors == pytest.approx(effects.std(axis=0, ddof=1) / np.sqrt(3))
    assert graph.weights == pytest.approx(np.maximum(effects.mean(axis=0), 0))


def test_repeats_go_on_where_there_are_fewer(repeated: Path, done: Done, training_yaml: Path, tmp_path: Path):
    folder = Path(shutil.copytree(repeated, tmp_path / 'kept'))
    before = stamps(folder)
    printed, told = done(*learning(training_yaml, folder / 'graph.json', 'approximate', '--repeats', '4')[1:])
    assert f'approximate: 12 runs (3 in 4 sample orders each) of {STEPS} steps, 9 done before.' in told
    assert f'): 3 runs of {STEPS} steps' in told or f': 3 runs of {STEPS} steps at ' in told
    assert 'Trained on digit_0, repeat 4 (1 of 3)' in told
    assert 'edges above their noise' in ' '.join(printed.split())
    assert stamps(folder) == before


def test_tasks_share_the_repeats(repeated: Path, done: Done, training_yaml: Path, tmp_path: Path):
    out = tmp_path / 'graph.json'
    _, told = done(*learning(training_yaml, out, 'approximate', '--repeats', '3', '--task', '0/2')[1:])
    assert 'approximate: 5 runs of 9 (task 0/2)' in told
    assert (
        'Not done yet, by other tasks: digit_1, digit_0, repeat 2, digit_2, repeat 2, digit_1, repeat 3.'
        in told
    )
    done(*learning(training_yaml, out, 'approximate', '--repeats', '3', '--task', '1/2')[1:])
    assert out.read_bytes() == (repeated / 'graph.json').read_bytes()


@pytest.mark.parametrize(
    ('more', 'what'),
    [
        (['--repeats', '0'], ['`--repeats` must be at least 1', '0']),
        (['--repeats', '2', 'train_loader.dataset.shuffle=false'], ['`--repeats`', 'shuffle is false']),
        (['--steps', '0'], ['`--steps` must be at least 1', '0']),
        (['--task', '2/2'], ['`--task`', "'2/2'"]),
        (['train_loader.skills=[digit_7]'], ['`train_loader.skills`', "'digit_7'"]),
        (['streams=/nowhere'], ['/nowhere/skills.json']),
        (['load_path=/nowhere/ep1.pt'], ['`load_path`', '/nowhere/ep1.pt']),
        (['optimizer.lr=1.0e+30'], ['has become', '`optimizer.lr`']),
        (['fsdp_config={}', 'fsdp_config.sharding_strategy=FULL_SHARD'], ['fsdp_config=null']),
        (['optimizer.lrr=1'], ["'lrr'"]),
    ],
)
def test_wrong_input_is_one_line(
    training_yaml: Path, tmp_path: Path, capsys, more: list[str], what: list[str]
):
    capsys.readouterr()
    assert main(learning(training_yaml, tmp_path / 'graph.json', 'approximate', *more)) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith('skillit: ')
    assert all(text in line for text in what), line
    assert not (tmp_path / 'graph.json').exists()


def test_a_graph_of_an_unknown_kind_is_refused_before_training(
    refused: Refused, training_yaml: Path, tmp_path: Path, no_training: None
):
    assert '.json or .npy' in refused(*learning(training_yaml, tmp_path / 'graph.txt', 'approximate')[1:])


@pytest.mark.slow
def test_a_killed_command_goes_on(brute_force: Path, training_yaml: Path, tmp_path: Path):
    # Slow (about 40 s): two processes import everything anew.
    out = tmp_path / 'graph.json'
    command = [sys.executable, '-m', 'skillit_stream.cli', *learning(training_yaml, out, 'brute-force')]
    world = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'NODE_RANK')
    environment = {name: value for name, value in os.environ.items() if name not in world}
    records = tmp_path / 'graph.runs'
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while len(list(records.glob('on-*.json'))) < 2:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    before = stamps(tmp_path)
    assert not out.exists()
    assert 2 <= len(before) - 1 < 6
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert out.read_bytes() == (brute_force / 'graph.json').read_bytes()
    after = stamps(tmp_path)
    assert all(after[name] == stamp for name, stamp in before.items())
