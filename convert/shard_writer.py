"""Samples -> MDS shards of one split. Imports Streaming, and torch with it: import it where it is used."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from streaming import MDSWriter

from skillit_stream.convert.packing import Samples

# Kept in index.json; fast enough not to be felt, and what StreamingDataset's validate_hash can check.
SHARD_HASH = 'xxh64'


class ShardWriter(MDSWriter):
    """An ``MDSWriter`` of one split whose shards may carry a name of their own and which may leave out the index.

    Args:
        out: Folder, or (folder, where to upload to).
        columns: As :func:`token_columns` gives them.
        shard_bytes: Largest shard.
        label: Part of the shards' names, ``shard.<label>.00000.mds``, so that several writers can fill one
            split.
    """

    def __init__(
        self, out: str | tuple[str, str], columns: Mapping[str, str], shard_bytes: int, label: str = ''
    ) -> None:
        super().__init__(out=out, columns=dict(columns), hashes=[SHARD_HASH], size_limit=shard_bytes)
        self._label = label
        self.samples = 0
        self.targets = 0
        self.without_target = 0

    def _name_next_shard(self, extension: str | None = None) -> tuple[str, str | None]:
        name, zip_name = super()._name_next_shard(extension)
        return (name.replace('shard.', f'shard.{self._label}.') if self._label else name), zip_name

    def encode_sample(self, sample: dict[str, np.ndarray]) -> bytes:
        """The bytes of a sample; all columns are arrays of a fixed shape, which stand one after the other."""
        return b''.join(sample[name].tobytes() for name in self.column_names)

    def write_samples(self, samples: Samples) -> None:
        """Write samples: tokens [n, S] and, where the columns have a mask, masks."""
        for name, array in (('tokens', samples.tokens), ('loss_mask', samples.mask)):
            # What MDSWriter would look at sample by sample.
            size = array is not None and array.dtype.itemsize * array.shape[1]
            if size != dict(zip(self.column_names, self.column_sizes, strict=True)).get(name, False):
                raise RuntimeError(f'Internal error: {name} of {size} bytes a sample for {self.columns}')
        if samples.mask is None:
            for tokens in samples.tokens:
                self.write({'tokens': tokens})
            self.targets += samples.tokens.size
        else:
            for tokens, mask in zip(samples.tokens, samples.mask, strict=True):
                self.write({'tokens': tokens, 'loss_mask': mask})
            self.targets += int(samples.mask.sum(dtype=np.int64))
        self.samples += len(samples)
        self.without_target += int((~samples.has_target).sum())

    def finish_shards(self) -> list[dict[str, Any]]:
        """Write and upload the last shard and return the index's entries, without an index."""
        if self.new_samples:
            self.flush_shard()
            self._reset_cache()
        self.executor.shutdown(wait=True)
        if self.event.is_set():
            raise OSError(f'shards could not be uploaded to {self.remote}')
        return self.shards
