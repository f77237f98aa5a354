"""Samples -> MDS shards: one ``MDSWriter`` for each skill and split, and exact counts of what went in."""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from skillit_stream.convert.staging import check_skill_name
from skillit_stream.errors import InputError
from skillit_stream.streams.manifest import SPLITS, SplitInfo

# Kept in index.json; fast enough not to be felt, and what StreamingDataset's validate_hash can check.
SHARD_HASH = 'xxh64'
SMALLEST_SHARD = 4096


@dataclass(slots=True)
class _Split:
    writer: Any
    samples: int = 0
    targets: int = 0
    bytes: int = 0
    documents: int = 0


class StreamsWriter:
    """Writes ``ROOT/<skill>/<split>/`` under a folder.

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
        self._shard_bytes = self._check_shard_size(shard_size)
        self._splits: dict[tuple[str, str], _Split] = {}

    def write(self, skill: str, split: str, tokens: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Write one sample: `tokens` and, in a masked folder, `mask`, both of shape (S,)."""
        if tokens.shape != (self.seq_len,) or (mask is None) == ('loss_mask' in self.columns):
            raise RuntimeError(f'Internal error: a sample of shape {tokens.shape} for columns {self.columns}')
        target = self._split(skill, split)
        sample: dict[str, np.ndarray] = {'tokens': tokens.astype(self.dtype, copy=False)}
        if mask is not None:
            sample['loss_mask'] = mask.astype(np.uint8, copy=False)
        target.writer.write(sample)
        target.samples += 1
        target.targets += self.seq_len if mask is None else int(mask.sum())

    def count_document(self, skill: str, split: str, text_bytes: int) -> None:
        """Count a document of `text_bytes` UTF-8 bytes, whose samples are written apart."""
        target = self._split(skill, split)
        target.documents += 1
        target.bytes += text_bytes

    def finish(self) -> dict[str, dict[str, SplitInfo]]:
        """Close all shards and return what was written: skill -> split -> contents."""
        written: dict[str, dict[str, SplitInfo]] = {}
        order = sorted(self._splits, key=lambda key: (key[0], SPLITS.index(key[1])))
        for skill, name in order:
            split = self._splits[skill, name]
            split.writer.finish()
            written.setdefault(skill, {})[name] = SplitInfo(
                samples=split.samples,
                tokens=split.samples * self.seq_len,
                target_tokens=split.targets,
                bytes=split.bytes,
                documents=split.documents,
                index_hash=index_hash(os.path.join(self.root, skill, name)),
            )
        return written

    def sibling(self) -> 'StreamsWriter':
        """A new writer for the same folder and kind of samples, to write a split over again."""
        masked = 'loss_mask' in self.columns
        return StreamsWriter(
            self.root,
            seq_len=self.seq_len,
            dtype=self.dtype.type,
            masked=masked,
            shard_size=self._shard_bytes,
        )

    def abort(self) -> None:
        """Stop the writers' threads; what they wrote is for the caller to remove."""
        for split in self._splits.values():
            split.writer.cancel_future_jobs()

    def _split(self, skill: str, name: str) -> _Split:
        split = self._splits.get((skill, name))
        if split is None:
            from streaming import MDSWriter

            folder = os.path.join(self.root, check_skill_name(skill), name)
            writer = MDSWriter(
                out=folder, columns=self.columns, hashes=[SHARD_HASH], size_limit=self._shard_bytes
            )
            split = self._splits[skill, name] = _Split(writer)
        return split

    def _check_shard_size(self, shard_size: int | str) -> int:
        from streaming.base.util import bytes_to_int

        try:
            size = bytes_to_int(shard_size)
        except ValueError as error:
            raise InputError(f'--shard-size must be like 64mb or 67108864, but got: {shard_size}') from error
        smallest = SMALLEST_SHARD + 2 * self.seq_len * (self.dtype.itemsize + 1)
        if not smallest <= size < 1 << 32:
            raise InputError(
                f'--shard-size must lie between {smallest} bytes at --seq-len {self.seq_len} and 4gb, '
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
