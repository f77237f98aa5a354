"""The shards of a stream, as its index.json names them now or as a run says that they were."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.formats.sample_losses import RankedLosses, losses_folder
from skillit_stream.mixture import Pace, SampleOrder
from skillit_stream.order.index import prefix_digests

Int64 = NDArray[np.int64]

INDEX_NAME = 'index.json'


@dataclass(frozen=True, eq=False)
class StreamIndex:
    """Shards of one stream in the order of its index."""

    folder: Path
    files: tuple[str, ...]
    """Name of each shard's file in the folder; the compressed one where there is one."""
    sizes: Int64
    """int64 [shards], samples in each."""
    digests: tuple[str, ...]
    """Hash of the first n shards at place n, 0 to all of them."""
    subset: int | None = None
    """Samples that the run was limited to; None: all."""

    @property
    def samples(self) -> int:
        """Samples in the stream."""
        return int(self.sizes.sum())

    def digest(self, shards: int | None = None) -> str:
        """Hash of the first `shards` shards (None: of all), as the loader's ``ShardList`` has it."""
        return self.digests[-1 if shards is None else shards]

    def as_it_was(self, shards: int, digest: str) -> 'StreamIndex | None':
        """The stream before it was lengthened to this; None where its shards were others."""
        if shards > len(self.sizes) or self.digests[shards] != digest:
            return None
        return StreamIndex(self.folder, self.files[:shards], self.sizes[:shards], self.digests[: shards + 1])


@dataclass(frozen=True, eq=False)
class LostStream:
    """A stream whose index is gone: what the run says of it.

    That is enough to know where its draws lie among those of the other streams, but not what they drew.
    """

    samples: int
    shards: int
    recorded: str
    """Its digest."""
    problem: str
    """Why there is no index, with {rounds} for the rounds it is needed for; ends with the remedy."""
    subset: int | None = None
    """Samples that the run was limited to; None: all."""

    @property
    def sizes(self) -> Int64:
        """int64 [shards]; only their sum and number are right."""
        return np.array([self.samples] + [0] * (self.shards - 1), np.int64)

    def digest(self, shards: int | None = None) -> str:
        """Hash of all its shards; that of its first shards is not known, so it is like no other."""
        return self.recorded if shards in (None, self.shards) else ''


def read_stream_index(folder: Path) -> StreamIndex:
    """Read the index.json in a folder.

    Raises:
        OSError: There is none.
        ValueError: It is not an index.
    """
    index = json.loads((folder / INDEX_NAME).read_bytes())
    try:
        shards = index['shards']
        sizes = [_count(shard['samples']) for shard in shards]
        files = tuple(str((shard.get('zip_data') or shard['raw_data'])['basename']) for shard in shards)
        files_now = [shard['raw_data'] for shard in shards]
        digests = prefix_digests(
            (size, file['basename'], file['bytes'], file['hashes'])
            for size, file in zip(sizes, files_now, strict=True)
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f'{type(error).__name__}: {error}') from None
    return StreamIndex(folder, files, np.array(sizes, np.int64), tuple(digests))


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f'not a number of samples: {value!r}')
    return value


def find_sample_order(
    skill: str, stream: StreamIndex, curriculum: Mapping[str, Any]
) -> SampleOrder | LostStream:
    """The order in which a run drew a stream's samples; without its losses, what was drawn is not known."""
    folder = losses_folder(stream.folder, str(curriculum['losses']))
    try:
        ranked = RankedLosses.load(folder, skill)
    except InputError:
        ranked = None
    if ranked is None or ranked.digest != curriculum['digest']:
        problem = (
            f'Skill {skill} was drawn in the order of the losses {curriculum["losses"]!r} ({{rounds}}), which are not '
            f'at {folder} as they were: restore them there.'
        )
        return LostStream(stream.samples, len(stream.sizes), stream.digest(), problem)
    pace = Pace(tuple(curriculum['begins']), tuple(curriculum['keys']))
    return SampleOrder(ranked.reversed() if curriculum['hardest_first'] else ranked, pace)


class StreamsFolder:
    """The streams as they are now, each index read once.

    Args:
        *roots: ROOT of ROOT/<skill>/train/index.json, a local folder; of several, each with skills of its own.

    Raises:
        InputError: One is not local.
    """

    def __init__(self, *roots: str) -> None:
        for root in roots:
            if '://' in root:
                raise InputError(
                    f'The streams lie at {root}: pass a local copy of their folder as --streams (index.json files '
                    f'alone are enough).'
                )
        self._roots = [Path(root) for root in roots]
        self._read: dict[str, list[StreamIndex | str]] = {}

    def find(self, skill: str, *, samples: int, shards: int, digest: str) -> StreamIndex | LostStream:
        """A stream as the run had it: the one that is there, its first shards, or what the run says of it.

        It is known by its shards, and looked for under its name first.
        """
        if skill not in self._read:
            self._read[skill] = [_look(root, skill) for root in self._roots]
        present = [one for one in self._read[skill] if isinstance(one, StreamIndex)]
        for one in chain(present, self._others()):
            if as_it_was := one.as_it_was(shards, digest):
                return as_it_was
        if present:
            problem = (
                f'Skill {skill} had {samples} samples in the run ({{rounds}}), but its index in {present[0].folder} '
                f'has {present[0].samples}, in other shards: pass the streams folder as it was then as --streams '
                f'(index.json files alone are enough).'
            )
        else:
            problem = next(one for one in self._read[skill] if isinstance(one, str))
        return LostStream(samples, shards, digest, problem)

    def _others(self) -> Iterator[StreamIndex]:
        """All streams there are: one may be called otherwise since, or be the beginning of a merged one."""
        for root in self._roots:
            for path in sorted(root.glob(f'*/train/{INDEX_NAME}')):
                skill = path.parent.parent.name
                if skill not in self._read:
                    self._read[skill] = [_look(one, skill) for one in self._roots]
                yield from (one for one in self._read[skill] if isinstance(one, StreamIndex))


def _look(root: Path, skill: str) -> StreamIndex | str:
    """The index of a skill in one folder, or why there is none."""
    folder = root / skill / 'train'
    path = folder / INDEX_NAME
    try:
        return read_stream_index(folder)
    except OSError:
        return (
            f'Skill {skill} has no index at {path}, which {{rounds}} of the run drew from: pass the streams '
            f'folder as it was then as --streams (index.json files alone are enough).'
        )
    except ValueError:
        return (
            f'Skill {skill} has a broken index at {path}, which {{rounds}} of the run drew from: restore it, '
            f'or pass the streams folder as it was then as --streams.'
        )
