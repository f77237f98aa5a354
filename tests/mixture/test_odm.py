"""ODM's proportions by hand, its warm-up, and what it refuses; the published code's own are in test_published."""

import math

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import Exp3, OnlineDataMixing, RoundObservation, build_policy

AB = ('a', 'b')


def drawn(number, **losses):
    return RoundObservation(number, losses, train_losses=losses)


@pytest.mark.parametrize(
    ('steps', 'mixture'), [(100, [0.296, 0.704]), (1_000, [0.278, 0.722]), (10_000, [0.272, 0.728])]
)
def test_losses_that_stay_are_mixed_linearly_in_their_exponentials(steps, mixture):
    policy = OnlineDataMixing(AB, warmup=0, steps=100)
    mixtures = [policy.update(drawn(number, a=2.0, b=3.0)) for number in range(steps // 100)]
    np.testing.assert_allclose(mixtures[-1], mixture, rtol=0, atol=5e-4)


def test_the_mixture_follows_the_formulas():
    policy = OnlineDataMixing(AB, warmup=0, steps=100, smoothing=0.5)
    assert policy.needs_train_losses
    floor = math.sqrt(math.log(2) / 200)
    a = math.exp(3) / (math.exp(3) + math.exp(2))
    first = (1 - 2 * floor) * a + floor
    np.testing.assert_allclose(policy.update(drawn(0, a=3.0, b=2.0)), [first, 1 - first], rtol=0, atol=1e-12)
    # a was not drawn and keeps half of e^3; b has a half of a half of e^2 and a half of e.
    floor = math.sqrt(math.log(2) / 400)
    a, b = math.exp(3) / 2, math.exp(2) / 4 + math.exp(1) / 2
    second = (1 - 2 * floor) * a / (a + b) + floor
    np.testing.assert_allclose(policy.update(drawn(1, b=1.0)), [second, 1 - second], rtol=0, atol=1e-12)


def test_validation_losses_that_are_all_the_same_move_nothing():
    policy = OnlineDataMixing(AB, warmup=0, method='naive_validation')
    assert not policy.needs_train_losses
    assert policy.eval_skills == AB
    assert policy.update(drawn(0, a=2.0, b=2.0)).tolist() == [0.5, 0.5]


def test_the_warm_up_is_at_the_proportions_of_the_data():
    policy = build_policy('odm', skills=AB, sizes={'a': 30, 'b': 10}, warmup=200, steps=100)
    assert policy.initial().tolist() == [0.75, 0.25]
    assert policy.update(drawn(0, a=1.0, b=9.0)).tolist() == [0.75, 0.25]
    assert policy.update(drawn(1, a=1.0, b=9.0)).tolist() == [0.75, 0.25]
    # What was seen in the warm-up is not remembered.
    assert policy.update(drawn(2, a=1.0, b=1.0)).tolist() == pytest.approx([0.5, 0.5])


def test_the_warm_up_is_two_percent_of_a_run_whose_length_is_known():
    known = build_policy('odm', skills=AB, rounds=200, round_steps=50).describe()
    assert (known['warmup'], known['steps']) == (200, 50)
    assert build_policy('odm', skills=AB).describe()['warmup'] == 2000


def test_until_a_skill_is_drawn_the_first_mixture_stays():
    policy = OnlineDataMixing(AB, warmup=0, initial={'a': 0.2, 'b': 0.8})
    assert policy.update(RoundObservation(0, {}, train_losses={})).tolist() == [0.2, 0.8]


def test_one_skill_is_all_of_the_mixture():
    for method in ('smoothed_mean', 'ema', 'naive_validation'):
        policy = OnlineDataMixing(['a'], warmup=0, method=method)
        assert policy.update(drawn(0, a=2.0)).tolist() == [1.0]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'steps': 0}, 'steps must be a whole number, 1 or more, but got: 0'),
        ({'method': 'exp3'}, "method must be one of 'smoothed_mean', 'ema', 'naive_validation'"),
        ({'smoothing': 1.0}, 'smoothing must be a finite number'),
        ({'smoothing': 0.5, 'method': 'ema'}, "smoothing is of method 'smoothed_mean' alone"),
        ({'warmup': -1}, 'warmup must be a whole number'),
        (
            {'warmup': 500, 'rounds': 5},
            'keeps its first mixture for 500 steps, but the run has 500; lower warmup',
        ),
        ({'initial': {'a': 1}}, 'initial must name every skill'),
        ({'draws': 3}, "no option 'draws'"),
    ],
)
def test_parameters_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        build_policy('odm', skills=AB, **options)


def test_a_loss_whose_exponential_overflows_is_refused():
    with pytest.raises(
        InputError, match="exp of the training loss of 'b' overflows: 800; the run has diverged"
    ):
        OnlineDataMixing(AB, warmup=0).update(drawn(0, a=1.0, b=800.0))


def test_a_state_of_the_bandit_that_had_this_name_is_refused_by_name():
    state = {**Exp3(AB).state_dict(), 'policy': 'odm'}
    with pytest.raises(InputError, match="it is of the bandit that is called 'exp3' now"):
        OnlineDataMixing(AB).load_state_dict(state)
