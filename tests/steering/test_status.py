"""`skillit status`: of a run under way, in words and as JSON."""

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from skillit_stream.formats.applied import REQUEST
from skillit_stream.formats.run_log import read_rounds
from skillit_stream.mixture.explain import explain_rounds
from skillit_stream.steering.run_facts import RunFacts
from tests.steering.conftest import GRAPH, SKILLS, OngoingRun
from tests.support import commands

Capture = pytest.CaptureFixture[str]
MIXTURE = {'a': 0.5, 'b': 0.25, 'c': 0.25}

pytestmark = pytest.mark.filterwarnings('ignore:start. ', 'ignore:Skill . will', 'ignore:apply. refused')


def told(capsys: Capture, ongoing: OngoingRun) -> dict[str, Any]:
    return json.loads(commands.done(capsys, 'status', ongoing.folder, '--json')[0])


def apply(capsys: Capture, ongoing: OngoingRun, tmp_path: Path, *options: Any) -> None:
    (tmp_path / 'mixture.yaml').write_text(yaml.safe_dump(MIXTURE))
    commands.done(capsys, 'apply', ongoing.folder, tmp_path / 'mixture.yaml', *options)


def test_before_the_first_round_has_ended(ongoing: OngoingRun, capsys: Capture):
    status = told(capsys, ongoing)
    assert (status['rounds_ended'], status['rounds'], status['step']) == (0, 8, 0)
    assert status['losses'] == {'step': 0, 'by_skill': ongoing.losses(0)}
    assert status['mixture'] is status['moved'] is status['pending'] is None
    text, _ = commands.done(capsys, 'status', ongoing.folder)
    assert 'skill_it; no round has ended yet' in text
    assert 'skillit audit' not in text


def test_round_mixture_losses_and_passes_are_those_of_the_log(ongoing: OngoingRun, capsys: Capture):
    ongoing.play(3)
    status = told(capsys, ongoing)
    last = read_rounds(ongoing.folder / 'mixture.jsonl').rounds[-1]
    assert (status['rounds_ended'], status['step']) == (3, 36)
    assert status['mixture'] == {'round': 3, 'proportions': ongoing.driver.dataset.next_proportions}
    assert status['previous'] == {'round': 2, 'proportions': last.proportions}
    assert status['losses']['by_skill'] == ongoing.losses(3)
    assert status['passes'] == last.passes
    text, _ = commands.done(capsys, 'status', ongoing.folder)
    assert f'skillit audit {ongoing.folder} --round 2' in text.splitlines()[-1]
    assert 'decided when round 3 ends' in text


def test_why_it_moved_is_the_edges_times_what_entered_the_window(ongoing: OngoingRun, capsys: Capture):
    ongoing.play(3)
    moved = told(capsys, ongoing)['moved']
    assert (moved['from_round'], moved['to_round'], moved['rest']) == (2, 3, False)
    lines = read_rounds(ongoing.folder / 'mixture.jsonl').rounds
    # The window of three rounds has just been filled: nothing has left it.
    edges = 0.5 * GRAPH.weights * np.array([ongoing.losses(3)[skill] for skill in SKILLS])
    before = np.array([lines[2].proportions[skill] for skill in SKILLS])
    relative = (edges - before @ edges) * before[:, None]
    largest = sorted(np.abs(relative).ravel(), reverse=True)[:3]
    assert [abs(part['to_proportion']) for part in moved['parts']] == pytest.approx(largest)
    for part in moved['parts']:
        row, column = SKILLS.index(part['skill']), SKILLS.index(part['eval_skill'])
        assert part['to_proportion'] == pytest.approx(relative[row, column])
        assert part['loss'] == ongoing.losses(3)[part['eval_skill']]


def test_what_is_pending_and_what_was_taken(ongoing: OngoingRun, capsys: Capture, tmp_path: Path):
    ongoing.play(1)
    apply(capsys, ongoing, tmp_path, '--from-round', 3)
    pending = told(capsys, ongoing)['pending']
    assert pending == {'policy': 'static', 'from_round': 3, 'proportions': MIXTURE}
    text, _ = commands.done(capsys, 'status', ongoing.folder)
    assert 'pending      static from round 3: a 50.0 %, b 25.0 %, c 25.0 %' in text
    assert f'skillit apply {ongoing.folder} --cancel' in text
    ongoing.play(2)
    status = told(capsys, ongoing)
    assert status['pending'] is None
    assert status['applied'] == {'from_round': 3, 'policy': 'static'}
    assert status['policy'] == 'static'
    assert status['mixture'] == {'round': 3, 'proportions': MIXTURE}
    assert '`skillit apply` gave the run the policy static' in status['moved']['reason']
    ongoing.play(1)
    assert told(capsys, ongoing)['moved']['reason'].startswith('The mixture is fixed')


