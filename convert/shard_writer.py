"""Samples -> MDS shards of one split, to the byte those of Streaming's ``MDSWriter``, in memory that does not grow.

``MDSWriter`` keeps a whole shard in memory until it is full, which of thousands of skills is too much, and imports
torch. Here what has come of a shard can be put on disk at any time (:meth:`ShardWriter.spill`): all samples are of one
size, so the head of a full shard is known before its samples are.
"""

import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import xxhash

from skillit_stream.convert.options import ConvertOptions
from skillit_stream.convert.packing import Samples
from skillit_stream.convert.shards import (
    Shard,
    config_text,
    shard_bytes,
    shard_config,
    token_columns,
)

COPIED_BYTES = 1 << 20
# Uploads that run at the same time in a process.
UPLOADS = 8


class ShardWriter:
    """Writes the samples of one split as shards, without an index.

    Args:
        out: Folder, or (folder, where to upload to); in the second case nothing stays in the folder.
        columns: As :func:`~skillit_stream.convert.shards.token_columns` gives them.
        shard_bytes: Largest shard.
        label: Part of the shards' names, ``shard.<label>.00000.mds``, so that several writers can fill one
            split.
    """

    def __init__(
        self, out: str | tuple[str, str], columns: Mapping[str, str], shard_bytes: int, label: str = ''
    ) -> None:
        self.local, self.remote = (out, None) if isinstance(out, str) else out
        config = shard_config(columns, shard_bytes)
        self._sizes = dict(zip(config['column_names'], config['column_sizes'], strict=True))
        self._config = config_text(config)
        self._capacity = (shard_bytes - len(_head(0, 0, self._config))) // (self._sample_bytes + 4)
        self._label = label
        self._shards: list[Shard] = []
        self._uploads: list[Future[None]] = []
        self._uploader: Any = None
        self.samples = self.targets = self.without_target = 0
        self._begin()

    def _begin(self) -> None:
        """Begin a shard; no file is open between two calls."""
        self._count = 0
        self._waiting: list[np.ndarray] = []
        self._hash: Any = None  # of what is on disk; None: nothing is
        self.waiting_bytes = 0

    @property
    def _sample_bytes(self) -> int:
        return sum(self._sizes.values())

    @property
    def _path(self) -> str:
        return os.path.join(self.local, self._name)

    @property
    def _name(self) -> str:
        return '.'.join(filter(None, ('shard', self._label, f'{len(self._shards):05}', 'mds')))

    def write_samples(self, samples: Samples) -> None:
        """Write samples: tokens [n, S] and, where the columns have a mask, masks."""
        arrays = {'tokens': samples.tokens, 'loss_mask': samples.mask}
        columns = {name: _bytes_of(array) for name, array in sorted(arrays.items()) if array is not None}
        sizes = {name: column.shape[1] for name, column in columns.items()}
        if sizes != self._sizes:
            raise RuntimeError(f'Internal error: columns of {sizes} bytes a sample for {self._sizes}')
        rows = np.concatenate(list(columns.values()), axis=1)
        begin = 0
        while begin < len(rows):
            piece = rows[begin : begin + self._capacity - self._count]
            begin += len(piece)
            self._waiting.append(piece)
            self._count += len(piece)
            self.waiting_bytes += piece.nbytes
            if self._count == self._capacity:
                self._end_shard()
        self.samples += len(samples)
        self.targets += samples.tokens.size if samples.mask is None else int(samples.mask.sum(dtype=np.int64))
        self.without_target += int((~samples.has_target).sum())

    def spill(self) -> None:
        """Put on disk what waits in memory."""
        if not self._waiting:
            return
        os.makedirs(self.local, exist_ok=True)
        with open(self._path, 'ab' if self._hash else 'wb') as file:
            if self._hash is None:
                self._hash = xxhash.xxh64()
                # Of a full shard, which it will mostly be.
                self._append(file, _head(self._capacity, self._sample_bytes, self._config))
            for rows in self._waiting:
                self._append(file, rows)
        self._waiting, self.waiting_bytes = [], 0

    def _append(self, file: Any, data: Any) -> None:
        file.write(data)
        self._hash.update(data)

    def _end_shard(self) -> None:
        """Complete the shard, upload it and begin the next."""
        if self._count < self._capacity:
            self._spill_short()
        else:
            self.spill()
        shard = Shard(self._name, self._count, os.path.getsize(self._path), self._hash.hexdigest())
        self._upload(shard.name)
        self._shards.append(shard)
        self._begin()

    def _spill_short(self) -> None:
        """Put a shard on disk that is not full: its head is shorter than the one that may be there."""
        path = f'{self._path}.short'
        full = self._path if self._hash else None
        os.makedirs(self.local, exist_ok=True)
        self._hash = xxhash.xxh64()
        with open(path, 'wb') as file:
            self._append(file, _head(self._count, self._sample_bytes, self._config))
            if full:
                with open(full, 'rb') as spilled:
                    spilled.seek(len(_head(self._capacity, self._sample_bytes, self._config)))
                    while data := spilled.read(COPIED_BYTES):
                        self._append(file, data)
            for rows in self._waiting:
                self._append(file, rows)
        os.replace(path, self._path)

    def _upload(self, name: str) -> None:
        if self.remote is None:
            return
        if self._uploader is None:
            from streaming.base.storage import CloudUploader

            self._uploader = CloudUploader.get((self.local, self.remote), exist_ok=True)
        self._uploads.append(_uploading_threads().submit(self._uploader.upload_file, name))

    def finish_shards(self) -> list[Shard]:
        """Write the last shard, wait for the uploads and return what an index has of each.

        Raises:
            OSError: A shard could not be uploaded.
        """
        if self._count:
            self._end_shard()
        for upload in self._uploads:
            if upload.exception() is not None:
                raise OSError(f'shards could not be uploaded to {self.remote}') from upload.exception()
        return self._shards

    def abort(self) -> None:
        """Begin no further upload."""
        for upload in self._uploads:
            upload.cancel()


def new_writer(
    out: str | tuple[str, str],
    options: ConvertOptions,
    dtype: type[np.uint16] | type[np.uint32],
    label: str = '',
) -> ShardWriter:
    """A writer of the samples that the options ask for.

    Args:
        out: Folder, or (folder, where to upload to).
        options: Of the command.
        dtype: Of the tokens.
        label: Part of the shards' names.
    """
    columns = token_columns(dtype, options.seq_len, masked=options.masked)
    size = shard_bytes(options.shard_size, np.dtype(dtype), options.seq_len)
    return ShardWriter(out, columns, size, label)


@cache
def _uploading_threads() -> ThreadPoolExecutor:
    """The threads of this process that upload, for all writers."""
    return ThreadPoolExecutor(UPLOADS)


def _bytes_of(array: np.ndarray) -> np.ndarray:
    """An array [n, S] as bytes, uint8 [n, bytes a row]."""
    return np.ascontiguousarray(array).view(np.uint8).reshape(len(array), array.shape[1] * array.itemsize)


def _head(samples: int, sample_bytes: int, config: bytes) -> bytes:
    """What stands before the samples of a shard: their number, where each begins and the last ends, the columns."""
    begin = 4 * (samples + 2) + len(config)
    offsets = begin + np.arange(samples + 1, dtype=np.uint32) * np.uint32(sample_bytes)
    return np.uint32(samples).tobytes() + offsets.astype(np.uint32).tobytes() + config
