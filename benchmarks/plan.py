"""Planning at RedPajama-1T scale: 590.8 M samples in 36,065 shards over 7 streams, from index files alone.

    python benchmarks/plan.py [--out benchmarks/results] [--skip-peer]

Measures, each in a process of its own: seconds and memory to build the dataset, to plan a round of 512,000
samples under equal proportions, to its first batch, and the shards the round touches. `GB above import` is the
peak of that process. Another process builds the dataset and lets two workers of a DataLoader plan a round, each
its own batches, without reading samples (there are no shards): `main MB` is the private memory of the process
after the constructor, above the imports; `worker MB` that of the larger worker after planning, above an idle
worker; `worker peak MB` how far the resident memory of a worker grew meanwhile. The peer is StreamingDataset
with the same proportions (two minutes and about 11 GB of memory).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import memory
import numpy as np
from loaders import import_for
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
WORKERS = 2


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


def build_ours(root: Path) -> Any:
    """SkillStreamingDataset of the indexes."""
    from streaming import Stream

    from skillit_stream.loader.dataset import SkillStreamingDataset

    return SkillStreamingDataset(
        streams={source: Stream(local=str(root / source)) for source in TOKENS},
        round_size=ROUND,
        batch_size=BATCH,
        proportions={source: 1 / len(TOKENS) for source in TOKENS},
    )


def build_streaming(root: Path) -> Any:
    """StreamingDataset of the indexes, with the same proportions."""
    from streaming import Stream, StreamingDataset

    return StreamingDataset(
        streams=[Stream(local=str(root / source), proportion=1 / len(TOKENS)) for source in TOKENS],
        epoch_size=ROUND,
        batch_size=BATCH,
        shuffle=True,
        num_canonical_nodes=1,
    )


def measure_ours(root: Path) -> dict[str, Any]:
    """Build, plan three rounds, play to the first batch's ids."""
    import_for('skillit_stream')
    imported, began = peak_gb(), time.perf_counter()
    dataset = build_ours(root)
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
        'build s': built,
        'round s': float(np.median(seconds)),
        'first window s': time.perf_counter() - began,
        'shards touched': max(shards),
        'GB above import': peak_gb() - imported,
    }


def measure_streaming(root: Path) -> dict[str, Any]:
    """Build, and generate the first epoch."""
    import_for('StreamingDataset')
    from streaming.base.batching import generate_work
    from streaming.base.world import World

    imported, began = peak_gb(), time.perf_counter()
    dataset = build_streaming(root)
    built = time.perf_counter() - began
    dataset._set_shuffle_block_size(World.detect())
    began = time.perf_counter()
    ids = generate_work('random', dataset, World.detect(), 0, 0).ravel()
    planned = time.perf_counter() - began
    bounds = np.concatenate([np.zeros(1, np.int64), dataset.samples_per_shard.cumsum()])
    shards = np.unique(np.searchsorted(bounds, ids[ids >= 0], side='right'))
    return {
        'build s': built,
        'round s': planned,
        'first window s': planned,
        'shards touched': len(shards),
        'GB above import': peak_gb() - imported,
    }


def plan_ours(dataset: Any) -> None:
    """In a worker: the ids of all its batches of the first round."""
    world = dataset._parallel_rank_world.detect_workers()
    number, first = dataset._rounds.begin(world.worker_of_rank, world.workers_per_rank)
    for _ in dataset._own_batches(number, first + world.worker_of_rank, world.workers_per_rank):
        pass


def plan_streaming(dataset: Any) -> None:
    """In a worker: its part of the first epoch, which the first worker generates for all."""
    dataset._unique_worker_world = dataset._unique_rank_world.detect_workers()
    dataset._parallel_worker_world = dataset._parallel_rank_world.detect_workers()
    dataset._get_work(*dataset._resume_incr_epoch())


def measure_workers(root: Path, build: Callable[[Path], Any], plan: Callable[[Any], None]) -> dict[str, Any]:
    """Private memory of the process and of workers that have planned a round."""
    from torch.utils.data import DataLoader, IterableDataset

    class Planning(IterableDataset):
        """Plans a round and yields the MB by which the worker's resident memory grew at most."""

        def __iter__(self) -> Iterator[float]:
            before = memory.resident('VmRSS')
            plan(dataset)
            yield memory.resident('VmHWM') - before
            # The second item keeps the worker alive until it is asked for.
            yield 0.0

    imported = memory.private()['uss']
    dataset = build(root)
    built = memory.private()['uss']
    idle = memory.idle_worker()['uss']
    loader = DataLoader(
        Planning(), batch_size=None, num_workers=WORKERS, prefetch_factor=1, persistent_workers=True
    )
    items = iter(loader)
    grown = [next(items) for _ in range(WORKERS)]
    planned = memory.largest([memory.private(process) for process in memory.workers()])['uss']
    return {'main MB': built - imported, 'worker MB': planned - idle, 'worker peak MB': max(grown)}


def workers_of_ours(root: Path) -> dict[str, Any]:
    """Memory of the mixed loader's workers."""
    import_for('skillit_stream')
    return measure_workers(root, build_ours, plan_ours)


def workers_of_streaming(root: Path) -> dict[str, Any]:
    """Memory of StreamingDataset's workers."""
    import_for('StreamingDataset')
    return measure_workers(root, build_streaming, plan_streaming)


LOADERS = {
    'skillit_stream': (measure_ours, workers_of_ours),
    'StreamingDataset': (measure_streaming, workers_of_streaming),
}
MEASURES = {measure.__name__: measure for measures in LOADERS.values() for measure in measures}


def run_one(measure: str, root: str) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, '--measure', measure, '--root', root]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.strip().splitlines()[-1])


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
        for name in ('skillit_stream',) if args.skip_peer else LOADERS:
            figures = [run_one(measure.__name__, folder) for measure in LOADERS[name]]
            rows.append({'loader': name, **figures[0], **figures[1]})
    configuration = {
        'tokens_billions': TOKENS,
        'seq_len': SEQ_LEN,
        'samples_per_shard': SAMPLES_PER_SHARD,
        'round_size': ROUND,
        'global_batch': BATCH,
        'proportions': 'equal',
        'workers': WORKERS,
    }
    publish('plan', rows, configuration=configuration, out=args.out)


if __name__ == '__main__':
    main()
