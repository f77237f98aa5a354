"""A skills graph has names on both sides, and says which ones do not fit."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import write_atomically
from skillit_stream.mixture import SkillsGraph, read_skill_names
from tests.support.paths import SHARED

PUBLISHED = SHARED / 'skill_it'


def small_graph() -> SkillsGraph:
    return SkillsGraph(['ones', 'tens'], ['tens', 'ones', 'words'], [[0.5, 1.0, -0.2], [1.0, 0.0, 0.0]])


@pytest.mark.parametrize('suffix', ['.json', '.npy'])
def test_a_saved_graph_is_loaded_as_it_was(tmp_path, suffix):
    small_graph().save(tmp_path / f'graph{suffix}')
    assert SkillsGraph.load(tmp_path / f'graph{suffix}') == small_graph()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_weights_survive_the_round_trip_bit_by_bit(k, m, data):
    weights = data.draw(arrays(np.float64, (k, m), elements=st.floats(allow_nan=False, allow_infinity=False)))
    graph = SkillsGraph([f'row {i}' for i in range(k)], [f'column {j}' for j in range(m)], weights)
    again = SkillsGraph.from_dict(json.loads(json.dumps(graph.to_dict())))
    assert np.array_equal(again.weights, graph.weights)


def test_saving_leaves_nothing_but_the_graph(tmp_path):
    small_graph().save(tmp_path / 'deep' / 'graph.json')
    assert [path.name for path in (tmp_path / 'deep').iterdir()] == ['graph.json']


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    def fail(file):
        file.write(b'half')
        raise OSError('disk full')

    (tmp_path / 'graph.json').write_text('old')
    with pytest.raises(OSError, match='disk full'):
        write_atomically(tmp_path / 'graph.json', fail)
    assert [path.read_text() for path in tmp_path.iterdir()] == ['old']


def test_weights_cannot_be_changed_and_are_not_the_callers():
    weights = np.eye(2)
    graph = SkillsGraph(['a', 'b'], ['a', 'b'], weights)
    weights[0, 0] = 7
    assert graph.weights[0, 0] == 1
    with pytest.raises(ValueError, match='read-only'):
        graph.weights[0, 0] = 7


def test_the_ready_made_graphs():
    assert SkillsGraph.identity(['a', 'b']).weights.tolist() == [[1, 0], [0, 1]]
    assert SkillsGraph.complete(['a', 'b'], 0.25).weights.tolist() == [[1, 0.25], [0.25, 1]]
    chain = SkillsGraph.from_edges(['a', 'b', 'c'], [('a', 'b'), ('b', 'c')])
    assert chain.weights.tolist() == [[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]]


def test_selecting_picks_and_reorders_by_name():
    picked = small_graph().select(train_skills=['tens', 'ones'], eval_skills=['words', 'tens'])
    assert picked == SkillsGraph(['tens', 'ones'], ['words', 'tens'], [[0, 1], [-0.2, 0.5]])
    assert small_graph().select() == small_graph()


def test_the_same_skill_is_found_by_name_not_by_position():
    assert small_graph().same_skill.tolist() == [[False, True, False], [True, False, False]]


def test_lone_skills_have_no_edge_to_or_from_another():
    graph = SkillsGraph([*'abcd'], [*'abcd'], [[0.7, 0, 0, 0], [0, 1, 0.5, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    assert graph.lone_skills == ('a', 'd')


@pytest.mark.parametrize(
    ('rows', 'columns', 'weights', 'message'),
    [
        (
            ['a'],
            ['a'],
            [[1, 2]],
            r'must have shape \(1, 1\) \(train skills x eval skills\), but got: \(1, 2\)',
        ),
        (
            ['a', 'a'],
            ['a'],
            [[1], [1]],
            "train_skills of the skills graph must be unique, but got: 'a' twice",
        ),
        (['a', ''], ['a'], [[1], [1]], "non-empty names, but got: '' at position 1"),
        ([], ['a'], [], 'train_skills of the skills graph must name at least one skill'),
        ('ab', ['a'], [[1], [1]], "must be a list of names, but got the text: 'ab'"),
        (['a'], ['b'], [[float('nan')]], "must be finite, but got: nan for 'a' -> 'b'"),
        (['a'], ['b'], [['x']], 'must be a rectangular matrix of numbers'),
        (['a', 'b'], ['b'], [[1], [1, 2]], 'must be a rectangular matrix of numbers'),
    ],
)
def test_what_is_no_graph_is_refused(rows, columns, weights, message):
    with pytest.raises(InputError, match=message):
        SkillsGraph(rows, columns, weights)


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('g.json', '{"version": 1', 'is not valid JSON'),
        ('g.json', '{"version": 1}', 'lacks: train_skills, eval_skills, weights'),
        ('g.json', '[]', 'lacks: version'),
        (
            'g.json',
            '{"version": 3, "train_skills": ["a"], "eval_skills": ["a"], "weights": [[1]]}',
            'must have version 1 or 2, but got: 3',
        ),
        (
            'g.json',
            '{"version": 2, "train_skills": ["a"], "eval_skills": ["a"], "weights": [[1]]}',
            'version 2 must hold measured, but lacks it',
        ),
        (
            'g.json',
            '{"version": 1, "train_skills": ["a"], "eval_skills": ["a"], "weights": [[1, 2]]}',
            r'g\.json: weights of the skills graph must have shape \(1, 1\)',
        ),
        ('g.npy', 'no array', 'cannot be read as a NumPy array'),
        ('g.csv', '1', r'must be a \.json or \.npy file'),
    ],
)
def test_a_file_that_is_no_graph_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        SkillsGraph.load(tmp_path / name)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['g.json', 'g.npy'])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(InputError, match=f'no such file: .*{name}'):
        SkillsGraph.load(tmp_path / name)


def test_a_bare_array_needs_names(tmp_path):
    np.save(tmp_path / 'g.npy', np.eye(2))
    with pytest.raises(InputError, match=r'weights without names: give train_skills .* g\.names\.json'):
        SkillsGraph.load(tmp_path / 'g.npy')
    with pytest.raises(InputError, match=r'g\.npy: .* shape \(3, 3\) .* but got: \(2, 2\)'):
        SkillsGraph.load(tmp_path / 'g.npy', train_skills=['a', 'b', 'c'])
    assert SkillsGraph.load(tmp_path / 'g.npy', train_skills=['a', 'b']) == SkillsGraph.identity(['a', 'b'])


def test_names_given_for_a_named_graph_select_from_it(tmp_path):
    small_graph().save(tmp_path / 'g.npy')
    picked = SkillsGraph.load(tmp_path / 'g.npy', train_skills=['tens'], eval_skills=['ones', 'tens'])
    assert picked == SkillsGraph(['tens'], ['ones', 'tens'], [[0, 1]])


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: small_graph().select(train_skills=['ten']), r"unknown skill 'ten'; did you mean 'tens'\?"),
        (lambda: SkillsGraph.from_edges(['a'], [('a', 'b')]), "edges: unknown skill 'b'; known: a"),
        (lambda: SkillsGraph.from_edges(['a'], ['ab']), 'an edge must be a pair'),
    ],
)
def test_unknown_names_are_answered_with_known_ones(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_streams_that_fit_are_accepted_in_any_order_and_with_more_eval_streams():
    small_graph().check_streams(['tens', 'ones'], ['words', 'ones', 'tens', 'more'])


@pytest.mark.parametrize(
    ('train', 'evals', 'message'),
    [
        (['ones'], ['tens', 'ones', 'words'], "rows of the graph that are not trained on: 'tens'$"),
        (['ones', 'tens', 'new'], ['tens', 'ones', 'words'], "the graph has no row for 'new'$"),
        (
            ['ones', 'tenz'],
            ['tens', 'ones', 'words'],
            r"on: 'tens' \(did you mean 'tenz'\?\); the graph has no row",
        ),
        (
            ['ones', 'tens'],
            ['tens', 'ones', 'word'],
            r"columns of the graph that are not evaluated: 'words' \(did you mean 'word'\?\)",
        ),
    ],
)
def test_streams_that_do_not_fit_are_named_with_what_may_have_been_meant(train, evals, message):
    with pytest.raises(InputError, match=message):
        small_graph().check_streams(train, evals)


def test_skill_names_are_read_a_line_each(tmp_path):
    (tmp_path / 'names.txt').write_text('a\n b \n\n')
    assert read_skill_names(tmp_path / 'names.txt') == ('a', 'b')
    (tmp_path / 'names.txt').write_text('a\na\n')
    with pytest.raises(InputError, match=r"names in .*names\.txt must be unique, but got: 'a' twice"):
        read_skill_names(tmp_path / 'names.txt')


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason='needs the published graphs in ../shared/data/skill_it')
@pytest.mark.parametrize(
    ('name', 'shape'),
    [
        ('top_23_early_decreases', (23, 23)),
        ('ni_test_graph', (59, 12)),
        ('spanish_qg_normalized', (4, 4)),
        ('stance_detection', (2, 2)),
        ('slimpj_arxiv_book_stackexchange_normalized_seed_0', (3, 3)),
    ],
)
def test_the_published_graphs_load(name, shape):
    rows = [f'train {i}' for i in range(shape[0])]
    if shape == (23, 23):
        rows = list(read_skill_names(PUBLISHED / 'top_23.txt'))
    columns = rows if shape[0] == shape[1] else [f'eval {j}' for j in range(shape[1])]
    graph = SkillsGraph.load(PUBLISHED / f'{name}.npy', train_skills=rows, eval_skills=columns)
    assert graph.weights.shape == shape
    assert graph.is_square == (shape[0] == shape[1])
