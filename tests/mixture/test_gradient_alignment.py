"""Policies on products of gradients, by hand-worked values."""

from typing import Any

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import MixturePolicy, RoundObservation, build_policy
from skillit_stream.mixture.gradient_alignment import alignment_with_others, alignment_with_targets

SKILLS = ['a', 'b', 'c']
PRODUCTS = {
    'a': {'a': 4.0, 'b': 2.0, 'c': -1.0},
    'b': {'a': 2.0, 'b': 9.0, 'c': 3.0},
    'c': {'a': -1.0, 'b': 3.0, 'c': 1.0},
}


def build(**options: Any) -> MixturePolicy:
    return build_policy('dga', skills=SKILLS, eval_skills=SKILLS, **options)


def shown(number: int = 0, products: object = PRODUCTS) -> RoundObservation:
    return RoundObservation(number, dict.fromkeys(SKILLS, 1.0), gradients=products)  # pyright: ignore[reportArgumentType]


def test_the_mixture_is_multiplied_by_the_exponential_of_the_alignment_and_averaged():
    policy = build(eta=0.5, ema=0.25, scale=False, targets=['a', 'c'])
    assert policy.initial() == pytest.approx([1 / 3] * 3)
    # Means over a and c: (4 - 1) / 2, (2 + 3) / 2, (-1 + 1) / 2.
    first = np.exp(0.5 * np.array([1.5, 2.5, 0.0]))
    first /= first.sum()
    assert policy.update(shown()) == pytest.approx(0.75 / 3 + 0.25 * first)
    second = first * np.exp(0.5 * np.array([1.5, 2.5, 0.0]))
    second /= second.sum()
    assert policy.update(shown(1)) == pytest.approx(0.75 * (0.75 / 3 + 0.25 * first) + 0.25 * second)


def test_scaled_rewards_do_not_depend_on_the_size_of_the_gradients():
    smaller = {row: {column: value / 1e6 for column, value in own.items()} for row, own in PRODUCTS.items()}
    one, other = build(), build()
    assert one.update(shown()) == pytest.approx(other.update(shown(products=smaller)))


def test_a_reward_towards_targets_is_the_mean_of_the_products():
    assert alignment_with_targets(np.array([[4.0, -1.0], [2.0, 3.0]])).tolist() == [1.5, 2.5]


def test_a_reward_towards_the_others_is_their_sum_over_the_mean_norm_in_standard_deviations():
    products = np.array([[PRODUCTS[row][column] for column in SKILLS] for row in SKILLS])
    # Norms 2, 3, 1; sums of the others 1, 5, 2 over their mean 2: mean 4/3, standard deviation 1.0408.
    sums = np.array([1.0, 5.0, 2.0]) / 2.000001
    expected = (sums - sums.mean()) / (np.std(sums, ddof=1) + 1e-8)
    assert alignment_with_others(products) == pytest.approx(expected)
    assert alignment_with_others(products, high=1.0) == pytest.approx([-1.1547, 0.57735, 0.57735], abs=1e-4)


def test_one_skill_stays_whole():
    policy = build_policy('dga', skills=['a'], eval_skills=['a'], reward='others')
    one = RoundObservation(0, {'a': 1.0}, gradients={'a': {'a': 4.0}})
    assert policy.update(one).tolist() == [1.0]


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'eta': -1}, 'eta must be'),
        ({'ema': 0}, 'ema must be above 0'),
        ({'reward': 'loss'}, "reward must be one of 'targets', 'others'"),
        ({'reward': 'others', 'targets': ['a']}, 'leave targets out'),
    ],
)
def test_options_out_of_range_are_refused(options: dict, problem: str):
    with pytest.raises(InputError, match=problem):
        build(**options)


def test_a_skill_that_is_not_evaluated_has_no_gradient():
    with pytest.raises(InputError, match="'b' is not evaluated"):
        build_policy('dga', skills=['a', 'b'], eval_skills=['a'])


@pytest.mark.parametrize(
    ('products', 'problem'),
    [
        (None, 'needs products of gradients, but round 0 has none'),
        ({'a': {'a': 1.0}}, 'lack b'),
        ({row: dict.fromkeys(SKILLS, float('nan')) for row in SKILLS}, 'must be finite'),
    ],
)
def test_products_that_are_missing_or_not_finite_are_refused(products: object, problem: str):
    with pytest.raises(InputError, match=problem):
        build().update(shown(products=products))
