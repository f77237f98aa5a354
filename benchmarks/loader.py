"""Throughput, round switch and start-up of the mixed loader against loaders of fixed mixtures.

    python benchmarks/loader.py [--out benchmarks/results] [--seconds 4] [--repeats 3]

Writes seven streams of 2,048-token uint16 samples, then measures with 0, 1 and 2 workers, batch 32, the same
tokens for all, loaders in turn and repeated, medians reported:

- tokens a second through a DataLoader, after the first batches;
- the pause from the last batch of a round to the first of the next, with persistent workers, proportions
  changed each time (StreamingDataset: from epoch to epoch, its mixture fixed).

Peers: StreamingDataset with proportions, and litdata's CombinedStreamingDataset where it is installed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from reporting import publish

SKILLS = ('arxiv', 'book', 'c4', 'common_crawl', 'github', 'stackexchange', 'wikipedia')
SEQ_LEN = 2048
BATCH = 32
SAMPLES = 12_288  # a stream: 50 MB
SHARE = 1 / len(SKILLS)


def write_mds(root: Path) -> None:
    """One MDS stream a skill."""
    from streaming import MDSWriter

    for number, skill in enumerate(SKILLS):
        tokens = np.random.default_rng(number).integers(0, 50_000, (SAMPLES, SEQ_LEN), np.uint16)
        columns = {'tokens': f'ndarray:uint16:{SEQ_LEN}'}
        with MDSWriter(out=str(root / 'mds' / skill), columns=columns, size_limit=1 << 24) as writer:
            for row in tokens:
                writer.write({'tokens': row})


def write_litdata(root: Path) -> None:
    """The same tokens in litdata's format."""
    from litdata.streaming.item_loader import TokensLoader  # pyright: ignore[reportMissingImports]
    from litdata.streaming.writer import BinaryWriter  # pyright: ignore[reportMissingImports]

    for number, skill in enumerate(SKILLS):
        import torch

        tokens = np.random.default_rng(number).integers(0, 50_000, (SAMPLES, SEQ_LEN), np.uint16)
        folder = root / 'litdata' / skill
        folder.mkdir(parents=True)
        writer = BinaryWriter(str(folder), chunk_bytes=1 << 24, item_loader=TokensLoader(SEQ_LEN))
        for index, row in enumerate(tokens):
            writer[index] = torch.from_numpy(row)
        writer.done()
        writer.merge(1)


def ours(root: Path, workers: int, round_size: int) -> tuple[Any, Callable[[int], None]]:
    """The mixed loader, and what changes its mixture."""
    from streaming import Stream
    from torch.utils.data import DataLoader

    from skillit_stream.streams.batches import collate
    from skillit_stream.streams.dataset import SkillStreamingDataset

    dataset = SkillStreamingDataset(
        streams={skill: Stream(local=str(root / 'mds' / skill)) for skill in SKILLS},
        round_size=round_size,
        batch_size=BATCH,
        proportions=dict.fromkeys(SKILLS, SHARE),
    )

    def change(number: int) -> None:
        shares = np.roll(np.arange(1, len(SKILLS) + 1) / 28, number)
        dataset.set_proportions(dict(zip(SKILLS, shares.tolist(), strict=True)))

    loader = DataLoader(
        dataset, batch_size=BATCH, collate_fn=collate, num_workers=workers, persistent_workers=workers > 0
    )
    return loader, change


def keep(number: int) -> None:
    """The mixture of a peer is fixed."""
    del number


def streaming(root: Path, workers: int, round_size: int) -> tuple[Any, Callable[[int], None]]:
    """StreamingDataset with the same proportions."""
    from streaming import Stream, StreamingDataset
    from torch.utils.data import DataLoader

    dataset = StreamingDataset(
        streams=[Stream(local=str(root / 'mds' / skill), proportion=SHARE) for skill in SKILLS],
        epoch_size=round_size,
        batch_size=BATCH,
        shuffle=True,
    )
    return (
        DataLoader(dataset, batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0),
        keep,
    )


