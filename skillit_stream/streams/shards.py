"""Reading MDS shards: whole batches gathered from memory-mapped files.

Samples of fixed-size columns (token sequences) lie in an MDS shard one behind the other at a fixed
stride, so a shard is a NumPy record array over the file: a batch is gathered with one copy a row and
nothing is decoded. Shards with columns of varying size are left to Streaming's own reader.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming.base.format.mds.reader import MDSReader

from skillit_stream.errors import InputError

Int64 = NDArray[np.int64]

# Maps kept open per process: each costs address space and keeps an evicted shard's disk space in use.
MAX_OPEN_SHARDS = 256
_LOAD_TRIES = 8

_SCALARS = {
    'int': 'i8',
    'uint8': 'u1',
    'uint16': 'u2',
    'uint32': 'u4',
    'uint64': 'u8',
    'int8': 'i1',
    'int16': 'i2',
    'int32': 'i4',
    'int64': 'i8',
    'float16': 'f2',
    'float32': 'f4',
    'float64': 'f8',
}


def sample_dtype(shard: object) -> np.dtype | None:
    """The record type of a shard's samples, or None if its samples are not records of one size."""
    if not isinstance(shard, MDSReader):
        return None
    fields = []
    for name, encoding in zip(shard.column_names, shard.column_encodings, strict=True):
        kind, *arguments = encoding.split(':')
        if kind == 'ndarray' and len(arguments) == 2:
            shape = tuple(int(axis) for axis in arguments[1].split(','))
            fields.append((name, np.dtype(arguments[0]).newbyteorder('<'), shape))
        elif kind in _SCALARS:
            fields.append((name, '<' + _SCALARS[kind]))
        else:
            return None
    return np.dtype(fields)


def common_dtype(shards: Mapping[str, object], reserved: Sequence[str] = ()) -> np.dtype | None:
    """The record type that the samples of all streams share.

    Args:
        shards: Skill -> one shard of its stream.
        reserved: Column names that the streams must not have.

    Returns:
        The type, or None if samples must be decoded one by one.

    Raises:
        InputError: The streams differ in their columns, or have a reserved one.
    """
    types = {skill: sample_dtype(shard) for skill, shard in shards.items()}
    first, reference = next(iter(types.items()))
    for skill, found in types.items():
        if found != reference:
            raise InputError(
                f'Streams must have the same columns, but {first} has {reference} and {skill} has {found}: '
                f'convert them with the same settings.'
            )
    for name in reserved:
        if reference is not None and name in (reference.names or ()):
            raise InputError(f'Streams must not have a column {name!r}: the loader adds one of that name.')
    return reference


class ShardMaps:
    """Open memory maps of shards, the least recently used closed first."""

    def __init__(self) -> None:
        self._open: OrderedDict[int, NDArray[np.void]] = OrderedDict()

    def get(self, shard_id: int, shard: MDSReader, dtype: np.dtype) -> NDArray[np.void]:
        """The samples of a shard as a record array [samples].

        Args:
            shard_id: Its number, the name of the map.
            shard: Its reader.
            dtype: Its record type.

        Raises:
            FileNotFoundError: The shard is not on the local disk (yet, or any more).
            RuntimeError: The file is not what the index says.
        """
        records = self._open.get(shard_id)
        if records is None:
            records = self._open[shard_id] = _map(shard, dtype)
            if len(self._open) > MAX_OPEN_SHARDS:
                self._open.popitem(last=False)
        else:
            self._open.move_to_end(shard_id)
        return records


def _path(shard: MDSReader) -> Path:
    return Path(shard.dirname, shard.split or '', shard.raw_data.basename)


def _map(shard: MDSReader, dtype: np.dtype) -> NDArray[np.void]:
    path = _path(shard)
    # Header: the number of samples, then the byte at which each begins and the last one ends.
    with open(path, 'rb') as file:
        header = np.frombuffer(file.read(4 * (shard.samples + 2)), '<u4')
    expected = shard.samples * dtype.itemsize
    if (
        len(header) != shard.samples + 2
        or header[0] != shard.samples
        or int(header[-1]) - int(header[1]) != expected
        or path.stat().st_size < header[-1]
    ):
        raise RuntimeError(
            f'Shard {path} does not hold the {shard.samples} samples of {dtype.itemsize} bytes that its index '
            f'names: delete the file to fetch it again, or convert the stream again.'
        )
    return np.memmap(path, dtype=dtype, mode='r', offset=int(header[1]), shape=(shard.samples,))


class BatchReader:
    """Gathers batches from shards, waiting for those that are not on disk yet.

    Args:
        shards: Every shard of the dataset, in the order of their numbers.
        dtype: The common record type of their samples.
        prepare: Makes a shard local, blocking.
        touch: Called for every shard read, for caches that evict the least recently used.
    """

    def __init__(
        self,
        shards: Sequence[Any],
        *,
        dtype: np.dtype,
        prepare: Callable[[int], None],
        touch: Callable[[int], None] | None = None,
    ) -> None:
        self._shards = shards
        self._dtype = dtype
        self._prepare = prepare
        self._touch = touch
        self._maps = ShardMaps()

    def read(self, shards: Int64, rows: Int64) -> dict[str, NDArray]:
        """Copy one batch out of the shards.

        Args:
            shards: int64 [batch], the shard of each sample.
            rows: int64 [batch], its row there.

        Returns:
            For every column an array [batch, ...].
        """
        distinct, which = np.unique(shards, return_inverse=True)
        batch = {
            name: np.empty((len(rows), *self._dtype[name].shape), self._dtype[name].base)
            for name in self._dtype.names or ()
        }
        for number, shard in enumerate(distinct):
            records = self._open(int(shard))
            chosen = np.flatnonzero(which == number)
            for name, column in batch.items():
                column[chosen] = records[name][rows[chosen]]
        return batch

    def _open(self, shard: int) -> NDArray[np.void]:
        for _ in range(_LOAD_TRIES):
            try:
                records = self._maps.get(shard, self._shards[shard], self._dtype)
            except FileNotFoundError:
                # Not fetched yet, or evicted again by another process before it was opened here.
                self._prepare(shard)
                continue
            if self._touch:
                self._touch(shard)
            return records
        raise RuntimeError(
            f'Shard {_path(self._shards[shard])} was evicted {_LOAD_TRIES} times before it could be read: '
            f'raise `cache_limit`.'
        )
