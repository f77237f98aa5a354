"""Files -> lines: decompress input files a piece at a time.

Memory is flat: one chunk and one line are held, however large the file. Files are hashed while they are read,
so that the manifest can say exactly what went in.
"""

import bz2
import hashlib
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, BinaryIO

import zstandard

from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import FileRange, InputFile, archive_of
from skillit_stream.convert.inputs import find_inputs as find_inputs  # noqa: PLC0414 - a corpus of one's own takes it from here

# Small, because one compressed chunk is decompressed in one go and text compresses up to a hundredfold.
CHUNK_BYTES = 1 << 16
HASH_CHUNK_BYTES = 1 << 20
# No document is this long; a file of other data, taken for text, can be one endless line.
LONGEST_LINE = 1 << 31
# Frames written with `zstd --long` need a window larger than the library's default.
ZSTD_WINDOW = 1 << 31
# zlib's way to ask for gzip's header.
GZIP_WINDOW = 31


class Tap:
    """What a corpus reports of a file while it reads it.

    Args:
        on_bytes: Called with the number of bytes just read from disk, for a progress bar.
    """

    def __init__(self, on_bytes: Callable[[int], None]) -> None:
        self.on_bytes = on_bytes
        self.hash = ''
        self.bytes = 0

    def finish(self, file_hash: str, size: int) -> None:
        """The file was read: ``algorithm:hex digest`` of its content (or what stands for it), and its bytes."""
        self.hash, self.bytes = file_hash, size


class HashingFile:
    """A file opened for reading whose bytes are counted and hashed as they pass."""

    def __init__(self, path: str, on_bytes: Callable[[int], None]) -> None:
        self._file: BinaryIO = open(path, 'rb')  # noqa: SIM115 - closed by close()
        self._on_bytes = on_bytes
        self._digest = hashlib.blake2b(digest_size=32)
        self.bytes = 0

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes."""
        data = self._file.read(size)
        self._digest.update(data)
        self.bytes += len(data)
        self._on_bytes(len(data))
        return data

    def finish(self) -> str:
        """Read what is left and return the hash, which is the whole file's even if its end could not be used."""
        with suppress(OSError):  # the disk gives no more; the reader has reported it
            while self.read(CHUNK_BYTES):
                pass
        return f'blake2b:{self._digest.hexdigest()}'

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RangeOfFile(HashingFile):
    """The lines of a file that begin in a range of its bytes; the range at its beginning hashes the whole of it."""

    def __init__(self, file: FileRange, on_bytes: Callable[[int], None]) -> None:
        super().__init__(file.path, on_bytes)
        self._path, self._is_first = file.path, file.begin == 0
        self.bytes = os.fstat(self._file.fileno()).st_size
        self._left = self._next_line(file.end) - self._next_line(file.begin)
        self._file.seek(self._next_line(file.begin))

    def _next_line(self, place: int) -> int:
        """Where the first line begins that does not begin before `place`."""
        if place == 0:
            return 0
        self._file.seek(place - 1)
        while data := self._file.read(CHUNK_BYTES):
            found = data.find(b'\n')
            if found >= 0:
                return self._file.tell() - len(data) + found + 1
        return self.bytes

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes."""
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        self._on_bytes(len(data))
        return data

    def finish(self) -> str:
        """The hash of the whole file; empty unless this is its beginning."""
        return hash_file(self._path)[0] if self._is_first else ''


def lines_before(file: FileRange) -> int:
    """How many lines of the file begin before its range."""
    count, left, last = 0, file.begin, b'\n'
    with open(file.path, 'rb') as opened:
        while data := opened.read(min(left, HASH_CHUNK_BYTES)):
            count, left, last = count + data.count(b'\n'), left - len(data), data[-1:]
    return count + (last != b'\n')


def hash_file(path: str) -> tuple[str, int]:
    """Hash and size in bytes of a file, as :class:`HashingFile` gives them.

    Raises:
        BadRecordError: It cannot be read.
    """
    try:
        raw = HashingFile(path, lambda _: None)
        with closing(raw):
            while raw.read(HASH_CHUNK_BYTES):
                pass
            return raw.finish(), raw.bytes
    except OSError as error:
        raise _unreadable(error, path) from error


def _unreadable(error: OSError, where: str) -> BadRecordError:
    what = f'cannot be read ({error.strerror})'
    return BadRecordError('unreadable_file', where=where, what=what, remedy='check the file')


@contextmanager
def open_input(file: InputFile, tap: Tap) -> Iterator[HashingFile]:
    """Open a file of a corpus; when the block is done, `tap` has its hash and size.

    Raises:
        BadRecordError: It cannot be opened.
    """
    try:
        is_range = isinstance(file, FileRange)
        raw = RangeOfFile(file, tap.on_bytes) if is_range else HashingFile(file.path, tap.on_bytes)
    except OSError as error:
        raise _unreadable(error, file.path) from error
    try:
        yield raw
        tap.finish(raw.finish(), raw.bytes)
    finally:
        raw.close()


def read_lines(raw: HashingFile, path: str) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line without its end) of the possibly compressed file `raw`.

    Raises:
        BadRecordError: The file ends early, is not what its name says, or holds an endless line.
    """
    number = size = 0
    pieces: list[bytes] = []
    # `number` lives outside the loop so that a fault can name the last line that was whole.
    chunks = _chunks(raw, path)
    while True:
        try:
            chunk = next(chunks, None)
        except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError) as error:
            raise _archive_fault(error, path, number + 1) from error
        if chunk is None:
            break
        first, *rest = chunk.split(b'\n')
        pieces.append(first)
        size += len(first)
        if size > LONGEST_LINE:
            what = f'a line of more than {LONGEST_LINE >> 30} GB'
            raise BadRecordError(
                'oversized_line', where=f'{path}:{number + 1}', what=what, remedy='check the file'
            )
        for following in rest:
            number += 1
            yield number, b''.join(pieces)
            pieces, size = [following], len(following)
    last = b''.join(pieces)
    if last:
        yield number + 1, last


