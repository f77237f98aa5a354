"""Graphs from the losses of runs that are there already: `skillit graph from-runs`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from skillit_stream import SkillsGraph
from tests.support.graph_runs import write_run

Done = Callable[..., tuple[str, str]]
Refused = Callable[..., str]

START = {'a': 2.0, 'b': 4.0}
TABLE = 'trained on,a,b\nstart,2,4\na,1,3\nb,2.5,2\n'


def runs(tmp_path: Path, *, pair: bool = False, start: dict[str, float] | None = START) -> list[str]:
    """Runs on a, on b, and maybe on both."""
    found = [
        write_run(tmp_path / 'on_a', {'a': 1, 'b': 0}, {'a': 1.0, 'b': 3.0}, start=start),
        write_run(tmp_path / 'on_b', {'b': 1.0}, {'a': 2.5, 'b': 2.0}, start=start),
    ]
    if pair:
        mixed = write_run(tmp_path / 'on_both', {'a': 0.5, 'b': 0.5}, {'a': 0.5, 'b': 3.0}, start=start)
        found.append(mixed)
    return found


def named(graph: SkillsGraph) -> SkillsGraph:
    """The graph's names and weights alone."""
    return SkillsGraph(graph.train_skills, graph.eval_skills, graph.weights)


def graph_from(done: Done, tmp_path: Path, *arguments: object) -> SkillsGraph:
    """The graph that the command writes."""
    done('from-runs', '--out', tmp_path / 'graph.json', *arguments)
    return SkillsGraph.load(tmp_path / 'graph.json')


def test_runs_on_one_skill_give_the_approximate_graph(done: Done, tmp_path: Path):
    graph = graph_from(done, tmp_path, *runs(tmp_path))
    assert named(graph) == SkillsGraph(list('ab'), list('ab'), [[0.5, 0.25], [0.0, 0.5]])
    assert graph.measured is not None
    assert graph.measured.effects[1, 0] == -0.25
    # These folders have no config.yaml: what the runs started from is not known.
    assert (graph.measured.steps, graph.measured.start) == (10, None)


def test_runs_on_two_skills_give_the_brute_force_graph(done: Done, tmp_path: Path):
    folders = runs(tmp_path, pair=True)
    assert named(graph_from(done, tmp_path, *folders)) == SkillsGraph(
        list('ab'), list('ab'), [[1.0, 0.0], [0.5, 1.0]]
    )
    chosen = graph_from(done, tmp_path, '--method', 'approximate', *folders)
    assert named(chosen) == SkillsGraph(list('ab'), list('ab'), [[0.5, 0.25], [0.0, 0.5]])


def test_losses_before_training_may_come_from_a_file(done: Done, tmp_path: Path):
    (tmp_path / 'start.json').write_text(json.dumps({'b': 4}))
    folders = runs(tmp_path, start=None)
    graph = graph_from(done, tmp_path, *folders, '--start-losses', tmp_path / 'start.json')
    assert named(graph) == SkillsGraph(list('ab'), list('b'), [[0.25], [0.5]])


def test_a_table_gives_the_same_graphs(done: Done, tmp_path: Path):
    table = tmp_path / 'losses.csv'
    table.write_text(TABLE)
    assert graph_from(done, tmp_path, '--losses', table).weights.tolist() == [[0.5, 0.25], [0.0, 0.5]]
    table.write_text(TABLE + 'b + a,0.5,3\n')
    assert graph_from(done, tmp_path, '--losses', table).weights.tolist() == [[1.0, 0.0], [0.5, 1.0]]


def test_runs_of_different_lengths_are_compared_at_a_step(done: Done, refused: Refused, tmp_path: Path):
    first, second = runs(tmp_path)
    later = {'round': 1, 'step': 20, 'proportions': {'b': 1.0}, 'losses': {'a': 2.5, 'b': 1.0}}
    with open(Path(second) / 'mixture.jsonl', 'a') as log:
        log.write(json.dumps(later) + '\n')
    line = refused('from-runs', '--out', tmp_path / 'graph.json', first, second)
    assert 'ends at step 20' in line
    assert '--steps' in line
    assert graph_from(done, tmp_path, first, second, '--steps', 10).weights[1, 1] == 0.5
    assert 'no evaluation at step 20' in refused(
        'from-runs', '--out', tmp_path / 'graph.json', first, second, '--steps', 20
    )


