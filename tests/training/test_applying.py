"""A job that is given another mixture while it goes on: as one whose schedule said so from the start."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from skillit_stream.audit.replay import Replay
from skillit_stream.cli import main
from skillit_stream.formats.applied import REQUEST, Request, Taken, read_taken, write_request, write_taken
from skillit_stream.training.config import load_config
from skillit_stream.training.run_files import RunFilesUpload, prepare_folder
from tests.support import commands
from tests.support.launching import NEEDS, Launcher, finish
from tests.support.marks import slowly
from tests.support.run_folders import drawn_samples, rounds_of, weights_of, without_clocks
from tests.support.training_runs import SKILLS, settings, write_yaml

Trained = Callable[..., None]
EVEN: dict[str, float] = dict.fromkeys(SKILLS, 1 / 3)
OTHER: dict[str, float] = dict(zip(SKILLS, (0.5, 0.375, 0.125), strict=True))
ROUNDS, AT = 12, 9

pytestmark = [
    pytest.mark.filterwarnings('ignore:apply. the run was given', 'ignore:start. ', 'ignore::UserWarning')
]


def yaml_of(path: Path, streams: Path, run: Path, mixing: dict[str, Any], **keys: Any) -> Path:
    own = {'algorithms': {'data_mixing': mixing}, 'max_duration': f'{ROUNDS}ep', **keys}
    return write_yaml(path, {**settings(streams, run), **own})


@pytest.mark.parametrize('saved', ['3ep', *slowly('1ep')])
@pytest.mark.skipif(
    NEEDS[0].args[0] or NEEDS[1].args[0], reason=f'{NEEDS[0].kwargs["reason"]}, /dev/shm, /proc'
)
def test_two_ranks_that_are_given_a_mixture_and_killed_train_as_a_schedule_does(
    streams: Path, tmp_path: Path, launcher: Launcher, saved: str
):
    mixtures = {'policy': 'schedule', 'mixtures': [EVEN, OTHER], 'segments': [AT, ROUNDS - AT]}
    scheduled, given = tmp_path / 'scheduled', tmp_path / 'given'
    keys = {'save_interval': saved, 'autoresume': True}
    whole = launcher.ranks(yaml_of(tmp_path / 'a.yaml', streams, scheduled, mixtures, **keys), streams, 2)
    finish(whole)
    even = {'policy': 'static', 'proportions': EVEN}
    path = yaml_of(tmp_path / 'b.yaml', streams, given, even, **keys)
    first = launcher.ranks(path, streams, 2)
    first.wait_until((given / 'run.json').exists)
    (given / REQUEST).write_text('{"version": 1, "mixing": {"policy": "statc"}}')
    log = given / 'mixture.jsonl'
    first.wait_until(lambda: log.exists() and 'apply: refused' in log.read_text())
    mixture = write_yaml(tmp_path / 'mixture.yaml', OTHER)
    assert main(['apply', str(given), str(mixture), '--from-round', str(AT)]) == 0
    first.wait_until(lambda: f'"round": {AT}' in log.read_text())
    first.kill()
    assert [one.from_round for one in read_taken(given)] == [AT]
    finish(launcher.ranks(path, streams, 2))

    assert first.output.read_text().count('apply: refused, the mixture goes on as it is: ') == 1
    assert [line['proportions'] for line in rounds_of(given)] == [EVEN] * AT + [OTHER] * (ROUNDS - AT)
    assert drawn_samples(given) == drawn_samples(scheduled)
    facts = ('samples', 'losses', 'passes', 'state')
    for line, other in zip(rounds_of(given), rounds_of(scheduled), strict=True):
        assert {key: line[key] for key in facts} == {key: other[key] for key in facts}
    replay = Replay(given, streams=streams)
    for step, drawn in drawn_samples(given).items():
        assert replay.step_ids(step).tolist() == drawn
    weights, others = weights_of(given), weights_of(scheduled)
    assert [name for name in weights if not torch.equal(weights[name], others[name])] == []


@pytest.mark.parametrize(
    'mixing',
    [
        {'policy': 'skill_it', 'graph': 'identity', 'eta': 2.0},
        # Asks for losses of training by skill, which the policy of before does not.
        {'policy': 'odm'},
        # Asks for gradients.
        {'policy': 'dga'},
        {'policy': 'stratified', 'floor': 0.2},
    ],
    ids=lambda mixing: mixing['policy'],
)
@pytest.mark.parametrize('stop', ['15ba', *slowly('12ba', '3ep')])
def test_a_run_that_was_given_a_policy_goes_on_with_it(
    trained: Trained, run_folder: Path, tmp_path: Path, stop: str, mixing: dict[str, Any]
):
    options = ['save_interval=1ep', 'autoresume=true']
    for folder in (run_folder, tmp_path / 'whole'):
        write_request(folder, Request(mixing=mixing, from_round=2))
    trained(*options, 'max_duration=4ep', f'save_folder={tmp_path / "whole"}')
    trained(*options, f'max_duration={stop}')
    trained(*options, 'max_duration=4ep')
    assert without_clocks(rounds_of(run_folder)) == without_clocks(rounds_of(tmp_path / 'whole'))


def test_the_run_says_which_policy_decides_and_refuses_options_of_the_other(
    trained: Trained, refused: Callable[..., str], capsys: Any, tiny_yaml: Path, run_folder: Path
):
    options = ['save_interval=1ep', 'autoresume=true']
    write_request(run_folder, Request(mixing={'policy': 'stratified'}, from_round=1))
    trained(*options, 'max_duration=2ep')
    line = refused('autoresume=true', 'max_duration=3ep', 'algorithms.data_mixing.eta=3')
    assert '`algorithms.data_mixing.eta` must stay 0.5, but got: 3: since round 1 the policy decides' in line
    _, told = commands.done(capsys, 'train', tiny_yaml, *options, 'max_duration=3ep')
    assert 'mixture      static, applied in round 1; now: ' in told


def test_another_run_from_its_checkpoint_begins_with_the_policy_of_its_own_yaml(
    trained: Trained, run_folder: Path, tmp_path: Path
):
    write_request(run_folder, Request(mixing={'policy': 'static', 'proportions': OTHER}, from_round=1))
    trained('autoresume=true', 'max_duration=2ep', 'save_interval=1ep')
    assert rounds_of(run_folder)[-1]['proportions'] == OTHER
    trained(f'load_path={run_folder}', f'save_folder={tmp_path / "other"}', 'max_duration=4ep')
    assert len({tuple(line['proportions'].values()) for line in rounds_of(tmp_path / 'other')[-1:]}) == 1
    assert rounds_of(tmp_path / 'other')[-1]['proportions'] != OTHER


def test_a_run_that_is_started_over_forgets_what_was_asked_of_the_one_before(
    trained: Trained, run_folder: Path
):
    trained('max_duration=1ep')
    write_request(run_folder, Request(mixing={'policy': 'static', 'proportions': OTHER}))
    trained('max_duration=2ep', 'save_overwrite=true')
    assert not (run_folder / REQUEST).exists()
    assert rounds_of(run_folder)[-1]['proportions'] != OTHER


def test_what_was_taken_goes_with_the_checkpoints_to_another_machine(
    store: Any, tiny_yaml: Path, tmp_path: Path
):
    store.client().create_bucket(Bucket='applied')
    there, here = tmp_path / 'there', tmp_path / 'here'
    taken = [
        Taken(from_round=number, mixing={'policy': 'stratified'}, digest=str(number), evaluated=[])
        for number in (2, 4)
    ]
    write_taken(there, taken[:1])
    (there / 'mixture.jsonl').write_text('')
    RunFilesUpload(there, 's3://applied/run').epoch_checkpoint(cast(Any, None), cast(Any, None))
    keys = ['checkpoint_folder=s3://applied/run', 'autoresume=true', f'save_folder={here}']
    config = load_config(tiny_yaml, keys)
    prepare_folder(config)
    assert read_taken(here) == tuple(taken[:1])
    # Taken by a process that was killed before it was copied.
    write_taken(here, taken)
    prepare_folder(config)
    assert read_taken(here) == tuple(taken)
