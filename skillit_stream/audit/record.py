"""A run as its folder records it: streams, settings and the exact counts of every finished round.

Between two launches of a run the streams and some settings may change. The rounds in between are a
*stretch*; a run that went on as it was, however often it was stopped, has one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from skillit_stream.audit.order import Order, parse_order
from skillit_stream.audit.stream_index import LostStream, StreamIndex, StreamsFolder, find_sample_order
from skillit_stream.base.errors import InputError
from skillit_stream.formats.run_log import RoundRecord, read_mixture_lines
from skillit_stream.mixture import SampleOrder
from skillit_stream.mixture.apportion import largest_remainder
from skillit_stream.order.plan import RoundShape

Int64 = NDArray[np.int64]
Stream = StreamIndex | LostStream

SPLIT = 'train'


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretch:
    """Finished rounds in a row with the same streams and settings."""

    first_round: int
    first_step: int
    """Training steps of all rounds before."""
    streams: dict[str, Stream]
    """By skill, in the order of the run: sample ids count through them."""
    sample_orders: dict[str, SampleOrder]
    """Curricula over the samples of streams that are known."""
    shape: RoundShape
    block_size: int
    shuffle: bool
    counts: Int64
    """int64 [rounds, skills], samples drawn."""

    @property
    def end_round(self) -> int:
        """The round after its last."""
        return self.first_round + len(self.counts)

    @property
    def end_step(self) -> int:
        """The step after its last."""
        return self.first_step + len(self.counts) * self.shape.batches

    @property
    def offsets(self) -> dict[str, int]:
        """Id of each stream's first sample, by skill."""
        sizes = np.array([stream.samples for stream in self.streams.values()], np.int64)
        return dict(zip(self.streams, (sizes.cumsum() - sizes).tolist(), strict=True))

    def first_step_of(self, number: int) -> int:
        """The step at which one of its rounds begins."""
        return self.first_step + (number - self.first_round) * self.shape.batches


@dataclass(frozen=True, kw_only=True, eq=False)
class RunRecord:
    """Everything the order of a run's finished rounds depends on."""

    folder: Path
    stretches: tuple[Stretch, ...]
    """In the order of training; none before a round has ended."""

    @property
    def rounds(self) -> int:
        """Finished rounds: they are 0 to this - 1."""
        return self.stretches[-1].end_round if self.stretches else 0

    @property
    def steps(self) -> int:
        """Steps of the finished rounds: they are 0 to this - 1."""
        return self.stretches[-1].end_step if self.stretches else 0

    @property
    def samples(self) -> int:
        """Samples in the streams of the last rounds; ids are below."""
        return sum(stream.samples for stream in self.stretches[-1].streams.values()) if self.stretches else 0

    def spans(self, of: Callable[[Stretch], bool]) -> list[tuple[int, int]]:
        """First and last rounds of the stretches that fulfil a condition, neighbours joined."""
        found: list[tuple[int, int]] = []
        for stretch in self.stretches:
            if not of(stretch):
                continue
            first = stretch.first_round
            if found and found[-1][1] == first - 1:
                first = found.pop()[0]
            found.append((first, stretch.end_round - 1))
        return found


def told(spans: Sequence[tuple[int, int]]) -> str:
    """Spans of rounds in words."""
    return ', '.join(
        f'round {first}' if first == last else f'rounds {first} to {last}' for first, last in spans
    )


