"""Unpacking a shard beside its compressed form, where others may be doing the same."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

from streaming import Stream
from streaming.base.compression import decompress
from streaming.base.hashing import get_hash

from skillit_stream.loader.host.failures import path_of


def unpack_missing(stream: Stream, shard: Any) -> None:
    """Unpack the files of a shard that are here in compressed form alone, and keep that.

    Streaming writes every unpacking of a file under one name, ``.tmp``: of two jobs, or two machines over a shared
    disk, one would take away what the other is writing. Here each writes under a name of its own.

    Args:
        stream: That it belongs to, without a remote.
        shard: Its reader.

    Raises:
        OSError: A file cannot be read, or not be written.
        ValueError: It is not what its index says.
    """
    for raw, zipped in shard.file_pairs:
        path = path_of(shard, raw)
        if zipped and not path.is_file():
            data = path_of(shard, zipped).read_bytes()
            if len(data) != zipped.bytes:
                raise ValueError(f'it has {len(data)} bytes, but its index says {zipped.bytes}')
            kind = stream.validate_hash
            if kind and kind in zipped.hashes and get_hash(kind, data) != zipped.hashes[kind]:
                raise ValueError(f'its {kind} is not the one that its index says')
            if not kind or kind in zipped.hashes:
                _write(path, decompress(shard.compression, data), raw.bytes)


def _write(path: Path, data: bytes, size: int) -> None:
    """Write a file that is not there before it is whole."""
    if len(data) != size:
        raise ValueError(f'it unpacks to {len(data)} bytes, but its index says {size}')
    # As downloads that are killed: the next start removes it.
    unfinished = path.with_name(f'{path.name}.{secrets.token_hex(4)}')
    try:
        unfinished.write_bytes(data)
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
