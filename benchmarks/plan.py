"""Planning at RedPajama-1T scale: 590.8 M samples in 36,065 shards over 7 streams, from index files alone.

    python benchmarks/plan.py [--out benchmarks/results] [--skip-peer]

Measures, each in a process of its own: seconds and memory to build the dataset, to plan a round of 512,000
samples under equal proportions, to its first batch, and the shards the round touches. The peer is
StreamingDataset with the same proportions (under a minute and about 11 GB of memory).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from reporting import publish

# Tokens by source, billions (RedPajama-1T's own figures).
TOKENS = {
    'arxiv': 28,
    'book': 26,
    'c4': 175,
    'common_crawl': 878,
    'github': 59,
    'stackexchange': 20,
    'wikipedia': 24,
}
SEQ_LEN = 2048
SAMPLES_PER_SHARD = 16_384
ROUND = 512_000
BATCH = 1_000


def write_indexes(root: Path) -> None:
    """An index.json a source, as MDSWriter would write it; no shards."""
    for source, billions in TOKENS.items():
        samples = int(billions * 1e9 / SEQ_LEN)
        sizes = [min(SAMPLES_PER_SHARD, samples - at) for at in range(0, samples, SAMPLES_PER_SHARD)]
        shards = [
            {
                'column_encodings': [f'ndarray:uint16:{SEQ_LEN}'],
                'column_names': ['tokens'],
                'column_sizes': [2 * SEQ_LEN],
                'compression': None,
                'format': 'mds',
                'hashes': [],
                'raw_data': {'basename': f'shard.{number:05}.mds', 'bytes': size * 4100 + 200, 'hashes': {}},
                'samples': size,
                'size_limit': 1 << 26,
                'version': 2,
                'zip_data': None,
            }
            for number, size in enumerate(sizes)
        ]
        (root / source).mkdir(parents=True)
        (root / source / 'index.json').write_text(json.dumps({'shards': shards, 'version': 2}))


def peak_gb() -> float:
    """Most memory this process has had, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure_ours(root: Path) -> dict[str, Any]:
    """SkillStreamingDataset: build, plan three rounds, play to the first batch's ids."""
    from streaming import Stream

    from skillit_stream.streams.dataset import SkillStreamingDataset

    imported, began = peak_gb(), time.perf_counter()
    dataset = SkillStreamingDataset(
        streams={source: Stream(local=str(root / source)) for source in TOKENS},
        round_size=ROUND,
        batch_size=BATCH,
        proportions={source: 1 / len(TOKENS) for source in TOKENS},
    )
    built = time.perf_counter() - began
    seconds, shards = [], []
    for number in range(3):
        began = time.perf_counter()
        ids = dataset.sample_ids(number)
        seconds.append(time.perf_counter() - began)
        shards.append(len(np.unique(dataset.spanner.locate(ids)[0])))
    began = time.perf_counter()
    window = next(dataset._rounds.walk(0))
    dataset._rounds.look_up(window)
    return {
        'loader': 'skillit_stream',
        'build s': built,
        'round s': float(np.median(seconds)),
        'first window s': time.perf_counter() - began,
        'shards touched': max(shards),
        'GB above import': peak_gb() - imported,
    }


def measure_streaming(root: Path) -> dict[str, Any]:
    """StreamingDataset with proportions: build, and generate the first epoch."""
    from streaming import Stream, StreamingDataset
    from streaming.base.batching import generate_work
    from streaming.base.world import World

    imported, began = peak_gb(), time.perf_counter()
    dataset = StreamingDataset(
        streams=[Stream(local=str(root / source), proportion=1 / len(TOKENS)) for source in TOKENS],
        epoch_size=ROUND,
        batch_size=BATCH,
        shuffle=True,
        num_canonical_nodes=1,
    )
    built = time.perf_counter() - began
    dataset._set_shuffle_block_size(World.detect())
    began = time.perf_counter()
    ids = generate_work('random', dataset, World.detect(), 0, 0).ravel()
    planned = time.perf_counter() - began
    bounds = np.concatenate([np.zeros(1, np.int64), dataset.samples_per_shard.cumsum()])
    shards = np.unique(np.searchsorted(bounds, ids[ids >= 0], side='right'))
    return {
        'loader': 'StreamingDataset',
        'build s': built,
        'round s': planned,
        'first window s': planned,
        'shards touched': len(shards),
        'GB above import': peak_gb() - imported,
    }


MEASURES = {'ours': measure_ours, 'streaming': measure_streaming}


def main() -> None:
    """Run the measurements in processes of their own and publish them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', help='folder for the JSON')
    parser.add_argument('--skip-peer', action='store_true', help='leave StreamingDataset out')
    parser.add_argument('--measure', choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument('--root', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(MEASURES[args.measure](Path(args.root))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_indexes(Path(folder))
        for measure in ('ours',) if args.skip_peer else MEASURES:
            command = [sys.executable, __file__, '--measure', measure, '--root', folder]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows.append(json.loads(printed.strip().splitlines()[-1]))
    configuration = {
        'tokens_billions': TOKENS,
        'seq_len': SEQ_LEN,
        'samples_per_shard': SAMPLES_PER_SHARD,
        'round_size': ROUND,
        'global_batch': BATCH,
        'proportions': 'equal',
    }
    publish('plan', rows, configuration=configuration, out=args.out)


if __name__ == '__main__':
    main()
