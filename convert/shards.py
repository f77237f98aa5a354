"""What the shards of all splits have in common: their size, their columns, their index."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.convert.options import ConvertOptions

SMALLEST_SHARD = 4096


def shard_bytes(shard_size: int | str, dtype: np.dtype, seq_len: int) -> int:
    """The largest shard in bytes.

    Raises:
        InputError: It cannot be read, or does not hold a sample.
    """
    from streaming.base.util import bytes_to_int

    try:
        size = bytes_to_int(shard_size)
    except ValueError as error:
        raise InputError(f'--shard-size must be like 64mb or 67108864, but got: {shard_size}') from error
    smallest = SMALLEST_SHARD + 2 * seq_len * (dtype.itemsize + 1)
    if not smallest <= size < 1 << 32:
        raise InputError(
            f'--shard-size must lie between {smallest} bytes at --seq-len {seq_len} and 4gb, '
            f'but got: {shard_size}'
        )
    return size


def token_columns(
    dtype: type[np.uint16] | type[np.uint32], seq_len: int, *, masked: bool = False
) -> dict[str, str]:
    """The MDS columns of samples of `seq_len` tokens: column -> encoding."""
    columns = {'tokens': f'ndarray:{dtype.__name__}:{seq_len}'}
    if masked:
        columns['loss_mask'] = f'ndarray:uint8:{seq_len}'
    return columns


def index_hash(folder: str) -> str:
    """``sha256:`` and the hex digest of a split's ``index.json``."""
    with open(os.path.join(folder, 'index.json'), 'rb') as file:
        return f'sha256:{hashlib.sha256(file.read()).hexdigest()}'


def index_text(shards: Sequence[Mapping[str, Any]]) -> str:
    """The ``index.json`` of a split as MDSWriter writes it."""
    return json.dumps({'version': 2, 'shards': list(shards)}, sort_keys=True)


def write_index(folder: str, shards: Sequence[Mapping[str, Any]]) -> None:
    """Write the ``index.json`` of a split."""
    with open(os.path.join(folder, 'index.json'), 'w', encoding='utf-8') as file:
        file.write(index_text(shards))


def new_writer(
    out: str | tuple[str, str],
    options: ConvertOptions,
    dtype: type[np.uint16] | type[np.uint32],
    label: str = '',
) -> Any:
    """A :class:`~skillit_stream.convert.shard_writer.ShardWriter` of the samples that the options ask for.

    Args:
        out: Folder, or (folder, where to upload to).
        options: Of the command.
        dtype: Of the tokens.
        label: Part of the shards' names.
    """
    from skillit_stream.convert.shard_writer import ShardWriter  # and with it torch

    columns = token_columns(dtype, options.seq_len, masked=options.masked)
    size = shard_bytes(options.shard_size, np.dtype(dtype), options.seq_len)
    return ShardWriter(out, columns, size, label)
