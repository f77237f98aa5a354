"""StreamingDataset's constructor: in time of the number of shards, and with errors that name the stream."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import streaming.base.dataset as streaming_dataset
import streaming.base.format.mds.reader as mds_reader
import streaming.base.stream as streaming_stream
from streaming import Stream
from streaming.base.format import get_index_basename
from streaming.base.format.base.reader import Reader

from skillit_stream.base.errors import InputError
from skillit_stream.loader.host.failures import index_failure
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


def make_absolute(streams: Iterable[Stream]) -> None:
    """Have the folders of streams mean the same wherever a process goes later; ``~`` is the home folder."""
    for stream in streams:
        stream.local = os.path.abspath(os.path.expanduser(stream.local))
        if stream.remote and not urlparse(stream.remote).scheme:
            stream.remote = os.path.abspath(os.path.expanduser(stream.remote))


@contextmanager
def keeping_only_copies() -> Iterator[None]:
    """Within this context StreamingDataset's constructor removes no shard that may be the only copy.

    It removes an unpacked shard whose compressed form is not there, where that would have been kept: of a stream
    without a remote it is all there is.
    """
    original = Reader.set_up_local

    def set_up_local(self: Reader, listing: set[str], safe_keep_zip: bool) -> int:
        raw = [os.path.join(self.dirname, self.split, info.basename) for info, _ in self.file_pairs]
        zipped = [
            os.path.join(self.dirname, self.split, info.basename) for _, info in self.file_pairs if info
        ]
        if safe_keep_zip and zipped and listing.issuperset(raw) and not listing.intersection(zipped):
            return sum(info.bytes for info, _ in self.file_pairs)
        return original(self, listing, safe_keep_zip)

    Reader.set_up_local = set_up_local
    try:
        yield
    finally:
        Reader.set_up_local = original


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
        InputError: A stream has no index, a broken one or no samples, or cannot fetch its index.
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
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        for skill, path in paths.items():
            found = _index_error(skill, streams[skill], path, error)
            if found:
                raise found from error
        raise


def _index_error(skill: str, stream: Stream, path: Path, error: Exception) -> InputError | None:
    """What an error of the constructor says of a stream's index, if it is to blame."""
    is_there = path.is_file()
    if isinstance(error, OSError):
        # They are fetched one after another: the first that is not there has failed.
        failed = not is_there or error.filename == str(path)
        return index_failure(skill, stream, path, error) if failed else None
    if isinstance(error, RuntimeError):
        empty = str(path) in str(error) and 'no samples' in str(error)
        return InputError(f'Stream {skill} has no samples ({path}): leave it out.') if empty else None
    # One that is not there has not been fetched: then something else is to blame.
    if is_there and not _is_index(path):
        return InputError(f'Stream {skill} has a broken index at {path}: convert it again.')
    return None


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
