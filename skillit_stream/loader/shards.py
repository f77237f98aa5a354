"""Reading MDS shards: whole batches gathered from memory-mapped files.

Samples of fixed-size columns (token sequences) lie in an MDS shard one behind the other at a fixed
stride, so a shard is a NumPy record array over the file: a batch is gathered with one copy a row and
nothing is decoded. Shards with columns of varying size are left to Streaming's own reader.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming.base.format.mds.reader import MDSReader

from skillit_stream.base.errors import InputError

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


class DamagedShardError(RuntimeError):
    """A shard's file does not hold what its index says."""


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
    columns = {name for shard in shards.values() for name in getattr(shard, 'column_names', ())}
    for name in reserved:
        if name in columns:
            raise InputError(f'Streams must not have a column {name!r}: the loader adds one of that name.')
    return reference


class ShardMaps:
    """Open memory maps of shards, the least recently used closed first.

    Args:
        dtype: The record type of the shards' samples.
    """

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype = dtype
        self._open: OrderedDict[int, dict[str, NDArray]] = OrderedDict()

    def get(self, shard_id: int, shard: MDSReader) -> dict[str, NDArray]:
        """The columns of a shard, each an array [samples, ...].

        Args:
            shard_id: Its number, the name of the map.
            shard: Its reader.

        Raises:
            FileNotFoundError: The shard is not on the local disk (yet, or any more).
            DamagedShardError: The file is not what the index says.
        """
        columns = self._open.get(shard_id)
        if columns is None:
            records = _map(shard, self._dtype)
            columns = self._open[shard_id] = {name: records[name] for name in self._dtype.names or ()}
            if len(self._open) > MAX_OPEN_SHARDS:
                self._open.popitem(last=False)
        else:
            self._open.move_to_end(shard_id)
        return columns

    def __contains__(self, shard_id: int) -> bool:
        return shard_id in self._open

    def close_unless(self, is_wanted: Callable[[int], bool]) -> None:
        """Close the maps of shards that are not wanted any more; an evicted file's space is then free."""
        for shard_id in [number for number in self._open if not is_wanted(number)]:
            del self._open[shard_id]


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
        raise DamagedShardError(
            f'Shard {path} does not hold the {shard.samples} samples of {dtype.itemsize} bytes that its index '
            f'names: delete the file to fetch it again, or convert the stream again.'
        )
    records = np.memmap(path, dtype=dtype, mode='r', offset=int(header[1]), shape=(shard.samples,))
    # As a plain array: every index of a memmap runs Python code.
    return records.view(np.ndarray)


class Gathered(dict[str, NDArray]):
    """The columns of one batch, all views of one buffer.

    Attributes:
        buffer: uint8 [bytes].
        layout: Name, dtype, shape and first byte of every column.
    """

    __slots__ = ('buffer', 'layout')

    def __init__(self, columns: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> None:
        # Wide items first: then all of them are aligned without gaps.
        by_width = sorted(columns.items(), key=lambda column: -column[1][0].itemsize)
        self.layout: list[tuple[str, str, tuple[int, ...], int]] = []
        size = 0
        for name, (dtype, shape) in by_width:
            self.layout.append((name, dtype.str, shape, size))
            size += dtype.itemsize * math.prod(shape)
        self.buffer = np.empty(size, np.uint8)
        super().__init__(columns_of(self.buffer, self.layout))


def columns_of(
    buffer: NDArray[np.uint8], layout: Sequence[tuple[str, str, tuple[int, ...], int]]
) -> dict[str, NDArray]:
    """The columns that lie in a buffer."""
    return {name: np.ndarray(shape, dtype, buffer, first) for name, dtype, shape, first in layout}


class BatchReader:
    """Gathers batches from shards, waiting for those that are not on disk yet.

    Args:
        shards: Every shard of the dataset, in the order of their numbers.
        dtype: The common record type of their samples.
        prepare: Makes a shard local, blocking.
        touch: Called for every shard read, for caches that evict the least recently used.
        is_local: Whether a shard is ready to be opened; None: each is as soon as its file is there.
        mend: Called with a damaged shard, what was found and whether it was mended before; evicts the shard
            or raises.
    """

    def __init__(
        self,
        shards: Sequence[Any],
        *,
        dtype: np.dtype,
        prepare: Callable[[int], None],
        touch: Callable[[int], None] | None = None,
        is_local: Callable[[int], bool] | None = None,
        mend: Callable[[int, Exception, bool], None] | None = None,
    ) -> None:
        self._shards = shards
        self._prepare, self._touch, self._is_local, self._mend = prepare, touch, is_local, mend
        self._maps = ShardMaps(dtype)
        self._columns = {name: (dtype[name].base, dtype[name].shape) for name in dtype.names or ()}

    def read(self, shards: Int64, rows: Int64, **more: NDArray) -> Gathered:
        """Copy one batch out of the shards.

        Args:
            shards: int64 [batch], the shard of each sample.
            rows: int64 [batch], its row there.
            **more: Further columns [batch], copied in.

        Returns:
            For every column an array [batch, ...].
        """
        size = len(rows)
        columns = {name: (dtype, (size, *shape)) for name, (dtype, shape) in self._columns.items()}
        columns |= {name: (column.dtype, column.shape) for name, column in more.items()}
        batch = Gathered(columns)
        for name, column in more.items():
            batch[name][:] = column
        places = list(zip(shards.tolist(), rows.tolist(), strict=True))
        opened = {shard: self._open(shard) for shard in {shard for shard, _ in places}}
        for name in self._columns:
            out = batch[name]
            for number, (shard, row) in enumerate(places):
                out[number] = opened[shard][name][row]
        return batch

    def _open(self, shard: int) -> dict[str, NDArray]:
        mended = False
        for _ in range(_LOAD_TRIES):
            try:
                if shard not in self._maps:
                    self._await(shard)
                columns = self._maps.get(shard, self._shards[shard])
            except FileNotFoundError:
                # Not fetched yet, or evicted again by another process before it was opened here.
                self._prepare(shard)
                continue
            except PermissionError as error:
                raise InputError(
                    f'A shard may not be read, {error.filename} ({error.strerror}): have its owner let you.'
                ) from error
            except DamagedShardError as error:
                if self._mend is None:
                    raise
                self._mend(shard, error, mended)
                mended = True
                continue
            if self._touch:
                self._touch(shard)
            return columns
        raise RuntimeError(
            f'Shard {_path(self._shards[shard])} was evicted {_LOAD_TRIES} times before it could be read: '
            f'raise `cache_limit`.'
        )

    def _await(self, shard: int) -> None:
        """Until a shard may be opened: its file may be there before its hash is checked."""
        if self._is_local is None:
            return
        if self._touch:
            # With a limit to the cache, shards are evicted.
            self._maps.close_unless(self._is_local)
        if not self._is_local(shard):
            self._prepare(shard)
