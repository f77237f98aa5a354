"""`skillit graph learn`: real short runs of a tiny model on the addition corpus."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from skillit_stream import SkillsGraph
from skillit_stream.cli import main
from skillit_stream.graphs.short_runs import ShortRuns
from skillit_stream.training.config import load_config
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
    overrides, options = [one for one in more if '=' in one], [one for one in more if '=' not in one]
    steps = [] if '--steps' in options else ['--steps', str(STEPS)]
    return ['graph', 'learn', str(yaml), *overrides, '--method', method, '--out', str(out), *steps, *options]


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
    assert (tmp_path / 'again.json').read_bytes() == (brute_force / 'graph.json').read_bytes()


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


@pytest.mark.parametrize(
    ('more', 'what'),
    [
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