def read_run(folder: str | Path, *, streams: str | Path | None = None) -> RunRecord:
    """Read a run folder and the indexes of its streams.

    A stream whose index is missing, or is not what the run drew from, is refused by the questions that
    need it.

    Args:
        folder: Holds mixture.jsonl and (unless `streams` is given) config.yaml.
        streams: The streams folder, ROOT of ROOT/<skill>/train/index.json; None: the one config.yaml names.

    Raises:
        InputError: A file is missing or broken, or lines of mixture.jsonl contradict each other.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f'There is no run folder at {path}: give the `save_folder` of a run.')
    log = read_mixture_lines(path / 'mixture.jsonl', gapless=True)
    present = StreamsFolder(str(streams or _streams_root(path / 'config.yaml')), SPLIT)
    stretches: list[Stretch] = []
    for order, lines in _split([line for line in log.records if line.round >= 0]):
        first_step = stretches[-1].end_step if stretches else 0
        stretches.append(_stretch(order, lines, first_step, present))
    return RunRecord(folder=path, stretches=tuple(stretches))


def _split(lines: Sequence[RoundRecord]) -> list[tuple[Order, list[RoundRecord]]]:
    """The lines of each stretch and what holds in it."""
    parts: list[tuple[Order, list[RoundRecord]]] = []
    latest: Mapping[str, Any] | None = None
    for line in lines:
        if line.order is not None:
            parts.append((parse_order(line.order, where=line.where, before=latest), []))
            latest = line.order
        if not parts:
            raise InputError(
                f'{line.where} does not say `order`, which the order of samples depends on: the run was written '
                f'by an older skillit_stream, or the line is not as it was written.'
            )
        order = parts[-1][0]
        _check_skills(line, order)
        if list(line.proportions) != list(order.streams):
            # The same streams, listed in another order: the same draws, but ids count through them anew.
            streams = {skill: order.streams[skill] for skill in line.proportions}
            listed = Order(
                shape=order.shape, block_size=order.block_size, shuffle=order.shuffle, streams=streams
            )
            parts.append((listed, []))
        parts[-1][1].append(line)
    return [(order, own) for order, own in parts if own]


def _check_skills(line: RoundRecord, order: Order) -> None:
    odd = sorted(set(line.proportions) ^ set(order.streams))
    if odd:
        problem = 'lacks a share for' if odd[0] in order.streams else 'has a share for unknown'
        raise InputError(
            f'{line.where} {problem} skill {odd[0]}, by the last `order` up to it: these are the lines of two runs.'
        )


def _stretch(order: Order, lines: Sequence[RoundRecord], first_step: int, present: StreamsFolder) -> Stretch:
    streams: dict[str, Stream] = {}
    sample_orders: dict[str, SampleOrder] = {}
    for skill, stream in order.streams.items():
        found = present.find(skill, samples=stream.samples, shards=stream.shards, digest=stream.digest)
        if stream.curriculum and isinstance(found, StreamIndex):
            sample_order = find_sample_order(skill, found, stream.curriculum)
            if isinstance(sample_order, SampleOrder):
                sample_orders[skill] = sample_order
            else:
                found = sample_order
        streams[skill] = found
    return Stretch(
        first_round=lines[0].round,
        first_step=first_step,
        streams=streams,
        sample_orders=sample_orders,
        shape=order.shape,
        block_size=order.block_size,
        shuffle=order.shuffle,
        counts=np.array(
            [
                _counts(line, order, first_step + number * order.shape.batches)
                for number, line in enumerate(lines, start=1)
            ],
            np.int64,
        ),
    )


def _counts(line: RoundRecord, order: Order, end: int) -> list[int]:
    """Samples of each skill in a round that ends at step `end`, made sure against what the run says it drew."""
    size = order.shape.round_size
    # By name, as in training: ties must not depend on how the streams are listed.
    by_name = sorted(order.streams)
    try:
        shares = largest_remainder([line.proportions[skill] for skill in by_name], size).tolist()
    except InputError as error:
        raise InputError(f'{line.where}: {error}') from None
    counts = dict(zip(by_name, shares, strict=True))
    if line.samples != counts or line.step != end:
        raise InputError(
            f'{line.where}: round {line.round} ended at step {line.step} with {sum(line.samples.values()):.0f} '
            f'samples, where the last `order` up to it says step {end} and {size}, by proportions: the file is '
            f'not as it was written, and its order cannot be recomputed.'
        )
    return [counts[skill] for skill in order.streams]


def _streams_root(path: Path) -> str:
    """The streams folder that config.yaml names."""
    try:
        config = OmegaConf.load(path)
    except OSError:
        raise InputError(
            f'{path.parent} has no {path.name}, which names the streams: pass the streams folder as --streams.'
        ) from None
    except YAMLError:
        raise InputError(
            f'{path} is not YAML: restore it, or pass the streams folder as --streams.'
        ) from None
    # Of streams in an object store the cache holds the indexes, and no more is needed.
    root = config.get('streams_local') or config.get('streams') if isinstance(config, DictConfig) else None
    if not isinstance(root, str):
        raise InputError(f'{path} does not name `streams`: pass the streams folder as --streams.')
    return root
