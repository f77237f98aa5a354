"""What the figures show: enough to read, nothing lost."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from skillit_stream.report.drawing import coarsened, draw_losses, shorten
from skillit_stream.report.methods import AVERAGE, group_runs
from skillit_stream.report.run_folder import read_runs
from skillit_stream.report.training_views import passes_panels, training_panels
from skillit_stream.report.views import (
    MAX_LOSS_PANELS,
    MAX_POINTS,
    difference_panels,
    graph_panels,
    loss_panels,
    mixture_view,
    rounded_together,
)

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


def test_the_difference_from_the_baseline_is_by_seed_and_its_own_is_zero(make_run):
    runs = [
        make_run(name, seed=seed, speed=speed)
        for name, speed in (('base', 1.0), ('x', 2.0))
        for seed in (1, 2)
    ]
    methods = group_runs(read_runs([*runs, make_run('x', seed=3, speed=2.0)]))  # of no pair
    panels = difference_panels(methods, 'base')
    assert [panel.title for panel in panels] == [AVERAGE, 'hundreds', 'tens', 'ones']
    (zero, flat), (one, curve) = panels[2].curves
    assert (zero, one) == (0, 1)
    assert not np.any([flat.mean, flat.low, flat.high])
    first, second = (
        mine.evaluations[4].losses['tens'] - theirs.evaluations[4].losses['tens']
        for mine, theirs in zip(methods[1].runs, methods[0].runs, strict=False)
    )
    assert curve.mean[4] == pytest.approx((first + second) / 2)
    assert (curve.low[4], curve.high[4]) == (min(first, second), max(first, second))
    assert difference_panels(methods, None) == difference_panels(methods[:1], 'base') == []


def falling(end: float) -> list[dict[str, float]]:
    return [{'a': 10.0}, *({'a': end + 1 / round_} for round_ in range(1, 11))]


def test_the_axes_of_a_loss_fit_what_comes_after_its_steep_fall(make_run):
    runs = [make_run(name, losses=falling(end)) for name, end in (('x', 5.0), ('y', 5.1))]
    (panel,) = loss_panels(group_runs(read_runs(runs)))
    assert panel.top == pytest.approx(5.6)  # y at a fifth of the steps, after two rounds of ten
    axes = Figure().add_subplot()
    draw_losses(axes, panel)
    low, high = axes.get_ylim()
    assert 5.0 < low < 5.1 < 5.6 < high < 5.7
    # Curves that fall evenly are shown whole.
    even = make_run('z', losses=[{'a': 4.0 - 0.1 * round_} for round_ in range(11)])
    assert [panel.top for panel in loss_panels(group_runs(read_runs([even])))] == [None]


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=9), st.integers(2, 4))
def test_what_is_shown_of_a_mixture_adds_up_to_one(weights, decimals):
    proportions = np.array(weights) / sum(weights)
    shown = rounded_together(proportions, decimals)
    assert abs(shown - proportions).max() < 10.0**-decimals
    assert sum(int(f'{one:.{decimals}f}'.replace('.', '')) for one in shown) == 10**decimals
    np.testing.assert_array_equal(rounded_together(np.array([0.123456, 0.0]), 2), [0.12, 0.0])


def test_training_is_shown_round_by_round_without_the_seconds_of_evaluating(make_run):
    folder, bare = make_run('x', rounds=3), make_run('y', rounds=3)
    log = folder / 'mixture.jsonl'
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for number, line in enumerate(lines[1:]):
        line['eval_seconds'] = 2.5
        line['trained'] = {
            'loss': 5.0 - number,
            'learning_rate': 0.001 / (1 + number),
            'tokens': 1000 * (1 + number),
        }
    log.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    panels = training_panels(group_runs(read_runs([folder, bare])))
    assert [panel.title for panel in panels] == ['training loss', 'learning rate', 'tokens a second']
    for panel, values in zip(panels, ([5, 4, 3], [0.001, 0.0005, 0.001 / 3], [100, 200, 300]), strict=True):
        ((method, curve),) = panel.curves  # of x: y has not logged any
        assert method == 0
        assert curve.steps.tolist() == [200, 400, 600]
        np.testing.assert_allclose(curve.mean, values)
    (samples,) = training_panels(group_runs(read_runs([bare])))
    assert samples.title == 'samples a second'
    np.testing.assert_allclose(samples.curves[0][1].mean, 12_800 / 12.5)


def test_passes_are_shown_over_training_skill_by_skill(make_run):
    run = make_run('x', rounds=3)
    panels = passes_panels(group_runs(read_runs([run])))
    assert [panel.title for panel in panels] == ['hundreds', 'tens', 'ones']
    rounds = read_runs([run])[0].rounds
    assert panels[1].curves[0][1].mean.tolist() == [record.passes['tens'] for record in rounds]
