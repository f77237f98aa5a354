"""What is said of a graph: `skillit graph show`."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skillit_stream import SkillsGraph
from skillit_stream.graphs.look import density_of, warnings_of

Done = Callable[..., tuple[str, str]]
Refused = Callable[..., str]

CHAIN = SkillsGraph(list('abc'), list('abc'), [[1, 0.5, 0], [0, 1, 0.25], [0, 0, 1]])


def saved(graph: SkillsGraph, path: Path) -> Path:
    """Write the graph and return its path."""
    graph.save(path)
    return path


def test_a_skills_own_weight_is_no_edge():
    density = density_of(CHAIN)
    assert (density.pairs, density.edges, density.fraction, density.mean_weight) == (6, 2, 2 / 6, 0.375)
    other = density_of(SkillsGraph(list('ab'), list('bx'), [[0.5, 0], [1, -2]]))
    assert (other.pairs, other.edges, other.mean_weight, other.negative) == (3, 1, 0.5, 1)


def test_a_graph_with_an_order_is_not_warned_of():
    assert warnings_of(CHAIN) == []


def test_an_empty_graph_is_warned_of():
    first, second = warnings_of(SkillsGraph.identity(list('abcd')))
    assert first.startswith(
        'The graph is nearly empty (0 of 12 possible edges): Skill-It should not be expected'
    )
    assert 'another partition' in first
    assert second.startswith('All rows sum to about the same (1 to 1)')


def test_one_edge_of_thirty_is_nearly_none_and_two_are_not():
    one, two = ([('a', 'b')], [('a', 'b'), ('c', 'd')])
    assert 'nearly empty (1 of 30' in warnings_of(SkillsGraph.from_edges(list('abcdef'), one))[0]
    assert warnings_of(SkillsGraph.from_edges(list('abcdef'), two)) == []


def test_a_complete_graph_is_warned_of_and_what_its_weights_still_say():
    even = warnings_of(SkillsGraph.complete(list('abc'), 0.5))
    assert [line.split(' (')[0] for line in even] == [
        'The graph is nearly complete',
        'All rows sum to about the same',
    ]
    uneven = warnings_of(SkillsGraph(list('ab'), list('ab'), [[1, 0.9], [0.1, 1]]))
    assert len(uneven) == 1
    assert '2 of 2 possible edges; only the weights differ (sums of the rows: 1.1 to 1.9)' in uneven[0]


def test_a_single_skill_leaves_nothing_to_mix():
    assert warnings_of(SkillsGraph.identity(list('a'))) == [
        'There is no pair of different skills: there is nothing to mix.'
    ]


def test_show_prints_names_weights_density_and_lone_skills(done: Done, tmp_path: Path):
    graph = SkillsGraph(
        ['units', 'tens', 'alone'], ['units', 'tens', 'alone'], CHAIN.weights * [[1], [0], [1]]
    )
    printed, told = done('show', saved(graph, tmp_path / 'graph.json'))
    for text in ('units', 'tens', '0.5', '1 of 6 possible edges (17%), of mean weight 0.5'):
        assert text in printed
    assert 'Without an edge to or from another skill: alone' in printed
    assert told == ''


def test_show_draws_a_png(done: Done, tmp_path: Path):
    done('show', saved(CHAIN, tmp_path / 'graph.json'), '--out', tmp_path / 'graph.png')
    assert (tmp_path / 'graph.png').read_bytes()[:4] == b'\x89PNG'


def test_show_as_json_says_the_same(done: Done, tmp_path: Path):
    facts = json.loads(
        done('show', saved(SkillsGraph.identity(list('ab')), tmp_path / 'graph.npy'), '--json')[0]
    )
    assert facts['train_skills'] == ['a', 'b']
    assert facts['weights'] == [[1, 0], [0, 1]]
    assert (facts['pairs'], facts['edges'], facts['density']) == (2, 0, 0)
    assert facts['lone_skills'] == ['a', 'b']
    assert 'nearly empty' in facts['warnings'][0]


@pytest.mark.parametrize(
    ('shape', 'rows', 'columns'),
    [((2, 2), ['1', '2'], ['1', '2']), ((2, 1), ['train 1', 'train 2'], ['eval 1'])],
)
def test_an_array_without_names_is_shown_with_numbers(
    done: Done, tmp_path: Path, shape: tuple[int, int], rows: list[str], columns: list[str]
):
    np.save(tmp_path / 'graph.npy', np.ones(shape))
    facts = json.loads(done('show', tmp_path / 'graph.npy', '--json')[0])
    assert (facts['train_skills'], facts['eval_skills']) == (rows, columns)


def test_of_a_wide_graph_the_heaviest_edges_are_printed(done: Done, tmp_path: Path):
    names = [f'skill_{number}' for number in range(13)]
    weights = np.eye(13) + np.eye(13, k=1) * np.arange(13)
    printed, _ = done('show', saved(SkillsGraph(names, names, weights), tmp_path / 'graph.json'))
    lines = [line.split('│')[1:4] for line in printed.splitlines() if line.startswith('│')]
    assert [cell.strip() for cell in lines[0]] == ['skill_11', 'skill_12', '12']
    assert len(lines) == 12


def test_what_cannot_be_shown_is_refused(refused: Refused, tmp_path: Path):
    assert 'no such file' in refused('show', tmp_path / 'graph.json')
    assert '.json or .npy' in refused('show', tmp_path / 'graph.txt')
    np.save(tmp_path / 'line.npy', np.ones(3))
    assert 'must hold a matrix' in refused('show', tmp_path / 'line.npy')
    graph = saved(CHAIN, tmp_path / 'graph.json')
    assert 'must be a .png file' in refused('show', graph, '--out', tmp_path / 'graph.svg')
    assert 'cannot be written' in refused('show', graph, '--out', '/proc/graph.png')


def test_a_complete_graph_of_skills_that_are_not_trained_on_is_warned_of_only_if_its_rows_are_even():
    uneven = SkillsGraph(['a', 'b'], ['x', 'y'], [[0.5, 0.4], [0.1, 0.2]])
    even = SkillsGraph(['a', 'b'], ['x', 'y'], [[0.5, 0.1], [0.1, 0.5]])
    assert warnings_of(uneven) == []
    [warning] = warnings_of(even)
    assert warning.startswith('All rows sum to about the same')
