"""`tilt` decides on eta: the largest proportion is so many times the smallest, and never more, by hand and by property.

For `GRAPH` one evaluation adds ``L_a + 0.5 L_b`` to the score of a and ``L_b`` to that of b::

    round          0         1         2         3            4
    losses         (3, 3)    (2, 2.5)  (1, 2)    (0.5, 1.5)   (6, 1)
    a - b          1.5       0.75      0         -0.25        5.5
    window of 3    1.5       2.25      2.25      0.5          5.25
    widest         1.5       2.25      2.25      2.25         5.25
"""

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.formats.run_log import RoundRecord, parse_line
from skillit_stream.mixture import RoundObservation, SkillIt, SkillItVariant, SkillsGraph, build_policy
from skillit_stream.mixture.explain import explain_rounds

GRAPH = SkillsGraph(['a', 'b'], ['a', 'b'], [[1.0, 0.5], [0.0, 1.0]])
ROUNDS = [(3.0, 3.0), (2.0, 2.5), (1.0, 2.0), (0.5, 1.5), (6.0, 1.0)]
LN2 = math.log(2)


def seen(number, losses, names: Sequence[str] = 'ab'):
    return RoundObservation(number, dict(zip(names, losses, strict=True)))


def ratio(proportions):
    return float(proportions.max() / proportions.min())


def test_by_hand_eta_is_lowered_to_the_widest_scores_and_the_tilt_falls_with_the_losses():
    policy = SkillIt(GRAPH, tilt=2, window=3)
    np.testing.assert_allclose(policy.initial(), [2 / 3, 1 / 3], rtol=1e-14)  # rows sum to 1.5 and 1
    assert policy.decided() == {}
    etas = [LN2 / 1.5, LN2 / 2.25, LN2 / 2.25, LN2 / 2.25, LN2 / 5.25]
    scores = [1.5, 2.25, 2.25, 0.5, 5.25]
    for number, (losses, eta, score) in enumerate(zip(ROUNDS, etas, scores, strict=True)):
        proportions = policy.update(seen(number, losses))
        assert policy.decided() == {'eta': pytest.approx(eta, rel=1e-14)}
        np.testing.assert_allclose(proportions[0], 1 / (1 + math.exp(-eta * score)), rtol=1e-14)
    assert policy.describe()['tilt'] == 2
    assert 'eta' not in policy.describe()


def test_a_tilt_of_three_with_a_prior_is_a_tilt_against_the_prior():
    policy = SkillIt(GRAPH, tilt=3, window=1, prior={'a': 1, 'b': 4})
    np.testing.assert_allclose(policy.initial(), [3 / 7, 4 / 7], rtol=1e-14)
    np.testing.assert_allclose(policy.update(seen(0, ROUNDS[0])), [3 / 7, 4 / 7], rtol=1e-14)


def test_three_skills_and_two_targets_by_hand():
    graph = SkillsGraph(['a', 'b', 'c'], ['x', 'y'], [[1, 0], [0, 1], [0.5, 0.5]])
    policy = SkillIt(graph, tilt=4, window=1)
    # Scores 2, 4, 3: eta is ln 4 / 2, and exp(eta * score) is 4, 16, 8.
    np.testing.assert_allclose(policy.update(seen(0, (2.0, 4.0), 'xy')), [1 / 7, 4 / 7, 2 / 7], rtol=1e-14)


graphs = st.integers(2, 6).flatmap(
    lambda k: st.integers(1, 6).flatmap(
        lambda m: st.lists(
            st.lists(st.floats(-2, 2, width=32), min_size=m, max_size=m), min_size=k, max_size=k
        )
    )
)


@given(rows=graphs, tilt=st.floats(1, 50), scale=st.sampled_from([1e-3, 1.0, 100.0]), data=st.data())
def test_the_largest_proportion_is_tilt_times_the_smallest_and_never_more(rows, tilt, scale, data):
    weights = np.array(rows) * scale
    k, m = weights.shape
    evals = [f'e{j}' for j in range(m)]
    policy = SkillIt(SkillsGraph([f't{i}' for i in range(k)], evals, weights.tolist()), tilt=tilt, window=3)
    size = np.abs(weights).sum()
    first = policy.initial()
    sums = weights.sum(axis=1)
    if np.ptp(sums) > 1e-6 * size:
        assert ratio(first) == pytest.approx(tilt, rel=1e-9)
    losses = data.draw(st.lists(st.floats(0.125, 12, width=32), min_size=m, max_size=m))
    scores = weights @ np.array(losses)
    if np.ptp(scores) > 1e-6 * size:
        # The same losses again and again: however many of them are in the window.
        for number in range(5):
            assert ratio(policy.update(seen(number, losses, evals))) == pytest.approx(tilt, rel=1e-9)
        for number in range(5, 9):
            others = data.draw(st.lists(st.floats(0, 12, width=32), min_size=m, max_size=m))
            assert ratio(policy.update(seen(number, others, evals))) <= tilt * (1 + 1e-9)


@pytest.mark.parametrize('window', [1, 3, 5])
@pytest.mark.parametrize('weight', [0.01, 1.0])
def test_neither_the_window_nor_the_scale_of_the_weights_changes_the_mixture(window, weight):
    graph = SkillsGraph(['a', 'b'], ['a', 'b'], (GRAPH.weights * weight).tolist())
    policy = SkillIt(graph, tilt=2, window=window)
    for number in range(6):
        np.testing.assert_allclose(policy.update(seen(number, ROUNDS[0])), [2 / 3, 1 / 3], rtol=1e-12)


