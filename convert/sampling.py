"""Distinct random integers, the same on every machine and with every release of NumPy.

NumPy keeps the raw output of a bit generator stable over releases, but not what ``Generator`` makes of it, so
only ``random_raw`` is used.
"""

import hashlib
from collections.abc import Iterator

import numpy as np

from skillit_stream.base.errors import InputError

# Up to here a whole permutation is cheap (32 MB), and any share of the space can be drawn.
PERMUTED_SPACE = 1 << 22
# Words of 64 bits per draw: the modulo of so large a number favours no value by more than one in 2^50, even
# in the largest space there is here (26 variables, some 2^203 sentences).
WORDS = 4


def distinct_draws(space: int, count: int, *, seed: int, label: str) -> Iterator[int]:
    """Draw `count` different integers below `space`, in random order.

    Args:
        space: How many integers there are.
        count: How many to draw; memory grows with it, not with `space`.
        seed: Of the whole corpus.
        label: Of this stream of draws; streams of different labels are independent.

    Raises:
        InputError: There are fewer than `count`.
    """
    check_space(label, count, space)
    bits = _bit_generator(seed, label)
    if space <= PERMUTED_SPACE:
        order = np.argsort(bits.random_raw(space), kind='stable')
        return iter(order[:count].tolist())
    return _rejecting(bits, space, count)


def check_space(label: str, count: int, space: int) -> None:
    """Refuse to draw more than there are.

    Raises:
        InputError: `count` is larger than `space`.
    """
    if count > space:
        raise InputError(
            f'{label}: {count} samples asked for, but only {space} different ones exist; '
            'lower --train-samples or --eval-samples'
        )


def _rejecting(bits: np.random.Philox, space: int, count: int) -> Iterator[int]:
    seen: set[int] = set()
    while len(seen) < count:
        value = int.from_bytes(bits.random_raw(WORDS).astype('<u8').tobytes(), 'little') % space
        if value not in seen:
            seen.add(value)
            yield value


def _bit_generator(seed: int, label: str) -> np.random.Philox:
    digest = hashlib.blake2b(f'{seed}:{label}'.encode(), digest_size=16).digest()
    return np.random.Philox(key=int.from_bytes(digest, 'little'))
