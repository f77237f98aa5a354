"""Counts are exact: they sum to what was asked for and no skill is off by a whole sample."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.apportion import largest_remainder

thorough = settings(max_examples=150, deadline=None)


@st.composite
def proportions(draw):
    weights = np.array(draw(st.lists(st.floats(0, 1e6), min_size=1, max_size=30)))
    if weights.sum() < 1e-3:
        weights[0] = 1.0
    return weights / weights.sum()


@thorough
@given(proportions(), st.integers(0, 10**9))
def test_counts_sum_to_the_total_and_stay_within_one_of_the_quota(shares, total):
    counts = largest_remainder(shares, total)
    assert counts.dtype == np.int64
    assert counts.sum() == total
    assert np.all(np.abs(counts - shares * total) < 1 + 1e-6)
    assert np.all(counts >= 0)


@thorough
@given(proportions(), st.integers(0, 10**6))
def test_a_zero_share_draws_nothing(shares, total):
    shares = np.append(shares, 0.0)
    assert largest_remainder(shares, total)[-1] == 0
    assert np.all(largest_remainder(shares, total)[shares == 0] == 0)


@pytest.mark.parametrize(
    ('shares', 'total', 'counts'),
    [
        ([0.5, 0.3, 0.2], 10, [5, 3, 2]),
        ([0.29, 0.71], 100, [29, 71]),  # 0.29 * 100 is 28.999999999999996
        ([1 / 3, 1 / 3, 1 / 3], 10, [4, 3, 3]),
        ([0.25, 0.25, 0.25, 0.25], 6, [2, 2, 1, 1]),
        ([0.1, 0.2, 0.7], 5, [1, 1, 3]),  # 0.5, 1, 3.5: a tie that noise would decide for the last
        ([0.7, 0.2, 0.1], 5, [4, 1, 0]),
        ([0.42, 0.41, 0.17], 2, [1, 1, 0]),
        ([1.0, 0.0], 7, [7, 0]),
        ([0.6, 0.4], 0, [0, 0]),
    ],
)
def test_counts_of_cases_worked_by_hand(shares, total, counts):
    assert largest_remainder(shares, total).tolist() == counts


def test_noise_in_the_sum_is_divided_out():
    assert largest_remainder(np.array([0.5, 0.5]) * (1 + 5e-10), 512_000).tolist() == [256_000, 256_000]


@thorough
@given(proportions(), st.integers(0, 10**6), st.integers(-4, 4))
def test_noise_in_the_last_place_changes_no_count_of_equal_shares(shares, total, places):
    k = len(shares)
    equal = np.full(k, 1 / k)
    noisy = equal + places * np.spacing(equal)
    assert largest_remainder(noisy, total).tolist() == largest_remainder(equal, total).tolist()


@pytest.mark.parametrize(
    ('shares', 'message'),
    [
        ([0.5, -0.5, 1.0], r'not negative, but got: -0\.5 for skill number 1'),
        ([0.5, float('nan')], 'finite and not negative, but got: nan for skill number 1'),
        ([float('inf'), 0.5], 'finite and not negative, but got: inf for skill number 0'),
        ([0.0, 0.0], r'must sum to 1, but got: 0\.0'),
        ([0.5, 0.4], r'must sum to 1, but got: 0\.9; divide each by their sum'),
        ([], 'one share per skill'),
        ([[0.5, 0.5]], r'shape \(1, 2\)'),
    ],
)
def test_what_is_no_mixture_is_refused(shares, message):
    with pytest.raises(InputError, match=message):
        largest_remainder(shares, 10)


@pytest.mark.parametrize('total', [-1, 2**41])
def test_a_total_out_of_range_is_refused(total):
    with pytest.raises(
        InputError, match=f'total must be between 0 and 1099511627776 samples, but got: {total}'
    ):
        largest_remainder([1.0], total)