@pytest.mark.parametrize('losses', [(3.0, 3.0), (0.3, 0.1 + 0.2)])
def test_where_no_eta_tilts_the_mixture_is_even_and_it_is_said(losses):
    identity = SkillsGraph(['a', 'b'], ['a', 'b'], [[1, 0], [0, 1]])
    policy = SkillIt(identity, tilt=2, window=1)
    assert policy.initial().tolist() == [0.5, 0.5]
    [note] = policy.notes()
    assert note == 'tilt=2 cannot be reached: all skills gain alike, and the mixture is that of the prior'
    assert policy.update(seen(0, losses)).tolist() == [0.5, 0.5]
    assert policy.notes() == [note]
    assert policy.decided() == {}
    # As soon as the losses differ, it is reached.
    assert policy.update(seen(1, (2.0, 1.0))).tolist() == pytest.approx([2 / 3, 1 / 3])
    assert policy.notes() == []


def test_lone_skills_that_are_held_stay_between():
    graph = SkillsGraph(['a', 'b', 'c'], ['a', 'b', 'c'], [[1, 0.5, 0], [0, 1, 0], [0, 0, 1]])
    policy = SkillIt(graph, tilt=2, window=1, variant=SkillItVariant(hold_lone=True))
    expected = [4 / 9, 2 / 9, 3 / 9]
    np.testing.assert_allclose(policy.initial(), expected, rtol=1e-14)
    np.testing.assert_allclose(policy.update(seen(0, (3.0, 3.0, 9.0), 'abc')), expected, rtol=1e-14)


def test_a_skill_that_the_prior_leaves_out_does_not_count():
    graph = SkillsGraph(['a', 'b', 'c'], ['a', 'b'], [[1, 0.5], [0, 1], [50, 50]])
    policy = SkillIt(graph, tilt=2, window=1, prior={'a': 1, 'b': 1, 'c': 0})
    np.testing.assert_allclose(policy.initial(), [2 / 3, 1 / 3, 0], rtol=1e-14)


@pytest.mark.parametrize('at', range(len(ROUNDS)))
def test_a_run_goes_on_from_its_state_with_the_eta_it_had(at):
    steady, resumed = SkillIt(GRAPH, tilt=2), SkillIt(GRAPH, tilt=2)
    for number in range(at):
        steady.update(seen(number, ROUNDS[number]))
    resumed.load_state_dict(json.loads(json.dumps(steady.state_dict())))
    for number in range(at, len(ROUNDS)):
        expected = steady.update(seen(number, ROUNDS[number]))
        assert resumed.update(seen(number, ROUNDS[number])).tolist() == expected.tolist()
    assert resumed.state_dict() == steady.state_dict()
    assert resumed.decided() == steady.decided()


def test_another_tilt_counts_at_once_when_a_run_is_resumed():
    before, after = SkillIt(GRAPH, tilt=2, window=1), SkillIt(GRAPH, tilt=8, window=1)
    before.update(seen(0, ROUNDS[0]))
    after.load_state_dict(before.state_dict())
    assert ratio(after.update(seen(1, ROUNDS[0]))) == pytest.approx(8)
    # A state of a run with eta has no widest scores.
    with_eta, late = SkillIt(GRAPH, eta=0.5, window=1), SkillIt(GRAPH, tilt=2, window=1)
    with_eta.update(seen(0, ROUNDS[4]))
    late.load_state_dict(with_eta.state_dict())
    assert ratio(late.update(seen(1, ROUNDS[0]))) == pytest.approx(2)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'tilt': 2, 'eta': 0.5},
            'eta and tilt exclude each other, but got: eta=0.5 and tilt=2; set one to null',
        ),
        ({'tilt': 0.5}, 'tilt must be a finite number, 1 or more, but got: 0.5'),
        ({'tilt': math.inf}, 'tilt must be a finite number, 1 or more, but got: inf'),
        ({'tilt': True}, 'tilt must be a finite number, 1 or more, but got: True'),
        ({'tilt': 2, 'compound': True}, 'tilt cannot be kept with compound=True'),
        ({'tilt': 2, 'eta_schedule': 'adaptive'}, "tilt cannot be kept with eta_schedule='adaptive'"),
        ({'tilt': 2, 'published': True}, "has no option 'tilt'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        build_policy('skill_it', skills=['a', 'b'], eval_skills=['a', 'b'], graph=GRAPH, **options)


def test_eta_of_null_leaves_it_to_tilt():
    options = {'skills': ['a', 'b'], 'eval_skills': ['a', 'b'], 'graph': GRAPH}
    assert build_policy('skill_it', **options, eta=None, tilt=2).describe()['tilt'] == 2
    assert build_policy('skill_it', **options, eta=0.2, tilt=None).describe()['eta'] == 0.2
    assert build_policy('skill_it', **options).describe()['eta'] == 0.5


def test_its_moves_are_explained_from_the_log():
    policy = SkillIt(GRAPH, tilt=2)
    proportions, records = policy.initial(), []
    for number, losses in enumerate(ROUNDS):
        named = dict(zip('ab', proportions.tolist(), strict=True))
        observation = seen(number, losses)
        proportions = policy.update(observation)
        record = RoundRecord(
            round=number,
            step=number,
            proportions=named,
            losses=dict(observation.eval_losses),
            decided=dict(policy.decided()),
        )
        records.append(parse_line(record.to_line().encode(), where='x:1'))
    assert records[0].decided == {'eta': LN2 / 1.5}
    explained = explain_rounds(policy.describe(), GRAPH, records)
    assert explained.missing == ()
    assert [move.round for move in explained.moves] == [1, 2, 3, 4]
