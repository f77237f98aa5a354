"""LEGO's shapes: right answers by following the clauses, no sentence twice, the graph that the shape implies."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.convert.corpora import lego


def read_sentence(text: str) -> tuple[dict[str, tuple[str, str]], str]:
    """Variable -> (val or not, what of), and the variable asked for."""
    found = re.fullmatch(r'Input: (.*)\. Output: (\w) = val [01], ', text)
    assert found
    rules = dict(clause.strip().split(' = ') for clause in found[1].split(' , '))
    return {name: tuple(rule.split()) for name, rule in rules.items()}, found[2]  # type: ignore[misc]


def value_of(name: str, rules: dict[str, tuple[str, str]]) -> int:
    how, source = rules[name]
    value = int(source) if source in '01' else value_of(source, rules)
    return 1 - value if how == 'not' else value


def ancestors(name: str, rules: dict[str, tuple[str, str]]) -> int:
    source = rules[name][1]
    return 0 if source in '01' else 1 + ancestors(source, rules)


DEPTHS = {
    # How many ancestors each variable has.
    'chain': lambda i, _: i,
    'tree': lambda i, _: int(math.log2(i + 1)),
    'disconnected': lambda i, size: i % math.ceil(size / 2),
}


@given(shape=st.sampled_from(sorted(lego.SHAPES)), size=st.integers(1, 26), data=st.data())
def test_answers_and_ancestors_are_right(shape, size, data):
    asked = data.draw(st.integers(0, size - 1))
    draw = data.draw(st.integers(0, 2**size * math.perm(26, size) * math.factorial(size) - 1))
    example = lego.example_of(draw, asked=asked, length=size, shape=shape)
    rules, name = read_sentence(example.text)
    assert len(rules) == size
    assert int(example.answer) == value_of(name, rules)
    assert ancestors(name, rules) == DEPTHS[shape](asked, size)
    roots = sum(source in '01' for _, source in rules.values())
    assert roots == (2 if shape == 'disconnected' and size > 1 else 1)


@pytest.mark.parametrize('shape', sorted(lego.SHAPES))
@pytest.mark.parametrize('asked', [0, 1, 2])
def test_all_sentences_of_a_shape_are_drawn_and_none_twice(monkeypatch, shape, asked):
    monkeypatch.setattr(lego, 'LETTERS', 'abcd')
    space = 2**3 * math.perm(4, 3) * math.factorial(3)
    every = {lego.example_of(draw, asked=asked, length=3, shape=shape).text for draw in range(space)}
    assert len(every) == space // lego.symmetries(lego.SHAPES[shape](3), asked)
    drawn = [
        example.text for example in lego.examples_of(asked, length=3, count=len(every), seed=1, shape=shape)
    ]
    assert len(drawn) == len(every)
    assert set(drawn) == every
    with pytest.raises(InputError, match=rf'only {len(every)} different ones exist'):
        lego.examples_of(asked, length=3, count=len(every) + 1, seed=1, shape=shape)


def test_only_exchangeable_parts_of_a_tree_are_symmetries():
    tree = lego.SHAPES['tree'](7)
    # Asked for the root: the halves, and the leaves below each, can be exchanged.
    assert [lego.symmetries(tree, asked) for asked in range(7)] == [8, 4, 4, 2, 2, 2, 2]
    assert lego.symmetries(lego.SHAPES['tree'](6), 0) == 2
    assert lego.symmetries(lego.SHAPES['disconnected'](6), 0) == 1


GRAPHS = {
    'chain': [(0, 1), (1, 2), (2, 3), (3, 4)],
    'tree': [(0, 1), (0, 2), (1, 3), (1, 4)],
    'disconnected': [(0, 1), (1, 2), (3, 4)],
}


@pytest.mark.parametrize('shape', GRAPHS)
def test_the_graph_is_the_shape(shape):
    expected = np.eye(5)
    for edge in GRAPHS[shape]:
        expected[edge] = 1
    assert lego.graph_of(lego.SHAPES[shape](5)) == expected.tolist()


def test_streams_of_a_tree(tmp_path, skillit):
    few = ['--train-samples', 20, '--eval-samples', 10, '--out', tmp_path / 'S']
    skillit('convert', 'lego', '--shape', 'tree', '--skills', 4, *few)
    manifest = json.loads((tmp_path / 'S' / 'skills.json').read_text())
    assert manifest['corpus'] == {'name': 'lego', 'skills': 4, 'shape': 'tree', 'seed': 17, 'graph': 'tree'}
    graph = json.loads((tmp_path / 'S' / 'graph.json').read_text())
    assert graph['weights'] == [[1, 1, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize('graph', ['chain', 'published'])
def test_a_graph_of_another_shape_is_refused(tmp_path, refused, graph):
    error = refused('convert', 'lego', '--shape', 'tree', '--graph', graph, '--out', tmp_path / 'S')
    assert f'--graph {graph}: is one of --shape chain, not of tree; leave it out' in error
