"""Small MDS streams for tests: every sample carries its own stream and number in its tokens."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming import MDSWriter, Stream

from skillit_stream.loader.dataset import SkillStreamingDataset
from skillit_stream.loader.shards import Gathered

SEQ_LEN = 8

# Uneven shards, one stream of a single shard, and one so small that a round holds several of its passes.
SIZES = {'a': [7, 5, 12, 3], 'b': [10, 10], 'c': [3]}
SHARES = {'a': 0.5, 'b': 0.3, 'c': 0.2}


def tokens_of(stream: int, number: int) -> NDArray[np.uint16]:
    """The tokens of a stream's sample, uint16 [SEQ_LEN]; the shifts tell every place from the others."""
    head = [stream, number % 65536, number // 65536]
    return np.array([*head, *range(number % 1000, number % 1000 + SEQ_LEN - 3)], np.uint16)


def write_stream(
    folder: Path,
    sizes: Sequence[int],
    stream: int = 0,
    *,
    extra: Mapping[str, tuple[str, Any]] | None = None,
    compression: str | None = None,
) -> None:
    """Write one stream with shards of the given numbers of samples, 0 included.

    Args:
        folder: Made here.
        sizes: Samples of each shard.
        stream: Its number, the first token of every sample.
        extra: More columns: name -> (MDS encoding, the value in every sample).
        compression: As MDSWriter's.
    """
    extra = extra or {}
    columns = {'tokens': f'ndarray:uint16:{SEQ_LEN}', **{name: pair[0] for name, pair in extra.items()}}
    constants = {name: pair[1] for name, pair in extra.items()}
    writer = MDSWriter(
        out=str(folder), columns=columns, compression=compression, size_limit=None, max_workers=1
    )
    number = 0
    for size in sizes:
        for _ in range(size):
            writer.write({'tokens': tokens_of(stream, number), **constants})
            number += 1
        # MDSWriter closes shards by bytes only; these are closed by hand, so that they can be uneven.
        writer.flush_shard()
        writer.new_samples, writer.new_shard_size = [], writer.extra_bytes_per_shard
    writer.executor.shutdown(wait=True)
    (folder / 'index.json').write_text(json.dumps({'version': 2, 'shards': writer.shards}))


def write_streams(root: Path, streams: Mapping[str, Sequence[int]], **options: Any) -> None:
    """Write one stream a skill: skill -> samples of each shard."""
    for index, (skill, sizes) in enumerate(streams.items()):
        write_stream(root / skill, sizes, index, **options)


def open_streams(root: Path, skills: Iterable[str]) -> dict[str, Stream]:
    """Fresh Stream objects: one can serve a single dataset only."""
    return {skill: Stream(local=str(root / skill)) for skill in skills}


def mixed_dataset(root: Path, **options: Any) -> SkillStreamingDataset:
    """A dataset over the streams of `SIZES`: rounds of 48 samples, 4 a batch, two canonical nodes.

    Args:
        root: Where they were written.
        **options: Change or add arguments of the dataset; ``streams`` takes skill names too.
    """
    defaults = {'round_size': 48, 'batch_size': 4, 'num_canonical_nodes': 2, 'shuffle_block_size': 8}
    settings = {'proportions': SHARES, 'streams': SIZES, **defaults, **options}
    streams = settings.pop('streams')
    if not all(isinstance(stream, Stream) for stream in streams.values()):
        streams = open_streams(root, streams)
    return SkillStreamingDataset(streams=streams, **settings)


def ids_of(samples: Iterable[Mapping[str, Any]]) -> list[int]:
    """The ids of samples, or of batches laid end to end."""
    return [int(one) for sample in samples for one in np.atleast_1d(np.asarray(sample['sample_id']))]


def owners(ids: Iterable[int], sizes: Mapping[str, Sequence[int]] | None = None) -> list[tuple[int, int]]:
    """(stream, number in it) of each sample id."""
    ends = list(accumulate(sum(shards) for shards in (sizes or SIZES).values()))
    starts = [0, *ends]
    streams = np.searchsorted(ends, list(ids), side='right')
    return [(int(at), one - starts[at]) for at, one in zip(streams, ids, strict=True)]


def gathered_from(columns: Mapping[str, np.ndarray]) -> Gathered:
    """A batch with copies of the given columns, each [batch, ...], as the loader gathers it."""
    batch = Gathered({name: (column.dtype, column.shape) for name, column in columns.items()})
    for name, column in columns.items():
        batch[name][:] = column
    return batch
