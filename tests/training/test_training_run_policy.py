"""The graph that `graph:` of a training YAML names."""

import re

import pytest

from skillit_stream.errors import InputError
from skillit_stream.training.run_policy import named_graph

SKILLS = ['ones', 'tens', 'hundreds']


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
        ({'ones': {'ones': 1}, 'tens': {'tenz': 1}, 'hundreds': {}}, "the eval streams lack 'tenz'"),
        ({'ones': 1, 'tens': {}, 'hundreds': {}}, "row 'ones' must be eval skills with their weights"),
        ({'ones': {'ones': 'much'}, 'tens': {}, 'hundreds': {}}, 'must be a rectangular matrix of numbers'),
    ],
)
def test_rows_that_make_no_graph_of_the_streams_are_refused(rows: dict, message: str):
    with pytest.raises(InputError, match=re.escape(message)):
        named_graph(rows, SKILLS, SKILLS)
