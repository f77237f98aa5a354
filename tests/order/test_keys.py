"""Keyed randomness: fixed for ever, exact, computable in pieces."""

import json
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skillit_stream.order.keys import make_key, permutation, permutations, random_words
from tests.support.paths import GOLDEN

KNOWN = json.loads((GOLDEN / 'keys.json').read_text())
KEYS = st.integers(0, 2**64 - 1)


def test_keys_never_change():
    for case in KNOWN['make_key']:
        assert make_key(*case['parts']) == case['key'], case


def test_words_never_change():
    for case in KNOWN['random_words']:
        words = random_words(case['key'], np.array(case['counters']))
        assert words.tolist() == case['words'], case


def test_permutations_never_change():
    for case in KNOWN['permutations']:
        rows = permutations(case['key'], case['first'], len(case['rows']), len(case['rows'][0]))
        assert rows.tolist() == case['rows'], case


def test_words_are_those_of_the_published_splitmix64():
    # The first five outputs of the reference implementation seeded with 1234567.
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert random_words(1234567, np.arange(5)).tolist() == expected


def test_every_part_of_a_key_counts_with_its_type_and_place():
    keys = [
        make_key(),
        make_key(1),
        make_key('1'),
        make_key(1, 1),
        make_key(11),
        make_key('a', 'bc'),
        make_key('ab', 'c'),
        make_key('abc'),
        make_key(0, 'block', 1),
        make_key(1, 'block', 0),
    ]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**64 for key in keys)


@given(key=KEYS, length=st.integers(0, 200), cut=st.integers(0, 200))
def test_words_can_be_computed_in_pieces(key: int, length: int, cut: int):
    whole = random_words(key, np.arange(length))
    cut = min(cut, length)
    pieces = [random_words(key, np.arange(cut)), random_words(key, np.arange(cut, length))]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    backwards = random_words(key, np.arange(length)[::-1])
    np.testing.assert_array_equal(backwards[::-1], whole)


@given(keys=st.lists(KEYS, min_size=1, max_size=5), length=st.integers(1, 20))
def test_many_keys_at_once_give_the_words_of_each(keys: list[int], length: int):
    counters = np.tile(np.arange(length), (len(keys), 1))
    table = random_words(np.array(keys, np.uint64)[:, None], counters)
    for key, row in zip(keys, table, strict=True):
        np.testing.assert_array_equal(row, random_words(key, np.arange(length)))


@given(key=KEYS, length=st.integers(0, 300))
def test_a_permutation_is_a_permutation(key: int, length: int):
    assert sorted(permutation(key, length).tolist()) == list(range(length))


@given(key=KEYS, first=st.integers(0, 50), count=st.integers(1, 8), length=st.integers(1, 30))
def test_permutations_can_be_computed_from_any_number_on(key: int, first: int, count: int, length: int):
    rows = permutations(key, first, count, length)
    assert rows.shape == (count, length)
    assert (np.sort(rows, axis=1) == np.arange(length)).all()
    for number, row in enumerate(rows, start=first):
        np.testing.assert_array_equal(row, permutations(key, number, 1, length)[0])


def test_all_orders_are_about_equally_frequent():
    draws = 24_000
    seen = Counter(tuple(row) for row in permutations(make_key(7), 0, draws, 4).tolist())
    assert len(seen) == 24
    chi_square = sum((count - draws / 24) ** 2 / (draws / 24) for count in seen.values())
    # 23 degrees of freedom: 99.9 % of fair shuffles lie below 49.7.
    assert chi_square < 49.7
