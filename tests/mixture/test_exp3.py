"""Exp3's proportions against its formulas, and against its bandit played step by step."""

import math

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import Exp3, RoundObservation

AB = ('a', 'b')
ABC = ('a', 'b', 'c')
ABCD = ('a', 'b', 'c', 'd')


def drawn(number, **losses):
    return RoundObservation(number, {}, train_losses=losses)


def test_the_mixture_follows_the_formulas():
    policy = Exp3(AB, draws=100)
    assert policy.needs_train_losses
    assert policy.initial().tolist() == [0.5, 0.5]
    # R = 100 L / 10 = (30, 20); ε_100 = sqrt(ln 2 / 200), ε_99 = sqrt(ln 2 / 198)
    floor, before = math.sqrt(math.log(2) / 200), math.sqrt(math.log(2) / 198)
    share = (1 - 2 * floor) / (1 + math.exp(-10 * before)) + floor
    np.testing.assert_allclose(policy.update(drawn(0, a=3.0, b=2.0)), [share, 1 - share], rtol=0, atol=1e-12)
    # a was not drawn: R = (30, 20 + 15)
    floor, before = math.sqrt(math.log(2) / 400), math.sqrt(math.log(2) / 398)
    share = (1 - 2 * floor) / (1 + math.exp(5 * before)) + floor
    np.testing.assert_allclose(policy.update(drawn(1, b=1.5)), [share, 1 - share], rtol=0, atol=1e-12)


def test_the_first_k_ln_k_steps_are_uniform():
    policy = Exp3(ABCD, draws=5)
    np.testing.assert_allclose(policy.update(drawn(0, a=9.0, b=1.0, c=1.0, d=1.0)), [0.25] * 4, atol=1e-12)
    assert policy.update(drawn(1, a=9.0, b=1.0, c=1.0, d=1.0))[0] > 0.25


def test_a_round_is_the_expectation_of_the_bandit_played_step_by_step():
    """Many rounds of the published update, one draw a step with π fixed in the round, averaged."""
    losses, draws, runs = np.array([3.0, 2.0, 1.0]), 30, 4000
    shares = np.full(3, 1 / 3)
    rng = np.random.default_rng(0)
    chosen = rng.integers(3, size=(runs, draws))
    counts = np.stack([(chosen == i).sum(axis=1) for i in range(3)], axis=1)
    rewards = (counts * losses / 10 / shares).mean(axis=0)
    policy = Exp3(ABC, draws=draws)
    policy.update(drawn(0, a=3.0, b=2.0, c=1.0))
    np.testing.assert_allclose(policy.state_dict()['memory']['rewards'], rewards, rtol=0.02)


def test_one_skill_is_all_of_the_mixture():
    assert Exp3(['a']).update(drawn(0, a=2.0)).tolist() == [1.0]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'draws': 0}, 'draws must be a whole number, 1 or more, but got: 0'),
        ({'scale': 0}, 'scale must be a finite number'),
        ({'initial': {'a': 1}}, 'initial must name every skill'),
    ],
)
def test_parameters_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Exp3(AB, **options)


def test_a_state_from_when_it_was_called_odm_is_read():
    steady = Exp3(AB)
    steady.update(drawn(0, a=3.0, b=2.0))
    renamed = Exp3(AB)
    renamed.load_state_dict({**steady.state_dict(), 'policy': 'odm'})
    assert renamed.update(drawn(1, a=3.0)).tolist() == steady.update(drawn(1, a=3.0)).tolist()
    assert renamed.state_dict()['policy'] == 'exp3'
