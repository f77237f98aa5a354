"""The numbers that the page's script shows."""

import json
from dataclasses import replace

import numpy as np
import pytest

from skillit_stream.report.figures import HoverData, Picture
from skillit_stream.report.methods import group_runs
from skillit_stream.report.run_folder import read_runs
from skillit_stream.report.views import (
    MAX_POINTS,
    accuracy_panels,
    loss_panels,
    mixture_view,
    rounded_together,
)

PICTURE = Picture('<svg></svg>', (0.125, 0.1, 0.9, 0.8), (0.0, 2000.0), 30.0)


def collected(methods) -> tuple[HoverData, dict]:
    hover = HoverData(methods)
    for index, panel in enumerate(mixture_view(methods).panels):
        assert hover.add_mixture(PICTURE, panel, index) == index
    for panel in [*loss_panels(methods), *accuracy_panels(methods)]:
        hover.add_curves(PICTURE, panel)
    return hover, json.loads(hover.to_json(), parse_constant=pytest.fail)


def test_a_panel_holds_what_the_log_holds(make_run):
    methods = group_runs(read_runs([make_run(figures=['exact_match'])]))
    _, data = collected(methods)
    records = methods[0].runs[0].rounds
    mixture, average, hundreds, *_, accuracy = data['panels']
    kinds = [panel['kind'] for panel in data['panels']]
    assert kinds == ['mixture', *['loss'] * 4, *['exact_match'] * 4]
    assert (mixture['area'], mixture['steps']) == ([0.125, 0.1, 0.9, 0.8], [0, 2000])
    assert data['grids'][0] == {'first': 0, 'steps': [200 * n for n in range(1, 11)], 'rounds': [*range(10)]}
    assert data['grids'][1]['rounds'] == [-1, *range(10)]
    shown = [rounded_together(row, 3) for row in methods[0].runs[0].proportions()]
    for area, grid, values in mixture['lines']:
        skill = methods[0].train_skills[area]
        assert grid == 0
        assert values == [row[area] for row in shown]
        assert values == pytest.approx([record.proportions[skill] for record in records], abs=1e-3)
    for round_ in range(10):
        assert sum(round(1000 * values[round_]) for _, _, values in mixture['lines']) == 1000
    (method, grid, values), *others = hundreds['lines']
    assert (method, grid, others) == (0, 1, [])
    assert values[1:] == pytest.approx([record.losses['hundreds'] for record in records], rel=1e-4)
    assert len(average['lines'][0][2]) == 11
    assert accuracy['lines'][0][2][-1] == pytest.approx(records[-1].figures['exact_match']['ones'], rel=1e-4)


def test_seven_skills_a_thousand_rounds_and_ten_methods_stay_small(make_run):
    skills = [f's{i}' for i in range(7)]
    run = read_runs([make_run(skills=skills, rounds=1000)])[0]
    methods = group_runs([replace(run, method=f'method {i}') for i in range(10)])
    hover, data = collected(methods)
    assert len(hover.to_json()) < 700_000
    assert len(data['grids']) == 2  # shared by all lines
    spans = data['grids'][0]
    assert (len(spans['steps']), spans['rounds'][0], spans['rounds'][-1]) == (MAX_POINTS, 1, 999)


def test_a_loss_that_is_not_finite_is_null_and_no_name_ends_the_script(make_run):
    ends = [{'a': 1.0}, {'a': float('nan')}]
    methods = group_runs(read_runs([make_run('</script>', rounds=1, losses=ends)]))
    hover, data = collected(methods)
    assert data['panels'][1]['lines'][0][2] == [1.0, None]
    assert '<' not in hover.to_json()


def test_a_method_whose_first_run_was_never_evaluated_keeps_its_rounds(make_run):
    runs = [make_run(seed=1, rounds=2, losses=[{}] * 3), make_run(seed=2, rounds=2)]
    _, data = collected(group_runs(read_runs(runs)))
    line = data['panels'][1]['lines'][0]
    assert data['grids'][line[1]]['rounds'] == [-1, 0, 1]


def test_rounds_put_together_show_their_mean(make_run):
    methods = group_runs(read_runs([make_run(rounds=800)]))
    _, data = collected(methods)
    proportions = methods[0].runs[0].proportions()
    first = [line[2][0] for line in data['panels'][0]['lines']]
    np.testing.assert_array_equal(first, rounded_together(proportions[:2].mean(axis=0), 3))
