"""A run that goes on says what differs from the run that it was, and takes it or refuses it: nothing is ignored."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from skillit_stream.training import resuming, session
from skillit_stream.training.builders import Run
from tests.support import commands
from tests.support.marks import slowly
from tests.support.run_folders import mixture_lines, rounds_of
from tests.support.training_runs import STEPS

Refused = Callable[..., str]
Trained = Callable[..., None]
MIXING = 'algorithms.data_mixing'
MID_ROUND, ROUND_END = f'{STEPS + 2}ba', '1ep'
GO_ON = ('autoresume=true', 'max_duration=3ep')


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that were built, as they were before their first step."""
    runs = []
    build = session.build_run

    def keep(config: Any) -> Run:
        runs.append(build(config))
        return runs[-1]

    monkeypatch.setattr(session, 'build_run', keep)
    return runs


@pytest.fixture
def resumed(capsys: pytest.CaptureFixture[str], tiny_yaml: Path) -> Callable[..., list[str]]:
    """Go on with overrides that must work; returns what the run says has changed, without its duration."""

    def run(*overrides: str) -> list[str]:
        _, told = commands.done(capsys, 'train', tiny_yaml, *GO_ON, *overrides)
        lines = told.splitlines()
        last = next(number for number, line in enumerate(lines) if line.startswith('mixture'))
        first = next((number for number, line in enumerate(lines) if line.startswith('changed ')), last)
        listed = [line.removeprefix('changed').strip() for line in lines[first:last]]
        return [line for line in listed if not line.startswith('max_duration: ')]

    return run


def logged(run: Path, what: str) -> list[Any]:
    return [line[what] for line in rounds_of(run)]


def learning_rates(run: Path) -> list[float]:
    return [line['trained']['learning_rate'] for line in rounds_of(run)]


def test_without_a_change_nothing_is_listed(trained: Trained, resumed: Callable[..., list[str]]):
    trained('max_duration=1ep')
    assert resumed() == []


@pytest.mark.parametrize('stop', [MID_ROUND, ROUND_END])
@pytest.mark.parametrize(
    ('override', 'name', 'value'),
    [
        ('optimizer.lr=0.5', 'lr', 0.5),
        ('optimizer.lr=0.5', 'initial_lr', 0.5),
        ('optimizer.weight_decay=0.3', 'weight_decay', 0.3),
        ('optimizer.betas=[0.8,0.9]', 'betas', [0.8, 0.9]),
        ('scheduler.alpha=0.1', 'lr', 0.001),
    ],
)
def test_options_of_optimizer_and_schedule_are_taken_at_once(
    trained: Trained,
    resumed: Callable[..., list[str]],
    built: list[Run],
    run_folder: Path,
    stop: str,
    override: str,
    name: str,
    value: Any,
):
    trained(f'max_duration={stop}')
    built.clear()
    [line] = resumed(override)
    key, _, _ = override.partition('=')
    assert line.startswith(f'{key}: ')
    assert ', taken now' in line
    [run] = built
    for group in run.trainer.state.optimizers[0].param_groups:
        assert group[name] == pytest.approx(value)
    assert int(run.trainer.state.optimizers[0].state_dict()['state'][0]['step']) == 3 * STEPS
    if name == 'lr':
        assert learning_rates(run_folder) == pytest.approx([0.01, value, value])


def test_a_run_killed_before_its_next_checkpoint_keeps_the_new_rate(
    trained: Trained, run_folder: Path, tmp_path: Path
):
    trained('max_duration=1ep')
    shutil.copytree(run_folder / 'checkpoints', tmp_path / 'old', symlinks=True)
    trained('max_duration=2ep', 'autoresume=true', 'optimizer.lr=0.5')
    shutil.rmtree(run_folder / 'checkpoints')
    shutil.copytree(tmp_path / 'old', run_folder / 'checkpoints', symlinks=True)
    trained(*GO_ON, 'optimizer.lr=0.5')
    assert learning_rates(run_folder) == pytest.approx([0.01, 0.5, 0.5])


WARMUPS = {'ba': 2, 'sp': 8, 'tok': 8 * 17, 'ep': 1}
LENGTHS = {'ba': 3 * STEPS, 'sp': 12 * STEPS, 'tok': 12 * STEPS * 17, 'ep': 3}


