"""The graph that `graph:` of a training YAML names."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from composer.core import Time

from skillit_stream.base.errors import InputError
from skillit_stream.formats.sample_losses import losses_folder, save_losses
from skillit_stream.mixture import RunContext, SkillsGraph, build_policy
from skillit_stream.mixture.from_options import named_graph
from skillit_stream.training.run_policy import (
    RunUnits,
    chosen_policy,
    chosen_skills,
    run_context,
)

SKILLS = ['ones', 'tens', 'hundreds']
UNITS = RunUnits(round_size=4, batch_size=2, seq_len=None)


def test_rows_written_out_are_a_graph_whose_other_edges_are_zero():
    rows = {
        'tens': {'tens': 1, 'ones': 0.5},
        'ones': {'ones': 1.0},
        'hundreds': {'hundreds': 1, 'ones': -0.25},
    }
    graph = named_graph(rows, SKILLS, SKILLS)
    assert graph is not None
    assert graph.train_skills == ('tens', 'ones', 'hundreds')
    assert graph.eval_skills == ('ones', 'tens', 'hundreds')
    assert graph.weights.tolist() == [[0.5, 1, 0], [1, 0, 0], [-0.25, 0, 1]]


def test_columns_may_be_targets_alone():
    graph = named_graph({'ones': {'tens': 1}, 'tens': {'tens': 1}, 'hundreds': {}}, SKILLS, SKILLS)
    assert graph is not None
    assert graph.eval_skills == ('tens',)
    assert graph.weights.tolist() == [[1], [1], [0]]


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        ({'ones': {'ones': 1}, 'tens': {'tens': 1}}, "the graph has no row for 'hundreds'"),
        (
            {'ones': {'ones': 1}, 'tens': {'tenz': 1}, 'hundreds': {}},
            "graph that are not evaluated: 'tenz'",
        ),
        ({'ones': 1, 'tens': {}, 'hundreds': {}}, "row 'ones' must be eval skills with their weights"),
        ({'ones': {'ones': 'much'}, 'tens': {}, 'hundreds': {}}, 'must be a rectangular matrix of numbers'),
    ],
)
def test_rows_that_make_no_graph_of_the_streams_are_refused(rows: dict, message: str):
    with pytest.raises(InputError, match=re.escape(message)):
        named_graph(rows, SKILLS, SKILLS)


def test_with_targets_the_other_columns_need_not_be_evaluated():
    rows = {'ones': {'ones': 1}, 'tens': {'ones': 0.5, 'tens': 1}, 'hundreds': {'hundreds': 1}}
    graph = named_graph(rows, SKILLS, ['ones'], ['ones'])
    assert graph is not None
    assert graph.eval_skills == ('ones',)
    assert graph.weights.tolist() == [[1], [0.5], [0]]


def test_a_bare_array_is_square_where_only_the_targets_are_evaluated(tmp_path: Path):
    np.save(tmp_path / 'graph.npy', np.arange(9.0).reshape(3, 3))
    graph = named_graph(tmp_path / 'graph.npy', SKILLS, ['tens'], ['tens'])
    assert graph is not None
    assert graph.train_skills == tuple(SKILLS)
    assert graph.weights.tolist() == [[1], [4], [7]]


def test_a_bare_array_has_the_evaluated_skills_as_columns_otherwise(tmp_path: Path):
    np.save(tmp_path / 'graph.npy', np.arange(6.0).reshape(3, 2))
    graph = named_graph(tmp_path / 'graph.npy', SKILLS, ['words', 'tens'])
    assert graph is not None
    assert graph.eval_skills == ('words', 'tens')


def test_a_target_that_is_not_evaluated_is_refused():
    with pytest.raises(InputError, match="columns of the graph that are not evaluated: 'tens'"):
        named_graph({skill: {skill: 1} for skill in SKILLS}, SKILLS, ['ones'], ['tens'])


ROWS = {'ones': {'ones': 0.2, 'tens': 0.1}, 'tens': {'ones': 0.3, 'tens': 0.4}}


def test_a_graph_without_a_row_says_how_to_give_one():
    with pytest.raises(
        InputError, match=r"no row for 'hundreds'; new_skills=identity, mean or a row written out"
    ):
        named_graph(ROWS, SKILLS, SKILLS)


@pytest.mark.parametrize(
    ('new', 'row'),
    [
        ('identity', [0, 0, 0.3]),
        ('mean', [0.3, 0.1, 0.3]),
        ({'hundreds': {'tens': 0.7, 'hundreds': 1}}, [0, 0.7, 1]),
    ],
)
@pytest.mark.parametrize('file', [None, 'graph.json', 'graph.npy'])
def test_new_skills_get_the_row_that_is_asked_for(tmp_path: Path, new, row: list[float], file: str | None):
    source = ROWS
    if file:
        source = tmp_path / file
        weights = [list(one.values()) for one in ROWS.values()]
        SkillsGraph(list(ROWS), list(ROWS), weights).save(source)
    options = {'policy': 'skill_it', 'graph': source, 'new_skills': new}
    policy, graph = chosen_policy(options, context_of(SKILLS), UNITS)
    assert graph is not None
    assert graph.weights[2] == pytest.approx(np.array(row))
    assert policy.skills == tuple(SKILLS)
    assert policy.eval_skills == tuple(SKILLS)


def test_new_skills_change_nothing_where_the_graph_lacks_none():
    options = {'policy': 'skill_it', 'graph': ROWS, 'new_skills': 'mean'}
    _, graph = chosen_policy(options, context_of(['ones', 'tens']), UNITS)
    assert graph == named_graph(ROWS, ['ones', 'tens'], ['ones', 'tens'])


def test_a_row_whose_stream_is_gone_is_refused_all_the_same():
    options = {'policy': 'skill_it', 'graph': ROWS, 'new_skills': 'mean'}
    with pytest.raises(InputError, match="rows of the graph that are not trained on: 'ones'"):
        chosen_policy(options, context_of(['tens', 'hundreds']), UNITS)


def test_new_skills_without_a_graph_are_refused():
    with pytest.raises(InputError, match='`new_skills` says what a graph lacks, but there is no `graph`'):
        chosen_policy({'policy': 'proportional', 'new_skills': 'mean'}, context_of(SKILLS), UNITS)


def test_targets_keep_their_columns_for_new_skills():
    options = {'policy': 'stratified', 'graph': ROWS, 'new_skills': 'mean', 'targets': ['tens']}
    policy, graph = chosen_policy(options, context_of(SKILLS), UNITS)
    assert graph is not None
    assert graph.eval_skills == ('tens',)
    # The mean of the rows helps the target, so the new skill is one of its prerequisites.
    assert policy.initial() == pytest.approx(np.full(3, 1 / 3))
    policy, _ = chosen_policy({**options, 'new_skills': 'identity'}, context_of(SKILLS), UNITS)
    assert policy.initial() == pytest.approx(np.array([0.5, 0.5, 0]))


def context_of(skills: list[str]) -> RunContext:
    """What a run of these skills knows, all of them evaluated."""
    return RunContext(skills=skills, eval_skills=skills, sizes=dict.fromkeys(skills, 9))


def test_a_run_offers_every_policy_what_it_knows(tmp_path: Path):
    for skill in SKILLS:
        folder = losses_folder(tmp_path / skill / 'train', 'initial')
        save_losses(folder, np.array([3, 1, 2], np.float32), np.array([3]), stream='s', about={})
    context = run_context(
        dict.fromkeys(SKILLS, 3),
        SKILLS,
        duration=Time.from_timestring('5ba'),
        units=UNITS,
        train_folder=lambda skill: tmp_path / skill / 'train',
    )
    assert (context.rounds, context.round_size) == (3, 4)
    policy, graph = chosen_policy({'policy': 'sample_curriculum', 'start': 0.5}, context, UNITS)
    assert graph is None
    assert list(policy.sample_orders()) == SKILLS
    assert policy.describe()['rounds'] == 3
    options = {'policy': 'skill_it', 'graph': 'streams', 'targets': ['tens'], 'eta': 0.2}
    policy, graph = chosen_policy(options, context, UNITS, streams_graph=lambda: 'identity')
    assert policy.eval_skills == ('tens',)
    assert graph == SkillsGraph.identity(SKILLS)


@pytest.mark.parametrize(
    ('start', 'round'), [(2, 2), ('2ep', 2), ('3ba', 2), ('4ba', 2), ('5sp', 2), ('8sp', 2)]
)
def test_a_policy_begins_with_the_first_round_after_its_start(start, round):  # noqa: A002
    options = {'policy': 'skill_it', 'graph': 'identity', 'eta': 0.2, 'start': start}
    policy, _ = chosen_policy(options, context_of(SKILLS), UNITS)
    assert policy.describe()['start'] == round


@pytest.mark.parametrize('start', ['soon', '3dur', '5tok'])
def test_a_start_that_is_no_time_of_data_is_refused(start: str):
    options = {'policy': 'skill_it', 'graph': 'identity', 'eta': 0.2, 'start': start}
    with pytest.raises(
        InputError, match='`start` must be a number of rounds, or a time string in ep, ba, sp or tok'
    ):
        chosen_policy(options, context_of(SKILLS), UNITS)


def test_what_the_run_knows_is_no_option():
    context = run_context(
        dict.fromkeys(SKILLS, 3),
        SKILLS,
        duration=None,
        units=UNITS,
        train_folder=Path,
    )
    assert context.rounds is None
    with pytest.raises(InputError, match="policy 'schedule' has no option 'rounds'"):
        build_policy('schedule', context, rounds=3, mixtures=[])


@pytest.mark.parametrize(
    ('duration', 'seq_len', 'rounds'),
    [
        ('3ep', None, 3),
        ('12ba', None, 2),
        ('13ba', None, 3),
        ('5ba', None, 1),
        ('130sp', None, 3),
        ('1000tok', 8, 3),
        ('1000tok', None, None),
    ],
)
def test_a_run_in_rounds_counts_a_last_part(duration, seq_len, rounds):
    sizes = {'round_size': 60, 'batch_size': 10, 'seq_len': seq_len}
    assert RunUnits(**sizes).rounds(Time.from_timestring(duration)) == rounds


MANIFEST: Any = SimpleNamespace(
    skills={
        name: SimpleNamespace(splits=dict.fromkeys(splits))
        for name, splits in {
            'qa--a': ['train'],
            'qa--b': ['train'],
            'qa': ['eval'],
            'law*': ['train', 'eval'],
            'law_old': ['train'],
        }.items()
    }
)


def config_of(train: list[str] | None) -> Any:
    loaders = {'train_loader': SimpleNamespace(skills=train), 'eval_loader': SimpleNamespace(skills=['qa'])}
    return SimpleNamespace(**loaders)


@pytest.mark.parametrize(
    ('named', 'chosen'),
    [
        (None, ['qa--a', 'qa--b', 'law*', 'law_old']),
        (['law_old', 'qa--*'], ['law_old', 'qa--a', 'qa--b']),
        (['*--b', 'qa--a'], ['qa--b', 'qa--a']),
        (['*'], ['qa--a', 'qa--b', 'law*', 'law_old']),
        (['law*'], ['law*']),
    ],
)
def test_skills_are_named_or_matched(named, chosen: list[str]):
    assert chosen_skills(config_of(named), MANIFEST)[0] == chosen


@pytest.mark.parametrize(
    ('named', 'message'),
    [
        (['qa'], "names skill 'qa', but it has no train split"),
        (['qa-*x'], r"names skill 'qa-\*x', but the streams have none: "),
        (['qa--*', 'qa--b'], "must be unique, but got: 'qa--b' twice"),
        (['?a--a'], r"names skill '\?a--a', but the streams have none"),
    ],
)
def test_what_matches_nothing_or_twice_is_refused(named: list[str], message: str):
    with pytest.raises(InputError, match=message):
        chosen_skills(config_of(named), MANIFEST)[0]
