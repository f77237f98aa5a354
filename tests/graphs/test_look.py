"""What is said of a graph: `skillit graph show`."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from skillit_stream import SkillsGraph
from skillit_stream.mixture.graph_measurement import Measurement, StartOfRuns
from skillit_stream.mixture.graph_warnings import density_of, learned_line, warnings_of
from skillit_stream.report.figures import graph_sheet

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


EARLY = StartOfRuns(weights='checkpoint', path='ep2-ba200-rank0.pt', step=200, of_steps=2000)
FINISHED = StartOfRuns(weights='checkpoint', path='last.pt', step=2000, of_steps=2000)
SCRATCH = StartOfRuns(weights='scratch')


def learned(
    effects: np.ndarray, start: StartOfRuns | None, *, errors: np.ndarray | None = None
) -> SkillsGraph:
    """An approximate graph of these effects; with standard errors of three repeats."""
    measured = Measurement(
        method='approximate',
        effects=effects,
        steps=60,
        start=start,
        repeats=1 if errors is None else 3,
        standard_errors=errors,
    )
    names = [f'skill_{number}' for number in range(len(effects))]
    return SkillsGraph(names, names, np.maximum(effects, 0), measured=measured)


def one_edge(size: int) -> np.ndarray:
    """Effects that are slightly below 0 but for one edge and the skills' own."""
    effects = np.full((size, size), -0.01)
    np.fill_diagonal(effects, 0.1)
    effects[0, 1] = 0.2
    return effects


FULL = np.arange(1, 17).reshape(4, 4) / 100


@pytest.mark.parametrize(
    ('graph', 'first', 'others'),
    [
        # From scratch every loss falls, which says nothing of the partition.
        (learned(FULL, SCRATCH), r'nearly complete \(12 of 12 .*started from scratch', 0),
        (learned(one_edge(8), FINISHED), r'nearly empty \(1 of 56 .*started from a finished model', 1),
        (learned(np.eye(8) / 10 - 0.001, FINISHED), r'nearly empty \(0 of 56 .*a finished model', 2),
    ],
)
def test_a_start_that_explains_a_graph_is_named_with_the_one_to_take(
    graph: SkillsGraph, first: str, others: int
):
    warnings = warnings_of(graph)
    assert re.search(first, warnings[0])
    assert 'checkpoint at 10-20 % of a run' in warnings[0]
    assert len(warnings) == 1 + others
    assert 'try another partition' not in ' '.join(warnings)


def test_from_a_good_start_the_partition_is_at_fault():
    [warning] = warnings_of(learned(FULL, EARLY))
    assert 'try another partition' in warning
    assert 'scratch' not in warning


def test_where_the_start_is_not_known_both_may_be():
    [warning] = warnings_of(learned(FULL, None))
    assert 'see first what the short runs started from' in warning
    assert 'try another partition' in warning


def test_losses_that_rise_are_of_the_learning_rate():
    found = warnings_of(learned(np.full((4, 4), -0.1), EARLY))
    assert 'in most runs the loss rose' in found[0]
    assert found[1].startswith('16 of 16 losses rose in the short runs')
    assert 'optimizer.lr' in found[1]
    assert 't_warmup' in found[1]
    assert 'partition' not in ' '.join(found)
    # Half of them is no more than helpers and hinderers make.
    half = np.where(np.arange(16).reshape(4, 4) % 2, 0.1, -0.1)
    assert not any('rose' in line for line in warnings_of(learned(half, EARLY)))


NOISY = learned(
    np.array([[0.5, 0.3, 0.02], [0.1, 0.5, -0.2], [0.2, 0.04, 0.5]]),
    EARLY,
    errors=np.array([[0.2, 0.01, 0.02], [0.01, 0.01, 0.01], [0.01, 0.01, 0.01]]),
)


def test_edges_within_their_noise_are_marked_and_counted(done: Done, tmp_path: Path):
    # The skill's weight on itself is within its noise too, but no edge.
    assert density_of(NOISY).above_noise == 3
    assert density_of(NOISY).edges == 5
    printed = ' '.join(done('show', saved(NOISY, tmp_path / 'graph.json'))[0].split())
    assert '0.02~ ±0.02' in printed
    assert '0.04~ ±0.01' in printed
    assert '0.3 ±0.01' in printed
    assert '0.5 ±0.2' in printed
    assert '(-0.2) ±0.01' in printed
    assert '~ within its noise' in printed
    assert (
        'Learned: approximate, runs of 60 steps in 3 sample orders each; start: early, step 200 of 2,000 '
        '(ep2-ba200-rank0.pt); 3 of 5 edges above their noise'
    ) in printed
    facts = json.loads(done('show', saved(NOISY, tmp_path / 'graph.json'), '--json')[0])
    assert (facts['edges_above_noise'], facts['edges']) == (3, 5)
    assert facts['measured']['start']['part'] == 'early'
    assert facts['learned'] == learned_line(NOISY)


def test_a_graph_of_noise_is_warned_of():
    noise = learned(FULL * np.where(np.eye(4), 1, -1) + 0.1, EARLY, errors=np.full((4, 4), 0.1))
    assert any('Only 0 of ' in line and '--repeats' in line for line in warnings_of(noise))
    assert not any('above their noise' in line for line in warnings_of(NOISY))


def test_edges_within_their_noise_are_hollow_and_the_start_is_in_the_picture():
    figure = Figure()
    axes = figure.add_subplot()
    [(_, draw)] = graph_sheet([('mine', NOISY)]).panels
    draw(axes)
    hollow = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert sorted((round(one.get_y()), round(one.get_x())) for one in hollow) == [(0, 2), (2, 1)]
    assert axes.get_title().splitlines() == [
        'mine',
        'start: early, step 200 of 2,000 (ep2-ba200-rank0.pt)',
        'hollow: within its noise',
    ]


def test_a_graph_that_was_not_learned_is_shown_as_it_is(done: Done, tmp_path: Path):
    printed, _ = done('show', saved(CHAIN, tmp_path / 'graph.json'))
    assert 'Learned' not in printed
    assert learned_line(CHAIN) is None
