"""Training goes on with a corpus that has changed since the checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest

from skillit_stream import SkillIt, SkillsGraph, StaticMixture
from skillit_stream.base.errors import InputError
from skillit_stream.cli import main
from tests.support.run_folders import mixture_lines, rounds_of
from tests.support.training_runs import (
    fit,
    settings,
    tiny_dataset,
    tiny_evaluators,
    tiny_trainer,
    write_yaml,
)

OLD, NEW = ('digit_0', 'digit_1'), ('digit_1', 'digit_2', 'digit_0')


def train(
    streams: Path,
    run: Path,
    skills: tuple[str, ...],
    rounds: int,
    policy: Any,
    *,
    first: bool,
    **options: Any,
) -> Any:
    """Train a tiny run over some of the streams up to the end of a round; returns the dataset."""
    checkpoint = run / 'checkpoints' / 'ep1.pt'
    dataset = tiny_dataset(streams, skills, **options)
    trainer = tiny_trainer(
        streams,
        policy,
        run,
        dataset=dataset,
        evaluators=tiny_evaluators(streams, skills),
        max_duration=f'{rounds}ep',
        save_folder=str(run / 'checkpoints'),
        save_filename='ep{epoch}.pt',
        save_interval='1ep',
        save_overwrite=True,
        load_path=None if first else str(checkpoint),
    )
    fit(trainer, evaluate_first=True)
    return dataset


def skill_it(skills: tuple[str, ...]) -> SkillIt:
    return SkillIt(SkillsGraph.identity(list(skills)), eta=2.0)


@pytest.fixture
def begun(streams: Path, run_folder: Path) -> Path:
    """A run of one round over the old streams."""
    train(streams, run_folder, OLD, 1, skill_it(OLD), first=True)
    return run_folder


def test_a_policy_of_other_skills_begins_anew(streams: Path, begun: Path):
    with pytest.warns(
        UserWarning, match=r'streams have changed \(digit_2 added\): the policy forgets .* round 1'
    ):
        dataset = train(streams, begun, NEW, 3, skill_it(NEW), first=False, on_changed='allow')
    lines = rounds_of(begun)
    assert [line['round'] for line in lines] == [0, 1, 2]
    assert list(lines[0]['proportions']) == list(OLD)
    # The first mixture of an identity graph is even; losses move it from then on.
    assert lines[1]['proportions'] == pytest.approx(dict.fromkeys(NEW, 1 / 3))
    assert lines[2]['proportions'] != pytest.approx(dict.fromkeys(NEW, 1 / 3))
    drawn = {skill: sum(line['samples'].get(skill, 0) for line in lines) for skill in NEW}
    assert dataset.samples_seen == drawn


def test_the_log_says_which_streams_a_round_drew_from(streams: Path, begun: Path):
    with pytest.warns(UserWarning, match='streams have changed'):
        train(streams, begun, NEW, 3, skill_it(NEW), first=False, on_changed='allow')
    states = [line['state'] for line in rounds_of(begun)]
    assert [list(state['streams']) for state in states] == [list(OLD), list(NEW), list(NEW)]
    assert mixture_lines(begun)[0]['round'] == -1


def test_a_static_mixture_is_the_new_one_at_once(streams: Path, begun: Path):
    shares = {'digit_1': 0.5, 'digit_2': 0.25, 'digit_0': 0.25}
    # The state is of Skill-It, which is no reason to go on with its mixture.
    with pytest.warns(UserWarning, match='begins anew'):
        train(streams, begun, NEW, 2, StaticMixture(shares), first=False, on_changed='allow')
    assert rounds_of(begun)[1]['proportions'] == pytest.approx(shares)


def test_unless_allowed_changed_streams_are_refused(streams: Path, begun: Path):
    with pytest.raises(InputError, match=r'digit_2 \(300 samples\) was not among them'):
        train(streams, begun, NEW, 2, skill_it(NEW), first=False)


@pytest.mark.parametrize(
    ('policy', 'what'),
    [
        (SkillIt(SkillsGraph.identity(list(reversed(OLD))), eta=2.0), 'skills is'),
        (StaticMixture.stratified(list(OLD)), "policy is 'skill_it' in the checkpoint, 'static' in this run"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused_where_the_streams_are_the_same(
    streams: Path, begun: Path, policy: Any, what: str
):
    with pytest.raises(InputError, match=f'^policy state does not fit: {what}'):
        train(streams, begun, OLD, 2, policy, first=False)


@pytest.mark.parametrize('new', ['identity', 'mean', '{digit_2: {digit_2: 0.5, digit_0: 0.1}}'])
def test_a_run_takes_up_a_skill_that_its_graph_does_not_know(streams: Path, run_folder: Path, new: str):
    graph = {'digit_0': {'digit_0': 0.4, 'digit_1': 0.2}, 'digit_1': {'digit_1': 0.6}}
    keys = settings(streams, run_folder)
    keys['algorithms']['data_mixing'] = {'policy': 'skill_it', 'graph': graph, 'eta': 2.0}
    keys['train_loader'] |= {'skills': list(OLD), 'on_changed': 'allow'}
    keys['eval_loader']['skills'] = list(OLD)
    yaml = str(write_yaml(run_folder.parent / 'new_skills.yaml', {**keys, 'autoresume': True}))
    assert main(['train', yaml, 'max_duration=1ep']) == 0
    grown = ['train_loader.skills=[digit_1,digit_2,digit_0]', 'eval_loader.skills=null']
    grown.append(f'algorithms.data_mixing.new_skills={new}')
    with pytest.warns(UserWarning, match='digit_2 added'):
        assert main(['train', yaml, 'max_duration=2ep', *grown]) == 0
    # Once more: the state of the grown run is loaded, and its mixture goes on.
    assert main(['train', yaml, 'max_duration=3ep', *grown]) == 0
    lines = rounds_of(run_folder)
    assert [len(line['proportions']) for line in lines] == [2, 3, 3]
    assert all(line['samples']['digit_2'] > 0 for line in lines[1:])
    assert set(lines[2]['losses']) == {'digit_0', 'digit_1', 'digit_2'}
    about = json.loads((run_folder / 'run.json').read_text())
    assert about['graph']['train_skills'] == ['digit_0', 'digit_1', 'digit_2']
    # The mean of 0.4 and 0.6, or what is written out.
    assert about['graph']['weights'][2][2] == 0.5


def test_without_a_word_on_new_skills_the_graph_is_refused(
    streams: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
):
    keys = settings(streams, run_folder)
    graph = {skill: {skill: 1} for skill in OLD}
    keys['algorithms']['data_mixing'] = {'policy': 'skill_it', 'graph': graph}
    yaml = write_yaml(run_folder.parent / 'refused.yaml', keys)
    assert main(['train', str(yaml)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "no row for 'digit_2'; new_skills=identity, mean or a row written out" in line
