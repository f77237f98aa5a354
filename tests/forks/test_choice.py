"""From losses to a mixture: on a law that is known, the fit finds it, and noise widens the interval."""

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.forks.choice import HALF_WAY, Measured, choose, raised_mixture
from skillit_stream.forks.plan import ForkOptions, ForkPlace, plan_fork

PRESENT = np.array([0.5, 0.3, 0.2])
SLOPES = np.array([[-1.5, -0.4, -0.1], [-0.2, -1.0, -0.3]])
CONSTANTS = np.array([1.0, 2.0])
FREE = np.ones(3)


def losses(mixture: np.ndarray) -> np.ndarray:
    return CONSTANTS + np.exp(SLOPES @ mixture)


def measured(noise: float = 0.0, present: np.ndarray = PRESENT) -> Measured:
    rng = np.random.default_rng(5)
    skills = range(len(present))
    repeats = np.array([losses(present)] * 3)
    raised = np.array([losses(raised_mixture(present, skill)) for skill in skills])
    return Measured(
        present=present,
        repeats=repeats + noise * rng.standard_normal(repeats.shape),
        raised=raised + noise * rng.standard_normal(raised.shape),
    )


def test_the_lowest_mixture_within_the_branches_span_is_found():
    choice = choose(measured(), [0, 1], FREE)
    rng = np.random.default_rng(1)
    others = (1 - HALF_WAY) * PRESENT + HALF_WAY * rng.dirichlet(np.ones(3), size=4000)
    lowest = min(losses(other).mean() for other in others)
    assert losses(choice.mixture).mean() <= lowest + 1e-6
    assert choice.gain == pytest.approx(losses(PRESENT).mean() - losses(choice.mixture).mean(), abs=1e-5)
    assert choice.standard_error == pytest.approx(0.0, abs=1e-9)
    assert choice.mixture.sum() == pytest.approx(1.0, abs=1e-12)


def test_no_mixture_is_further_away_than_the_branches_are():
    choice = choose(measured(), [0], FREE)
    assert (choice.mixture >= (1 - HALF_WAY) * PRESENT - 1e-6).all()
    assert choice.mixture == pytest.approx(raised_mixture(PRESENT, 0), abs=1e-5)


def test_a_stream_that_is_nearly_used_up_is_not_raised_beyond_what_is_left():
    highest = np.array([0.6, 1.0, 1.0])
    choice = choose(measured(), [0], highest)
    assert choice.mixture[0] == pytest.approx(0.6, abs=2e-6)


def test_the_standard_error_of_the_gain_is_what_repeated_noise_shows():
    noise, exact = 0.002, measured()
    choice = choose(measured(noise), [0, 1], FREE)
    rng = np.random.default_rng(7)
    gains = []
    for _ in range(30):
        noisy = Measured(
            present=PRESENT,
            repeats=exact.repeats + noise * rng.standard_normal(exact.repeats.shape),
            raised=exact.raised + noise * rng.standard_normal(exact.raised.shape),
        )
        gains.append(choose(noisy, [0, 1], FREE).gain)
    # Three repeats know their own noise to a factor of two.
    assert 0.4 < choice.standard_error / np.std(gains) < 2.5


def test_effects_are_signed_and_have_standard_errors():
    found = measured(0.01)
    assert found.effects[0, 0] > 0 > found.effects[2, 0]
    assert found.standard_errors.shape == (3, 2)
    assert found.standard_errors[0] == pytest.approx(found.repeats.std(axis=0, ddof=1) * np.sqrt(4 / 3))


def test_the_spread_is_large_without_noise_and_small_within_it():
    assert measured().spread([0, 1]) > 1e9
    assert measured(1.0).spread([0, 1]) < 5
    still = Measured(present=PRESENT, repeats=np.ones((3, 2)), raised=np.ones((3, 2)))
    assert still.spread([0, 1]) == 0.0


def test_a_present_mixture_of_one_skill_alone_has_too_few_distinct_branches():
    with pytest.raises(InputError, match=r'at least 4 distinct mixtures, .* but got: 3'):
        choose(measured(present=np.array([1.0, 0.0, 0.0])), [0], FREE)


def test_a_skill_without_a_proportion_can_be_raised():
    choice = choose(measured(present=np.array([0.0, 0.6, 0.4])), [0], FREE)
    assert choice.mixture[0] == pytest.approx(0.5, abs=1e-5)


def test_a_run_on_one_skill_alone_is_refused_before_anything_is_trained():
    place = ForkPlace(
        step=8,
        of_steps=80,
        present={'a': 1.0, 'b': 0.0},
        drawn={'a': 64, 'b': 0},
        sizes={'a': 100, 'b': 100},
        shuffle_seed=17,
    )
    with pytest.raises(InputError, match=r'on one skill alone.* at least 3 distinct mixtures'):
        plan_fork(ForkOptions(steps=8), place, ['a', 'b'])
