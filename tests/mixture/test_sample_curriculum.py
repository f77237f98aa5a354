"""The curriculum over samples: pacing, proportions and paces, against hand-worked values."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import RoundObservation, SampleCurriculum, build_policy
from skillit_stream.mixture.sample_order import keys_at, paced_fraction
from tests.support.ranked_samples import sample_losses

LOSSES = {'a': [1.0, 2.0, 3.0, 9.0], 'b': [4.0, 5.0], 'c': [6.0, 7.0, 8.0, 10.0]}


def curriculum(losses=LOSSES, rounds=5, round_size=4, **options):
    policy = build_policy(
        'sample_curriculum',
        skills=list(losses),
        rounds=rounds,
        round_size=round_size,
        sample_losses=sample_losses(losses),
        **options,
    )
    assert isinstance(policy, SampleCurriculum)
    return policy


def mixtures_of(policy, rounds):
    rest = [policy.update(RoundObservation(number, {})) for number in range(rounds - 1)]
    return np.array([policy.initial(), *rest])


def test_pacing_against_hand_worked_values():
    assert paced_fraction('linear', 0.5, start=0.1, full_at=0.8) == pytest.approx(0.1 + 0.9 * 0.5 / 0.8)
    assert paced_fraction('linear', 0.9, start=0.1, full_at=0.8) == 1.0
    logarithmic = 0.2 + 0.8 * (1 + 0.1 * math.log(0.25 + math.exp(-10)))
    assert paced_fraction('logarithmic', 0.25, start=0.2, full_at=1.0) == pytest.approx(logarithmic)
    assert paced_fraction('logarithmic', 1.0, start=0.2, full_at=1.0) == 1.0


def test_a_round_has_the_skills_of_its_easiest_samples():
    # Fractions 1/5 .. 5/5 of ten samples: those with losses up to 2, 4, 6, 8, 10.
    expected = [[1, 0, 0], [3 / 4, 1 / 4, 0], [3 / 6, 2 / 6, 1 / 6], [3 / 8, 2 / 8, 3 / 8], [0.4, 0.2, 0.4]]
    np.testing.assert_allclose(mixtures_of(curriculum(), 5), expected, rtol=0, atol=1e-12)


def test_each_skill_goes_on_to_the_next_key_at_as_many_of_its_own_draws():
    orders = curriculum().sample_orders()
    assert orders['a'].pace.keys == (2.0, 4.0, 6.0, 8.0, 10.0)
    assert orders['a'].pace.begins == (0, 4, 7, 9, 11)
    # b is first drawn in round 1, c in round 2: what they may draw before that does not matter.
    assert orders['b'].pace.begins == (0, 1, 2, 3)
    assert orders['b'].pace.keys == (4.0, 6.0, 8.0, 10.0)
    assert orders['c'].pace.begins == (0, 1, 2)


def test_the_other_way_round_the_hardest_come_first():
    policy = curriculum(anti=True)
    # Losses from 9 up; from 7; from 5; from 3.
    expected = [[1 / 2, 0, 1 / 2], [1 / 4, 0, 3 / 4], [1 / 6, 1 / 6, 4 / 6], [2 / 8, 2 / 8, 4 / 8]]
    np.testing.assert_allclose(mixtures_of(policy, 4), expected, rtol=0, atol=1e-12)
    assert policy.sample_orders()['a'].pace.keys == (-9.0, -7.0, -5.0, -3.0, -1.0)


def test_after_the_last_round_everything_is_drawn():
    policy = curriculum(full_at=0.5)
    late = [policy.update(RoundObservation(number, {})) for number in (2, 4, 40)]
    np.testing.assert_allclose(late, [[0.4, 0.2, 0.4]] * 3, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 9).map(float), min_size=1, max_size=9), min_size=1, max_size=4),
    st.integers(1, 12),
    st.sampled_from(['linear', 'logarithmic']),
    st.booleans(),
)
def test_shares_are_those_of_the_samples_let_in(values, rounds, pacing, anti):
    losses = {f's{number}': own for number, own in enumerate(values)}
    policy = curriculum(losses, rounds=rounds, pacing=pacing, anti=anti)
    joined = np.sort(np.concatenate([np.array(own) * (-1 if anti else 1) for own in values]))
    for number, shares in enumerate(mixtures_of(policy, rounds)):
        wanted = max(1, math.ceil(policy.fraction(number) * len(joined) - 0.5))
        key = joined[wanted - 1]
        counts = np.array([(np.array(own) * (-1 if anti else 1) <= key).sum() for own in values])
        np.testing.assert_allclose(shares, counts / counts.sum(), rtol=0, atol=1e-12)


def test_of_many_samples_evenly_spread_ones_give_the_keys():
    rng = np.random.default_rng(4)
    losses = {'a': rng.random(4000).tolist(), 'b': (rng.random(2000) + 0.5).tolist()}
    ranked = list(sample_losses(losses)('initial').values())
    joined = np.sort(np.concatenate([np.array(own, np.float32) for own in losses.values()]))
    for fraction, key in zip([0.1, 0.5, 1.0], keys_at([0.1, 0.5, 1.0], ranked, 600), strict=True):
        below = (joined <= key).mean()
        assert abs(below - fraction) <= 2 / 600
    assert keys_at([1.0], ranked, 7) == [float(joined[-1])]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'pacing': 'square'}, "pacing must be one of 'linear', 'logarithmic', but got: 'square'"),
        ({'start': 1.5}, 'start must be a finite number, 0 to 1, but got: 1.5'),
        ({'full_at': 0}, 'full_at must be above 0'),
        ({'anti': 1}, 'anti must be one of False, True'),
        ({'rounds': None}, "policy 'sample_curriculum' needs the length of the run"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        curriculum(**options)


def test_without_losses_it_is_refused():
    with pytest.raises(InputError, match='needs the losses of the samples, but got none'):
        build_policy('sample_curriculum', skills=['a'], rounds=3, round_size=4)
