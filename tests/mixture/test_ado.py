"""ADO: laws are found again, and the mixture follows its formulas."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import AdaptiveDataOptimization, RoundObservation, build_policy
from skillit_stream.mixture.power_law import fit_power_law

AB = ('a', 'b')
ABC = ('a', 'b', 'c')


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 4), st.floats(0.5, 5), st.floats(0.05, 0.75), st.integers(4, 40))
def test_a_law_without_noise_is_found_again(floor, scale, exponent, points):
    counts = np.arange(1, points + 1, dtype=np.float64)
    losses = floor + scale * counts**-exponent
    fitted = fit_power_law(counts, losses)
    np.testing.assert_allclose(fitted[0] + fitted[1] * counts ** -fitted[2], losses, rtol=0, atol=1e-6)
    assert fitted[2] == pytest.approx(exponent, abs=1e-3)


def test_losses_that_rise_are_fitted_by_their_mean():
    floor, scale, _ = fit_power_law(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    assert (floor, scale) == (2.0, 0.0)


def test_a_floor_below_zero_is_none():
    counts = np.array([1.0, 2.0, 4.0, 8.0])
    floor, scale, exponent = fit_power_law(counts, 4 * counts**-0.5 - 0.5)
    assert floor == 0.0
    assert scale > 0
    assert 0.5 < exponent <= 0.8


LAWS = {'a': (1.0, 2.0, 0.5), 'b': (2.0, 1.0, 0.25)}


def law(name, n):
    floor, scale, exponent = LAWS[name]
    return floor + scale * n**-exponent


def speed(name, n):
    _, scale, exponent = LAWS[name]
    return exponent * scale * n ** (-exponent - 1)


def feed(policy, number, **more):
    losses = {name: law(name, number + 0.5) for name in LAWS}
    return policy.update(RoundObservation(number, {}, train_losses=losses, **more))


def test_the_mixture_follows_the_formulas_after_the_warm_up():
    policy = AdaptiveDataOptimization(AB, {'a': 100, 'b': 300}, warmup=5)
    assert policy.needs_train_losses
    prior = np.array([0.25, 0.75])
    for row in [policy.initial(), *(feed(policy, number) for number in range(4))]:
        assert row.tolist() == prior.tolist()
    # h is the prior as long as that is played
    wanted = prior * prior**0.5 * [speed('a', 5), speed('b', 5)]
    preferred = wanted / wanted.sum()
    mixture = 0.1 * preferred + 0.9 * prior
    np.testing.assert_allclose(feed(policy, 4), mixture, rtol=0, atol=1e-5)
    average = preferred / 5 + prior * 4 / 5
    recent = 0.1 * mixture + 0.9 * prior
    wanted = prior * recent**0.5 * [speed('a', 6), speed('b', 6)]
    preferred = wanted / wanted.sum()
    np.testing.assert_allclose(feed(policy, 5), 0.1 * preferred + 0.9 * average, rtol=0, atol=1e-5)


def test_h_follows_the_mixture_that_was_played():
    policy = AdaptiveDataOptimization(AB, prior={'a': 0.5, 'b': 0.5}, gamma1=1.0, gamma2=1.0, warmup=5, s=1)
    mixture = np.zeros(2)
    for number in range(5):
        mixture = feed(policy, number, proportions={'a': 0.2, 'b': 0.8})
    wanted = np.array([0.2, 0.8]) * [speed('a', 5), speed('b', 5)]
    np.testing.assert_allclose(mixture, wanted / wanted.sum(), rtol=0, atol=1e-5)


def test_eval_losses_are_those_at_the_end_of_a_round():
    policy = AdaptiveDataOptimization(
        AB, prior={'a': 0.5, 'b': 0.5}, losses='eval', gamma2=1.0, s=0, warmup=5, least=0
    )
    assert policy.eval_skills == ('a', 'b')
    mixture = np.zeros(2)
    for number in range(5):
        mixture = policy.update(RoundObservation(number, {name: law(name, number + 1) for name in LAWS}))
    wanted = np.array([speed('a', 5), speed('b', 5)])
    np.testing.assert_allclose(mixture, wanted / wanted.sum(), rtol=0, atol=1e-5)


def test_a_skill_keeps_the_least_share_and_one_with_few_losses_its_prior():
    policy = AdaptiveDataOptimization(ABC, {'a': 1, 'b': 1, 'c': 2}, gamma2=1.0, warmup=4, least=0.05)
    mixture = np.zeros(3)
    for number in range(4):
        losses = {'a': law('a', number + 0.5), 'b': 1.0}  # b does not learn, c is not drawn
        mixture = policy.update(RoundObservation(number, {}, train_losses=losses))
    np.testing.assert_allclose(mixture, np.array([0.5, 0.05, 0.5]) / 1.05, rtol=0, atol=1e-9)


def test_where_nothing_learns_the_prior_stays():
    policy = AdaptiveDataOptimization(AB, {'a': 1, 'b': 3}, gamma2=1.0)
    mixture = np.zeros(2)
    for number in range(3):
        mixture = policy.update(RoundObservation(number, {}, train_losses={'a': 1.0, 'b': 2.0}))
    np.testing.assert_allclose(mixture, [0.25, 0.75], rtol=0, atol=1e-12)


def test_the_first_rounds_can_be_left_out_of_the_fit():
    policy = AdaptiveDataOptimization(AB, {'a': 1, 'b': 1}, skip=2, warmup=6, gamma2=1.0, s=0, least=0)
    for number in range(2):
        policy.update(RoundObservation(number, {}, train_losses={'a': 90.0, 'b': 0.1}))
    mixture = np.zeros(2)
    for number in range(2, 6):
        mixture = feed(policy, number)
    wanted = np.array([speed('a', 6), speed('b', 6)])
    np.testing.assert_allclose(mixture, wanted / wanted.sum(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'warmup': 2}, 'warmup must be a whole number, 3 or more, but got: 2'),
        ({'skip': 4, 'warmup': 6}, 'warmup must be a whole number, 7 or more, but got: 6'),
        ({'least': 0.6}, r'least must be a finite number, 0 to 0\.5, but got: 0\.6'),
        ({'losses': 'both'}, "losses must be one of 'train', 'eval'"),
        ({'prior': {'a': 1}}, 'prior must name every skill'),
    ],
)
def test_parameters_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        AdaptiveDataOptimization(AB, {'a': 1, 'b': 1}, **options)


def test_it_needs_a_prior():
    with pytest.raises(InputError, match="'ado' needs the sizes of the streams or the option 'prior'"):
        build_policy('ado', skills=['a', 'b'])
    with pytest.raises(InputError, match="train_losses of round 0 must be finite, but got: inf for 'a'"):
        AdaptiveDataOptimization(AB, {'a': 1, 'b': 1}).update(
            RoundObservation(0, {}, train_losses={'a': math.inf})
        )
