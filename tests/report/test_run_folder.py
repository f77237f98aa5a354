"""Reading run folders: what is taken, what is forgiven, what is refused."""

import json
import re
from pathlib import Path

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.report.methods import group_runs, notes
from skillit_stream.report.page import policy_text
from skillit_stream.report.run_folder import RecordedRun, read_run, read_runs


def edit(path: Path, **changes) -> None:
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, **changes}))


def test_a_run_is_read_as_written(make_run):
    run = read_run(make_run(seed=7, graph=[[1, 0.5, 0], [0, 1, 0], [0, 0, 1]]))
    assert (run.name, run.method, run.seed, run.policy['eta']) == ('skill_it', 'skill_it', 7, 0.2)
    assert (len(run.rounds), len(run.evaluations), run.samples) == (10, 11, 128_000)
    assert run.edges.tolist() == [200.0 * n for n in range(11)]
    assert run.final_step == 2000
    assert run.graph is not None
    assert run.graph.weights[0, 1] == 0.5


def test_the_method_in_run_json_goes_before_the_name(make_run):
    runs = read_runs([make_run('a', method='same'), make_run('b', method='same', seed=2), make_run('c')])
    assert [(method.name, method.seeds) for method in group_runs(runs)] == [('same', (1, 2)), ('c', (1,))]


def test_evaluations_inside_of_rounds_are_points_of_the_curves(make_run):
    folder = make_run(rounds=2)
    before, *rounds = [json.loads(line) for line in (folder / 'mixture.jsonl').read_text().splitlines()]
    halves = [{skill: loss + 1 for skill, loss in line['losses'].items()} for line in rounds]
    for line, losses in zip(rounds, halves, strict=True):
        line['within'] = [{'step': line['step'] - 100, 'losses': losses, 'exact_match': {'ones': 0.25}}]
    (folder / 'mixture.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in (before, *rounds)))
    run = read_run(folder)
    assert [one.step for one in run.evaluations] == [0, 100, 200, 300, 400]
    assert [one.losses for one in run.evaluations[1::2]] == halves
    [method] = group_runs([run])
    curve = method.curve(['ones'])
    assert curve is not None
    assert curve.mean.tolist() == [one.losses['ones'] for one in run.evaluations]
    assert run.final_losses == rounds[-1]['losses']
    assert run.evaluations[1].figures == {'exact_match': {'ones': 0.25}}


def read_cut_short(folder: Path, missing: int) -> RecordedRun:
    """The run whose log lacks its last bytes."""
    log = folder / 'mixture.jsonl'
    log.write_bytes(log.read_bytes()[:-missing])
    return read_run(folder)


def test_a_half_written_last_line_is_left_out_and_noted(make_run):
    run = read_cut_short(make_run(), 40)
    assert (len(run.rounds), run.log.half_written) == (9, 1)
    assert any('breaks off' in note for note in notes(group_runs([run])))


def test_a_last_line_without_a_newline_counts_when_it_is_whole(make_run):
    run = read_cut_short(make_run(), 1)
    assert (len(run.rounds), run.log.half_written) == (10, 0)


def test_a_resumed_run_replaces_the_rounds_it_trained_again(make_run):
    folder = make_run(rounds=6)
    log = folder / 'mixture.jsonl'
    lines = log.read_text().splitlines(keepends=True)
    again = {**json.loads(lines[4]), 'losses': {'hundreds': 9.0, 'tens': 9.0, 'ones': 9.0}}
    with log.open('a') as file:  # resumed at round 3: rounds 3, 4 and 5 above did not happen
        file.write(json.dumps(again) + '\n')
    run = read_run(folder)
    assert [record.round for record in run.rounds] == [0, 1, 2, 3]
    assert run.final_losses['ones'] == 9.0
    assert run.log.replaced == 3
    assert any('resumed; 3 lines' in note for note in notes(group_runs([run])))


def test_a_log_that_begins_late_does_not_draw_its_first_round_from_step_0(make_run):
    folder = make_run()
    log = folder / 'mixture.jsonl'
    log.write_text(''.join(log.read_text().splitlines(keepends=True)[5:]))
    assert read_run(folder).edges.tolist() == [800.0 + 200 * n for n in range(7)]


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('\n', r'mixture.jsonl:3 is an empty line: restore'),
        ('{"round": 1,\n', r'mixture.jsonl:3 is not JSON \(.*\): restore'),
        ('[1]\n', r'mixture.jsonl:3: it must be a JSON object, but got: \[1\]'),
        ('{"step": 1}\n', r"mixture.jsonl:3: 'round' is missing"),
        ('{"round": 1, "step": true}\n', r"mixture.jsonl:3: 'step' must be a whole number, but got: True"),
        ('{"round": 1, "step": 2, "losses": [1]}\n', r"mixture.jsonl:3: 'losses' must be a mapping of names"),
        ('{"round": 1, "step": 2, "losses": {"a": "x"}}\n', r"mixture.jsonl:3: 'losses.a' must be a number"),
        (
            '{"round": 1, "step": 2, "within": [1]}\n',
            r'mixture.jsonl:3: within\[0\] must be a JSON object',
        ),
        ('{"round": 1, "step": 2, "within": [{}]}\n', r"mixture.jsonl:3: 'within\[0\].step' is missing"),
        ('{"round": 1, "step": 2, "state": []}\n', r"mixture.jsonl:3: 'state' must be a mapping of names"),
    ],
)
def test_a_broken_line_is_named_by_file_and_line(make_run, line, message):
    folder = make_run()
    lines = (folder / 'mixture.jsonl').read_text().splitlines(keepends=True)
    (folder / 'mixture.jsonl').write_text(''.join([*lines[:2], line, *lines[2:]]))
    with pytest.raises(InputError, match=message) as error:
        read_run(folder)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('', 'mixture.jsonl is empty: no round has ended yet'),
        ('{"round": -1, "step": 0, "losses": {"a": 1.0}}\n', 'holds no finished round'),
        ('{"round": 0, "st', 'holds no finished round'),
    ],
)
def test_a_run_without_a_finished_round_is_refused(make_run, content, message):
    folder = make_run()
    (folder / 'mixture.jsonl').write_text(content)
    with pytest.raises(InputError, match=message):
        read_run(folder)


