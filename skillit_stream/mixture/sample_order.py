"""Curricula over samples: which of a stream's samples may be drawn yet, by how easy they are.

A *key* is what samples are ordered by, the lowest first: a sample's loss, or minus its loss where the hardest
come first. A *pace* admits the samples up to one key after another while a stream is drawn from.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# How far the curriculum has come (0 to 1, of the part that it takes) and the fraction b at the start ->
# the fraction of samples that may be drawn.
PACINGS: dict[str, Callable[[float, float], float]] = {
    'linear': lambda progress, start: start + (1 - start) * progress,
    'logarithmic': lambda progress, start: (
        start + (1 - start) * (1 + 0.1 * math.log(progress + math.exp(-10)))
    ),
}


def paced_fraction(pacing: str, progress: float, *, start: float, full_at: float) -> float:
    """The fraction of samples that may be drawn when a run has come so far.

    Wu, Dyer and Neyshabur 2021 (arXiv 2012.03107), section 4: with N samples, T steps, b and a,
    linear: N b + N (1 - b) t / (a T); logarithmic: N b + N (1 - b) (1 + .1 log(t / (a T) + e^-10)); all N
    from step a T on.

    Args:
        pacing: A name of `PACINGS`.
        progress: t / T, above 0, at most 1.
        start: b, 0 to 1.
        full_at: a, above 0.

    Returns:
        Above 0, at most 1.
    """
    return min(1.0, max(0.0, PACINGS[pacing](min(1.0, progress / full_at), start)))


class RankedSamples(Protocol):
    """The samples of a stream, ordered by key within each shard."""

    @property
    def samples(self) -> int:
        """How many there are."""
        ...

    def reversed(self) -> 'RankedSamples':
        """The same samples by minus their keys."""
        ...

    def counts(self, key: float) -> Int64:
        """Samples of each shard up to a key, int64 [shards]."""
        ...

    def ids(self, shards: Int64, ranks: Int64) -> Int64:
        """Stream-local ids of the samples with the given ranks (from 0) in their shards, int64 [n]."""
        ...

    def some_keys(self, most: int) -> Float64:
        """Keys of samples spread evenly over all ranks of all shards: all of them if they are at most `most`."""
        ...

    def describe(self) -> dict[str, Any]:
        """What identifies the order, in plain Python."""
        ...

    def check_stream(self, skill: str, digest: str) -> None:
        """Refuse a stream of other shards, by their digest; raises InputError."""
        ...


@dataclass(frozen=True)
class Pace:
    """How far down its order a stream may be drawn from, by how much of it has been drawn.

    Attributes:
        begins: Samples of this stream drawn in the whole run when each stage begins; ascending from 0.
        keys: The highest key that may be drawn in each stage; the last stage has no end.
    """

    begins: tuple[int, ...]
    keys: tuple[float, ...]

    def __post_init__(self) -> None:
        if (
            len(self.begins) != len(self.keys)
            or self.begins[:1] != (0,)
            or list(self.begins) != sorted(set(self.begins))
            or not all(map(math.isfinite, self.keys))
        ):
            raise InputError(
                f'A pace must have a finite key a stage, and stages that begin at 0 and go up, but got: begins '
                f'{list(self.begins)[:5]}, keys {list(self.keys)[:5]}.'
            )


@dataclass(frozen=True, eq=False)
class SampleOrder:
    """The order of a stream's samples and the pace at which it is gone through."""

    ranked: RankedSamples
    pace: Pace

    def describe(self) -> dict[str, Any]:
        """What the order of draws depends on, in plain Python."""
        return {
            **self.ranked.describe(),
            'begins': list(self.pace.begins),
            'keys': list(self.pace.keys),
        }


def keys_at(fractions: Sequence[float], ranked: Sequence[RankedSamples], most: int) -> list[float]:
    """The key up to which a fraction of the samples of all streams lie, for each of several fractions.

    Args:
        fractions: Above 0, at most 1.
        ranked: The streams.
        most: Keys looked at. If there are more samples, evenly spread ones stand for them, and a fraction is
            met to within about 1 / `most`.

    Returns:
        A key a fraction, each the key of a sample.
    """
    total = sum(one.samples for one in ranked)
    keys, weights = [], []
    for one in ranked:
        some = one.some_keys(max(1, most * one.samples // total))
        keys.append(some)
        weights.append(np.full(len(some), one.samples / len(some)))
    joined = np.concatenate(keys)
    order = np.argsort(joined, kind='stable')
    reached = np.concatenate(weights)[order].cumsum()
    # Half a sample of room: sums of weights are not exact.
    wanted = np.asarray(fractions) * total - 0.5
    places = np.minimum(np.searchsorted(reached, wanted), len(joined) - 1)
    return joined[order][places].tolist()