def test_a_skill_that_was_not_learned_is_warned_of(done: Done, tmp_path: Path):
    table = tmp_path / 'losses.csv'
    table.write_text(TABLE.replace('a,1,3', 'a,2.1,3'))
    _, told = done('from-runs', '--out', tmp_path / 'graph.json', '--losses', table)
    assert told.startswith('warning: training on a alone did not lower its own loss')


@pytest.mark.parametrize(
    ('proportions', 'what'),
    [
        ({'a': 0.6, 'b': 0.4}, 'trained on a 0.6, b 0.4'),
        ({'a': 1 / 3, 'b': 1 / 3, 'c': 1 / 3}, 'a 0.333, b 0.333, c 0.333'),
    ],
)
def test_other_mixtures_are_refused(
    refused: Refused, tmp_path: Path, proportions: dict[str, float], what: str
):
    folder = write_run(tmp_path / 'mixed', proportions, START, start=START)
    line = refused('from-runs', '--out', tmp_path / 'graph.json', *runs(tmp_path), folder)
    assert what in line
    assert 'leave the run out' in line


def test_a_mixture_that_moves_is_refused(refused: Refused, tmp_path: Path):
    first, second = runs(tmp_path)
    moved = {'round': 1, 'step': 20, 'proportions': {'b': 0.5, 'a': 0.5}, 'losses': START}
    with open(Path(second) / 'mixture.jsonl', 'a') as log:
        log.write(json.dumps(moved) + '\n')
    assert 'round 1 was trained on' in refused('from-runs', '--out', tmp_path / 'graph.json', first, second)


def test_runs_from_other_weights_are_refused(refused: Refused, tmp_path: Path):
    folders = runs(tmp_path)
    other = write_run(tmp_path / 'other', {'c': 1.0}, START, start={'a': 2.1, 'b': 4.0})
    line = refused('from-runs', '--out', tmp_path / 'graph.json', *folders, other)
    assert "starts at a loss of 2.1 of 'a'" in line
    assert 'the same weights' in line


@pytest.mark.parametrize(
    ('table', 'what'),
    [
        ('', 'must have a heading'),
        ('x,a\na,1\n', "no row 'start'"),
        ('x,a\nstart,1,2\n', 'must have 1 losses, but has 2'),
        ('x,a\nstart,one\n', 'must hold numbers, but got: one'),
        ('x,a\nstart,2\na,1\na,1\n', 'two rows of the same name'),
        ('x,a\nstart,2\na + b,1\nb + a,1\n', 'two rows on a + b'),
        ('x,a\nstart,2\na + b,1\n', 'needs the losses after training on a'),
    ],
)
def test_tables_that_cannot_be_read_are_refused(refused: Refused, tmp_path: Path, table: str, what: str):
    (tmp_path / 'losses.csv').write_text(table)
    line = refused('from-runs', '--out', tmp_path / 'graph.json', '--losses', tmp_path / 'losses.csv')
    assert what in line
    assert not (tmp_path / 'graph.json').exists()


def test_wrong_usage_is_refused(refused: Refused, tmp_path: Path):
    out = ['from-runs', '--out', tmp_path / 'graph.json']
    first, second = runs(tmp_path)
    assert 'No runs given' in refused(*out)
    assert 'leave out RUN' in refused(*out, '--losses', 'x.csv', first)
    assert 'leave out --start-losses' in refused(*out, '--losses', 'x.csv', '--start-losses', 'x.json')
    assert 'no mixture.jsonl' in refused(*out, tmp_path / 'nowhere')
    assert 'a second run on a' in refused(*out, first, first)
    assert '.json or .npy' in refused('from-runs', '--out', 'graph.txt', first, second)
    assert 'no losses before training' in refused(*out, write_run(tmp_path / 'bare', {'a': 1.0}, START))
    (tmp_path / 'start.json').write_text('{"a": "two"}')
    assert 'must be a number' in refused(*out, first, '--start-losses', tmp_path / 'start.json')
