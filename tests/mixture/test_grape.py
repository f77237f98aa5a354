"""GRAPE against values worked by hand."""

import math

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import Grape, RoundObservation, SkillsGraph, build_policy

AB = ('a', 'b')
XY = ('x', 'y')
GRAPH = SkillsGraph(AB, XY, [[1.0, 0.0], [0.5, 2.0]])


def seen(number, x, y, **more):
    return RoundObservation(number, {'x': x, 'y': y}, **more)


def pair(x):
    return [1 / (1 + math.exp(-x)), 1 / (1 + math.exp(x))]


def check(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_the_target_that_improves_least_weighs_more_and_what_helps_it_too():
    policy = Grape(AB, GRAPH, mu_targets=2.0, mu_skills=1.5, smoothing=0.0)
    assert policy.needs_initial_losses
    policy.observe(seen(-1, 4.0, 2.0))
    mixture = policy.update(seen(0, 2.0, 1.8))
    # x improved by a half, y by a tenth
    x, y = pair(-2 * (0.5 - 0.1))
    check(policy.target_weights, [x, y])
    check(mixture, pair(1.5 * (x / 2.0 - 0.5 * x / 2.0 - 2.0 * y / 1.8)))
    # In the next round both improve by a quarter: the weights stay, the mixture is multiplied once more.
    before = math.log(mixture[0] / mixture[1])
    again = policy.update(seen(1, 1.5, 1.35))
    check(policy.target_weights, [x, y])
    check(again, pair(before + 1.5 * (x / 1.5 - 0.5 * x / 1.5 - 2.0 * y / 1.35)))


def test_smoothing_keeps_every_target():
    policy = Grape(AB, GRAPH, mu_targets=1e4, smoothing=0.2)
    policy.observe(seen(-1, 4.0, 2.0))
    policy.update(seen(0, 2.0, 2.0))
    check(policy.target_weights, [0.1, 0.9])


def test_it_goes_on_from_the_mixture_that_was_played():
    policy = Grape(AB, GRAPH, mu_skills=0.0)
    check(policy.update(seen(0, 2.0, 2.0, proportions={'a': 0.3, 'b': 0.7})), [0.3, 0.7])


def test_targets_choose_the_columns():
    policy = build_policy('grape', skills=('b', 'a'), graph=GRAPH, targets=['y'])
    assert policy.eval_skills == ('y',)
    assert policy.skills == ('b', 'a')
    assert policy.update(RoundObservation(0, {'y': 1.0}))[0] == pytest.approx(1 / (1 + math.exp(-3.0)))


def test_what_it_cannot_do_is_refused():
    with pytest.raises(InputError, match="'grape' needs a skills graph, but got none: pass graph=FILE"):
        build_policy('grape', skills=AB)
    with pytest.raises(InputError, match="that of 'y' in round 0 is not above 0"):
        Grape(AB, GRAPH).update(seen(0, 1.0, 0.0))
    with pytest.raises(InputError, match='mu_skills must be a finite number'):
        Grape(AB, GRAPH, mu_skills=-1.0)
