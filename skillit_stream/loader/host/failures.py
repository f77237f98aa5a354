"""Why a shard or an index cannot be had: each cause in one line, with its own remedy."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streaming import Stream

from skillit_stream.base.errors import InputError, first_line

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_FOLDER = (errno.EEXIST, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def is_refetchable(stream: Stream) -> bool:
    """Whether what is here of a stream is a copy; without a remote, or in the same folder, it is the only one."""
    return bool(stream.remote) and stream.remote != stream.local


def path_of(shard: Any, info: Any) -> Path:
    """Where a file of a shard lies, as its index names it."""
    return Path(shard.dirname, shard.split or '', info.basename)


def shard_failure(skill: str, stream: Stream, shard: Any, error: Exception) -> Exception:
    """What to raise for a shard that cannot be had.

    Args:
        skill: Whose it is.
        stream: That it belongs to.
        shard: Its reader.
        error: What preparing it has raised.

    Returns:
        An InputError where the user's folders or arguments are to blame, else a RuntimeError.
    """
    raw, zipped = shard.file_pairs[0]
    found = _disk_failure(skill, stream, shard, error)
    if found:
        return found
    known = (zipped or raw).hashes
    if stream.validate_hash and stream.validate_hash not in known:
        return InputError(
            f'`validate_hash` must be a hash that the index of skill {skill} holds '
            f'({", ".join(known) or "it has none"}), but got: {stream.validate_hash!r}.'
        )
    if is_refetchable(stream):
        address = os.path.join(stream.remote or '', stream.split, (zipped or raw).basename)
        return RuntimeError(
            f'Skill {skill} cannot get its shard {address}: {first_line(error)}. Check that it is there, may be read '
            f'and is whole (or upload it again), then start again.'
        )
    path = path_of(shard, raw)
    if not path.exists() and zipped:
        path = path_of(shard, zipped)
    elif zipped and path_of(shard, zipped).exists():
        return RuntimeError(
            f'Skill {skill} has a damaged shard, {path}: {first_line(error)}. Delete it: it is unpacked again.'
        )
    if not path.exists():
        return InputError(
            f'Skill {skill} lacks a shard that its index names, {path}: copy or convert the stream again, or give '
            f'it a remote.'
        )
    return RuntimeError(
        f'Skill {skill} has a damaged shard, {path}: {first_line(error)}. Copy or convert the stream again.'
    )


def index_failure(skill: str, stream: Stream, path: Path, error: BaseException) -> InputError | None:
    """What to raise for an index that could not be fetched or read; None where something else is to blame.

    Args:
        skill: Whose it is.
        stream: That it belongs to.
        path: Where it is, or would be, on this machine.
        error: What building a dataset has raised.
    """
    for cause in _os_errors(error):
        if cause.errno in _FULL:
            return InputError(
                f'{_full(path.parent, cause)}: stream {skill} cannot fetch its index there: free some, or give it a '
                f'`local` folder on a larger disk.'
            )
        if cause.errno in _REFUSED and cause.filename == str(path):
            return may_not_read(f'Stream {skill}', 'index', path, cause)
        is_here = _is_below(cause, path.parent) or str(path.parent).startswith(f'{cause.filename}')
        if is_here and cause.errno in (*_REFUSED, *_NO_FOLDER):
            return InputError(
                f'Stream {skill} cannot use its `local` folder {path.parent} ({cause.strerror}): pass a folder that '
                f'can be made and written to.'
            )
    if stream.remote and not path.is_file():
        address = os.path.join(stream.remote, stream.split, path.name)
        return InputError(
            f'Stream {skill} cannot get its index {address}: {first_line(error)}. Check the address and that it may '
            f'be read.'
        )
    return None


def may_not_read(who: str, what: str, path: Path, error: OSError) -> InputError:
    """What to raise for a file that is another user's."""
    return InputError(f'{who} may not read its {what} {path} ({error.strerror}): have its owner let you.')


def _disk_failure(skill: str, stream: Stream, shard: Any, error: Exception) -> InputError | None:
    """What to raise where this machine's folders are to blame."""
    raw, zipped = shard.file_pairs[0]
    folder, fetched = path_of(shard, raw).parent, is_refetchable(stream)
    path = path_of(shard, zipped or raw)
    for cause in _os_errors(error):
        if cause.errno in _FULL:
            remedy = 'set `cache_limit`, or give its Stream a `local` folder on a larger disk'
            if not fetched:
                remedy = f'or {_unpack_elsewhere(stream)}'
            needed = shard.get_max_size() if fetched else raw.bytes
            return InputError(
                f'{_full(folder, cause)}: skill {skill} needs {_size(needed)} there to '
                f'{"fetch" if fetched else "unpack"} its shard {path}, and {_size(_free(folder))} are free: free '
                f'some, {remedy}.'
            )
        if cause.errno not in _REFUSED:
            continue
        if not fetched and cause.filename == str(path):
            return may_not_read(f'Skill {skill}', 'shard', path, cause)
        if fetched and _is_below(cause, folder):
            return InputError(
                f'Skill {skill} cannot fetch its shard {path.name}: its `local` folder {folder} cannot be written to '
                f'({cause.strerror}): pass one that can.'
            )
        if not fetched:
            return InputError(
                f'Skill {skill} has the compressed shard {path}, which is unpacked beside it, but {folder} cannot be '
                f'written to ({cause.strerror}): {_unpack_elsewhere(stream)}.'
            )
    return None


def _unpack_elsewhere(stream: Stream) -> str:
    return (
        f'pass remote={stream.local!r} to its Stream and as `local` a folder of your own, where it will be unpacked '
        f'(`skillit train`: streams_local=DIR)'
    )


def _os_errors(error: BaseException) -> Iterator[OSError]:
    """The errors of the operating system behind an error, the outermost first."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            yield cause
        cause = cause.__cause__ or cause.__context__


def _is_below(error: OSError, folder: Path) -> bool:
    """Whether an error is of something in a folder on this machine, or of the folder itself."""
    # copying names both files; what could not be written is the second
    names = [str(name) for name in (error.filename, error.filename2) if isinstance(name, str | os.PathLike)]
    return any(Path(name) == folder or folder in Path(name).parents for name in names)


def _full(folder: Path, error: OSError) -> str:
    if error.errno == errno.EDQUOT:
        return f'Your quota on the disk of {folder} is used up'
    return f'The disk of {folder} is full'


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _size(count: float) -> str:
    """A number of bytes in words: ``64.2 KB``."""
    unit = 'bytes'
    for larger in ('KB', 'MB', 'GB'):
        if count < 1000:
            break
        count, unit = count / 1000, larger
    return f'{count:.0f} {unit}' if unit == 'bytes' else f'{count:.1f} {unit}'
