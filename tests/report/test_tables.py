"""The numbers of the report: means, spreads, marks, pairs."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.report import write_report
from skillit_stream.report.comparison import (
    LOWEST,
    WITHIN,
    Spread,
    deviation,
    find_reaches,
    loss_rows,
    marks,
    number,
    pairs,
    permutation_test,
    reach_sentences,
    sign_test,
    verdicts,
)
from skillit_stream.report.methods import AVERAGE, group_runs
from skillit_stream.report.run_folder import read_runs
from skillit_stream.report.summary import learning_curves, summarise, to_json


@pytest.fixture
def methods_ending_at(make_run):
    """Methods whose runs end at given mean losses, one a seed, counted from seed 1."""

    def make(**ends):
        runs = [
            make_run(
                name, seed=seed, rounds=1, losses=[{'a': 3.0, 'b': 3.0}, {'a': end - 0.5, 'b': end + 0.5}]
            )
            for name, values in ends.items()
            for seed, end in enumerate(values, start=1)
        ]
        return group_runs(read_runs(runs))

    return make


def test_a_cell_is_mean_and_sample_deviation_over_seeds(methods_ending_at):
    row, *skills = loss_rows(methods_ending_at(x=[1.0, 2.0, 3.0], y=[4.0]))
    assert row.skill == AVERAGE
    assert row.cells == (Spread(2.0, 1.0, 3), Spread(4.0, None, 1))
    assert [row.skill for row in skills] == ['a', 'b']
    assert skills[0].cells[0] == Spread(1.5, 1.0, 3)


def test_the_lowest_is_marked_and_what_lies_within_one_deviation_of_it(methods_ending_at):
    row = loss_rows(
        methods_ending_at(x=[1.0, 2.0, 3.0], near=[2.0, 3.0, 4.0], far=[8.0, 8.5, 9.0], single=[2.5])
    )[0]
    assert row.marks == (LOWEST, WITHIN, '', '')


def test_equal_or_single_cells_are_not_marked():
    assert marks([Spread(1.0, 0.1, 2), Spread(1.0, 0.2, 2)]) == ('', '')
    assert marks([Spread(1.0, 0.1, 2), None]) == ('', '')
    assert marks([Spread(math.nan, None, 1), Spread(1.0, None, 1), Spread(2.0, None, 1)]) == ('', LOWEST, '')


def test_verdicts_say_when_a_difference_may_be_chance(methods_ending_at):
    near, single, far = verdicts(
        methods_ending_at(x=[1.0, 2.0, 3.0], near=[2.0, 3.0, 4.0], single=[3.5, 3.5], far=[8.0, 8.5, 9.0])
    )
    assert 'x ends 1.0000 nats per token lower than near: within one standard deviation (1.0000)' in near
    assert (
        'x and single end 1.5000 nats per token apart; of fewer than 3 seeds the spread is unknown' in single
    )
    assert 'more than one standard deviation' in far
    assert verdicts(methods_ending_at(only=[1.0])) == []


def test_methods_are_paired_on_the_seeds_both_have(methods_ending_at):
    (pair,) = pairs(methods_ending_at(x=[1.0, 2.0, 3.0], y=[2.0, 4.0, 2.5, 9.0]))
    assert (pair.first, pair.second, pair.seeds) == ('x', 'y', (1, 2, 3))
    assert (pair.wins, pair.ties) == (2, 0)
    assert pair.mean_difference == pytest.approx((1.0 + 2.0 - 0.5) / 3)
    assert pair.sd == pytest.approx(np.std([1.0, 2.0, -0.5], ddof=1))
    assert 'x ends lower than y on 2 of 3 seeds, by 0.8333' in str(pair)


def test_the_order_of_methods_does_not_change_the_pair(methods_ending_at):
    (pair,) = pairs(methods_ending_at(y=[2.0, 4.0, 4.0], x=[1.0, 4.0, 3.5]))
    assert (pair.first, pair.wins, pair.ties, pair.mean_difference) == ('x', 2, 1, 0.5)
    assert '(1 equal)' in str(pair)


def test_fewer_than_three_common_seeds_make_no_pair(methods_ending_at):
    assert pairs(methods_ending_at(x=[1.0, 1.0], y=[2.0, 3.0, 3.0])) == []


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_sign_test_is_a_symmetric_probability(wins, defeats):
    p = sign_test(wins, defeats)
    assert 0 < p <= 1
    assert p == sign_test(defeats, wins)
    assert p >= sign_test(wins + defeats, 0)


def test_the_sign_test_by_hand():
    assert sign_test(3, 0) == 0.25
    assert sign_test(8, 2) == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert sign_test(2, 2) == 1.0


@given(st.floats(1e-300, 1e300))
def test_a_positive_loss_never_reads_as_zero(loss):
    assert float(number(loss)) > 0
    assert deviation(loss) != '0.0000'


def test_a_run_without_evaluations_has_no_table(make_run):
    nothing = [{}] * 2
    methods = group_runs(
        read_runs([make_run('x', rounds=1, losses=nothing), make_run('y', rounds=1, losses=nothing)])
    )
    assert loss_rows(methods) == []
    assert verdicts(methods) == pairs(methods) == []
    assert any('no evaluation ran' in note for note in summarise(methods)['notes'])


def test_the_summary_is_strict_json_with_null_for_a_diverged_loss(make_run):
    ends = [{'a': 1.0, 'b': 2.0}, {'a': math.nan, 'b': 1.0}]
    methods = group_runs(
        read_runs([make_run('x', rounds=1, losses=ends), make_run('y', rounds=1, losses=ends[:1] * 2)])
    )
    summary = json.loads(to_json(summarise(methods)), parse_constant=pytest.fail)
    assert summary['runs'][0]['final_losses'] == {'a': None, 'b': 1.0}
    assert summary['methods'][0]['mean_loss']['mean'] is None
    assert summary['methods'][1]['losses']['b'] == {'mean': 2.0, 'sd': None, 'n': 1}
    assert any('not a finite number' in note for note in summary['notes'])


def test_asked_and_realised_are_compared_at_their_worst(make_run):
    folder = make_run()
    lines = [json.loads(line) for line in (folder / 'mixture.jsonl').read_text().splitlines()]
    lines[4]['realised']['tens'] = lines[4]['proportions']['tens'] + 0.125
    (folder / 'mixture.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    (run,) = summarise(group_runs(read_runs([folder])))['runs']
    assert run['largest_miss'] == {'difference': pytest.approx(0.125), 'skill': 'tens', 'round': 3}
    assert sum(run['passes'].values()) * 20_000 == pytest.approx(run['samples'])


def test_the_permutation_test_by_hand():
    # Of the 8 ways to turn 1, 2 and -0.5 around, four have a sum at least as far from 0 as 2.5: with their mirrors.
    assert permutation_test(np.array([1.0, 2.0, -0.5])) == 4 / 8
    assert permutation_test(np.array([0.1] * 5)) == 2 / 32
    assert permutation_test(np.zeros(4)) == 1.0
    assert permutation_test(np.linspace(1, 2, 20)) < 0.001


def test_the_steps_to_the_loss_at_which_the_baseline_ends(make_run):
    slow = [make_run(f'slow-{seed}', method='slow', seed=seed, speed=1.0) for seed in (1, 2, 3)]
    fast = [make_run(f'fast-{seed}', method='fast', seed=seed, speed=2.0) for seed in (1, 2, 3, 4)]
    methods = group_runs(read_runs([*slow, *fast]))
    goals = {run.seed: np.mean(list(run.final_losses.values())) for run in methods[0].runs}
    by_hand = tuple(
        next(
            record.step
            for record in run.evaluations
            if np.mean(list(record.losses.values())) <= goals[run.seed]
        )
        for run in methods[1].runs
        if run.seed in goals
    )
    reaches = find_reaches(methods, 'slow')
    assert reaches[1].steps == by_hand
    assert by_hand[0] < methods[0].runs[0].rounds[-1].step
    back = find_reaches(methods, 'fast')[0]
    assert back.steps == (None, None, None)
    assert reach_sentences(methods, 'fast') == ['slow is never at the final loss of fast (3 seeds).']
    assert [pair.second for pair in pairs(methods, 'slow')] == ['slow']
    assert summarise(methods, 'slow')['steps_to_the_baseline']['fast'] == list(by_hand)


def test_a_baseline_that_is_no_method_is_refused(make_run, tmp_path):
    with pytest.raises(InputError, match=r"the baseline must be one of the methods, slow, but got: 'slo'"):
        write_report([make_run('slow', method='slow')], tmp_path / 'report', baseline='slo')


def test_learning_curves_are_means_over_seeds_at_the_steps_all_of_them_have(make_run):
    def losses(*values):
        return [{'a': value, 'b': value + 1} for value in values]

    runs = [
        make_run('x', seed=1, rounds=2, losses=losses(3.0, 2.0, 1.0), figures=['exact_match']),
        make_run('x', seed=2, rounds=1, losses=losses(3.0, 1.0), figures=['exact_match']),
        make_run('y', rounds=1, losses=losses(3.0, 2.5)),
    ]
    curves = learning_curves(group_runs(read_runs(runs)))
    assert curves['x']['loss'] == {
        'mean': {'steps': [0, 200], 'values': [3.5, 2.0]},
        'skills': {
            'a': {'steps': [0, 200], 'values': [3.0, 1.5]},
            'b': {'steps': [0, 200], 'values': [4.0, 2.5]},
        },
    }
    right = curves['x']['exact_match']['skills']['a']
    assert right['steps'] == [0, 200]
    assert right['values'] == pytest.approx([math.exp(-3), (math.exp(-2) + math.exp(-1)) / 2])
    # What was not measured has no curve.
    assert list(curves['y']) == ['loss']
