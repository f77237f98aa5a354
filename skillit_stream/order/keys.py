"""Keyed randomness that is the same on every machine and every version: SplitMix64 over NumPy integers.

A *key* is 64 bits derived from names and numbers; its stream of random words is a pure function of the
key and a counter, so any stretch of it can be computed alone and many short ones at once. Only integer
arithmetic and a stable sort are used: both are exact, whereas ``Generator.permutation`` may change
between NumPy versions.

SplitMix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def make_key(*parts: str | int) -> int:
    """Derive a 64-bit key from names and numbers; every part and its position counts."""
    text = '\0'.join(f'{type(part).__name__}:{part}' for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), 'little')


def random_words(key: int | NDArray[np.uint64], counters: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The words number `counters` of the key's random stream; key and counters broadcast."""
    words = (counters.astype(np.uint64) + np.uint64(1)) * _GAMMA
    words = words + (np.uint64(key) if isinstance(key, int) else key)
    words = (words ^ (words >> np.uint64(30))) * _MIX_1
    words = (words ^ (words >> np.uint64(27))) * _MIX_2
    return words ^ (words >> np.uint64(31))


def permutation(key: int, length: int) -> NDArray[np.int64]:
    """The key's permutation of ``range(length)``."""
    return np.argsort(random_words(key, np.arange(length)), kind='stable')


def permutations(key: int, first: int, count: int, length: int) -> NDArray[np.int64]:
    """Permutations number `first` .. `first + count - 1` of ``range(length)``; int64 [count, length]."""
    counters = (first + np.arange(count))[:, None] * length + np.arange(length)
    return np.argsort(random_words(key, counters), axis=1, kind='stable')
