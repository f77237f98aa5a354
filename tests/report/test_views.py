"""What the figures show: enough to read, nothing lost."""

import numpy as np
import pytest

from skillit_stream.report.drawing import coarsened, shorten
from skillit_stream.report.methods import AVERAGE, group_runs
from skillit_stream.report.run_folder import read_runs
from skillit_stream.report.views import MAX_LOSS_PANELS, MAX_POINTS, graph_panels, loss_panels, mixture_view

FORTY = [f'skill_{i}' for i in range(40)]


def test_few_skills_are_all_shown_as_asked(make_run):
    methods = group_runs(read_runs([make_run(seed=1), make_run(seed=2)]))
    view = mixture_view(methods)
    assert view.areas == ('hundreds', 'tens', 'ones')
    assert view.panels[0].title == 'skill_it (mean of 2 seeds)'
    np.testing.assert_allclose(view.panels[0].proportions, methods[0].runs[0].proportions())


def test_of_many_skills_the_largest_are_shown_and_the_rest_summed(make_run):
    view = mixture_view(group_runs(read_runs([make_run('static', skills=FORTY)])))
    assert view.areas == (*FORTY[:12], 'other (28 skills)')
    np.testing.assert_allclose(view.panels[0].proportions.sum(axis=1), 1)


def test_thirteen_skills_need_no_other(make_run):
    assert len(mixture_view(group_runs(read_runs([make_run(skills=FORTY[:13])]))).areas) == 13


def test_many_rounds_are_averaged_into_spans(make_run):
    run = read_runs([make_run(rounds=1003)])[0]
    panel = mixture_view(group_runs([run])).panels[0]
    assert panel.proportions.shape == (MAX_POINTS, 3)
    assert (panel.edges[0], panel.edges[-1]) == (0, 1003 * 200)
    np.testing.assert_allclose(np.diff(panel.edges) @ panel.proportions, 200 * run.proportions().sum(axis=0))


def test_there_is_an_average_and_a_panel_per_skill(make_run):
    methods = group_runs(read_runs([make_run(seed=1), make_run(seed=2), make_run('static', speed=0.5)]))
    panels = loss_panels(methods)
    assert [panel.title for panel in panels] == [AVERAGE, 'hundreds', 'tens', 'ones']
    assert [panel.log for panel in panels] == [True, True, True, False]
    curve = panels[1].curves[0][1]
    first, second = (run.evaluations[3].losses['hundreds'] for run in methods[0].runs)
    assert curve.mean[3] == pytest.approx((first + second) / 2)
    assert (curve.low[3], curve.high[3]) == (min(first, second), max(first, second))


def test_of_many_eval_skills_those_that_differ_most_get_a_panel(make_run):
    flat = dict.fromkeys(FORTY, 1.0)
    one = make_run('x', skills=FORTY, rounds=1, losses=[flat, {**flat, 'skill_30': 0.5}])
    two = make_run('y', skills=FORTY, rounds=1, losses=[flat, flat])
    panels = loss_panels(group_runs(read_runs([one, two])))
    assert len(panels) == MAX_LOSS_PANELS + 1
    assert 'skill_30' in [panel.title for panel in panels]


def test_a_loss_of_exactly_zero_does_not_break_the_scale(make_run):
    panels = loss_panels(group_runs(read_runs([make_run(rounds=1, losses=[{'a': 2.0}, {'a': 0.0}])])))
    assert [(panel.title, panel.log) for panel in panels] == [('a', False)]


def test_equal_graphs_are_drawn_once(make_run):
    eye, other = np.eye(3).tolist(), np.ones((3, 3)).tolist()
    runs = [make_run('x', graph=eye), make_run('y', graph=eye), make_run('z', graph=other), make_run('none')]
    assert [title for title, _ in graph_panels(group_runs(read_runs(runs)))] == ['x, y', 'z']


def test_a_graph_too_large_for_a_screen_is_averaged():
    weights = np.arange(500 * 3, dtype=np.float64).reshape(500, 3)
    assert coarsened(weights).shape == (200, 3)
    assert coarsened(weights[:400]).mean() == pytest.approx(weights[:400].mean())
    assert coarsened(weights[:200]) is not None
    small = weights[:200]
    assert coarsened(small) is small


def test_long_names_keep_both_ends():
    assert shorten('question_generation_task_12', 16) == 'questio…_task_12'
    assert len(shorten('x' * 99)) == 22
    assert shorten('short') == 'short'
