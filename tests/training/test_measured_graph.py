"""A run that learns its skills graph by itself: the graph of `skillit graph learn`, and no other trace."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from skillit_stream import SkillsGraph
from skillit_stream.cli import main
from skillit_stream.training.live_branches import LiveBranches
from tests.support import commands, fork_runs
from tests.support.launching import NEEDS, Launcher, finish
from tests.support.run_folders import drawn_samples, mixture_lines, rounds_of, weights_of, without_clocks
from tests.support.training_runs import write_yaml

START = 2
STEPS = 5
MEASURED = {
    'policy': 'skill_it',
    'eta': 2.0,
    'graph': 'measure',
    'measure': {'steps': STEPS, 'lr': 0.002},
    'start': START,
}

pytestmark = pytest.mark.filterwarnings('ignore:start. ', 'ignore::UserWarning')


@pytest.fixture(scope='module')
def signs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fork_runs.write_streams(tmp_path_factory.mktemp('signs'))


@pytest.fixture(scope='module')
def measured(signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fork_runs.train(
        signs, tmp_path_factory.mktemp('measured') / 'run', **fork_runs.four_rounds(MEASURED)
    )


def test_the_graph_is_the_one_learned_from_the_checkpoint_and_the_run_the_one_with_that_graph(
    signs: Path, measured: Path, tmp_path: Path
):
    checkpoint = measured / 'checkpoints' / f'ep{START}-ba{START * fork_runs.STEPS}-rank0.pt'
    command = [
        'graph',
        'learn',
        str(measured.with_suffix('.yaml')),
        '--method',
        'approximate',
        '--steps',
        str(STEPS),
    ]
    assert (
        main(
            [*command, '--out', str(tmp_path / 'graph.json'), f'load_path={checkpoint}', 'optimizer.lr=0.002']
        )
        == 0
    )
    own, learned = (SkillsGraph.load(path) for path in (measured / 'graph.json', tmp_path / 'graph.json'))
    assert own.weights.tolist() == learned.weights.tolist()
    assert own.measured
    assert learned.measured
    assert own.measured.effects.tolist() == learned.measured.effects.tolist()
    assert json.loads((measured / 'run.json').read_text())['graph'] == own.to_dict()

    given = {**MEASURED, 'graph': str(measured / 'graph.json'), 'measure': None}
    run = fork_runs.train(signs, tmp_path / 'given', **fork_runs.four_rounds(given))
    assert drawn_samples(run) == drawn_samples(measured)
    for line, other in zip(*map(without_clocks, map(rounds_of, (measured, run))), strict=True):
        assert {key: value for key, value in line.items() if key != 'trial'} == other
    ours, others = weights_of(measured), weights_of(run)
    assert all(ours[name].equal(others[name]) for name in others)


def test_the_log_and_status_have_the_graph_and_what_it_has_cost(
    measured: Path, capsys: pytest.CaptureFixture[str]
):
    lines = rounds_of(measured)
    assert ['trial' in line for line in lines] == [False, True, False, False]
    trial = lines[START - 1]['trial']
    assert (trial['verdict'], trial['branches'], trial['steps']) == ('measured', 3, 3 * STEPS)
    learned = SkillsGraph.load(measured / 'graph.json')
    assert SkillsGraph.from_dict(trial['graph']).to_dict() == learned.to_dict()
    printed, _ = commands.done(capsys, 'status', measured)
    assert 'measured: the skills graph, by 3 short runs of 5 steps; so far 15 steps' in ' '.join(
        printed.split()
    )
    assert 'the largest parts' in ' '.join(printed.split())


def test_before_the_first_round_it_is_learned_from_the_first_weights(
    signs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    own = {key: value for key, value in MEASURED.items() if key != 'start'}
    run = fork_runs.train(signs, tmp_path / 'run', **fork_runs.four_rounds(own, max_duration='2ep'))
    assert mixture_lines(run)[0]['trial']['verdict'] == 'measured'
    assert 'branches     before training: measured: ' in commands.done(capsys, 'status', run)[0]
    given = {**own, 'graph': str(run / 'graph.json'), 'measure': None}
    other = fork_runs.train(signs, tmp_path / 'given', **fork_runs.four_rounds(given, max_duration='2ep'))
    assert [line['proportions'] for line in rounds_of(run)] == [
        line['proportions'] for line in rounds_of(other)
    ]
    assert len(set(rounds_of(run)[0]['proportions'].values())) == 3
    assert drawn_samples(run) == drawn_samples(other)
    ours, others = weights_of(run), weights_of(other)
    assert all(ours[name].equal(others[name]) for name in others)


def test_a_run_that_goes_on_does_not_learn_it_again(
    signs: Path, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = Path(shutil.copytree(measured, tmp_path / 'run', symlinks=True))
    (run / 'graph.json').unlink()
    latest = run / 'checkpoints' / 'latest-rank0.pt'
    latest.unlink()
    latest.symlink_to('ep2-ba16-rank0.pt')

    def train(self: LiveBranches, branches: Any) -> Any:
        raise AssertionError('the graph was learned again')

    monkeypatch.setattr(LiveBranches, 'train', train)
    fork_runs.train(signs, run, **fork_runs.four_rounds(MEASURED, autoresume=True))
    assert without_clocks(rounds_of(run)) == without_clocks(rounds_of(measured))
    assert drawn_samples(run) == drawn_samples(measured)
    assert (run / 'graph.json').read_bytes() == (measured / 'graph.json').read_bytes()
    assert (
        json.loads((run / 'run.json').read_text())['graph'] == SkillsGraph.load(run / 'graph.json').to_dict()
    )


@pytest.mark.slow
@pytest.mark.skipif(
    NEEDS[0].args[0] or NEEDS[1].args[0], reason=f'{NEEDS[0].kwargs["reason"]}, /dev/shm, /proc'
)
def test_two_ranks_killed_inside_a_short_run_learn_the_graph_of_one(
    signs: Path, measured: Path, tmp_path: Path, launcher: Launcher
):
    path = tmp_path / 'run.yaml'
    write_yaml(
        path,
        {**fork_runs.settings(signs, tmp_path / 'run'), **fork_runs.four_rounds(MEASURED, autoresume=True)},
    )
    first = launcher.ranks(path, signs, 2)
    first.wait_until(lambda: first.output.exists() and 'step 16: 3 short runs' in first.output.read_text())
    first.kill()
    assert len(rounds_of(tmp_path / 'run')) == START - 1
    finish(launcher.ranks(path, signs, 2))
    own, alone = (SkillsGraph.load(run / 'graph.json').weights for run in (tmp_path / 'run', measured))
    assert own.ravel() == pytest.approx(alone.ravel(), abs=1e-5)
    for line, other in zip(rounds_of(tmp_path / 'run'), rounds_of(measured), strict=True):
        assert line['proportions'] == pytest.approx(other['proportions'], abs=1e-4)
        assert line['losses'] == pytest.approx(other['losses'], rel=1e-3)
