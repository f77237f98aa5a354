"""What is measured of a loader, each in a process of its own.

A measure takes the loader's name, its number of workers and the options of the run, and returns figures by
their names: a list where there are several of one kind.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import memory
import numpy as np
from loaders import BATCH, DEFAULT, LOADERS, SKILLS, TRANSFORMERS, BenchmarkStreams, import_for
from numpy.typing import NDArray

Figures = dict[str, list[float]]

# Throughput, start-up, memory, and the switch of small rounds: 50 MB a skill in 17 MB shards.
PLAIN_SAMPLES, PLAIN_PER_SHARD, PLAIN_SEQ_LEN = 12_288, 4_096, 2_048
SWITCH_BATCHES = 64
SWITCHES = 12
# The switch with a remote: 4.2 MB shards, two to a shuffle block as RedPajama's are by default, and rounds of
# seven blocks. A round so ends at the end of a block of every tape, and the next begins with shards that were
# never fetched: the worst place to stop at.
REMOTE_SEQ_LEN, REMOTE_PER_SHARD, REMOTE_BLOCK = 8_192, 256, 512
REMOTE_BLOCKS = np.array([0, 0, 1, 1, 1, 2, 2])  # of each skill in a round; another skill's turn every round
PAUSE = 2.0  # seconds that the evaluators take


@dataclass(frozen=True)
class Options:
    """Of one run.

    Attributes:
        folder: Holds ``plain`` and ``remote``, the streams.
        seconds: Length of a throughput measurement.
        switches: Switches after a pause, and as many without, with a remote.
        cache: Where to fetch shards to; None: they are local.
    """

    folder: Path
    seconds: float
    switches: int
    cache: Path | None = None

    @property
    def plain(self) -> BenchmarkStreams:
        """Streams for throughput, start-up, memory and the switch of small rounds."""
        return BenchmarkStreams(self.folder / 'plain', seq_len=PLAIN_SEQ_LEN)

    @property
    def remote(self) -> BenchmarkStreams:
        """Streams for the switch with a remote."""
        corpus = BenchmarkStreams(self.folder / 'remote', block=REMOTE_BLOCK, seq_len=REMOTE_SEQ_LEN)
        return replace(corpus, cache=self.cache)


def remote_samples(switches: int) -> int:
    """Samples that a stream must have for no tape to come to its end."""
    turns = [np.roll(REMOTE_BLOCKS, number) for number in range(2 * switches)]
    # The first round draws a block of each, and one more is fetched ahead.
    return REMOTE_BLOCK * (2 + int(np.sum(turns, axis=0).max()))


def throughput(name: str, workers: int, options: Options) -> Figures:
    """Tokens a second after 20 batches, seconds to the first one, and private memory at the end."""
    import_for(name)
    imported = memory.private()
    began = time.perf_counter()
    batches = plain_batches(name, workers, options.plain)
    next(batches)
    figures = {'start-up': [time.perf_counter() - began]}
    figures['throughput'] = [speed(batches, options.seconds)]
    if workers:
        used = memory.largest([memory.private(process) for process in memory.workers()])
        idle = memory.idle_worker()
        return figures | {f'worker {kind}': [used[kind] - idle[kind]] for kind in used}
    used = memory.private()
    return figures | {f'main {kind}': [used[kind] - imported[kind]] for kind in used}


def throughput_with(collation: str) -> Callable[[str, int, Options], Figures]:
    """The measure of million tokens a second, samples collated in a way that is not the loader's own."""

    def measure(name: str, workers: int, options: Options) -> Figures:
        import_for(name)
        batches = plain_batches(name, workers, replace(options.plain, collation=collation))
        return {f'throughput {collation}': [speed(batches, options.seconds)]}

    return measure


def plain_batches(name: str, workers: int, streams: BenchmarkStreams) -> Iterator[Any]:
    """Batches of a loader without end."""
    loader, _ = LOADERS[name](streams, workers, PLAIN_SAMPLES * len(SKILLS) // BATCH * BATCH)
    return endless(loader)


def speed(batches: Iterator[Any], seconds: float) -> float:
    """Million tokens a second after 20 batches."""
    for _ in range(20):
        next(batches)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        next(batches)
        count += 1
    return count * BATCH * PLAIN_SEQ_LEN / (time.perf_counter() - began) / 1e6


def switch(name: str, workers: int, options: Options) -> Figures:
    """Milliseconds from the last batch of a small round to the first of the next, all shards local."""
    import_for(name)
    loader, set_shares = LOADERS[name](options.plain, workers, SWITCH_BATCHES * BATCH)
    play(iter(loader))
    pauses = []
    for number in range(SWITCHES):
        began = time.perf_counter()
        set_shares(np.roll(np.arange(1, len(SKILLS) + 1) / 28, number))
        batches = iter(loader)
        next(batches)
        pauses.append((time.perf_counter() - began) * 1e3)
        play(batches)
    return {'switch': pauses}


def remote_switch(name: str, workers: int, options: Options) -> Figures:
    """Milliseconds from the end of the evaluation to the first batch, and right after the last batch."""
    import_for(name)
    began = time.perf_counter()
    loader, set_shares = LOADERS[name](options.remote, workers, REMOTE_BLOCK * int(REMOTE_BLOCKS.sum()))
    play(iter(loader))
    figures: Figures = {'first round': [time.perf_counter() - began], 'evaluated': [], 'at once': []}
    for number in range(2 * options.switches):
        kind = ('evaluated', 'at once')[number % 2]
        if kind == 'evaluated':
            time.sleep(PAUSE)
        began = time.perf_counter()
        set_shares(shares_of_turn(number))
        batches = iter(loader)
        next(batches)
        figures[kind].append((time.perf_counter() - began) * 1e3)
        play(batches)
    if options.cache:
        files = [path for path in options.cache.rglob('*') if path.is_file()]
        figures['fetched'] = [sum(path.stat().st_size for path in files) / 1e6]
    return figures


def shares_of_turn(number: int) -> NDArray[np.float64]:
    """Shares of a round with a remote, float64 [skills]."""
    return np.roll(REMOTE_BLOCKS, number) / REMOTE_BLOCKS.sum()


def play(batches: Iterator[Any]) -> None:
    """Take every batch that is left of a round."""
    for _ in batches:
        pass


def endless(loader: Any) -> Iterator[Any]:
    """Batches of one epoch after another."""
    while True:
        yield from loader


MEASURES = {
    'throughput': throughput,
    **{f'throughput_{collation}': throughput_with(collation) for collation in (DEFAULT, TRANSFORMERS)},
    'switch': switch,
    'remote_switch': remote_switch,
}
