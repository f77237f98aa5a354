"""Files -> lines: find the input files and decompress them a piece at a time.

Memory is flat: one chunk and one line are held, however large the file. Files are hashed while they are read,
so that the manifest can say exactly what went in.
"""

import bz2
import gzip
import hashlib
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import zstandard

from skillit_stream.convert.faults import BadRecordError
from skillit_stream.errors import InputError

FORMATS = ('.jsonl', '.json')
ARCHIVES = ('.gz', '.zst', '.xz', '.bz2')
SUFFIXES = tuple(form + archive for form in FORMATS for archive in ('', *ARCHIVES))
# Small, because one compressed chunk is decompressed in one go and text compresses up to a hundredfold.
CHUNK_BYTES = 1 << 16
# Frames written with `zstd --long` need a window larger than the library's default.
ZSTD_WINDOW = 1 << 31


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of a corpus."""

    path: str
    """Where it is; error messages name it by this."""
    name: str
    """Relative to the PATH it was found under, with forward slashes; the manifest names it by this."""
    folders: tuple[str, ...]
    """Names of the folders above it, outermost first, starting with PATH itself (or a lone file's folder)."""


def find_inputs(paths: list[str]) -> list[InputFile]:
    """List the input files at and below `paths`, each PATH in turn, sorted by name.

    Raises:
        InputError: A PATH is missing or of an unknown kind, a file is named twice, or there is none.
    """
    found: list[InputFile] = []
    for path in paths:
        if os.path.isdir(path):
            found += _walk(path)
        elif not os.path.exists(path):
            raise InputError(f'{path}: no such file or folder; check the PATH given to `skillit convert`')
        elif path.endswith(SUFFIXES):
            folder = os.path.basename(os.path.dirname(os.path.abspath(path)))
            found.append(InputFile(path, os.path.basename(path), (folder,)))
        else:
            raise InputError(f'{path}: not one of {", ".join(SUFFIXES)}; rename or convert the file')
    if not found:
        raise InputError(
            f'{", ".join(paths)}: no input files; PATH must hold at least one of {", ".join(SUFFIXES)}'
        )
    seen: dict[str, str] = {}
    for file in found:
        first = seen.setdefault(os.path.realpath(file.path), file.path)
        if first is not file.path:
            raise InputError(f'{file.path}: the same file as {first}; name each input once')
    return found


def _walk(root: str) -> list[InputFile]:
    top = os.path.basename(os.path.abspath(root))
    found = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
        relative = os.path.relpath(folder, root)
        parts = () if relative == '.' else tuple(relative.split(os.sep))
        for name in sorted(names):
            if name.endswith(SUFFIXES) and not name.startswith('.'):
                path = os.path.join(folder, name)
                found.append(InputFile(path, '/'.join((*parts, name)), (top, *parts)))
    return found


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
        """Read what is left and return the hash, which is the whole file's even if its end was no use."""
        while self.read(CHUNK_BYTES):
            pass
        return f'blake2b:{self._digest.hexdigest()}'

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_lines(raw: HashingFile, path: str) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line without its end) of the possibly compressed file `raw`.

    Raises:
        BadRecordError: The file ends early or is not what its name says.
    """
    number = 0
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
        for following in rest:
            number += 1
            yield number, b''.join(pieces)
            pieces = [following]
    last = b''.join(pieces)
    if last:
        yield number + 1, last


def _chunks(raw: HashingFile, path: str) -> Iterator[bytes]:
    if path.endswith('.zst'):
        yield from _zstd_chunks(raw)
        return
    opened = raw
    if path.endswith('.gz'):
        opened = gzip.GzipFile(fileobj=raw)  # type: ignore[arg-type]
    elif path.endswith('.xz'):
        opened = lzma.LZMAFile(raw)  # type: ignore[arg-type]  # noqa: SIM115
    elif path.endswith('.bz2'):
        opened = bz2.BZ2File(raw)  # type: ignore[arg-type]
    while chunk := opened.read(CHUNK_BYTES):
        yield chunk


def _zstd_chunks(raw: HashingFile) -> Iterator[bytes]:
    """Decompress frame after frame. The library's own stream reader takes a cut-off frame for a short one."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    frame = decompressor.decompressobj()
    inside = True  # an empty file has no frame at all: as broken as one that stops inside a frame
    while data := raw.read(CHUNK_BYTES):
        while data:
            inside = True
            yield frame.decompress(data)
            data = b''
            if frame.eof:
                inside = False
                data = frame.unused_data
                frame = decompressor.decompressobj()
    if inside:
        raise EOFError('the last frame is not complete')


def _archive_fault(error: Exception, path: str, line: int) -> BadRecordError:
    where = f'{path}:{line}'
    if isinstance(error, EOFError):
        return BadRecordError(
            'truncated_file', where=where, what='the archive is truncated here', remedy='fetch the file again'
        )
    if isinstance(error, OSError) and error.errno is not None:
        return BadRecordError(
            'unreadable_file', where=where, what=f'cannot be read ({error.strerror})', remedy='check the file'
        )
    kind = os.path.splitext(path)[1]
    return BadRecordError(
        'broken_archive',
        where=where,
        what=f'not a valid {kind} archive ({error})',
        remedy=f'take {kind} off the name if the file is plain text, else fetch it again',
    )