def litdata(root: Path, workers: int, round_size: int) -> tuple[Any, Callable[[int], None]]:
    """litdata's CombinedStreamingDataset with the same weights."""
    del round_size
    from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset  # pyright: ignore[reportMissingImports]
    from litdata.streaming.item_loader import TokensLoader  # pyright: ignore[reportMissingImports]

    parts = [
        StreamingDataset(
            str(root / 'litdata' / skill), item_loader=TokensLoader(SEQ_LEN), shuffle=True, drop_last=True
        )
        for skill in SKILLS
    ]
    combined = CombinedStreamingDataset(parts, seed=1, weights=[SHARE] * len(parts), iterate_over_all=False)
    loader = StreamingDataLoader(
        combined, batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0
    )
    return loader, keep


LOADERS = {'skillit_stream': ours, 'StreamingDataset': streaming, 'litdata': litdata}


def throughput(root: Path, name: str, workers: int, seconds: float) -> dict[str, float]:
    """Million tokens a second after 20 batches, and seconds to the first batch."""
    loader, _ = LOADERS[name](root, workers, SAMPLES * len(SKILLS) // BATCH * BATCH)
    began = time.perf_counter()
    batches = endless(loader)
    next(batches)
    first = time.perf_counter() - began
    for _ in range(20):
        next(batches)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        next(batches)
        count += 1
    return {'value': count * BATCH * SEQ_LEN / (time.perf_counter() - began) / 1e6, 'first': first}


def switch(root: Path, name: str, workers: int, seconds: float) -> dict[str, float]:
    """Median milliseconds from the last batch of a round to the first of the next."""
    del seconds
    loader, change = LOADERS[name](root, workers, 64 * BATCH)
    pauses = []
    list(loader)
    for number in range(20):
        began = time.perf_counter()
        change(number)
        batches = iter(loader)
        next(batches)
        pauses.append((time.perf_counter() - began) * 1e3)
        for _ in batches:
            pass
    return {'value': statistics.median(pauses), 'first': max(pauses)}


def endless(loader: Any) -> Iterator[Any]:
    """Batches of one epoch after another."""
    while True:
        yield from loader


MEASURES = {'throughput': throughput, 'switch': switch}


def run_one(root: str, measure: str, name: str, workers: int, seconds: float) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, '--root', root, '--one', measure, name, str(workers), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f'{name} failed:\n{done.stderr}')
    return json.loads(done.stdout.strip().splitlines()[-1])


def installed() -> list[str]:
    """The loaders that can be measured here."""
    from importlib.util import find_spec

    return [name for name in LOADERS if name != 'litdata' or find_spec('litdata')]


def measure_all(root: str, seconds: float, repeats: int) -> list[dict[str, Any]]:
    """Every loader at every number of workers, in turn, `repeats` times."""
    rows = []
    for measure, unit in (('throughput', 'Mtok/s'), ('switch', 'ms')):
        names = [name for name in installed() if measure == 'throughput' or name != 'litdata']
        for workers in (0, 1, 2):
            found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            for _ in range(repeats):
                for name in names:
                    found[name].append(run_one(root, measure, name, workers, seconds))
            medians = {name: statistics.median(run['value'] for run in runs) for name, runs in found.items()}
            for name, runs in found.items():
                rows.append(
                    {
                        'measure': f'{measure} ({unit})',
                        'workers': workers,
                        'loader': name,
                        'median': medians[name],
                        'lowest': min(run['value'] for run in runs),
                        'highest': max(run['value'] for run in runs),
                        'ours / this': medians['skillit_stream'] / medians[name],
                        'first batch s / worst ms': statistics.median(run['first'] for run in runs),
                    }
                )
    return rows


def main() -> None:
    """Write the streams, measure, publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', help='folder for the JSON')
    parser.add_argument('--seconds', type=float, default=4.0, help='length of a throughput measurement')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--root', help=argparse.SUPPRESS)
    parser.add_argument('--one', nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        measure, name, workers, seconds = args.one
        print(json.dumps(MEASURES[measure](Path(args.root), name, int(workers), float(seconds))), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_mds(Path(folder))
        if 'litdata' in installed():
            write_litdata(Path(folder))
        rows = measure_all(folder, args.seconds, args.repeats)
    configuration = {
        'streams': len(SKILLS),
        'samples_per_stream': SAMPLES,
        'seq_len': SEQ_LEN,
        'batch': BATCH,
        'seconds': args.seconds,
        'repeats': args.repeats,
        'switch_round_batches': 64,
    }
    publish('loader', rows, configuration=configuration, out=args.out)


if __name__ == '__main__':
    main()
