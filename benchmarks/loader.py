"""Throughput, start-up, memory and round switch of the mixed loader against loaders of fixed mixtures.

    python benchmarks/loader.py [--out benchmarks/results] [--seconds 2] [--repeats 2] [--switches 3]

Batch 32, 0, 1 and 2 persistent workers, the same tokens for all, every run in a process of its own, loaders in
turn. The table has a row a measure, place of the shards, number of workers and loader, with the median of all
runs, the lowest and the highest:

- throughput: million tokens a second through a DataLoader, after the first 20 batches: with what each loader
  comes with to collate (ours: `collate`), with torch's default_collate, and with transformers'
  DataCollatorForLanguageModeling(mlm=False);
- start-up: seconds from the constructor of the dataset to the first batch, imports done before;
- memory: private MB of the process (0 workers), above what it has after the imports, and of the largest
  worker, above an idle worker of the same process. `dirty` leaves out pages of memory-mapped shards;
- switch: milliseconds from the last batch of a round of 64 batches to the first of the next, the proportions
  changed each time (StreamingDataset: from epoch to epoch, its mixture fixed);
- switch after evaluation: the same from the end of a pause of 2 s, in which evaluators would run, and without
  the pause (switch at once), on shards that are local or behind a remote of 50 ms a request and 50 MB/s. The
  cache is empty at the start. Every round ends at the end of a shuffle block of all seven tapes, so that the
  next one begins with shards that no batch has needed before;
- first round: seconds from the constructor to the end of the first such round. fetched: MB in the cache at
  the end of the run.

Peers: StreamingDataset with proportions, and litdata's CombinedStreamingDataset where it is installed.
StreamingDataset's epoch draws on all shards of every stream: its first round fetches them all, and its later
switches have nothing to fetch as long as the cache holds the whole corpus, as it does here. Its connection to
the remote is closed before the workers start: they would share it, and read each other's answers as shards.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import measures
from loaders import BATCH, SKILLS, installed, write_litdata, write_mds
from measures import Figures, Options
from reporting import publish
from slow_remote import BANDWIDTH, LATENCY, SlowRemote

WORKERS = (0, 1, 2)
LOCAL, REMOTE = 'local', 'remote'
# What a figure is called in the table.
TITLES = {
    'throughput': 'throughput (Mtok/s)',
    'throughput default': 'throughput, default_collate (Mtok/s)',
    'throughput transformers': 'throughput, DataCollatorForLanguageModeling (Mtok/s)',
    'start-up': 'start-up (s)',
    'main uss': 'memory of the process (MB)',
    'main dirty': 'memory of the process, dirty (MB)',
    'worker uss': 'memory of a worker (MB)',
    'worker dirty': 'memory of a worker, dirty (MB)',
    'switch': 'switch (ms)',
    'evaluated': 'switch after evaluation (ms)',
    'at once': 'switch at once (ms)',
    'first round': 'first round (s)',
    'fetched': 'fetched (MB)',
}
# Figure, place of the shards, workers, loader -> what was found.
Found = dict[tuple[str, str, int, str], list[float]]


def run_one(measure: str, name: str, workers: int, options: Options, url: str | None = None) -> Figures:
    """One measurement in a process of its own; with a `url`, of shards fetched from there."""
    command = [sys.executable, __file__, '--root', str(options.folder), '--one', measure, name, str(workers)]
    command += ['--seconds', str(options.seconds), '--switches', str(options.switches)]
    # Each process imports everything anew: at least compile it only once, wherever Python may not write.
    environment = {**os.environ, 'PYTHONPYCACHEPREFIX': str(options.folder / 'bytecode')}
    environment.pop('PYTHONDONTWRITEBYTECODE', None)
    with tempfile.TemporaryDirectory(dir=options.folder) as cache:
        if url is not None:
            command += ['--cache', cache]
            environment |= dict.fromkeys(('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'), 'any')
            environment |= {'AWS_DEFAULT_REGION': 'us-east-1', 'S3_ENDPOINT_URL': url}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f'{measure} of {name} with {workers} workers failed:\n{done.stderr}')
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure_local(options: Options, repeats: int) -> Found:
    """Throughput, start-up, memory and the switch of small rounds: loaders in turn, `repeats` times."""
    found: Found = defaultdict(list)
    for measure in ('throughput', 'throughput_default', 'throughput_transformers', 'switch'):
        # litdata has no rounds, and collates by torch's function already.
        names = [name for name in installed() if measure == 'throughput' or name != 'litdata']
        for workers in WORKERS:
            for _ in range(repeats):
                for name in names:
                    for figure, values in run_one(measure, name, workers, options).items():
                        found[figure, LOCAL, workers, name] += values
    return found


def measure_remote(options: Options) -> Found:
    """The switch with and without a pause, local shards and a remote in turn."""
    found: Found = defaultdict(list)
    with SlowRemote(options.remote.folder) as url:
        for workers in WORKERS:
            for name in ('skillit_stream', 'StreamingDataset'):
                for place, address in ((LOCAL, None), (REMOTE, url)):
                    for figure, values in run_one('remote_switch', name, workers, options, address).items():
                        found[figure, place, workers, name] += values
    return found


def rows_of(found: Mapping[tuple[str, str, int, str], Sequence[float]]) -> list[dict[str, Any]]:
    """A row a figure, place, number of workers and loader."""
    medians = {key: statistics.median(values) for key, values in found.items()}
    rows = []
    for key in sorted(found, key=lambda key: (list(TITLES).index(key[0]), key[1], key[2])):
        figure, place, workers, name = key
        ours = medians[figure, place, workers, 'skillit_stream']
        # Memory is a difference that may be about nothing.
        has_ratio = 'uss' not in figure and 'dirty' not in figure
        rows.append(
            {
                'measure': TITLES[figure],
                'shards': place,
                'workers': workers,
                'loader': name,
                'median': medians[key],
                'lowest': min(found[key]),
                'highest': max(found[key]),
                'values': len(found[key]),
                'ours / this': ours / medians[key] if has_ratio else None,
            }
        )
    return rows


def write_streams(options: Options) -> None:
    """The streams of all measures."""
    write_mds(options.plain, measures.PLAIN_SAMPLES, measures.PLAIN_PER_SHARD)
    if 'litdata' in installed():
        write_litdata(options.plain, measures.PLAIN_SAMPLES, measures.PLAIN_PER_SHARD)
    write_mds(options.remote, measures.remote_samples(options.switches), measures.REMOTE_PER_SHARD)


def configuration_of(options: Options, repeats: int) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        'streams': len(SKILLS),
        'batch': BATCH,
        'repeats': repeats,
        'seconds': options.seconds,
        'samples_per_stream': measures.PLAIN_SAMPLES,
        'samples_per_shard': measures.PLAIN_PER_SHARD,
        'seq_len': measures.PLAIN_SEQ_LEN,
        'switch_round_batches': measures.SWITCH_BATCHES,
        'switches': measures.SWITCHES,
        'remote': {
            'latency_s': LATENCY,
            'bytes_per_s': BANDWIDTH,
            'pause_s': measures.PAUSE,
            'switches_of_each_kind': options.switches,
            'samples_per_stream': measures.remote_samples(options.switches),
            'samples_per_shard': measures.REMOTE_PER_SHARD,
            'seq_len': measures.REMOTE_SEQ_LEN,
            'shuffle_block_size': measures.REMOTE_BLOCK,
            'blocks_of_each_skill_in_a_round': measures.REMOTE_BLOCKS.tolist(),
        },
    }


def main() -> None:
    """Write the streams, measure, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', help='folder for the JSON')
    parser.add_argument('--seconds', type=float, default=2.0, help='length of a throughput measurement')
    parser.add_argument('--repeats', type=int, default=2, help='runs of each local measure')
    parser.add_argument('--switches', type=int, default=3, help='switches of each kind with a remote')
    parser.add_argument('--root', type=Path, help=argparse.SUPPRESS)
    parser.add_argument('--cache', type=Path, help=argparse.SUPPRESS)
    parser.add_argument('--one', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure, name, workers = args.one
        options = Options(args.root, args.seconds, args.switches, args.cache)
        print(json.dumps(measures.MEASURES[measure](name, int(workers), options)), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        options = Options(Path(folder), args.seconds, args.switches)
        write_streams(options)
        found = measure_local(options, args.repeats) | measure_remote(options)
    publish('loader', rows_of(found), configuration=configuration_of(options, args.repeats), out=args.out)


if __name__ == '__main__':
    main()
