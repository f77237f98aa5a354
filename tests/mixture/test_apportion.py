"""Counts are exact: they sum to what was asked for and no skill is off by a whole sample."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.apportion import cumulative_counts, largest_remainder

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


def test_a_tiny_proportion_gets_its_sample_when_it_is_due():
    """Half a part in a hundred thousand of 64,000: a third of a sample a round."""
    shares, owed, drawn = [0.4999975, 0.4999975, 5e-6], np.zeros(3), np.zeros(3, np.int64)
    for number in range(1, 101):
        counts, owed = cumulative_counts(shares, 64_000, owed)
        drawn += counts
        assert (np.abs(drawn - np.array(shares) * 64_000 * number) < 1).all()
    assert drawn[2] == 32


@thorough
@given(proportions(), st.integers(1, 500), st.integers(1, 40))
def test_after_any_number_of_rounds_each_skill_is_within_a_sample_of_its_quotas(shares, total, rounds):
    owed, drawn = np.zeros(len(shares)), np.zeros(len(shares), np.int64)
    quotas = np.array(shares) * (total / np.sum(shares))
    for number in range(1, rounds + 1):
        counts, owed = cumulative_counts(shares, total, owed)
        assert counts.sum() == total
        assert (counts >= 0).all()
        assert (counts[np.array(shares) == 0] == 0).all()
        drawn += counts
        assert (np.abs(drawn - quotas * number) < 1 + 1e-6).all()
        assert owed == pytest.approx(quotas * number - drawn, abs=1e-6)


@thorough
@given(
    st.lists(st.lists(st.integers(1, 50), min_size=4, max_size=4), min_size=1, max_size=30), st.integers(0, 3)
)
def test_changing_proportions_that_leave_every_skill_a_sample_keep_to_it_too(mixtures, more):
    owed, drawn, due = np.zeros(4), np.zeros(4, np.int64), np.zeros(4)
    for weights in mixtures:
        total = sum(weights) + more
        shares = np.array(weights) / sum(weights)
        counts, owed = cumulative_counts(shares, total, owed)
        drawn, due = drawn + counts, due + shares * total
        assert counts.sum() == total
        assert (np.abs(drawn - due) < 1 + 1e-6).all()


@thorough
@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any), min_size=1, max_size=30))
def test_whatever_the_proportions_a_proportion_of_zero_draws_nothing_and_counts_are_exact(mixtures):
    owed = np.zeros(3)
    for weights in mixtures:
        shares = np.array(weights) / sum(weights)
        counts, owed = cumulative_counts(shares, 5, owed)
        assert counts.sum() == 5
        assert (counts >= 0).all()
        assert (counts[shares == 0] == 0).all()
        assert abs(owed.sum()) < 1e-9


@thorough
@given(st.lists(st.integers(0, 30), min_size=1, max_size=9).filter(any), st.integers(1, 30))
def test_quotas_of_whole_samples_are_what_is_drawn(counts, rounds):
    total, owed = sum(counts), np.zeros(len(counts))
    for _ in range(rounds):
        found, owed = cumulative_counts(np.array(counts) / total, total, owed)
        assert found.tolist() == counts
