"""Shuffle quality of the tapes against Streaming's `py1e` and `py1br`, beside the shards it costs to hold.

    python benchmarks/shuffle.py [--out benchmarks/results] [--shards 200] [--seeds 3]

One stream, one canonical node, one pass; every order is made with shuffle blocks of 2 to 32 shards.

The measure is the one of Streaming's simulator: take the stream's samples in the order in which they are
drawn, note the distance of each one's number to that of the one before, and compute the entropy of these
distances in bits; do the same for the numbers of their shards. `quality` is the sum of both, `of full` its
ratio to that of a permutation of the whole stream. The stream in its own order has about 0.01 bits.

`held` is what the quality costs: a shard is held from its first sample to its last, and a node that is to
fetch no shard twice must have room for the largest number held at once (`held most`; `held mean` is the mean
over the samples drawn). The blocks of a tape end at shard edges and are drawn one after another, so it holds
one block. `py1br` cuts blocks anywhere, `py1e` spreads each shard over a range of its own, and so both hold
shards of neighbouring blocks too: compare rows of the same `held most`, not of the same block size. In a mix
every stream holds as many. `new at once` is the other cost: the most shards that are first used while as many
samples are drawn as one shard has. A tape needs all of a block when it comes to it, `py1e` half a block
at the start and then one shard after another; whoever fetches a block ahead holds it beside the one in use.

What the measure does not tell: it sees only neighbours, so an order that repeats a good pattern would score
well; it takes the files' own order to be the only order that matters; and a batch of a mixture takes its
neighbours from several streams, which is not counted for anybody. It says nothing of training losses.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reporting import publish
from streaming.base.shuffle import get_shuffle

from skillit_stream.order.tape import Tape

Int64 = NDArray[np.int64]

SHARD_SIZES = (1_024, 16_384)  # samples; the second is RedPajama's: 64 MB of 2,048 tokens
BLOCKS = (2, 4, 8, 16, 32)  # shards


def entropy(numbers: Int64) -> float:
    """Entropy, in bits, of the distances between neighbours of int64 [n]."""
    counts = np.bincount(np.abs(np.diff(numbers)))
    shares = counts[counts > 0] / (len(numbers) - 1)
    return float(-(shares * np.log2(shares)).sum())


def held(shards: Int64) -> Int64:
    """How many shards are between their first and their last use, at each place of an order.

    Args:
        shards: int64 [n], the shard of each sample drawn.

    Returns:
        int64 [n].
    """
    _, first = np.unique(shards, return_index=True)
    _, last = np.unique(shards[::-1], return_index=True)
    edges = np.zeros(len(shards) + 1, np.int64)
    np.add.at(edges, first, 1)
    # The place after the last use.
    np.add.at(edges, len(shards) - last, -1)
    return edges.cumsum()[:-1]


def new_at_once(shards: Int64, samples: int) -> int:
    """The most shards of int64 [n] whose first use falls into a run of `samples` samples."""
    _, first = np.unique(shards, return_index=True)
    first.sort()
    return int((np.searchsorted(first, first + samples) - np.arange(len(first))).max())


def tape_order(sizes: Int64, seed: int, block: int) -> Int64:
    """The first pass of a tape, int64 [samples]."""
    line = np.arange(sizes.sum())
    return Tape('skill', sizes, seed=seed, block_size=block).local_ids(np.zeros_like(line), line)


def streaming_order(algorithm: str) -> Callable[[Int64, int, int], Int64]:
    """The first epoch of one of Streaming's algorithms."""

    def order(sizes: Int64, seed: int, block: int) -> Int64:
        with warnings.catch_warnings():
            # It warns of each shard that is larger than its randomly sized block.
            warnings.simplefilter('ignore')
            return get_shuffle(algorithm, sizes, 1, seed, 0, block)

    return order


def whole_order(sizes: Int64, seed: int, block: int) -> Int64:
    """A permutation of the whole stream."""
    del block
    return np.random.default_rng(seed).permutation(int(sizes.sum()))


ORDERS: dict[str, Callable[[Int64, int, int], Int64]] = {
    'tape': tape_order,
    'py1e': streaming_order('py1e'),
    'py1br': streaming_order('py1br'),
}


def measure(
    order: Callable[[Int64, int, int], Int64], shards: int, size: int, block: int, seeds: int
) -> dict[str, float]:
    """Means over seeds for streams of `shards` shards of `size` samples, in blocks of `block` samples."""
    found = []
    for seed in range(seeds):
        began = time.perf_counter()
        ids = order(np.full(shards, size, np.int64), seed, block)
        seconds = time.perf_counter() - began
        of_shard = ids // size
        at_once = held(of_shard)
        found.append(
            {
                'samples bits': entropy(ids),
                'shards bits': entropy(of_shard),
                'held most': float(at_once.max()),
                'held mean': float(at_once.mean()),
                'new at once': float(new_at_once(of_shard, size)),
                's': seconds,
            }
        )
    return {name: mean(one[name] for one in found) for name in found[0]}


def rows_of_size(size: int, shards: int, seeds: int) -> list[dict[str, Any]]:
    """A row an order and block size, the full shuffle last."""
    measured = [
        (name, block, measure(ORDERS[name], shards, size, block * size, seeds))
        for name in ORDERS
        for block in BLOCKS
        if block <= shards
    ]
    measured.append(('full', shards, measure(whole_order, shards, size, 0, seeds)))
    best = measured[-1][2]
    full = best['samples bits'] + best['shards bits']
    rows = []
    for name, block, figures in measured:
        quality = figures['samples bits'] + figures['shards bits']
        rows.append(
            {
                'samples a shard': size,
                'order': name,
                'block (shards)': block,
                'quality': quality,
                'of full': quality / full,
                **figures,
            }
        )
    return rows


def main() -> None:
    """Measure every order and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', help='folder for the JSON')
    parser.add_argument('--shards', type=int, default=200, help='shards of the stream')
    parser.add_argument('--seeds', type=int, default=3, help='the figures are means over so many seeds')
    args = parser.parse_args()
    rows = [row for size in SHARD_SIZES for row in rows_of_size(size, args.shards, args.seeds)]
    configuration = {
        'shards': args.shards,
        'samples_per_shard': SHARD_SIZES,
        'blocks_in_shards': BLOCKS,
        'seeds': list(range(args.seeds)),
        'canonical_nodes': 1,
    }
    publish('shuffle', rows, configuration=configuration, out=args.out)


if __name__ == '__main__':
    main()
