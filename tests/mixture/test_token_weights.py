"""The objective stays what a policy wants where limits hold what is drawn, as far as weights reach."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import MixturePolicy, RoundObservation, build_policy
from skillit_stream.mixture.grouped import GroupedPolicy
from skillit_stream.mixture.limits import reachable_objective

WANTED = {'a': 0.7, 'b': 0.2, 'c': 0.1}


def static(**options) -> MixturePolicy:
    options = {'skills': list(WANTED), 'proportions': WANTED, 'token_weights': True, **options}
    return build_policy('static', **options)


@pytest.mark.parametrize(
    ('options', 'drawn', 'objective'),
    [
        # Weights of .7/.4 and .2/.4 = .1/.2.
        ({'ceiling': 0.4}, [0.4, 0.4, 0.2], [0.7, 0.2, 0.1]),
        # a cannot weigh more than 4 x 0.1; what is left goes to b and c, two to one.
        ({'ceiling': {'a': 0.1}}, [0.1, 0.6, 0.3], [0.4, 0.4, 0.2]),
        ({'ceiling': {'a': 0.1}, 'max_weight': 5}, [0.1, 0.6, 0.3], [0.5, 1 / 3, 1 / 6]),
        # A floor draws more of c than it weighs: 0.1/0.3.
        ({'floor': 0.3}, [0.4, 0.3, 0.3], [0.7, 0.2, 0.1]),
        # 60 samples of a in three rounds of 100.
        (
            {'max_passes': 2, 'sizes': {'a': 30, 'b': 999, 'c': 999}, 'rounds': 3, 'round_size': 100},
            [0.2, 1.6 / 3, 0.8 / 3],
            [0.7, 0.2, 0.1],
        ),
    ],
)
def test_objectives_worked_by_hand(options, drawn, objective):
    policy = static(**options)
    assert policy.weighs_tokens
    assert policy.initial() == pytest.approx(drawn)
    assert policy.objective() == pytest.approx(objective)
    capped = [note for note in policy.notes() if note.startswith('token_weights')]
    assert bool(capped) == (objective[0] < 0.7)


def test_what_cannot_be_reached_is_a_note():
    policy = static(ceiling={'a': 0.1})
    policy.initial()
    assert policy.notes() == [
        'limits: a 0.7 -> 0.1 (ceiling)',
        'token_weights: a is 0.4 of the objective, not 0.7 (0.1 is drawn, max_weight is 4)',
    ]


def test_a_skill_whose_data_has_ended_leaves_the_objective_with_a_note():
    policy = static(max_passes=1, sizes={'a': 70, 'b': 999, 'c': 999}, round_size=100)
    assert policy.initial() == pytest.approx([0.7, 0.2, 0.1])
    assert policy.objective() is None
    after = policy.update(RoundObservation(0, {}, samples_seen={'a': 70, 'b': 20, 'c': 10}))
    assert after == pytest.approx([0, 2 / 3, 1 / 3])
    # b and c are trained for as they are drawn.
    assert policy.objective() is None
    assert (
        policy.notes()[1] == 'token_weights: a is 0 of the objective, not 0.7 (0 is drawn, max_weight is 4)'
    )


def test_limits_that_do_not_bind_leave_no_weights():
    policy = static(ceiling=0.9)
    assert policy.initial() == pytest.approx(list(WANTED.values()))
    assert policy.objective() is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=9), st.floats(1.01, 50))
def test_weights_have_a_mean_of_1_and_none_is_above_the_largest(pairs, most):
    wanted, drawn = (np.array(column) + 1e-9 for column in zip(*pairs, strict=True))
    wanted, drawn = wanted / wanted.sum(), drawn / drawn.sum()
    objective = reachable_objective(wanted, drawn, most)
    weights = objective / drawn
    assert (drawn * weights).sum() == pytest.approx(1, abs=1e-9)
    assert weights.max() <= most * (1 + 1e-9)
    # Those that are not held keep their ratios.
    free = weights < most * (1 - 1e-9)
    scales = objective[free] / wanted[free]
    assert np.ptp(scales) <= 1e-6 * scales.max() if free.any() else True


def test_the_streams_of_a_group_share_its_objective():
    groups = {'a': ['a1', 'a2'], 'b': ['b'], 'c': ['c']}
    policy = GroupedPolicy(static(ceiling=0.4), groups)
    assert policy.initial() == pytest.approx([0.2, 0.2, 0.4, 0.2])
    assert policy.weighs_tokens
    assert policy.objective() == pytest.approx([0.35, 0.35, 0.2, 0.1])


def test_the_description_says_so():
    described = static(ceiling=0.4, max_weight=3).describe()
    assert described['token_weights'] is True
    assert described['max_weight'] == 3.0
    assert 'token_weights' not in static(ceiling=0.4, token_weights=False).describe()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({}, 'token_weights make up for what limits change: give floor, ceiling, max_passes'),
        (
            {'ceiling': 0.4, 'token_weights': 'yes'},
            "token_weights must be one of False, True, but got: 'yes'",
        ),
        ({'ceiling': 0.4, 'token_weights': False, 'max_weight': 2}, 'add token_weights=true'),
        ({'ceiling': 0.4, 'max_weight': 1}, 'max_weight must be a finite number, 1.01 or more, but got: 1'),
        ({'ceiling': {'b': 0}}, "the ceiling of 'b' is 0; raise it, or leave the skill out"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        static(**options)