def test_moves_of_the_policy_that_was_applied_are_explained_by_its_own_graph(
    ongoing: OngoingRun, capsys: Capture, tmp_path: Path
):
    rows = {'a': {'a': 1.0}, 'b': {'b': 1.0, 'a': 2.0}, 'c': {'c': 1.0}}
    (tmp_path / 'policy.yaml').write_text(yaml.safe_dump({'policy': 'skill_it', 'graph': rows, 'eta': 1.0}))
    ongoing.play(3)
    commands.done(capsys, 'apply', ongoing.folder, tmp_path / 'policy.yaml')
    ongoing.play(3)
    facts = RunFacts(ongoing.folder)
    assert facts.about.policy
    explained = explain_rounds(facts.about.policy, GRAPH, facts.log.records)
    # Round 4 is the first with the new policy: from one policy to another nothing is a sum over edges.
    assert [move.round for move in explained.moves] == [1, 2, 3, 5]
    assert explained.missing == ()
    last = explained.moves[-1]
    row, column = last.skills.index('b'), last.eval_skills.index('a')
    assert last.edges[row, column] == pytest.approx(2.0 * ongoing.losses(5)['a'])
    assert len(told(capsys, ongoing)['moved']['parts']) == 3


def test_a_request_that_is_none_is_shown_as_such(ongoing: OngoingRun, capsys: Capture):
    ongoing.play(1)
    (ongoing.folder / REQUEST).write_text('{"version": 1}')
    assert "'mixing' is missing" in told(capsys, ongoing)['pending']['problem']
    ongoing.play(1)
    text, _ = commands.done(capsys, 'status', ongoing.folder)
    assert 'pending      malformed:' in text
    assert 'apply: refused' in text


def test_a_request_that_comes_too_late_is_shown_as_such(ongoing: OngoingRun, capsys: Capture, tmp_path: Path):
    ongoing.play(1)
    apply(capsys, ongoing, tmp_path)
    ongoing.write_about(rounds=2)
    assert 'none is left to take it' in told(capsys, ongoing)['pending']['problem']


def test_a_finished_run_shows_its_last_mixture(ongoing: OngoingRun, capsys: Capture):
    ongoing.play(8)
    status = told(capsys, ongoing)
    last = read_rounds(ongoing.folder / 'mixture.jsonl').rounds[-1]
    assert status['finished']
    assert status['mixture'] == {'round': 7, 'proportions': last.proportions}
    assert (status['moved']['from_round'], status['moved']['to_round']) == (6, 7)
    assert 'finished' in commands.done(capsys, 'status', ongoing.folder)[0].splitlines()[0]


def test_whether_a_process_trains_it_is_known(ongoing: OngoingRun, capsys: Capture):
    ongoing.play(1)
    assert told(capsys, ongoing)['running'] is True
    del ongoing.driver
    gc.collect()
    assert told(capsys, ongoing)['running'] is False


@pytest.mark.parametrize('columns', [40, 60, 200])
def test_it_fits_into_the_terminal(
    ongoing: OngoingRun, capsys: Capture, monkeypatch: pytest.MonkeyPatch, columns: int
):
    ongoing.play(2)
    monkeypatch.setenv('COLUMNS', str(columns))
    text, _ = commands.done(capsys, 'status', ongoing.folder)
    lines = [line for line in text.splitlines() if ' skillit ' not in line]
    assert max(map(len, lines)) <= min(columns, 100)


def test_a_log_from_before_the_next_mixture_was_written_down(ongoing: OngoingRun, capsys: Capture):
    ongoing.play(3)
    log = ongoing.folder / 'mixture.jsonl'
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text(''.join(json.dumps({**line, 'next_proportions': {}}) + '\n' for line in lines))
    status = told(capsys, ongoing)
    assert status['mixture']['round'] == 2
    assert status['moved']['to_round'] == 2


def test_what_is_no_run_folder_is_refused(capsys: Capture, tmp_path: Path):
    assert str(tmp_path) in commands.refusal(capsys, 'status', tmp_path)
    assert 'save_folder' in commands.refusal(capsys, 'status', tmp_path / 'none')
