"""Streams of numbered samples in the formats of the loaders that are compared; a sample is its number alone.

A sample's number tells its stream too, so that what was lost or drawn twice can be counted from the numbers alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

# Samples in a file.
PER_FILE = 8
# Numbers of the streams begin at multiples of this.
APART = 1_000_000


def numbers_of(streams: Mapping[str, int]) -> list[int]:
    """The numbers of all samples, stream by stream."""
    return [place * APART + number for place, size in enumerate(streams.values()) for number in range(size)]


def write_streams(folder: Path, streams: Mapping[str, int], formats: Sequence[str]) -> None:
    """Write ``folder/FORMAT/STREAM`` for each of the formats (keys of `WRITERS`).

    A stream of more samples has the files that one of fewer has, as long as those were full, and then new ones.
    """
    for place, (name, size) in enumerate(streams.items()):
        numbers = [place * APART + number for number in range(size)]
        for kind in formats:
            WRITERS[kind](folder / kind / name, numbers)


def _write_mds(folder: Path, numbers: Sequence[int]) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(folder), columns={'id': 'int'}, size_limit=None) as writer:
        # A sample takes its 8 bytes and a 4-byte offset.
        writer.size_limit = writer.extra_bytes_per_shard + PER_FILE * (8 + 4)
        for number in numbers:
            writer.write({'id': number})


def _write_litdata(folder: Path, numbers: Sequence[int]) -> None:
    from litdata.streaming.writer import BinaryWriter  # pyright: ignore[reportMissingImports]

    folder.mkdir(parents=True)
    writer = BinaryWriter(str(folder), chunk_size=PER_FILE)
    for index, number in enumerate(numbers):
        writer[index] = {'id': number}
    writer.done()
    writer.merge(1)


def _write_parquet(folder: Path, numbers: Sequence[int]) -> None:
    import pyarrow  # pyright: ignore[reportMissingImports]
    from pyarrow import parquet  # pyright: ignore[reportMissingImports]

    folder.mkdir(parents=True)
    for file, first in enumerate(range(0, len(numbers), PER_FILE)):
        table = pyarrow.table({'id': numbers[first : first + PER_FILE]})
        parquet.write_table(table, folder / f'{file:05d}.parquet')


WRITERS = {'mds': _write_mds, 'litdata': _write_litdata, 'parquet': _write_parquet}