def test_a_folder_that_is_no_run_says_what_a_run_is(make_run, tmp_path):
    with pytest.raises(InputError, match=r"'.*nowhere' does not exist: .* holds run.json and mixture.jsonl"):
        read_run(tmp_path / 'nowhere')
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='is a file'):
        read_run(tmp_path / 'file')
    empty = tmp_path / 'empty'
    empty.mkdir()
    with pytest.raises(InputError, match=r'has no run.json: a run folder holds .* `skillit train YAML`'):
        read_run(empty)
    folder = make_run()
    with pytest.raises(InputError, match=r'run folders lie inside it: name them'):
        read_run(folder.parent)
    (folder / 'mixture.jsonl').unlink()
    with pytest.raises(InputError, match=r'has no mixture\.jsonl'):
        read_run(folder)


def test_a_run_given_twice_or_none_at_all_is_refused(make_run):
    folder = make_run()
    with pytest.raises(InputError, match='is given twice'):
        read_runs([folder, folder / '..' / folder.name])
    with pytest.raises(InputError, match='no run folder given'):
        read_runs([])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'version': 2}, 'version 2 cannot be read, only 1'),
        ({'seed': 'one'}, "'seed' must be a whole number, but got: 'one'"),
        ({'policy': 'skill_it'}, "'policy' must be a mapping of names"),
        (
            {'graph': {'train_skills': ['a']}},
            r"'graph' must hold .*, but lacks: version, eval_skills, weights",
        ),
        (
            {'graph': {'version': 1, 'train_skills': ['a'], 'eval_skills': ['b'], 'weights': [[1, 2]]}},
            r'1, 2',
        ),
    ],
)
def test_a_run_json_that_does_not_fit_is_refused(make_run, changes, message):
    folder = make_run()
    edit(folder / 'run.json', **changes)
    with pytest.raises(InputError, match=re.escape(str(folder / 'run.json')) + '.*' + message):
        read_run(folder)


def test_runs_that_cannot_be_compared_evenly_are_noted(make_run):
    short, other = make_run(seed=1, rounds=4), make_run(seed=2, rounds=6)
    elsewhere = make_run('static', eval_skills=['tens', 'ones', 'new'])
    edit(other / 'run.json', policy={'name': 'skill_it', 'eta': 9.0})
    text = ' '.join(notes(group_runs(read_runs([short, other, elsewhere]))))
    assert 'at different steps (800 to 2000)' in text
    assert 'means are over the 2 of 4' in text
    assert 'runs differ in their policy' in text
    assert 'have 4 to 6 rounds' in text


@pytest.mark.parametrize(
    ('policy', 'differs'),
    [
        # Named after the run: every seed has an initial model and losses of its own.
        (lambda seed: {'name': 'sample_curriculum', 'losses': f'x-s{seed}', 'start': 0.1}, False),
        (lambda seed: {'name': 'sample_curriculum', 'losses': 'x', 'start': 0.1 * seed}, True),
        # Elsewhere `losses` is a setting: which of them the policy looks at.
        (lambda seed: {'name': 'ado', 'losses': 'train' if seed == 1 else 'eval'}, True),
    ],
)
def test_losses_named_after_the_seed_are_no_other_policy(make_run, policy, differs):
    folders = [make_run('x', seed=seed, rounds=1) for seed in (1, 2)]
    for seed, folder in enumerate(folders, start=1):
        edit(folder / 'run.json', policy=policy(seed))
    found = [note for note in notes(group_runs(read_runs(folders))) if 'differ in their policy' in note]
    assert bool(found) == differs


@pytest.mark.parametrize(
    ('policy', 'text'),
    [
        (
            {'name': 'static', 'proportions': {'a': 1 / 3, 'b': 2 / 3}},
            'static(proportions={a: 0.3333, b: 0.6667})',
        ),
        ({'name': 'static', 'proportions': {'a': 0.5, 'b': 0.5}}, 'static(proportions=0.5 each)'),
        (
            {'name': 'skill_it', 'eta': 0.2, 'lag': 0, 'initial': None, 'hold_lone': False},
            'skill_it(eta=0.2, lag=0)',
        ),
        ({'name': 'x', 'y': 'z' * 200}, f'x(y={"z" * 114}…)'),
    ],
)
def test_a_policy_is_described_by_what_is_on(policy, text):
    assert policy_text(policy) == text
