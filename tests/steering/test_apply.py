"""`skillit apply`: checked against the run before anything is written, replaced, taken back."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from skillit_stream.formats.applied import REQUEST, pending_request, read_request
from skillit_stream.formats.run_log import read_rounds
from tests.steering.conftest import SKILLS, OngoingRun
from tests.support import commands

Capture = pytest.CaptureFixture[str]
MIXTURE = {'a': 0.5, 'b': 0.25, 'c': 0.25}
ROWS = {'a': {'a': 1.0, 'b': 0.5}, 'b': {'b': 1.0}, 'c': {'c': 1.0}}

pytestmark = pytest.mark.filterwarnings('ignore:start. ', 'ignore:Skill . will', 'ignore:apply. refused')


def write(folder: Path, content: Any, name: str = 'mixture.yaml') -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    'content',
    [
        MIXTURE,
        {'policy': 'static', 'proportions': MIXTURE},
        {'algorithms': {'data_mixing': {'policy': 'static', 'proportions': MIXTURE}}},
        {'data_mixing': MIXTURE},
        # As YAML 1.1 reads it, that is a text.
        'a: 5e-1\nb: 0.25\nc: 0.25\n',
    ],
)
def test_a_mixture_is_taken_at_the_next_round(
    ongoing: OngoingRun, capsys: Capture, tmp_path: Path, content: Any
):
    ongoing.play(1)
    said, _ = commands.done(capsys, 'apply', ongoing.folder, write(tmp_path, content))
    assert 'static from the next round that it decides (2 by its log)' in said
    ongoing.play(3)
    mixtures = [one.proportions for one in read_rounds(ongoing.folder / 'mixture.jsonl').rounds]
    assert mixtures[2:] == [MIXTURE, MIXTURE]
    assert mixtures[1] != MIXTURE


def test_a_policy_is_written_with_its_graph_and_is_taken_at_its_round(
    ongoing: OngoingRun, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write(tmp_path, {'policy': 'skill_it', 'graph': ROWS, 'eta': 2.0})
    commands.done(capsys, 'apply', ongoing.folder, path, '--from-round', 3)
    ongoing.play(3)
    assert ongoing.driver.applied_from == 3
    assert ongoing.driver.policy.describe()['eta'] == 2.0

    from_file = {'policy': 'skill_it', 'graph': 'graph.json', 'eta': 1.0}
    ongoing.policy.graph.save(tmp_path / 'graph.json')
    monkeypatch.chdir(tmp_path)
    commands.done(capsys, 'apply', ongoing.folder, write(tmp_path, from_file))
    (tmp_path / 'graph.json').unlink()
    ongoing.play(1)
    assert ongoing.driver.applied_from == 4


def test_the_later_of_two_replaces_the_pending_one_and_says_so(
    ongoing: OngoingRun, capsys: Capture, tmp_path: Path
):
    path = write(tmp_path, MIXTURE)
    commands.done(capsys, 'apply', ongoing.folder, path, '--from-round', 4)
    other = write(tmp_path, {'policy': 'stratified'})
    said, _ = commands.done(capsys, 'apply', ongoing.folder, other, '--from-round', 5)
    assert 'in place of static for round 4' in said
    request = read_request(ongoing.folder)
    assert request
    assert (request.from_round, request.mixing) == (5, {'policy': 'stratified'})


def test_cancel_takes_back_what_is_pending_and_nothing_else(
    ongoing: OngoingRun, capsys: Capture, tmp_path: Path
):
    assert 'nothing is pending.' in commands.refusal(capsys, 'apply', ongoing.folder, '--cancel')
    commands.done(capsys, 'apply', ongoing.folder, write(tmp_path, MIXTURE))
    commands.done(capsys, 'apply', ongoing.folder, '--cancel')
    assert not (ongoing.folder / REQUEST).exists()
    ongoing.play(2)
    assert ongoing.driver.applied_from is None
    commands.done(capsys, 'apply', ongoing.folder, write(tmp_path, MIXTURE))
    ongoing.play(1)
    assert 'since round 3 it has' in commands.refusal(capsys, 'apply', ongoing.folder, '--cancel')


def test_cancel_removes_what_is_malformed(ongoing: OngoingRun, capsys: Capture):
    (ongoing.folder / REQUEST).write_text('{')
    commands.done(capsys, 'apply', ongoing.folder, '--cancel')
    assert pending_request(ongoing.folder) is None


REFUSED = {
    'another sum': ({'a': 0.5, 'b': 0.25, 'c': 0.2}, 'sum'),
    'a skill too few': ({'a': 0.5, 'b': 0.5}, 'c'),
    'a skill too many': ({**MIXTURE, 'z': 0.0}, 'z'),
    'no number': ({'a': 'half', 'b': 0.25, 'c': 0.25}, 'half'),
    'below 0': ({'a': 1.5, 'b': -0.25, 'c': -0.25}, '-0.25'),
    'a list': ([0.5, 0.5], 'must hold'),
    'nothing': ('', 'must hold'),
    'no YAML': ('a: [', 'cannot be read as YAML'),
    'no such policy': ({'policy': 'statc'}, 'statc'),
    'no such option': ({'policy': 'skill_it', 'graph': 'identity', 'eta': 1, 'widnow': 2}, 'widnow'),
    'no such file': ({'policy': 'skill_it', 'graph': 'none.json', 'eta': 1}, 'none.json'),
    'a loss that is not evaluated': ({'graph': {'a': {'z': 1}, 'b': {}, 'c': {}}, 'eta': 1}, 'z'),
    'a start': ({'policy': 'stratified', 'start': 3}, '--from-round'),
    'an order of samples': ({'policy': 'sample_curriculum'}, 'of its own'),
    'a whole YAML': ({'algorithms': {'data_mixing': MIXTURE}, 'seed': 3}, 'seed'),
    'no graph streams': ({'graph': 'streams', 'eta': 1}, 'config.yaml'),
}


@pytest.mark.parametrize(('content', 'named'), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_run_would_refuse_is_refused_before_anything_is_written(
    ongoing: OngoingRun, capsys: Capture, tmp_path: Path, content: Any, named: str
):
    ongoing.play(1)
    line = commands.refusal(capsys, 'apply', ongoing.folder, write(tmp_path, content))
    assert named in line
    assert not (ongoing.folder / REQUEST).exists()


@pytest.mark.parametrize(('round_', 'named'), [(0, 'at least 3'), (2, 'at least 3'), (8, '3 to 7')])
def test_a_round_that_cannot_be_is_refused(
    ongoing: OngoingRun, capsys: Capture, tmp_path: Path, round_: int, named: str
):
    ongoing.play(2)
    path = write(tmp_path, MIXTURE)
    line = commands.refusal(capsys, 'apply', ongoing.folder, path, '--from-round', round_)
    assert '`--from-round` must be' in line
    assert named in line


def test_a_run_without_a_round_left_is_refused(ongoing: OngoingRun, capsys: Capture, tmp_path: Path):
    ongoing.play(7)
    path = write(tmp_path, MIXTURE)
    assert 'the mixture of the last is decided' in commands.refusal(capsys, 'apply', ongoing.folder, path)


def test_losses_that_are_not_measured_every_round_are_not_enough(
    ongoing: OngoingRun, capsys: Capture, tmp_path: Path
):
    ongoing.write_about(evaluates_rounds=False)
    path = write(tmp_path, {'policy': 'skill_it', 'graph': 'identity', 'eta': 1})
    assert '`eval_interval` passes over' in commands.refusal(capsys, 'apply', ongoing.folder, path)


def test_a_run_of_another_trainer_needs_its_log_alone(ongoing: OngoingRun, capsys: Capture, tmp_path: Path):
    (ongoing.folder / 'run.json').unlink()
    path = write(tmp_path, MIXTURE)
    assert 'no round of it has ended yet' in commands.refusal(capsys, 'apply', ongoing.folder, path)
    ongoing.play(1)
    commands.done(capsys, 'apply', ongoing.folder, path)
    ongoing.play(1)
    assert ongoing.driver.applied_from == 2


@pytest.mark.parametrize('run', ['s3://bucket/run', 'nowhere'])
def test_what_is_no_run_folder_here_is_refused(capsys: Capture, tmp_path: Path, run: str):
    assert run in commands.refusal(capsys, 'apply', run, write(tmp_path, MIXTURE))
    assert str(tmp_path) in commands.refusal(capsys, 'apply', tmp_path, write(tmp_path, MIXTURE))


def test_a_mixture_or_cancel_is_needed_and_not_both(ongoing: OngoingRun, capsys: Capture, tmp_path: Path):
    assert 'MIXTURE.yaml is missing' in commands.refusal(capsys, 'apply', ongoing.folder)
    path = write(tmp_path, MIXTURE)
    assert '--cancel' in commands.refusal(capsys, 'apply', ongoing.folder, path, '--cancel')


def test_the_streams_of_the_run_are_its_skills():
    assert tuple(MIXTURE) == SKILLS
