"""Mixtures that change at set times: schedules, curricula, and the stratified baseline of the paper."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import Curriculum, RoundObservation, Schedule, SkillsGraph, build_policy
from skillit_stream.mixture.stages import mixture_of_round

AB = ('a', 'b')
ABC = ('a', 'b', 'c')
ABCD = ('a', 'b', 'c', 'd')


def mixtures_of(policy, rounds):
    """The mixture of every round, ``[rounds, k]``."""
    return np.array([policy.initial()] + [policy.update(RoundObservation(t, {})) for t in range(rounds - 1)])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.01, 10), min_size=1, max_size=6),
    st.integers(1, 20),
)
def test_a_run_gives_every_stage_its_length_exactly(lengths, rounds):
    lengths = np.array(lengths)
    stages = np.eye(len(lengths))
    rows = [mixture_of_round(stages, lengths, number, rounds) for number in range(rounds)]
    np.testing.assert_allclose(np.mean(rows, axis=0), lengths / lengths.sum(), rtol=0, atol=1e-9)
    assert mixture_of_round(stages, lengths, rounds, rounds).tolist() == stages[-1].tolist()


@pytest.mark.parametrize('parts', [[1, 1, 1], [1, 2, 1], [2, 1, 1]])
def test_segments_of_whole_rounds_leave_no_trace_in_other_rounds(parts):
    # 0.1 + 0.1 + 0.1 is not 0.3
    lengths, rounds = np.array(parts) * 0.1, sum(parts)
    rows = [mixture_of_round(np.eye(3), lengths, number, rounds).tolist() for number in range(rounds)]
    assert rows == np.repeat(np.eye(3), parts, axis=0).tolist()


def test_segments_are_equal_unless_they_have_weights():
    mixtures = [{'a': 1, 'b': 0}, {'a': 1, 'b': 3}]
    equal = Schedule(AB, 4, mixtures=mixtures)
    assert mixtures_of(equal, 5).tolist() == [[1, 0], [1, 0], [0.25, 0.75], [0.25, 0.75], [0.25, 0.75]]
    weighted = Schedule(AB, 4, mixtures=mixtures, segments=[3, 1])
    assert mixtures_of(weighted, 4).tolist() == [[1, 0], [1, 0], [1, 0], [0.25, 0.75]]


def test_a_round_in_which_a_segment_ends_is_trained_on_both():
    mixtures = [{'a': 1, 'b': 0}, {'a': 0, 'b': 1}]
    policy = Schedule(AB, 3, mixtures=mixtures)
    assert mixtures_of(policy, 3).tolist() == [[1, 0], [0.5, 0.5], [0, 1]]
    uneven = Schedule(AB, 2, mixtures=mixtures, segments=[1, 3])
    np.testing.assert_allclose(mixtures_of(uneven, 2), [[0.5, 0.5], [0, 1]], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'mixtures': []}, r'mixtures must be a list of mixtures, one a segment, but got: \[\]'),
        ({'mixtures': {'a': 1, 'b': 1}}, 'mixtures must be a list of mixtures'),
        ({'mixtures': [{'a': 1}]}, r'mixtures\[0\] must name every skill .* lacks: b'),
        ({'mixtures': [{'a': 1, 'b': 1}], 'segments': [1, 2]}, 'segments must be 1 lengths, one a mixture'),
        ({'mixtures': [{'a': 1, 'b': 1}], 'segments': [0]}, r'segments must be above 0, but got: \[0\]'),
        ({'mixtures': [{'a': 1, 'b': 1}], 'segments': ['x']}, r'segments\[0\] must be a finite number'),
    ],
)
def test_what_is_no_schedule_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Schedule(AB, 4, **options)


@pytest.mark.parametrize(('name', 'options'), [('schedule', {'mixtures': [{'a': 1}]}), ('curriculum', {})])
def test_policies_over_a_run_need_its_length(name, options):
    with pytest.raises(InputError, match=f"policy '{name}' needs the length of the run: give max_duration"):
        build_policy(name, skills=['a'], sizes={'a': 1}, **options)


SIZES = {'a': 100, 'b': 200, 'c': 100}


def test_a_curriculum_trains_on_one_skill_after_another_and_on_all_at_the_end():
    policy = Curriculum(ABC, SIZES, 8, order=['c', 'a', 'b'])
    # stages of 100, 100, 200 and 400 samples fill 8 rounds: 1, 1, 2 and 4 rounds
    assert mixtures_of(policy, 8).tolist() == [
        [0, 0, 1],
        [1, 0, 0],
        [0, 1, 0],
        [0, 1, 0],
        *[[0.25, 0.5, 0.25]] * 4,
    ]
    turned = Curriculum(ABC, SIZES, 8, order=['c', 'a', 'b'], anti=True)
    assert mixtures_of(turned, 4).tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_a_fraction_of_the_earlier_skills_is_mixed_in():
    policy = Curriculum(ABC, SIZES, 10, order=['a', 'b', 'c'], mixing=0.5)
    # stages: 100 a; 200 b + 50 a; 100 c + 50 a + 100 b; 400 of all: 100, 250, 250, 400 of 1000
    rows = mixtures_of(policy, 10)
    np.testing.assert_allclose(rows[0], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rows[1], [0.2, 0.8, 0], atol=1e-12)
    np.testing.assert_allclose(rows[3], [(0.2 + 0.2) / 2, (0.8 + 0.4) / 2, 0.4 / 2], atol=1e-12)
    np.testing.assert_allclose(rows[4], [0.2, 0.4, 0.4], atol=1e-12)
    np.testing.assert_allclose(rows[9], [0.25, 0.5, 0.25], atol=1e-12)
    # the amounts of the run: a is 100 + 50 + 50 + 100 of 1000
    np.testing.assert_allclose(rows.mean(axis=0), [0.3, 0.5, 0.2], atol=1e-12)


def test_without_an_order_the_losses_before_training_decide():
    policy = build_policy('curriculum', skills=['a', 'b', 'c'], sizes=SIZES, rounds=8)
    assert policy.needs_initial_losses
    assert policy.eval_skills == ('a', 'b', 'c')
    with pytest.raises(InputError, match='orders skills by their losses before training, but none were'):
        policy.initial()
    policy.observe(RoundObservation(-1, {'a': 3.0, 'b': 5.0, 'c': 2.0}))
    policy.observe(RoundObservation(0, {'a': 1.0, 'b': 0.0, 'c': 9.0}))  # changes nothing
    assert isinstance(policy, Curriculum)
    assert policy.order == ('c', 'a', 'b')
    assert policy.initial().tolist() == [0, 0, 1]
    restored = Curriculum(ABC, SIZES, 8)
    restored.load_state_dict(json.loads(json.dumps(policy.state_dict())))
    assert restored.update(RoundObservation(0, {})).tolist() == [1, 0, 0]
    with pytest.raises(InputError, match="round -1 must be finite, but got: nan for 'b'"):
        Curriculum(ABC, SIZES, 8).observe(RoundObservation(-1, {'a': 3.0, 'b': math.nan, 'c': 2.0}))


@pytest.mark.parametrize(
    ('sizes', 'options', 'message'),
    [
        (None, {}, "'curriculum' needs the sizes of the streams"),
        (SIZES, {'order': ['a', 'b']}, 'order must name every skill once, but got: a, b'),
        (SIZES, {'mixing': 1.5}, r'mixing must be a finite number, 0 to 1, but got: 1\.5'),
        (SIZES, {'anti': 'yes'}, "anti must be one of False, True, but got: 'yes'"),
        ({'a': 1}, {}, 'sizes must name every skill .* lacks: b, c'),
    ],
)
def test_what_is_no_curriculum_is_refused(sizes, options, message):
    with pytest.raises(InputError, match=message):
        Curriculum(ABC, sizes, 8, **options)


def test_stratified_over_the_targets_and_their_prerequisites():
    graph = SkillsGraph(ABCD, ABCD, [[1, 0, 0.5, 0], [0, 1, -0.5, 0], [0, 0, 0, 0], [0, 0, 0, 1]])

    def mixture(**options):
        return build_policy('stratified', skills=list(ABCD), graph=graph, **options).initial().tolist()

    assert mixture() == [0.25] * 4
    assert mixture(targets=['c']) == [0.5, 0, 0.5, 0]  # c's own weight is 0; what hurts c stays out
    assert mixture(targets=['b', 'd']) == [0, 0.5, 0, 0.5]
    elsewhere = SkillsGraph(AB, ['x', 'y'], [[1, 0], [0, 0]])
    policy = build_policy('stratified', skills=['a', 'b'], graph=elsewhere, targets=['x'])
    assert policy.initial().tolist() == [1, 0]
    with pytest.raises(InputError, match='no skill helps the targets y'):
        build_policy('stratified', skills=['a', 'b'], graph=elsewhere, targets=['y'])
    with pytest.raises(InputError, match="'stratified' needs a skills graph for its targets"):
        build_policy('stratified', skills=['a', 'b'], targets=['a'])
    with pytest.raises(InputError, match="unknown skill 'e'"):
        mixture(targets=['e'])
