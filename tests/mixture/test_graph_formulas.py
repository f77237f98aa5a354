"""The graph of both methods, against matrices worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.graph_formulas import MeasuredLosses, graph_of, needed_mixes, not_learned

START = {'a': 2.0, 'b': 4.0}
SINGLES = {('a',): {'a': 1.0, 'b': 3.0}, ('b',): {'a': 2.5, 'b': 2.0}}
PAIR = {('a', 'b'): {'a': 0.5, 'b': 3.0}}


def test_approximate_is_the_relative_drop_and_never_negative():
    graph = graph_of('approximate', [MeasuredLosses(START, SINGLES)], list('ab'), list('ab'))
    # a: (2 - 1) / 2, (4 - 3) / 4; b: the loss on a rises, (4 - 2) / 4.
    assert graph.weights.tolist() == [[0.5, 0.25], [0.0, 0.5]]
    assert (graph.train_skills, graph.eval_skills) == (('a', 'b'), ('a', 'b'))


def test_approximate_serves_eval_skills_that_are_not_trained_on():
    losses = MeasuredLosses(
        {'x': 8.0, 'a': 2.0, 'y': 1.0},
        {('a',): {'x': 6, 'a': 1, 'y': 2}, ('b',): {'x': 7, 'a': 2, 'y': 0.75}},
    )
    graph = graph_of('approximate', [losses], list('ab'), list('xay'))
    assert graph.weights.tolist() == [[0.25, 0.5, 0.0], [0.125, 0.0, 0.25]]
    assert graph.eval_skills == ('x', 'a', 'y')


def test_brute_force_compares_a_mix_with_training_on_the_skill_alone():
    graph = graph_of('brute-force', [MeasuredLosses(START, SINGLES | PAIR)], list('ab'), list('ab'))
    # Alone a falls by 1 and b by 2; on the mix a falls by 1.5, an edge of (1.5 - 1) / 1, and b by 1, none.
    assert graph.weights.tolist() == [[1.0, 0.0], [0.5, 1.0]]


def test_brute_force_serves_targets_alone():
    losses = MeasuredLosses(START, {('b',): SINGLES['b',], **PAIR, ('b', 'c'): {'a': 2.0, 'b': 1.0}})
    assert needed_mixes('brute-force', 'abc', 'b') == [('b',), ('a', 'b'), ('b', 'c')]
    assert graph_of('brute-force', [losses], list('abc'), list('b')).weights.tolist() == [[0.0], [1.0], [0.5]]


def test_the_runs_of_both_methods_are_counted():
    assert needed_mixes('approximate', 'abcde', 'xy') == [('a',), ('b',), ('c',), ('d',), ('e',)]
    mixes = needed_mixes('brute-force', 'abcde', 'abcde')
    assert len(mixes) == len(set(mixes)) == 15


def test_brute_force_refuses_eval_skills_that_are_not_trained_on():
    with pytest.raises(InputError, match=r"'x' is not trained on: use --method approximate"):
        needed_mixes('brute-force', 'ab', 'ax')


def test_a_skill_that_is_not_learned_alone_has_no_edges_and_is_named():
    losses = MeasuredLosses(START, SINGLES | PAIR | {('a',): {'a': 2.0, 'b': 3.0}})
    assert graph_of('brute-force', [losses], list('ab'), list('ab')).weights.tolist() == [
        [1.0, 0.0],
        [0.0, 1.0],
    ]
    assert not_learned(losses, 'ab') == ['a']
    assert not_learned(MeasuredLosses(START, SINGLES | PAIR), 'ab') == []


@pytest.mark.parametrize(
    ('losses', 'message'),
    [
        (MeasuredLosses(START, {('a',): SINGLES['a',]}), 'needs the losses after training on b'),
        (MeasuredLosses({'a': 2.0}, SINGLES), "no loss of eval skill 'b' before training"),
        (
            MeasuredLosses(START, SINGLES | {('b',): {'a': 1.0}}),
            "no loss of eval skill 'b' after training on b",
        ),
        (MeasuredLosses(START, SINGLES | {('b',): {'a': math.nan, 'b': 1}}), 'positive number, but got: nan'),
        (MeasuredLosses({'a': 0.0, 'b': 1.0}, SINGLES), 'positive number, but got: 0'),
    ],
)
def test_losses_that_are_missing_or_no_losses_are_refused(losses: MeasuredLosses, message: str):
    with pytest.raises(InputError, match=message):
        graph_of('approximate', [losses], list('ab'), list('ab'))


@given(
    table=st.lists(st.floats(0.1, 10), min_size=14, max_size=14),
    scale=st.sampled_from([0.25, 2.0, 8.0]),
    method=st.sampled_from(['approximate', 'brute-force']),
)
def test_the_unit_of_the_losses_does_not_matter(table: list[float], scale: float, method: str):
    mixes = [('a',), ('b',), ('c',), ('a', 'b'), ('a', 'c'), ('b', 'c')]

    def graph(factor: float) -> np.ndarray:
        rows = [{'a': factor * table[2 * n], 'b': factor * table[2 * n + 1]} for n in range(7)]
        losses = MeasuredLosses(rows[0], dict(zip(mixes, rows[1:], strict=True)))
        return graph_of(method, [losses], list('abc'), list('ab')).weights

    # Powers of two, so that scaling is exact.
    assert graph(scale).tolist() == graph(1.0).tolist()


def test_effects_below_zero_are_kept_beside_the_weights():
    measured = graph_of('approximate', [MeasuredLosses(START, SINGLES)], list('ab'), list('ab')).measured
    assert measured is not None
    assert measured.effects.tolist() == [[0.5, 0.25], [-0.25, 0.5]]
    measured = graph_of(
        'brute-force', [MeasuredLosses(START, SINGLES | PAIR)], list('ab'), list('ab'), steps=7
    ).measured
    assert measured is not None
    # Of a skill's weight on itself, 1 by definition, nothing is measured.
    assert np.array_equal(measured.effects, [[np.nan, -0.5], [0.5, np.nan]], equal_nan=True)
    assert (measured.steps, measured.repeats, measured.standard_errors) == (7, 1, None)


def test_standard_errors_of_repeats_by_hand():
    drops = [0.9, 1.0, 1.4]
    repeats = [MeasuredLosses({'a': 2.0}, {('a',): {'a': 2.0 - drop}}) for drop in drops]
    graph = graph_of('approximate', repeats, ['a'], ['a'])
    assert graph.measured is not None
    assert graph.weights[0, 0] == pytest.approx(1.1 / 2)
    assert graph.measured.standard_errors == pytest.approx(
        np.array([[np.std(drops, ddof=1) / 2 / math.sqrt(3)]])
    )


def test_a_ratio_has_the_standard_error_of_the_jackknife():
    # Brute force: (gain on the mix - gain alone) / gain alone, by leaving one repeat out.
    pairs = [(1.0, 1.5), (1.2, 1.5), (0.9, 1.2)]
    repeats = [
        MeasuredLosses(
            {'a': 4.0, 'b': 4.0},
            {
                ('a',): {'a': 3, 'b': 4},
                ('b',): {'a': 4, 'b': 4 - alone},
                ('a', 'b'): {'a': 3.5, 'b': 4 - mixed},
            },
        )
        for alone, mixed in pairs
    ]
    graph = graph_of('brute-force', repeats, list('ab'), list('ab'))
    ratios = []
    for left_out in range(3):
        rest = [pair for at, pair in enumerate(pairs) if at != left_out]
        ratios.append(sum(mixed for _, mixed in rest) / sum(alone for alone, _ in rest) - 1)
    expected = math.sqrt(2 / 3 * sum((ratio - np.mean(ratios)) ** 2 for ratio in ratios))
    assert graph.weights[0, 1] == pytest.approx(4.2 / 3.1 - 1)
    assert graph.measured is not None
    assert graph.measured.standard_errors is not None
    assert graph.measured.standard_errors[0, 1] == pytest.approx(expected)
