"""The eval streams of all skills, read by sample id."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming import Stream
from torch.utils.data import Dataset

from skillit_stream.base.errors import InputError
from skillit_stream.loader.skill_shards import SkillShards

Int64 = NDArray[np.int64]


class EvalStreams(SkillShards):
    """The eval streams of all skills: shards, cache and shared memory of one StreamingDataset.

    Args:
        streams: Skill -> Stream of its eval split.
        **kwargs: StreamingDataset's own, e.g. ``cache_limit``.

    Raises:
        InputError: A stream has no index, or streams differ in their columns.
    """

    def __init__(self, streams: Mapping[str, Stream], **kwargs: Any) -> None:
        super().__init__(streams, batch_size=1, shuffle=False, **kwargs)

    def skill(self, name: str, limit: int | None = None) -> 'EvalSamples':
        """The eval samples of one skill, in the order of its shards; the first `limit` of them."""
        return EvalSamples(self, self._ids(self.skills.index(name), limit))

    def all_skills(self, limit: int | None = None, *, half: int | None = None) -> 'EvalSamples':
        """The eval samples of all skills, one skill after another; the first `limit` of each.

        Args:
            limit: None: all.
            half: Of those of each skill the first half alone (0), or the second (1): packed documents go over from one
                sample into the next, so that the halves have one document in common at most.

        Raises:
            InputError: A skill has too few samples for two halves.
        """
        ids = [self._ids(at, limit) for at in range(len(self.skills))]
        if half is not None:
            for skill, own in zip(self.skills, ids, strict=True):
                if len(own) < 2:
                    raise InputError(
                        f'The eval samples of {skill!r} must be at least 2 to be halved, but got: {len(own)}; raise '
                        f'eval_loader.samples_per_skill, or convert it with a larger eval split.'
                    )
            ids = [np.array_split(own, 2)[half] for own in ids]
        return EvalSamples(self, np.concatenate(ids))

    def _ids(self, skill: int, limit: int | None) -> Int64:
        first, count = int(self.sample_offset_per_stream[skill]), int(self.samples_per_stream[skill])
        return np.arange(first, first + (count if limit is None else min(limit, count)), dtype=np.int64)


class EvalSamples(Dataset):
    """A map-style view of some eval samples, so that each is seen exactly once over all ranks.

    Args:
        streams: That hold them.
        ids: int64 [samples].
    """

    def __init__(self, streams: EvalStreams, ids: Int64) -> None:
        self.skills = streams.skills
        self.streams = streams
        self._ids = ids

    def __len__(self) -> int:
        """How many there are."""
        return len(self._ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample."""
        return next(iter(self.streams.samples_by_id(self._ids[[index]])))

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """A batch of samples."""
        if type(self).__getitem__ is not EvalSamples.__getitem__:
            return [self[index] for index in indices]
        return list(self.streams.samples_by_id(self._ids[list(indices)]))
