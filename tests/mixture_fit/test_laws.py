"""The laws: parameters are recovered, and what is fitted does not depend on units or on one bad run."""

import sys

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture_fit.laws import (
    HUBER,
    Exponential,
    fit_exponential,
    fit_linear,
    fit_trees,
    fit_with_factor,
)
from tests.support.mix_runs import drawn_mixtures

E = float(np.e)


def test_the_exponential_law_by_hand():
    # L(1, 0) = 1 + e, L(0, 1) = 1 + 1, L(½, ½) = 1 + √e: c = 1, t = (1, 0).
    shares = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    fitted = fit_exponential(shares, np.array([1 + E, 2.0, 1 + E**0.5]))
    assert fitted.constant == pytest.approx(1.0, abs=1e-6)
    assert fitted.slopes == pytest.approx([1.0, 0.0], abs=1e-6)


def test_the_factor_of_the_data_mixing_law_by_hand():
    # The same law with t summing to 0: k = exp(½), t = (½, -½).
    shares = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    told = fit_with_factor(shares, np.array([1 + E, 2.0, 1 + E**0.5])).parameters()
    assert told['c'] == pytest.approx(1.0, abs=1e-6)
    assert told['k'] == pytest.approx(E**0.5, abs=1e-6)
    assert told['t'] == pytest.approx([0.5, -0.5], abs=1e-6)


@pytest.mark.parametrize('seed', range(8))
def test_parameters_of_the_exponential_law_are_recovered(seed: int):
    rng = np.random.default_rng(seed)
    constant, slopes = rng.uniform(0.5, 3.0), rng.uniform(-2.0, 1.0, size=5)
    shares = drawn_mixtures(40, 5, seed)
    fitted = fit_exponential(shares, constant + np.exp(shares @ slopes))
    assert fitted.constant == pytest.approx(constant, abs=1e-4)
    assert fitted.slopes == pytest.approx(slopes, abs=1e-3)


def test_the_gradient_is_that_of_the_prediction():
    shares = drawn_mixtures(20, 3)
    fitted = fit_exponential(shares, 1.0 + np.exp(shares @ np.array([0.5, -1.0, 0.2])))
    at, step = np.array([0.2, 0.5, 0.3]), 1e-6
    moved = (fitted.predict(at + step * np.eye(3)) - fitted.predict(at - step * np.eye(3))) / (2 * step)
    assert fitted.gradient(at) == pytest.approx(moved, rel=1e-6)


def test_units_do_not_matter():
    shares = drawn_mixtures(30, 3)
    noise = 0.02 * np.random.default_rng(5).standard_normal(30)
    values = 2.0 + np.exp(shares @ np.array([0.4, -1.2, 0.1])) + noise
    nats, percent = fit_exponential(shares, values), fit_exponential(shares, 100 * values)
    assert percent.predict(shares) == pytest.approx(100 * nats.predict(shares), rel=1e-4)


def test_one_diverged_run_does_not_decide_the_fit():
    shares = drawn_mixtures(40, 3)
    clean = 2.0 + np.exp(shares @ np.array([0.4, -1.2, 0.1]))
    values = clean.copy()
    values[7] += 3.0
    sound = np.arange(40) != 7
    assert np.abs(fit_exponential(shares, values).predict(shares) - clean)[sound].max() < 0.15
    assert np.abs(fit_linear(shares, values).predict(shares) - clean)[sound].max() > 0.15


def test_the_exponential_law_refuses_metrics_that_are_not_above_0():
    with pytest.raises(InputError, match=r'above 0, but got: -0\.5.*--law regmix'):
        fit_exponential(drawn_mixtures(3, 2), np.array([1.0, -0.5, 2.0]))


def test_a_linear_law_reads_off_what_each_skill_alone_gives():
    shares = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.25, 0.75]])
    fitted = fit_linear(shares, np.array([3.0, 2.0, 2.5, 2.25]))
    assert fitted.slopes == pytest.approx([3.0, 2.0])


def test_a_skill_that_no_run_used_has_no_effect_of_its_own():
    shares = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    fitted = fit_linear(shares, np.array([3.0, 2.0, 2.5]))
    assert fitted.slopes == pytest.approx([3.0, 2.0, 2.5])  # that of the mean


def test_trees_say_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, 'lightgbm', None)
    with pytest.raises(InputError, match=r'needs LightGBM: pip install'):
        fit_trees(drawn_mixtures(20, 2), np.arange(20.0))


def test_trees_follow_a_step_that_no_line_follows():
    pytest.importorskip('lightgbm', reason='the extra `trees` is not installed')
    shares = drawn_mixtures(200, 2)
    values = np.where(shares[:, 0] > 0.5, 3.0, 2.0)
    fitted = fit_trees(shares, values)
    assert np.abs(fitted.predict(shares) - values).mean() < 0.02
    assert fitted.parameters()['trees'] > 0


@pytest.mark.parametrize('seed', range(4))
def test_the_fit_is_where_the_huber_loss_is_least(seed: int):
    rng = np.random.default_rng(seed)
    shares = drawn_mixtures(30, 3, seed)
    values = 1.0 + np.exp(shares @ rng.normal(size=3)) + 0.1 * rng.standard_t(3, size=30)
    threshold = HUBER * values.std()

    def loss(parameters: np.ndarray) -> float:
        size = np.abs(Exponential(parameters[0], parameters[1:]).predict(shares) - values)
        return float(np.where(size < threshold, size**2 / 2, threshold * (size - threshold / 2)).sum())

    fitted = fit_exponential(shares, values)
    found = np.array([fitted.constant, *fitted.slopes])
    for move in rng.normal(scale=1e-3, size=(200, 4)):
        assert loss(found) <= loss(found + move)
