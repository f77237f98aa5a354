"""The shards of a stream, as its index.json names them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.errors import InputError

INDEX_NAME = 'index.json'


@dataclass(frozen=True, eq=False)
class StreamIndex:
    """Shards of one stream in the order of its index."""

    folder: Path
    files: tuple[str, ...]
    """Name of each shard's file in the folder; the compressed one where there is one."""
    sizes: NDArray[np.int64]
    """int64 [shards], samples in each."""

    @property
    def samples(self) -> int:
        """Samples in the stream."""
        return int(self.sizes.sum())


def read_stream_index(skill: str, folder: Path) -> StreamIndex:
    """Read the index.json of one stream.

    Args:
        skill: Its name, for error messages.
        folder: Where the index lies.

    Raises:
        InputError: There is none, or it is not an index.
    """
    path = folder / INDEX_NAME
    try:
        index = json.loads(path.read_bytes())
    except OSError:
        raise InputError(
            f'Skill {skill} has no index at {path}: pass the streams folder of the run as --streams '
            f'(index.json files alone are enough).'
        ) from None
    except ValueError:
        raise _broken(skill, path) from None
    try:
        shards = index['shards']
        sizes = [_count(shard['samples']) for shard in shards]
        files = tuple(str((shard.get('zip_data') or shard['raw_data'])['basename']) for shard in shards)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _broken(skill, path) from None
    return StreamIndex(folder, files, np.array(sizes, np.int64))


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError
    return value


def _broken(skill: str, path: Path) -> InputError:
    return InputError(f'Skill {skill} has a broken index at {path}: restore it, or convert the stream again.')
