"""What the shards of all splits have in common: their size, their columns, their index."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.convert.options import ConvertOptions, parse_size

SMALLEST_SHARD = 4096
# Kept in index.json; fast enough not to be felt, and what StreamingDataset's validate_hash can check.
SHARD_HASH = 'xxh64'


class Shard(NamedTuple):
    """What an index has of one shard alone."""

    name: str
    samples: int
    bytes: int
    digest: str


def shard_bytes(shard_size: int | str, dtype: np.dtype, seq_len: int) -> int:
    """The largest shard in bytes.

    Raises:
        InputError: It cannot be read, or does not hold a sample.
    """
    size = parse_size('--shard-size', str(shard_size), example='64mb or 67108864')
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


def shard_config(columns: Mapping[str, str], shard_bytes: int) -> dict[str, Any]:
    """What all shards of a split have in common in its index, as MDSWriter has it.

    Args:
        columns: Column -> encoding, each an ndarray of a fixed shape.
        shard_bytes: The largest shard.
    """
    names = sorted(columns)
    return {
        'version': 2,
        'format': 'mds',
        'compression': None,
        'hashes': [SHARD_HASH],
        'size_limit': shard_bytes,
        'column_names': names,
        'column_encodings': [columns[name] for name in names],
        'column_sizes': [_size_of(columns[name]) for name in names],
    }


def _size_of(encoding: str) -> int:
    """Bytes of one ``ndarray:<dtype>:<length>``."""
    _, dtype, length = encoding.split(':')
    return np.dtype(dtype).itemsize * int(length)


def config_text(config: Mapping[str, Any]) -> bytes:
    """The columns as they stand in a shard."""
    return json.dumps(config, sort_keys=True).encode()


def config_of(options: ConvertOptions, dtype: type[np.uint16] | type[np.uint32]) -> dict[str, Any]:
    """:func:`shard_config` of the samples that the options ask for."""
    columns = token_columns(dtype, options.seq_len, masked=options.masked)
    return shard_config(columns, shard_bytes(options.shard_size, np.dtype(dtype), options.seq_len))


def index_entry(shard: Shard, config: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of a shard in an index."""
    data = {'basename': shard.name, 'bytes': shard.bytes, 'hashes': {SHARD_HASH: shard.digest}}
    return {'samples': shard.samples, 'raw_data': data, 'zip_data': None, **config}


def index_text(entries: Iterable[Mapping[str, Any]]) -> str:
    """The ``index.json`` of a split as MDSWriter writes it."""
    return json.dumps({'version': 2, 'shards': list(entries)}, sort_keys=True)


def write_index(folder: str, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write the ``index.json`` of a split."""
    with open(os.path.join(folder, 'index.json'), 'w', encoding='utf-8') as file:
        file.write(index_text(entries))
