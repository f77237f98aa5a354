"""Limits hold exactly, keep ratios where they can, and say what they changed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import LimitedPolicy, Limits, RoundObservation, StaticMixture, build_policy
from skillit_stream.mixture.limits import fill

AB = ('a', 'b')
ABC = ('a', 'b', 'c')

thorough = settings(max_examples=200, deadline=None)


@st.composite
def mixtures(draw, least=1):
    weights = np.array(draw(st.lists(st.floats(0, 1e6), min_size=least, max_size=12)))
    if weights.sum() < 1e-3:
        weights[0] = 1.0
    return weights / weights.sum()


@st.composite
def limited_mixtures(draw):
    """Shares with floors that sum to at most 1 and ceilings that sum to at least 1."""
    shares = draw(mixtures())
    k = len(shares)
    unit = st.lists(st.floats(0, 1), min_size=k, max_size=k)
    low, high = np.array(draw(unit)), np.array(draw(unit))
    low, high = np.minimum(low, high), np.maximum(low, high)
    if low.sum() > 1:
        low = low / low.sum()
    if high.sum() < 1:
        high = high + (1 - high.sum()) / k
    return shares, np.minimum(low, high), high


@thorough
@given(limited_mixtures())
def test_the_mixture_is_within_its_limits_and_sums_to_1(case):
    shares, low, high = case
    result = fill(shares, low, high)
    assert abs(result.sum() - 1) < 1e-9
    assert (result >= low - 1e-12).all()
    assert (result <= high + 1e-9).all()


@thorough
@given(limited_mixtures())
def test_skills_that_no_limit_holds_keep_their_ratios(case):
    shares, low, high = case
    result = fill(shares, low, high)
    free = (result > low + 1e-9) & (result < high - 1e-9) & (shares > 1e-9)
    factors = result[free] / shares[free]
    if free.any():
        np.testing.assert_allclose(factors, factors[0], rtol=1e-6)


@thorough
@given(mixtures(), st.floats(0, 1), st.floats(0, 1))
def test_the_same_limits_for_all_keep_the_order(shares, floor, ceiling):
    k = len(shares)
    low, high = np.full(k, floor / k), np.full(k, 1 / k + ceiling * (1 - 1 / k))
    result = fill(shares, low, high)
    order = np.argsort(shares, kind='stable')
    assert (np.diff(result[order]) >= -1e-12).all()


@thorough
@given(mixtures())
def test_a_mixture_within_its_limits_is_unchanged(shares):
    assert fill(shares, np.zeros(len(shares)), np.ones(len(shares))).tolist() == shares.tolist()


@pytest.mark.parametrize(
    ('shares', 'low', 'high', 'result'),
    [
        # 0.2 is cut off a, and goes to b and c in the ratio 3:1
        ([0.6, 0.3, 0.1], [0, 0, 0], [0.4, 1, 1], [0.4, 0.45, 0.15]),
        # of 0.3 cut off a, b may take 0.05 alone
        ([0.6, 0.3, 0.1], [0, 0, 0], [0.3, 0.35, 1], [0.3, 0.35, 0.35]),
        # c is lifted by 0.1, a and b pay in the ratio 2:1
        ([0.6, 0.3, 0.1], [0.2, 0.2, 0.2], [1, 1, 1], [0.8 * 2 / 3, 0.8 / 3, 0.2]),
        # what b cannot pay, a does
        ([0.7, 0.2, 0.1], [0, 0.2, 0.2], [1, 1, 1], [0.6, 0.2, 0.2]),
        # nobody else has a share: the others take the rest evenly
        ([1.0, 0.0, 0.0], [0, 0, 0], [0.5, 1, 1], [0.5, 0.25, 0.25]),
        ([1.0, 0.0, 0.0], [0, 0, 0.1], [0.5, 0.2, 1], [0.5, 0.2, 0.3]),
        # a skill that was left out stays out while the others can take it all
        ([0.75, 0.25, 0.0], [0, 0, 0], [0.6, 1, 1], [0.6, 0.4, 0.0]),
        # shares that a softmax has all but lost count as none
        ([1.0, 1e-320, 2e-320], [0, 0, 0], [0.5, 1, 0.1], [0.5, 0.4, 0.1]),
        ([1.0, 1e-150, 2e-150], [0, 0, 0], [0.5, 1, 1], [0.5, 0.5 / 3, 1 / 3]),
    ],
)
def test_mixtures_within_limits_worked_by_hand(shares, low, high, result):
    got = fill(np.array(shares), np.array(low, dtype=float), np.array(high, dtype=float))
    np.testing.assert_allclose(got, result, rtol=0, atol=1e-12)


def apply(shares, seen=(0, 0, 0), next_round=0, **options):
    limits = Limits.build(ABC, **options)
    result, notes = limits.apply(np.array(shares), np.array(seen, dtype=float), next_round)
    return result.tolist(), notes


def test_floor_and_ceiling_are_numbers_for_all_or_by_skill():
    assert apply([0.8, 0.2, 0.0], floor=0.1, ceiling={'a': 0.5}) == (
        pytest.approx([0.5, 0.4, 0.1]),
        ['limits: a 0.8 -> 0.5 (ceiling)', 'limits: c 0 -> 0.1 (floor)'],
    )
    assert apply([0.5, 0.3, 0.2], floor=0.1, ceiling=0.6) == ([0.5, 0.3, 0.2], [])


RUN = {'max_passes': 2, 'sizes': {'a': 100, 'b': 1000, 'c': 1000}, 'round_size': 100, 'rounds': 10}


def test_what_is_left_of_a_tape_is_spread_over_the_rounds_left():
    # 200 samples of a in two passes, 20 in each of 10 rounds of 100
    assert apply([0.6, 0.3, 0.1], **RUN) == (
        pytest.approx([0.2, 0.6, 0.2]),
        ['limits: a 0.6 -> 0.2 (2 passes)'],
    )
    # 60 are left for 5 rounds
    assert apply([0.6, 0.3, 0.1], seen=(140, 0, 0), next_round=5, **RUN)[0] == pytest.approx(
        [0.12, 0.66, 0.22]
    )
    # more was drawn than the limit allows: nothing more
    assert apply([0.6, 0.3, 0.1], seen=(250, 0, 0), next_round=5, **RUN)[0] == pytest.approx([0, 0.75, 0.25])


def test_without_a_known_end_the_next_round_may_take_all_that_is_left():
    run = {**RUN, 'rounds': None}
    assert apply([0.6, 0.3, 0.1], seen=(140, 0, 0), **run) == ([0.6, 0.3, 0.1], [])
    assert apply([0.6, 0.3, 0.1], seen=(170, 0, 0), **run)[0] == pytest.approx([0.3, 0.525, 0.175])


def test_a_floor_gives_way_to_what_is_left_of_a_tape():
    shares, notes = apply([0.1, 0.8, 0.1], seen=(190, 0, 0), next_round=5, floor=0.15, **RUN)
    assert shares == pytest.approx([0.02, 0.83, 0.15])
    assert notes == ['limits: a 0.1 -> 0.02 (2 passes)', 'limits: c 0.1 -> 0.15 (floor)']


def test_a_floor_for_a_skill_without_data_left_is_told_as_passes():
    shares, notes = apply([0.0, 0.9, 0.1], seen=(200, 0, 0), next_round=5, floor={'a': 0.1}, **RUN)
    assert shares == pytest.approx([0.0, 0.9, 0.1])
    assert notes == ['limits: a 0 -> 0 (2 passes)']


def test_where_the_data_left_cannot_fill_a_round_the_bound_on_passes_gives_way():
    shares, notes = apply([0.6, 0.3, 0.1], seen=(180, 1990, 1990), next_round=9, **RUN)
    assert shares == pytest.approx([0.5, 0.25, 0.25])  # 20, 10 and 10 samples are left
    assert notes == ['limits: the data left under 2 passes fills 0.400 of round 9; max_passes gives way']
    capped, _ = apply([0.6, 0.3, 0.1], seen=(180, 1990, 1990), next_round=9, ceiling={'a': 0.4}, **RUN)
    assert capped == pytest.approx([0.4, 0.3, 0.3])
    nothing, _ = apply([0.6, 0.3, 0.1], seen=(999, 9999, 9999), next_round=9, **RUN)
    assert nothing == pytest.approx([0.6, 0.3, 0.1])


@settings(max_examples=40, deadline=None)
@given(mixtures(least=3), st.integers(1, 12), st.floats(1.0, 3.0))
def test_no_skill_exceeds_its_passes_by_more_than_rounding(shares, rounds, passes):
    from skillit_stream.mixture import largest_remainder

    names = [f's{i}' for i in range(len(shares))]
    # Tapes that hold the whole run between them in one pass.
    counts = largest_remainder(np.full(len(shares), 1 / len(shares)), 100 * rounds)
    sizes = {name: int(count) + 1 for name, count in zip(names, counts, strict=True)}
    limits = Limits.build(names, max_passes=passes, sizes=sizes, round_size=100, rounds=rounds)
    seen = np.zeros(len(shares))
    for number in range(rounds):
        mixture, _ = limits.apply(shares, seen, number)
        seen += largest_remainder(mixture, 100)
    assert (seen <= passes * np.array(list(sizes.values())) + 1).all()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'floor': 0.4}, r'floors must leave a mixture, but they sum to 1\.2; lower them'),
        ({'ceiling': 0.3}, r'ceilings must leave a mixture, but they sum to 0\.9; raise them'),
        ({'floor': {'a': 0.5}, 'ceiling': 0.4}, r"floor of 'a' is 0\.5, above its ceiling of 0\.4"),
        ({'floor': {'d': 0.5}}, "floor names the unknown skill 'd'; known: a, b, c"),
        ({'ceiling': {'a': 1.5}}, r"ceiling of 'a' must be a finite number, 0 to 1, but got: 1\.5"),
        ({'floor': 'much'}, "floor must be a finite number, 0 to 1, but got: 'much'"),
        ({'max_passes': 2}, 'max_passes needs the sizes of the streams and the size of a round'),
        ({**RUN, 'max_passes': 0}, 'max_passes must be a finite number'),
        ({**RUN, 'rounds': 43}, 'max_passes=2 leaves 4200 samples to draw within the ceilings, but .* 4300'),
        (
            {**RUN, 'ceiling': {'b': 0.3, 'c': 0.3}},
            'leaves 800 samples to draw within the ceilings, but .* 1000',
        ),
    ],
)
def test_limits_that_no_run_can_keep_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Limits.build(ABC, **options)


def test_a_policy_within_limits_keeps_its_state_skills_and_description():
    inner = StaticMixture({'a': 0.9, 'b': 0.1})
    policy = LimitedPolicy(inner, Limits.build(AB, ceiling=0.6))
    assert policy.skills == ('a', 'b')
    assert policy.initial().tolist() == pytest.approx([0.6, 0.4])
    assert policy.notes() == ['limits: a 0.9 -> 0.6 (ceiling)']
    assert policy.update(RoundObservation(0, {})).tolist() == pytest.approx([0.6, 0.4])
    assert policy.state_dict() == inner.state_dict()
    policy.load_state_dict(inner.state_dict())
    assert policy.describe()['ceiling'] == {'a': 0.6, 'b': 0.6}
    assert policy.describe()['name'] == 'static'
    with pytest.raises(InputError, match='limits are for b, a, but the policy mixes: a, b'):
        LimitedPolicy(inner, Limits.build(['b', 'a'], ceiling=0.6))


def test_options_of_any_policy_put_limits_around_it():
    policy = build_policy(
        'static',
        skills=['a', 'b'],
        sizes={'a': 50, 'b': 500},
        rounds=5,
        round_size=100,
        weights={'a': 9, 'b': 1},
        max_passes=4,
    )
    assert policy.initial().tolist() == pytest.approx([0.4, 0.6])
    seen = {'a': 160, 'b': 240}
    assert policy.update(RoundObservation(3, {}, samples_seen=seen)).tolist() == pytest.approx([0.4, 0.6])
    seen = {'a': 180, 'b': 220}
    assert policy.update(RoundObservation(3, {}, samples_seen=seen)).tolist() == pytest.approx([0.2, 0.8])
    assert policy.notes() == ['limits: a 0.9 -> 0.2 (4 passes)']
    with pytest.raises(InputError, match='max_passes needs samples_seen, but round 3 has none'):
        policy.update(RoundObservation(3, {}))


def test_a_policy_with_a_floor_of_its_own_gets_the_option():
    from skillit_stream.mixture import registry

    class Floored(StaticMixture):
        def __init__(self, skills, *, floor):
            super().__init__(dict.fromkeys(skills, 1 / len(skills)))
            self.own = floor

    registry._BUILDERS['floored'] = Floored
    try:
        policy = build_policy('floored', skills=['a', 'b'], floor=0.9)
    finally:
        del registry._BUILDERS['floored']
    assert isinstance(policy, Floored)
    assert policy.own == 0.9
