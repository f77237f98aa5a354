"""Minimising over mixtures with limits: against solutions in closed form and against grids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillit_stream.mixture_fit.laws import Exponential
from skillit_stream.mixture_fit.search import (
    Bounds,
    convex_mixture,
    distance_to_runs,
    simulated_mixture,
)
from skillit_stream.mixture_fit.simplex import Problem, entropy_term, limited, minimise
from tests.support.mix_runs import CONSTANTS, SLOPES, simplex_grid

FITS = [Exponential(c, t) for c, t in zip(CONSTANTS.tolist(), SLOPES, strict=True)]
HALVES = np.array([0.5, 0.5])


def test_what_is_cut_goes_to_the_others_in_proportion():
    shares = limited(np.log([0.5, 0.3, 0.2]), np.array([0.4, 1.0, 1.0]))
    assert shares == pytest.approx([0.4, 0.36, 0.24])


def test_cutting_one_may_push_another_over_its_limit():
    shares = limited(np.log([0.5, 0.3, 0.2]), np.array([0.2, 0.4, 1.0]))
    assert shares == pytest.approx([0.2, 0.4, 0.4])


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 8), room=st.sampled_from([1.0, 1.001, 1.5, 8.0]))
def test_limited_mixtures_sum_to_1_and_keep_their_limits(seed: int, k: int, room: float):
    rng = np.random.default_rng(seed)
    limits = room * rng.dirichlet(np.full(k, 0.5))  # they sum to 1 or more, and some are next to nothing
    shares = limited(rng.uniform(-800, 800, size=(5, k)), limits)
    assert shares.sum(axis=-1) == pytest.approx(1.0, abs=1e-9)
    assert (shares >= 0).all()
    assert (shares <= limits + 1e-12).all()


def test_a_line_with_a_pull_ends_at_the_softmax():
    # minimise g·p + λ KL(p ‖ m): p ∝ m exp(-g / λ)
    slope, natural, pull = np.array([0.3, 0.1, 0.7]), np.array([0.5, 0.2, 0.3]), 0.25
    problem = Problem(
        value=lambda p: float(slope @ p),
        gradient=lambda _: slope,
        limits=np.ones(3),
        log_base=np.log(natural),
        pull=pull,
    )
    expected = natural * np.exp(-slope / pull)
    found, gap = minimise(problem, tolerance=1e-12)
    assert found == pytest.approx(expected / expected.sum(), abs=1e-5)
    assert gap <= 1e-12


def test_a_line_without_a_pull_fills_the_best_up_to_their_limits():
    slope = np.array([0.3, 0.1, 0.7, 0.2])
    problem = Problem(
        value=lambda p: float(slope @ p),
        gradient=lambda _: slope,
        limits=np.array([1.0, 0.25, 1.0, 0.5]),
        log_base=np.zeros(4),
    )
    assert minimise(problem, tolerance=1e-9)[0] == pytest.approx([0.25, 0.25, 0.0, 0.5], abs=1e-6)


@pytest.mark.parametrize('limits', [(1.0, 1.0, 1.0), (1.0, 0.3, 1.0), (0.5, 0.5, 0.1)])
@pytest.mark.parametrize('pull', [0.0, 0.1])
def test_the_convex_search_finds_what_a_grid_finds(limits: tuple[float, ...], pull: float):
    bounds = Bounds(limits=np.array(limits), log_base=np.log([0.6, 0.1, 0.3]), pull=pull)
    weights = np.array([0.5, 0.5])
    found, gap = convex_mixture(FITS, weights, bounds, 1e-7)

    def objective(shares: np.ndarray) -> np.ndarray:
        values = sum(w * fit.predict(shares) for w, fit in zip(weights, FITS, strict=True))
        return values + pull * entropy_term(shares, bounds.log_base)

    grid = simplex_grid(200)
    grid = grid[(grid <= bounds.limits + 1e-9).all(axis=1)]
    best = objective(grid)
    assert float(objective(found[None])[0]) <= best.min() + 1e-6
    assert found == pytest.approx(grid[best.argmin()], abs=0.01)
    assert gap <= 1e-7


def test_simulation_finds_the_corner_of_a_line_and_stays_within_limits():
    fits = [Exponential(1.0, np.array([0.0, -2.0, 0.0]))]
    free = Bounds(limits=np.ones(3), log_base=np.zeros(3), pull=0.0)
    held = Bounds(limits=np.array([1.0, 0.4, 0.5]), log_base=np.zeros(3), pull=0.0)
    assert simulated_mixture(fits, np.ones(1), free, 0)[1] > 0.98
    found = simulated_mixture(fits, np.ones(1), held, 0)
    assert found[1] == pytest.approx(0.4, abs=1e-3)
    assert (found <= held.limits + 1e-12).all()


def test_simulation_follows_the_pull():
    fits, natural = [Exponential(1.0, np.array([0.0, -2.0, 0.0]))], np.array([0.6, 0.1, 0.3])

    def found(pull: float) -> np.ndarray:
        bounds = Bounds(limits=np.ones(3), log_base=np.log(natural), pull=pull)
        return simulated_mixture(fits, np.ones(1), bounds, 0)

    assert found(0.0)[1] > 0.95
    assert found(100.0) == pytest.approx(natural, abs=0.03)


def test_simulation_is_the_same_for_the_same_seed():
    bounds = Bounds(limits=np.ones(2), log_base=np.log(HALVES), pull=0.5)
    fits = [Exponential(1.0, np.array([0.3, -0.3]))]
    one, same, other = (simulated_mixture(fits, np.ones(1), bounds, seed) for seed in (3, 3, 4))
    assert (one == same).all()
    assert (one != other).any()


def test_distance_to_the_runs():
    runs = np.array([[0.8, 0.2, 0.0], [0.2, 0.8, 0.0]])
    assert distance_to_runs(np.array([0.5, 0.5, 0.0]), runs) < 0.001
    assert distance_to_runs(np.array([1.0, 0.0, 0.0]), runs) == pytest.approx(0.2, abs=0.002)


@given(seed=st.integers(0, 2**32 - 1), runs=st.integers(1, 12), k=st.integers(2, 6))
def test_blends_of_the_runs_are_covered(seed: int, runs: int, k: int):
    rng = np.random.default_rng(seed)
    mixtures = rng.dirichlet(np.full(k, 0.5), size=runs)
    assert distance_to_runs(rng.dirichlet(np.ones(runs)) @ mixtures, mixtures) < 1e-6
