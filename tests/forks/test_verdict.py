"""What pairs say: Student's t against its 5 % bound, and how many more pairs could tell."""

import numpy as np
import pytest

from skillit_stream.forks.verdict import MOST_PAIRS, bound, t_value, verdict_of
from skillit_stream.formats.fork_result import CANNOT_TELL, STAY, TAKE


def test_the_bounds_are_those_of_the_tables():
    # One-sided 5 % of Student's t with 1, 2, 4 and 9 degrees of freedom.
    assert [round(bound(pairs), 3) for pairs in (2, 3, 5, 10)] == [6.314, 2.92, 2.132, 1.833]


def test_a_gain_above_the_bound_is_taken():
    gains = np.array([0.10, 0.11, 0.12])
    assert t_value(gains) == pytest.approx(0.11 / (0.01 / np.sqrt(3)))
    assert verdict_of(gains).kind == TAKE
    assert str(verdict_of(gains)).startswith('take it: 0.1100 nats per token lower (t = 19.05 of 3 pairs')


@pytest.mark.parametrize('gains', [[-0.1, -0.1, -0.2], [0.0, 0.0, 0.0], [0.1, -0.1, 0.02]])
def test_no_gain_or_one_that_is_lost_in_noise_stays(gains: list[float]):
    verdict = verdict_of(np.array(gains))
    assert verdict.kind == STAY
    assert str(verdict).startswith('stay: no gain above noise')


def test_a_gain_near_the_bound_asks_for_as_many_pairs_as_would_do():
    gains = np.array([0.05, 0.10, 0.01])
    verdict = verdict_of(gains)
    assert verdict.kind == CANNOT_TELL
    assert str(verdict).startswith(f'cannot tell: {verdict.more_pairs} more pair')
    effect, enough = t_value(gains) / np.sqrt(3), 3 + verdict.more_pairs
    assert effect * np.sqrt(enough) > bound(enough)
    assert effect * np.sqrt(enough - 1) <= bound(enough - 1)
    assert enough <= MOST_PAIRS


def test_pairs_that_are_all_the_same_gain_are_clear():
    assert verdict_of(np.full(3, 0.5)).kind == TAKE
    assert verdict_of(np.full(3, -0.5)).kind == STAY


def test_a_gain_that_is_clear_and_small_is_no_gain_where_more_is_asked_for():
    gains = np.array([0.014, 0.015, 0.016])
    assert verdict_of(gains).kind == TAKE
    assert verdict_of(gains, min_gain=0.01).kind == TAKE
    assert str(verdict_of(gains, min_gain=0.02)) == (
        'stay: no gain above 0.02 nats per token and noise (t = -8.66 of 3 pairs, bound 2.92)'
    )
    unclear = verdict_of(gains, min_gain=0.014)
    assert (unclear.kind, unclear.more_pairs) == (CANNOT_TELL, 2)


@pytest.mark.parametrize('min_gain', [0.0, 0.02])
def test_a_gain_as_small_as_is_asked_for_is_taken_in_a_twentieth_of_the_cases(min_gain: float):
    rng = np.random.default_rng(12)
    gains = min_gain + 0.01 * rng.standard_normal((4000, 3))
    assert 0.04 < np.mean([verdict_of(one, min_gain).kind == TAKE for one in gains]) < 0.06