@pytest.mark.parametrize('unit', WARMUPS)
@pytest.mark.parametrize('stop', [MID_ROUND, *slowly(ROUND_END, f'{STEPS - 1}ba')])
def test_an_unchanged_schedule_goes_on_to_the_bit(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, run_folder: Path, stop: str, unit: str
):
    schedule = f't_warmup: {WARMUPS[unit]}{unit}, t_max: {LENGTHS[unit]}{unit}'
    schedule = f'scheduler={{name: cosine_with_warmup, {schedule}}}'
    rates, take = [], resuming.take_optimizer_options

    def note(trainer: Any, asked: Any, *, batch_size: int) -> None:
        group = trainer.state.optimizers[0].param_groups[0]
        loaded = dict(group)
        take(trainer, asked, batch_size=batch_size)
        rates.append((loaded, dict(group)))

    monkeypatch.setattr(resuming, 'take_optimizer_options', note)
    trained(schedule, f'max_duration={stop}')
    assert rates == []
    trained(schedule, *GO_ON)
    [(loaded, taken)] = rates
    assert 0 < taken['lr'] < 0.01
    for name in taken.keys() - {'params'}:
        assert taken[name] == loaded[name]


# Options -> mixture that they must make of the coming round.
@pytest.mark.parametrize('stop', [MID_ROUND, *slowly(ROUND_END)])
@pytest.mark.parametrize('options', [['eta=50'], ['graph=identity'], ['floor=0.2'], ['window=1', 'eta=2']])
def test_options_of_the_policy_are_taken_at_the_next_round(
    trained: Trained,
    resumed: Callable[..., list[str]],
    run_folder: Path,
    tmp_path: Path,
    stop: str,
    options: list[str],
):
    overrides = [f'{MIXING}.{option}' for option in options]
    trained(f'max_duration={stop}')
    shutil.copytree(run_folder, tmp_path / 'as_it_was', symlinks=True)
    lines = resumed(*overrides)
    assert len(lines) == len(options)
    for line, override in zip(sorted(lines), sorted(overrides), strict=True):
        assert line.startswith(override.partition('=')[0])
        assert line.endswith(', taken at the next round')
    changed = logged(run_folder, 'proportions')
    shutil.rmtree(run_folder)
    shutil.copytree(tmp_path / 'as_it_was', run_folder, symlinks=True)
    trained(*GO_ON)
    unchanged = logged(run_folder, 'proportions')
    # A round that has begun keeps its mixture; the next has another.
    first = 2 if stop == MID_ROUND else 1
    assert changed[:first] == unchanged[:first]
    assert changed[first] != pytest.approx(unchanged[first], abs=1e-3)


@pytest.mark.parametrize(('stop', 'first'), [(MID_ROUND, 2), (ROUND_END, 1)])
def test_weights_of_a_fixed_mixture_are_those_of_the_next_round(
    trained: Trained, resumed: Callable[..., list[str]], run_folder: Path, stop: str, first: int
):
    def weights(*values: int) -> list[str]:
        own = [f'{MIXING}.weights.digit_{number}={value}' for number, value in enumerate(values)]
        return [f'{MIXING}.policy=static', *own]

    trained(f'max_duration={stop}', *weights(1, 1, 2))
    assert resumed(*weights(2, 1, 1)) == [
        f'{MIXING}.weights.digit_0: 1 -> 2, taken at the next round',
        f'{MIXING}.weights.digit_2: 2 -> 1, taken at the next round',
    ]
    mixtures = [list(one.values()) for one in logged(run_folder, 'proportions')]
    assert mixtures == [[0.25, 0.25, 0.5]] * first + [[0.5, 0.25, 0.25]] * (3 - first)


def test_a_checkpoint_of_before_decisions_were_kept_says_one_round_more(
    trained: Trained, resumed: Callable[..., list[str]], run_folder: Path
):
    trained('max_duration=1ep')
    path = (run_folder / 'checkpoints' / 'latest-rank0.pt').resolve()
    state = torch.load(path, weights_only=False)
    del dict(state['state']['algorithms'])['DataMixing']['decided']
    torch.save(state, path)
    [line] = resumed(f'{MIXING}.eta=50')
    assert line.endswith('taken at the next round but one: the next was decided before')
    moved = [one['digit_1'] > 0.99 for one in logged(run_folder, 'proportions')]
    assert moved == [False, False, True]


def test_a_graph_that_has_changed_in_its_file_is_seen(
    trained: Trained, resumed: Callable[..., list[str]], streams: Path, tmp_path: Path
):
    path = Path(shutil.copy(streams / 'graph.json', tmp_path / 'graph.json'))
    trained('max_duration=1ep', f'{MIXING}.graph={path}')
    graph = json.loads(path.read_text())
    graph['weights'][0][0] += 1
    path.write_text(json.dumps(graph))
    assert resumed(f'{MIXING}.graph={path}') == [
        f'{MIXING}.graph: as it was -> other weights, taken at the next round'
    ]


