"""StreamingDataset's constructor: in time of the number of shards, and with errors that name the stream."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import streaming.base.dataset as streaming_dataset
import streaming.base.format.mds.reader as mds_reader
import streaming.base.stream as streaming_stream
from streaming import Stream
from streaming.base.format import get_index_basename

from skillit_stream.base.errors import InputError
from skillit_stream.order.index import ShardIndex


@contextmanager
def quick_construction() -> Iterator[None]:
    """Within this context StreamingDataset's constructor takes time in the number of shards, not samples.

    It builds a :class:`ShardIndex`, and reads a shard's entry of the index without first copying it to the
    last string. The constructor has no parameters for these; the names it looks up are the seam.
    """
    spanner, deepcopy = streaming_dataset.Spanner, mds_reader.deepcopy
    streaming_dataset.Spanner = ShardIndex  # pyright: ignore[reportAttributeAccessIssue]
    # Only the entry's own keys are changed by the reader, so a copy of the top level is as good.
    mds_reader.deepcopy = dict
    try:
        yield
    finally:
        streaming_dataset.Spanner, mds_reader.deepcopy = spanner, deepcopy


@contextmanager
def blaming_index(
    streams: Mapping[str, Stream], *, split: str | None = None, retries: int = 1
) -> Iterator[None]:
    """While a StreamingDataset of these streams is built, name the stream whose index is missing or broken.

    Args:
        streams: Skill -> Stream.
        split: Of the streams that name none.
        retries: ``download_retry`` of the streams that have none.

    Raises:
        InputError: A stream has no index, a broken one or no samples, or may not even try to fetch its index.
    """
    paths = {
        skill: Path(stream.local, stream.split or split or '', get_index_basename())
        for skill, stream in streams.items()
    }
    for skill, stream in streams.items():
        if not stream.remote and not paths[skill].is_file():
            raise InputError(
                f'Stream {skill} has no index at {paths[skill]}: convert it, or correct its path.'
            )
        # One that a Stream does not have is given to it by the dataset.
        if stream.remote and getattr(stream, 'download_retry', retries) < 1:
            raise InputError(
                f'`download_retry` of stream {skill} must be at least 1, the first try, but got: 0: leave it out.'
            )
    try:
        yield
    except RuntimeError as error:
        for skill, path in paths.items():
            if str(path) in str(error) and 'no samples' in str(error):
                raise InputError(f'Stream {skill} has no samples ({path}): leave it out.') from error
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        for skill, path in paths.items():
            # One that is not there has not been fetched: then something else is to blame.
            if path.is_file() and not _is_index(path):
                raise InputError(f'Stream {skill} has a broken index at {path}: convert it again.') from error
        raise


def _is_index(path: Path) -> bool:
    """Whether a file lists shards as the constructor reads them."""
    try:
        index = json.loads(path.read_text(encoding='utf-8'))
        if index['version'] != 2:
            return False
        for shard in index['shards']:
            streaming_stream.reader_from_json(str(path.parent), '', shard)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return True
