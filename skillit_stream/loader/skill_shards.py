"""The shards of named streams, read by sample id: what training and evaluation have in common."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming import Stream

import skillit_stream.loader.padding  # noqa: F401 (so that tokenizers pad whole batches)
from skillit_stream.loader.batches import Sample, samples_of
from skillit_stream.loader.host.dataset import HostDataset
from skillit_stream.loader.host.fetch import ShardFetcher
from skillit_stream.loader.host.other_loaders import refuse_other_division
from skillit_stream.loader.shards import BatchReader, common_dtype
from skillit_stream.order.index import ShardList

Int64 = NDArray[np.int64]

# Columns the loader adds to those of the streams.
SKILL_COLUMN = 'skill'
SAMPLE_ID_COLUMN = 'sample_id'


class SkillShards(HostDataset):
    """One stream a skill. Sample ids count through the streams in their order.

    A subclass may override ``__getitem__`` or :meth:`get_item`, as of a StreamingDataset: what they return is drawn,
    one sample after another and not by whole batches, which takes several times as long.

    Args:
        streams: Skill -> :class:`streaming.Stream`.
        **kwargs: StreamingDataset's own.

    Raises:
        InputError: A stream has no index, or streams differ in their columns.
    """

    def __init__(self, streams: Mapping[str, Stream], **kwargs: Any) -> None:
        super().__init__(streams, **kwargs)
        offsets = self.shard_offset_per_stream.tolist()
        first = {skill: self.shards[at] for skill, at in zip(self.skills, offsets, strict=True)}
        self._sample_dtype = common_dtype(first, reserved=(SKILL_COLUMN, SAMPLE_ID_COLUMN))
        self.shard_lists = {
            skill: ShardList.of(self.shards[begin : begin + count])
            for skill, begin, count in zip(self.skills, offsets, self.shards_per_stream.tolist(), strict=True)
        }
        self._open_own()

    def samples_by_id(self, ids: Int64) -> Iterator[Sample | dict[str, Any]]:
        """Samples by id, with ``skill`` and ``sample_id``, gathered as one batch where their columns allow it.

        Of a subclass that overrides ``__getitem__`` or :meth:`get_item`, they are as it returns them.

        Args:
            ids: int64 [n].

        Raises:
            InputError: A shard is missing and has no remote, or ``cache_limit`` is too small.
            RuntimeError: A shard cannot be fetched, or is not what its index says.
        """
        kind = type(self)
        if (
            self._reader is None
            or kind.__getitem__ is not SkillShards.__getitem__
            or kind.get_item is not SkillShards.get_item
        ):
            for sample_id in ids.tolist():
                yield self[sample_id]
            return
        shards, rows = self.spanner.locate(ids)
        skills = self.stream_per_shard[shards].astype(np.int32)
        added = {SKILL_COLUMN: skills, SAMPLE_ID_COLUMN: ids}
        yield from samples_of(self._reader.read(shards, rows, **added))

    def get_item(self, sample_id: int, retry: int = 7) -> dict[str, Any]:
        """One sample as it is drawn, with ``skill`` and ``sample_id``; raises as :meth:`samples_by_id`."""
        shard, row = self.spanner[sample_id]
        skill, number = np.int32(self.stream_per_shard[shard]), np.int64(sample_id)
        if self._reader is None:
            return {**super().get_item(sample_id, retry), SKILL_COLUMN: skill, SAMPLE_ID_COLUMN: number}
        added = {SKILL_COLUMN: np.array([skill]), SAMPLE_ID_COLUMN: np.array([number])}
        return dict(next(samples_of(self._reader.read(np.array([shard]), np.array([row]), **added))))

    def request(self, shards: Iterable[int], *, are_needed: bool = True) -> None:
        """Have shards fetched in the background that are not here yet.

        Args:
            shards: Their numbers.
            are_needed: Whether batches need them; others are fetched when no such ones wait to be, and replace the
                others that were asked for before.
        """
        missing = []
        for shard in shards:
            if not self.is_local(shard):
                missing.append(shard)
            elif are_needed and self.cache_limit:
                self.touch(shard)
        self._fetcher.request(missing, are_needed=are_needed)

    def __getstate__(self) -> dict[str, Any]:
        """What a spawned worker gets: no open maps, no threads."""
        # It does not see who asked for it.
        refuse_other_division()
        return {name: value for name, value in self.__dict__.items() if name not in ('_reader', '_fetcher')}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The copy opens its own."""
        self.__dict__.update(state)
        self._open_own()

    def _open_own(self) -> None:
        """What each process has for itself."""
        self._reader = self._sample_dtype and BatchReader(
            self.shards,
            dtype=self._sample_dtype,
            prepare=self.prepare_shard,
            touch=self.touch if self.cache_limit else None,
            is_local=self.is_local if self.has_remote else None,
            mend=lambda shard, error, again: self.mend_shard(shard, error, again=again),
        )
        self._fetcher = ShardFetcher(self.prepare_shard)
