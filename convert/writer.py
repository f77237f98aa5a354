"""The streams of a generated corpus, with exact counts of what went in, and what all splits have in common."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.convert.packing import Samples
from skillit_stream.convert.staging import check_skill_name
from skillit_stream.formats.manifest import SplitInfo

SMALLEST_SHARD = 4096


class StreamsWriter:
    """Writes ``ROOT/<skill>/<split>/`` under a local folder.

    Args:
        root: The folder, existing and empty.
        seq_len: Tokens in a sample, S.
        dtype: Of the tokens.
        masked: Whether samples come with a loss mask.
        shard_size: Largest shard, in bytes or as text such as ``64mb``.

    Raises:
        InputError: The shard size cannot be read or does not hold a sample.
    """

    def __init__(
        self,
        root: str,
        *,
        seq_len: int,
        dtype: type[np.uint16] | type[np.uint32],
        masked: bool = False,
        shard_size: int | str = '64mb',
    ) -> None:
        self.root = root
        self.seq_len = seq_len
        self.dtype = np.dtype(dtype)
        self.columns = token_columns(dtype, seq_len, masked=masked)
        self._shard_bytes = shard_bytes(shard_size, self.dtype, seq_len)
        self._writers: dict[tuple[str, str], Any] = {}
        self._documents: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()

    def write(self, skill: str, split: str, tokens: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Write one sample: `tokens` and, in a masked folder, `mask`, both of shape (S,)."""
        if tokens.shape != (self.seq_len,) or (mask is None) == ('loss_mask' in self.columns):
            raise RuntimeError(f'Internal error: a sample of shape {tokens.shape} for columns {self.columns}')
        masks = None if mask is None else mask.astype(np.uint8, copy=False)[None]
        samples = Samples(tokens.astype(self.dtype, copy=False)[None], masks)
        self._writer(skill, split).write_samples(samples)

    def count_document(self, skill: str, split: str, text_bytes: int) -> None:
        """Count a document of `text_bytes` UTF-8 bytes, whose samples are written apart."""
        self._documents[skill, split] += 1
        self._bytes[skill, split] += text_bytes

    def finish(self) -> dict[str, dict[str, SplitInfo]]:
        """Write the last shards and the indexes; skill -> split -> contents."""
        written: dict[str, dict[str, SplitInfo]] = {}
        for (skill, split), writer in self._writers.items():
            writer.finish()
            written.setdefault(skill, {})[split] = SplitInfo(
                samples=writer.samples,
                tokens=writer.samples * self.seq_len,
                target_tokens=writer.targets,
                bytes=self._bytes[skill, split],
                documents=self._documents[skill, split],
                index_hash=index_hash(os.path.join(self.root, skill, split)),
            )
        return written

    def abort(self) -> None:
        """Stop the writers' threads; what they wrote is for the caller to remove."""
        for writer in self._writers.values():
            writer.cancel_future_jobs()

    def _writer(self, skill: str, split: str) -> Any:
        if (skill, split) not in self._writers:
            from skillit_stream.convert.shard_writer import ShardWriter

            folder = os.path.join(self.root, check_skill_name(skill), split)
            self._writers[skill, split] = ShardWriter(folder, self.columns, self._shard_bytes)
        return self._writers[skill, split]


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


def write_index(folder: str, shards: Sequence[Mapping[str, Any]]) -> None:
    """Write the ``index.json`` of a split as MDSWriter does."""
    with open(os.path.join(folder, 'index.json'), 'w', encoding='utf-8') as file:
        json.dump({'version': 2, 'shards': list(shards)}, file, sort_keys=True)
