"""The tables that say why each round moved."""

import json
from functools import partial

import numpy as np
import pytest

from skillit_stream.report import write_report
from skillit_stream.report.methods import group_runs
from skillit_stream.report.moves import MAX_COLUMNS, MAX_MOVES, MAX_ROWS, moves_views
from skillit_stream.report.run_folder import read_runs
from tests.support.moving_run import moving_run


@pytest.fixture
def make_moving_run(tmp_path):
    """`moving_run` below the test's own folder."""
    return partial(moving_run, tmp_path)


def view_of(*folders):
    (view,) = moves_views(group_runs(read_runs(folders)))
    return view


def test_a_row_adds_up_to_the_change_of_its_log_proportion(make_moving_run):
    run = make_moving_run()
    view = view_of(run)
    assert (view.title, view.remarks, len(view.tables)) == ('x', (), 4)
    rounds = read_runs([run])[0].rounds
    for table, before, after in zip(view.tables, rounds, rounds[1:], strict=False):
        assert table.columns == ('e0', 'e1', 'e2', 'sum to 1')
        assert table.losses == tuple(f'{loss:.4f}' for loss in before.losses.values())
        for skill, cells in table.rows:
            change, *parts = (float(cell) for cell in cells[2:])
            assert sum(parts) == pytest.approx(change, abs=5e-4 * (len(parts) + 1))
            true = np.log(after.proportions[skill] / before.proportions[skill])
            assert change == pytest.approx(true, abs=6e-4)
    assert view.tables[0].line.startswith('Round 1, from step 10: t')
    assert '. Most by the loss on e' in view.tables[0].line


def test_limits_have_a_column_of_their_own(make_moving_run):
    table = view_of(make_moving_run(eta=3.0, floor=0.2)).tables[0]
    assert table.columns[-2:] == ('sum to 1', 'limits')
    assert table.notes[0].startswith('limits: ')


def test_many_rounds_and_skills_are_cut_and_still_add_up(make_moving_run):
    run = make_moving_run(n_train=40, n_eval=30, rounds=50)
    view = view_of(run)
    assert len(view.tables) == MAX_MOVES
    assert view.remarks == (f'The {MAX_MOVES} of 49 moves that changed a proportion most.',)
    for table in view.tables:
        assert (len(table.rows), table.left_out) == (MAX_ROWS, 40 - MAX_ROWS)
        assert len(table.columns) == MAX_COLUMNS + 2
        assert table.columns[-2:] == ('other eval skills', 'sum to 1')
        for _, cells in table.rows:
            change, *parts = (float(cell) for cell in cells[2:])
            assert sum(parts) == pytest.approx(change, abs=5e-4 * (len(parts) + 1))


def test_the_page_says_of_every_method_why_it_moved_or_that_it_cannot_be_told(make_moving_run, make_run):
    fixed = make_run('fixed', rounds=2)
    facts = json.loads((fixed / 'run.json').read_text())
    facts['policy'] = {'name': 'static', 'proportions': {}}
    (fixed / 'run.json').write_text(json.dumps(facts))
    text = write_report([make_moving_run(), fixed, make_run('odm', rounds=2)]).read_text()
    section = text.split('<h2>Why each round moved</h2>')[1].split('</section>')[0]
    assert section.count('<details ') == section.count('<summary>Round ') == 4
    assert 'fixed: The mixture is fixed: there is no move to explain.' in section
    assert 'odm: The policy odm has no fixed skills graph' in section