def _chunks(raw: HashingFile, path: str) -> Iterator[bytes]:
    archive = archive_of(path)
    if not archive:
        while chunk := raw.read(CHUNK_BYTES):
            yield chunk
    elif archive == '.zst':
        yield from _decompressed(raw, zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj)
    elif archive == '.gz':
        yield from _decompressed(raw, lambda: zlib.decompressobj(GZIP_WINDOW), padded=True)
    elif archive == '.xz':
        yield from _decompressed(raw, lzma.LZMADecompressor, padded=True, trailing=lzma.LZMAError)
    else:
        yield from _decompressed(raw, bz2.BZ2Decompressor, trailing=OSError)


def _decompressed(
    raw: HashingFile,
    new_frame: Callable[[], Any],
    *,
    padded: bool = False,
    trailing: type[Exception] | tuple[type[Exception], ...] = (),
) -> Iterator[bytes]:
    """Decompress frame after frame: of a file that is cut off all that is there; an empty one has none.

    Args:
        raw: The file.
        new_frame: Makes a decompressor of one frame.
        padded: Zeros may follow a frame.
        trailing: What a decompressor raises of other data behind a frame, which is passed over as the archive's own
            program does.

    Raises:
        EOFError: The last frame is not complete.
    """
    frame: Any = None
    finished = 0
    while data := raw.read(CHUNK_BYTES):
        while data:
            begins = frame is None
            if begins and padded and finished:
                data = data.lstrip(b'\0')
                if not data:
                    break
            frame = new_frame() if begins else frame
            try:
                chunk = frame.decompress(data)
            except trailing:
                if begins and finished:
                    return
                raise
            yield chunk
            data = b''
            if frame.eof:
                data, frame, finished = frame.unused_data, None, finished + 1
    if frame is not None:
        raise EOFError('the last frame is not complete')


def _archive_fault(error: Exception, path: str, line: int) -> BadRecordError:
    where = f'{path}:{line}'
    if isinstance(error, EOFError):
        return BadRecordError(
            'truncated_file', where=where, what='the archive is truncated here', remedy='fetch the file again'
        )
    if isinstance(error, OSError) and error.errno is not None:
        return _unreadable(error, where)
    kind = os.path.splitext(path)[1]
    return BadRecordError(
        'broken_archive',
        where=where,
        what=f'not a valid {kind} archive ({error})',
        remedy=f'take {kind} off the name if the file is plain text, else fetch it again',
    )
