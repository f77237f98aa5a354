"""The losses of a stream's samples, saved beside it: ROOT/<skill>/train/losses/<name>/.

Two arrays in the order of the shards, and within a shard from the lowest loss to the highest: ``losses.npy``
(float32) and ``rows.npy`` (int32, the sample's row in its shard). So the samples of a shard up to any loss are
the first ones of its part of the arrays, and an order by loss still reads one shard after another. The
arrays are mapped: what is not asked for is not read.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import from_plain, write_array, write_json

Int64 = NDArray[np.int64]

FOLDER = 'losses'
ABOUT, LOSSES, ROWS = 'about.json', 'losses.npy', 'rows.npy'
VERSION = 1


def losses_folder(stream: Path, name: str) -> Path:
    """Where the losses of that name are, for the stream in a folder (ROOT/<skill>/train)."""
    return stream / FOLDER / name


@dataclass(frozen=True)
class _About:
    """What `about.json` must say."""

    version: int
    stream: str
    digest: str
    shards: list[int]


@dataclass(frozen=True, eq=False)
class RankedLosses:
    """Samples by loss within each shard; see :class:`skillit_stream.mixture.RankedSamples`.

    Attributes:
        name: Of the losses.
        losses: float32 [samples], ascending within each shard.
        rows: int32 [samples], the rows in the shard of the samples with those losses.
        starts: int64 [shards + 1], where each shard begins in both.
        stream: Digest of the shards that they are of (:meth:`ShardList.digest`).
        digest: Of the order.
        hardest_first: Whether the key is minus the loss.
    """

    name: str
    losses: NDArray[np.float32]
    rows: NDArray[np.int32]
    starts: Int64
    stream: str
    digest: str
    hardest_first: bool = False

    @classmethod
    def load(cls, folder: Path, skill: str) -> 'RankedLosses':
        """Map the losses in a folder.

        Raises:
            InputError: There are none, or they are broken.
        """
        try:
            found = json.loads((folder / ABOUT).read_bytes())
            losses, rows = (np.load(folder / name, mmap_mode='r') for name in (LOSSES, ROWS))
            about = from_plain(_About, found)
        except FileNotFoundError:
            raise InputError(
                f'Skill {skill} has no losses of its samples at {folder}: run `skillit score YAML --name '
                f'{folder.name}`.'
            ) from None
        except (OSError, ValueError) as error:
            raise _broken(skill, folder, str(error).splitlines()[0]) from None
        if about.version != VERSION:
            raise _broken(skill, folder, f'version {about.version!r}, not {VERSION}')
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(about.shards, dtype=np.int64)])
        if not len(losses) == len(rows) == starts[-1]:
            raise _broken(skill, folder, f'{len(losses)} losses and {len(rows)} rows of {starts[-1]} samples')
        return cls(folder.name, losses, rows, starts, about.stream, about.digest)

    @property
    def samples(self) -> int:
        """Samples of the stream."""
        return len(self.losses)

    def reversed(self) -> 'RankedLosses':
        """The same samples, those with the highest loss first."""
        return replace(self, hardest_first=not self.hardest_first)

    def counts(self, key: float) -> Int64:
        """Samples of each shard up to a key, int64 [shards]."""
        sizes = np.diff(self.starts)
        if self.hardest_first:
            return sizes - self._below(-key, or_equal=False)
        return self._below(key, or_equal=True)

    def ids(self, shards: Int64, ranks: Int64) -> Int64:
        """Stream-local ids of the samples with the given ranks in their shards, int64 [n]."""
        places = self.starts[shards + 1] - 1 - ranks if self.hardest_first else self.starts[shards] + ranks
        return self.starts[shards] + self.rows[places]

    def some_keys(self, most: int) -> NDArray[np.float64]:
        """Keys of evenly spread samples, the largest key of all among them; float64 [at most `most`, or 1]."""
        places = np.unique(np.linspace(0, self.samples - 1, min(most, self.samples)).round().astype(np.int64))
        keys = self.losses[places].astype(np.float64)
        sizes = np.diff(self.starts)
        ends = self.losses[
            self.starts[:-1][sizes > 0] if self.hardest_first else self.starts[1:][sizes > 0] - 1
        ]
        keys = -keys if self.hardest_first else keys
        keys[keys.argmax()] = float((-ends if self.hardest_first else ends).max())
        return keys

    def describe(self) -> dict[str, Any]:
        """Name, digest and direction."""
        return {'losses': self.name, 'digest': self.digest, 'hardest_first': self.hardest_first}

    def check_stream(self, skill: str, digest: str) -> None:
        """Refuse losses of other shards than the stream has; raises InputError."""
        if self.stream != digest:
            raise InputError(
                f'The losses {self.name!r} of skill {skill} are of other shards than its stream has now: run '
                f'`skillit score YAML --name {self.name} --overwrite`.'
            )

    def _below(self, loss: float, *, or_equal: bool) -> Int64:
        """Samples of each shard with a loss below (or equal to) one: a binary search in all shards at once."""
        low, high = self.starts[:-1].copy(), self.starts[1:].copy()
        while (open_ := low < high).any():
            middle = (low + high) // 2
            values = self.losses[np.where(open_, middle, 0)].astype(np.float64)
            up = open_ & ((values <= loss) if or_equal else (values < loss))
            low[up] = middle[up] + 1
            down = open_ & ~up
            high[down] = middle[down]
        return low - self.starts[:-1]


def save_losses(
    folder: Path, losses: NDArray[np.float32], sizes: Int64, *, stream: str, about: Mapping[str, Any]
) -> None:
    """Write the losses of a stream's samples, `about.json` last: what has it is whole.

    Args:
        folder: Made here.
        losses: float32 [samples], in the order of the stream.
        sizes: int64 [shards], samples in each.
        stream: Digest of the shards.
        about: More facts for `about.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ranked, rows = np.empty(len(losses), np.float32), np.empty(len(losses), np.int32)
    begin = 0
    for size in sizes.tolist():
        part = slice(begin, begin + size)
        # Stable: equal losses stay in the order of the stream, everywhere.
        order = np.argsort(losses[part], kind='stable')
        rows[part], ranked[part] = order, losses[part][order]
        begin += size
    digest = hashlib.blake2b(rows.tobytes() + ranked.tobytes() + stream.encode(), digest_size=16).hexdigest()
    facts = {'version': VERSION, 'stream': stream, 'digest': digest, 'shards': sizes.tolist()}
    write_array(folder / LOSSES, ranked)
    write_array(folder / ROWS, rows)
    write_json(folder / ABOUT, {**about, **facts})


def _broken(skill: str, folder: Path, why: str) -> InputError:
    return InputError(
        f'The losses of skill {skill} at {folder} are broken ({why}): run `skillit score YAML --name {folder.name} '
        f'--overwrite`.'
    )