def test_what_the_loop_asks_for_is_taken_now(trained: Trained, resumed: Callable[..., list[str]]):
    trained('max_duration=1ep')
    assert resumed(
        'eval_loader.samples_per_skill=8',
        'callbacks.lr_monitor={}',
        'model.config.attention_dropout=0.1',
        'train_loader.round_size=48',
    ) == [
        'train_loader.round_size: 24 -> 48, taken at the next round',
        'eval_loader.samples_per_skill: 256 -> 8, taken now',
        "model.config.attention_dropout: not given -> 0.1, taken now; the weights are the checkpoint's",
        'callbacks.lr_monitor: not given -> {}, taken now',
    ]


def test_what_only_the_beginning_had_is_kept(
    trained: Trained, resumed: Callable[..., list[str]], built: list[Run], run_folder: Path, tmp_path: Path
):
    trained('max_duration=1ep', 'train_loader.dataset.shuffle_seed=9')
    shutil.move(run_folder, tmp_path / 'begun')
    trained('max_duration=2ep', 'train_loader.dataset.shuffle_seed=9', f'load_path={tmp_path / "begun"}')
    seed, place = resumed()
    assert seed == 'train_loader.dataset.shuffle_seed: 9 -> not given, kept as the run began'
    assert place.startswith('load_path: /')
    assert place.endswith(' -> null, kept as the run began')
    assert built[-1].dataset.describe()['shuffle_seed'] == 9


def test_the_order_stays_that_of_the_nodes_that_began(
    trained: Trained, resumed: Callable[..., list[str]], built: list[Run]
):
    trained('max_duration=1ep', 'train_loader.dataset.num_canonical_nodes=2')
    lines = resumed('train_loader.dataset.num_canonical_nodes=4')
    assert lines == ['train_loader.dataset.num_canonical_nodes: 2 -> 4, kept as the run began']
    assert built[-1].dataset.describe()['num_canonical_nodes'] == 2


# Overrides that a checkpoint would leave without effect -> what the line must say.
REFUSED = {
    'seed=4': [
        '`seed` must stay 3, but got: 4',
        'load_path={run} load_weights_only=true save_folder=ANOTHER',
    ],
    'train_loader.dataset.shuffle_seed=9': ['shuffle_seed` must stay not given', 'load_weights_only=true'],
    'optimizer.name=decoupled_adamw': [
        '`optimizer.name` must stay adamw',
        'load_ignore_keys=[state/optimizers]',
    ],
    'optimizer.amsgrad=true': ['`optimizer.amsgrad`', 'load_ignore_keys=[state/optimizers]'],
    'model.init=default': ['`model.init` must stay fan_in', 'save_folder=ANOTHER'],
    'model.config.hidden_size=32': ['`model.config.hidden_size`=32', 'save_folder=ANOTHER'],
    'load_path={run}/checkpoints/ep1-ba6-rank0.pt': ['`load_path` must stay null', 'save_folder=ANOTHER'],
    f'{MIXING}.policy=odm': ['`algorithms.data_mixing`', 'skill_it', 'load_path={run} save_folder=ANOTHER'],
    f'{MIXING}.targets=[digit_1]': ['eval_skills', 'load_path={run} save_folder=ANOTHER'],
}


@pytest.mark.parametrize('override', REFUSED)
def test_what_would_have_no_effect_is_refused_with_the_way_to_it(
    trained: Trained, refused: Refused, run_folder: Path, override: str
):
    trained('max_duration=1ep')
    before = {path: path.read_bytes() for path in run_folder.rglob('*') if path.is_file()}
    message = refused(*GO_ON, override.format(run=run_folder))
    for part in REFUSED[override]:
        assert part.format(run=run_folder) in message
    assert {path: path.read_bytes() for path in run_folder.rglob('*') if path.is_file()} == before


def test_the_batch_stays_until_the_round_is_over(trained: Trained, refused: Refused):
    trained(f'max_duration={MID_ROUND}')
    message = refused(*GO_ON, 'global_train_batch_size=8')
    assert '`global_batch_size` must stay 4 until the round' in message
    assert 'finish that round first' in message


# The ways that the refusals name.
def another(tmp_path: Path, run: Path, *overrides: str) -> list[str]:
    folder = tmp_path / 'another'
    own = [f'save_folder={folder}', f'callbacks.sample_log.folder={folder / "samples"}']
    return [*own, f'load_path={run}', 'max_duration=3ep', *overrides]


