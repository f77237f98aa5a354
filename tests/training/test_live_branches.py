"""The policy `forks` in a run: it moves where that helps, and leaves no trace where it does not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skillit_stream.base.errors import InputError
from skillit_stream.cli import main
from skillit_stream.mixture.trials import Branch
from skillit_stream.training.live_branches import LiveBranches
from tests.support import commands, fork_runs
from tests.support.launching import NEEDS, Launcher, finish
from tests.support.paths import ROOT
from tests.support.run_folders import drawn_samples, rounds_of, weights_of, without_clocks
from tests.support.training_runs import LLAMA, shrunk, write_yaml

# One look, before the third of four rounds of eight steps: 108 steps.
FORKS = {
    'policy': 'forks',
    'every': 2,
    'steps': 10,
    'repeats': 3,
    'confirm': 2,
    'max_cost': 4,
    'targets': ['wanted'],
}
IN_DOMAIN = {**FORKS, 'targets': list(fork_runs.TRAINED)}
BEFORE, LOOK = 2, 1
Train = Callable[..., Path]

pytestmark = pytest.mark.filterwarnings('ignore:forks. ', 'ignore::UserWarning')


@pytest.fixture(scope='module')
def signs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fork_runs.write_streams(tmp_path_factory.mktemp('signs'))


@pytest.fixture(scope='module')
def moved(signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fork_runs.train(signs, tmp_path_factory.mktemp('moved') / 'run', **fork_runs.four_rounds(FORKS))


def test_it_moves_to_what_its_branches_have_confirmed_and_the_log_says_so(moved: Path):
    lines = rounds_of(moved)
    assert [line.get('trial') is not None for line in lines] == [False, True, False, False]
    trial = lines[LOOK]['trial']
    assert (trial['verdict'], trial['branches'], trial['steps'], trial['most_steps']) == (
        'take it',
        10,
        100,
        128,
    )
    assert trial['seconds'] > 0
    assert trial['mixture']['letters'] > 0.6
    for line in lines[:BEFORE]:
        assert line['proportions'] == dict.fromkeys(fork_runs.TRAINED, 1 / 3)
    for line in lines[BEFORE:]:
        assert line['proportions'] == trial['mixture']
    assert lines[LOOK]['notes'][0].startswith('forks: take it: ')


def test_the_yaml_of_the_policy_trains(streams: Path, tmp_path: Path):
    cheap = {'steps': 1, 'repeats': 2, 'confirm': 2, 'max_cost': 1}
    own = [f'algorithms.data_mixing.{name}={value}' for name, value in cheap.items()]
    path = ROOT / 'yamls' / 'addition' / 'forks.yaml'
    assert main(['train', str(path), *shrunk(streams, tmp_path / 'run', 5), *own]) == 0
    assert ['trial' in line for line in rounds_of(tmp_path / 'run')] == [False] * 3 + [True, False]


def test_status_says_what_was_found_and_what_it_has_cost(moved: Path, capsys: pytest.CaptureFixture[str]):
    printed, _ = commands.done(capsys, 'status', moved)
    assert 'after round 1: take it: ' in printed.replace('\n', ' ')
    assert '100 of at most 128 steps' in ' '.join(printed.split())
    found = json.loads(commands.done(capsys, 'status', moved, '--json')[0])['branches']
    assert (found['round'], found['verdict'], found['steps_so_far']) == (1, 'take it', 100)
    assert found['seconds'] == rounds_of(moved)[LOOK]['trial']['seconds']


@pytest.mark.parametrize('workers', [0, 1])
def test_a_run_that_stays_is_the_run_without_branches_bit_for_bit(signs: Path, tmp_path: Path, workers: int):
    """Dropout draws random numbers, Adam remembers, the learning rate moves, and a worker has its place in the data."""
    model = {'config': {**LLAMA, 'attention_dropout': 0.3}, 'init': 'fan_in'}
    loader = {**fork_runs.settings(signs, tmp_path)['train_loader'], 'num_workers': workers}
    plain, stayed = (
        fork_runs.train(
            signs,
            tmp_path / name,
            **fork_runs.four_rounds(mixing, model=model, train_loader=loader, loggers={'file': files}),
        )
        for name, mixing in (('plain', {'policy': 'stratified'}), ('stayed', IN_DOMAIN))
        if (files := {'filename': str(tmp_path / f'{name}.log')})
    )
    trial = rounds_of(stayed)[LOOK]['trial']
    assert trial['verdict'] in ('stay', 'cannot tell')
    assert trial['steps'] >= 60
    assert drawn_samples(stayed) == drawn_samples(plain)
    own = ('trial', 'notes')
    for line, other in zip(*map(without_clocks, map(rounds_of, (stayed, plain))), strict=True):
        assert {key: value for key, value in line.items() if key not in own} == other
    ours, others = (
        torch.load(run / 'checkpoints' / 'latest-rank0.pt', weights_only=False) for run in (stayed, plain)
    )
    assert same(ours['state']['model'], others['state']['model'])
    assert same(ours['state']['optimizers'], others['state']['optimizers'])
    assert same(ours['rng'], others['rng'])
    # Nothing of a branch has reached the loggers.
    assert (tmp_path / 'stayed.log').read_text().count('loss/train/total') == 32


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if torch.is_tensor(one) else bool(np.all(one == other))


def test_a_branch_of_the_present_mixture_in_the_runs_order_is_the_run_itself(
    signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Over the end of a round and into the next."""
    train, seen = LiveBranches.train, []

    def looked_ahead(self: LiveBranches, branches: list[Branch]) -> Any:
        present: dict[str, float] = dict.fromkeys(fork_runs.TRAINED, 1 / 3)
        ahead = [Branch(name='x', mixture=present, steps=16, shuffle_seed=0, half=half) for half in (0, 1)]
        seen.append(train(self, ahead))
        return train(self, branches)

    monkeypatch.setattr(LiveBranches, 'train', looked_ahead)
    run = fork_runs.train(signs, tmp_path / 'run', **fork_runs.four_rounds(IN_DOMAIN))
    last = rounds_of(run)[-1]['losses']
    for halves in seen:
        assert {skill: sum(half[skill] for half in halves) / 2 for skill in last} == pytest.approx(
            last, rel=1e-12
        )