@pytest.mark.parametrize(('stop', 'first'), [(MID_ROUND, 2), (ROUND_END, 1)])
def test_another_policy_goes_on_with_the_optimizer(
    trained: Trained,
    capsys: pytest.CaptureFixture[str],
    tiny_yaml: Path,
    built: list[Run],
    run_folder: Path,
    tmp_path: Path,
    stop: str,
    first: int,
):
    trained(f'max_duration={stop}')
    built.clear()
    way = another(tmp_path, run_folder, f'{MIXING}.policy=stratified')
    _, told = commands.done(capsys, 'train', tiny_yaml, *way)
    assert f'{MIXING}.policy: skill_it -> stratified' in told
    assert 'taken at the next round; the policy begins anew' in told
    [run] = built
    assert int(run.trainer.state.optimizers[0].state_dict()['state'][0]['step']) == 3 * STEPS
    mixtures = {line['round']: list(line['proportions'].values()) for line in rounds_of(tmp_path / 'another')}
    assert list(mixtures) == [1, 2]
    for number, mixture in mixtures.items():
        assert (mixture == pytest.approx([1 / 3] * 3)) == (number >= first)


def test_a_policy_that_needs_losses_first_is_shown_them(trained: Trained, run_folder: Path, tmp_path: Path):
    trained('max_duration=1ep', f'{MIXING}.policy=stratified')
    trained(*another(tmp_path, run_folder, f'{MIXING}.lag=1', f'{MIXING}.graph=streams'))
    lines = mixture_lines(tmp_path / 'another')
    assert [line['round'] for line in lines] == [1, 2]
    assert list(lines[0]['proportions'].values()) != pytest.approx([1 / 3] * 3, abs=0.01)


def test_another_optimizer_goes_on_without_the_state_of_the_old_one(
    trained: Trained, built: list[Run], run_folder: Path, tmp_path: Path
):
    trained('max_duration=1ep')
    built.clear()
    trained(
        *another(tmp_path, run_folder),
        'optimizer.name=decoupled_adamw',
        'load_ignore_keys=[state/optimizers]',
    )
    [run] = built
    assert int(run.trainer.state.timestamp.batch) == 3 * STEPS
    assert int(run.trainer.state.optimizers[0].state_dict()['state'][0]['step']) == 2 * STEPS


def test_another_seed_begins_another_run_from_the_weights(
    trained: Trained, built: list[Run], run_folder: Path, tmp_path: Path
):
    trained('max_duration=1ep')
    built.clear()
    trained(*another(tmp_path, run_folder), 'seed=4', 'load_weights_only=true')
    [run] = built
    assert run.dataset.describe()['shuffle_seed'] == 4
    assert logged(tmp_path / 'another', 'round') == [0, 1, 2]


def test_a_fork_that_is_restarted_goes_on_with_its_own(trained: Trained, run_folder: Path, tmp_path: Path):
    trained('max_duration=1ep')
    way = another(tmp_path, run_folder, f'{MIXING}.policy=stratified', 'autoresume=true')
    trained(*way, 'max_duration=2ep')
    trained(*way)
    assert logged(tmp_path / 'another', 'round') == [1, 2]


def test_a_checkpoint_without_its_configuration_is_said_to_be_one(
    capsys: pytest.CaptureFixture[str], tiny_yaml: Path, trained: Trained, run_folder: Path, tmp_path: Path
):
    trained('max_duration=1ep')
    (run_folder / 'config.yaml').unlink()
    _, told = commands.done(capsys, 'train', tiny_yaml, *another(tmp_path, run_folder))
    assert 'what has changed is not known: there is no config.yaml with the checkpoint' in told


def test_a_branch_of_nothing_is_refused(trained: Trained, refused: Refused, run_folder: Path, tmp_path: Path):
    trained('max_duration=1ep')
    message = refused(*another(tmp_path, run_folder), 'max_duration=1ep')
    assert '`max_duration` must be longer than what the run has trained, 6 steps, but got: 1ep.' in message
    assert not list((tmp_path / 'another').glob('*.*'))


@pytest.mark.parametrize('place', ['', 'checkpoints', 'checkpoints/latest-rank0.pt'])
def test_a_run_folder_is_its_newest_checkpoint(
    trained: Trained, run_folder: Path, tmp_path: Path, place: str
):
    trained(f'max_duration={MID_ROUND}')
    trained(*another(tmp_path, run_folder / place))
    assert logged(tmp_path / 'another', 'round') == [1, 2]


def test_a_folder_without_a_checkpoint_is_refused(refused: Refused, tmp_path: Path):
    (tmp_path / 'empty').mkdir()
    message = refused(f'load_path={tmp_path / "empty"}')
    assert (
        f'`load_path`: there is no checkpoint in {tmp_path / "empty"}: name a .pt file, or a run folder'
        in message
    )