@pytest.mark.skipif(
    NEEDS[0].args[0] or NEEDS[1].args[0], reason=f'{NEEDS[0].kwargs["reason"]}, /dev/shm, /proc'
)
def test_two_ranks_killed_inside_a_branch_go_on_to_what_one_rank_finds(
    signs: Path, moved: Path, tmp_path: Path, launcher: Launcher
):
    path = tmp_path / 'run.yaml'
    write_yaml(
        path, {**fork_runs.settings(signs, tmp_path / 'run'), **fork_runs.four_rounds(FORKS, autoresume=True)}
    )
    first = launcher.ranks(path, signs, 2)
    first.wait_until(lambda: first.output.exists() and 'step 16: 6 branches' in first.output.read_text())
    first.kill()
    assert len(rounds_of(tmp_path / 'run')) == LOOK
    finish(launcher.ranks(path, signs, 2))
    lines, alone = rounds_of(tmp_path / 'run'), rounds_of(moved)
    assert [line['proportions'] for line in lines] == [line['proportions'] for line in alone]
    assert drawn_samples(tmp_path / 'run') == drawn_samples(moved)
    for line, other in zip(lines, alone, strict=True):
        assert line['losses'] == pytest.approx(other['losses'], rel=1e-4)
    trial, other = lines[LOOK]['trial'], alone[LOOK]['trial']
    assert trial['verdict'] == other['verdict'] == 'take it'
    assert trial['confirmed'] == pytest.approx(other['confirmed'], rel=1e-3)


def test_killed_after_the_look_it_takes_what_was_found_from_the_checkpoint(
    signs: Path, moved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = Path(shutil.copytree(moved, tmp_path / 'run', symlinks=True))
    latest = run / 'checkpoints' / 'latest-rank0.pt'
    latest.unlink()
    latest.symlink_to('ep2-ba16-rank0.pt')

    def train(self: LiveBranches, branches: list[Branch]) -> Any:
        raise AssertionError('branches were trained again')

    monkeypatch.setattr(LiveBranches, 'train', train)
    fork_runs.train(signs, run, **fork_runs.four_rounds(FORKS, autoresume=True))
    assert without_clocks(rounds_of(run)) == without_clocks(rounds_of(moved))
    assert drawn_samples(run) == drawn_samples(moved)
    assert same(weights_of(run), weights_of(moved))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'train_loader.dataset.shuffle': 'false'}, 'train_loader.dataset.shuffle is false'),
        ({'algorithms.ema': '{half_life: 10ba}'}, 'cannot take EMA along'),
        ({'algorithms.data_mixing.groups': '{one: [letters, capitals], two: [digits]}'}, 'not of groups'),
        ({'algorithms.data_mixing.max_cost': '0.05'}, 'max_cost=0.05 of 32 steps is 1 steps, but one set'),
        ({'eval_loader.samples_per_skill': '1'}, 'must be at least 2 to be halved'),
    ],
)
def test_a_run_that_cannot_have_branches_is_refused_before_its_first_step(
    signs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, str], message: str
):
    path = write_yaml(
        tmp_path / 'run.yaml', {**fork_runs.settings(signs, tmp_path / 'run'), **fork_runs.four_rounds(FORKS)}
    )
    said = commands.refusal(capsys, 'train', path, *(f'{key}={value}' for key, value in changes.items()))
    assert message in said
    assert not (tmp_path / 'run' / 'mixture.jsonl').exists()


def test_a_live_run_takes_the_policy_and_what_nobody_trains_branches_for_is_refused(
    signs: Path, tmp_path: Path, streams: Path
):
    from skillit_stream import build_policy
    from tests.support.training_runs import SKILLS, fit, tiny_trainer

    known = {'skills': SKILLS, 'eval_skills': SKILLS, 'sizes': dict.fromkeys(SKILLS, 300), 'rounds': 3}
    known |= {'run_steps': 18, 'round_size': 24, 'round_steps': 6}
    policy = build_policy('forks', **known, every=1, steps=1, max_cost=1)
    with pytest.raises(
        InputError,
        match='forks has branches of the run trained, which a loop',
    ):
        fit(tiny_trainer(streams, policy, tmp_path / 'own'))

    run = tmp_path / 'run'
    mixture = write_yaml(tmp_path / 'mixture.yaml', FORKS)

    def given(self: Any, *arguments: Any) -> Any:
        assert main(['apply', str(run), str(mixture), '--from-round', '2']) == 0

    from skillit_stream.training.progress import Progress

    shown, begun = Progress.epoch_start, []

    def first_round(self: Progress, state: Any, logger: Any) -> None:
        shown(self, state, logger)
        if int(state.timestamp.epoch) == 1 and not begun:
            begun.append(given(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, 'epoch_start', first_round)
        fork_runs.train(signs, run, **fork_runs.four_rounds({'policy': 'stratified'}))
    lines = rounds_of(run)
    assert lines[LOOK]['trial']['verdict'] == 'take it'
    assert lines[LOOK]['applied']['policy']['name'] == 'forks'
    assert lines[BEFORE]['proportions'] == lines[LOOK]['trial']['mixture']
