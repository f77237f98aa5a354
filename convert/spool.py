"""What the parts of a corpus keep for the whole: documents and arrays by skill, in one file a part.

The file is a chain of chunks for each skill, of which the last is known (:attr:`SkillRecord.spool`); every chunk names
the one before it. So it takes one open file, however many skills there are, and no index. A chunk::

    u64 where the skill's chunk before it begins (of the first: where it begins itself)
    u64 bytes that follow
    u8  kind, by its place in KINDS
    ... array, or rows of documents (_ROW) with u64 rows before them and their tokens behind them
"""

import os
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from skillit_stream.convert.splits import HASH_BYTES, EncodedDocument

SPOOL_NAME = 'spool'
# - eval: documents settled for eval; they are packed when all parts are there, without the samples that are in train
#   too.
# - held: documents that may yet change sides.
# - tail, tail_mask: train tokens that did not fill a sample.
# - keys: a hash of each train sample.
# - train_keys: half the hash of each document that the corpus itself put into train.
KINDS = ('eval', 'held', 'tail', 'tail_mask', 'keys', 'train_keys')
NOTHING = -1
_HEAD = struct.Struct('<QQB')
_COUNT = struct.Struct('<Q')
_COUNTS = ('bytes', 'copies', 'prompt', 'rest')
_ROW = np.dtype([('key', f'V{HASH_BYTES}'), ('tokens', '<i8'), *((name, '<i8') for name in _COUNTS)])


class SpoolFile:
    """The file of one part while it is written; it is made when something is put into it.

    Args:
        folder: The part's.
    """

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, SPOOL_NAME)
        self._file: Any = None
        self._end = 0

    def put(self, kind: str, before: int, pieces: Sequence[Any]) -> int:
        """Append a chunk to the chain of a skill whose last one begins at `before`; returns where it begins."""
        if self._file is None:
            self._file = open(self._path, 'wb')  # noqa: SIM115 - closed by close()
        begin = self._end
        size = sum(len(memoryview(one).cast('B')) for one in pieces)
        self._file.write(_HEAD.pack(begin if before == NOTHING else before, size, KINDS.index(kind)))
        for one in pieces:
            self._file.write(one)
        self._end += _HEAD.size + size
        return begin

    def close(self) -> None:
        """Close the file, if it was made."""
        if self._file is not None:
            self._file.close()
            self._file = None


class SkillSpool:
    """What one skill of a part puts into the file; it waits in memory until :meth:`spill`.

    Args:
        file: The part's.
    """

    def __init__(self, file: SpoolFile) -> None:
        self.last = NOTHING
        """Where its last chunk begins."""
        self.waiting_bytes = 0
        self._file = file
        self._arrays: defaultdict[str, list[np.ndarray]] = defaultdict(list)
        self._documents: list[EncodedDocument] = []

    def add_documents(self, documents: Sequence[EncodedDocument]) -> None:
        """Append documents to 'eval'."""
        self._documents += documents
        self.waiting_bytes += sum(one.tokens.nbytes + _ROW.itemsize for one in documents)

    def append(self, kind: str, array: np.ndarray) -> None:
        """Append an array to a kind that has arrays."""
        if len(array):
            self._arrays[kind].append(array)
            self.waiting_bytes += array.nbytes

    def spill(self) -> None:
        """Put on disk what waits in memory."""
        for kind, arrays in self._arrays.items():
            self.last = self._file.put(kind, self.last, [np.ascontiguousarray(one) for one in arrays])
        self.put_documents('eval', self._documents)
        self._arrays.clear()
        self._documents, self.waiting_bytes = [], 0

    def put_documents(self, kind: str, documents: Sequence[EncodedDocument]) -> None:
        """Put documents on disk."""
        if not documents:
            return
        rows = np.array([_row_of(one) for one in documents], _ROW)
        pieces = [_COUNT.pack(len(rows)), rows.tobytes(), *(one.tokens.tobytes() for one in documents)]
        self.last = self._file.put(kind, self.last, pieces)


def _row_of(one: EncodedDocument) -> tuple[Any, ...]:
    key = one.key.to_bytes(HASH_BYTES, 'big')
    return (key, len(one.tokens), *(getattr(one, name) for name in _COUNTS))


class SpooledSkill:
    """What a part that is done has kept of a skill.

    Args:
        folder: The part's.
        last: Where the last chunk of the skill begins.
        dtype: Of the tokens.
    """

    def __init__(self, folder: str, last: int, dtype: Any) -> None:
        self._path = os.path.join(folder, SPOOL_NAME)
        self._last = last
        self._dtype = np.dtype(dtype)

    def documents(self, kind: str) -> Iterator[EncodedDocument]:
        """The documents of a kind again, in order; memory is that of one chunk."""
        for data in self._chunks(kind):
            (count,) = _COUNT.unpack_from(data)
            rows = np.frombuffer(data, _ROW, count, _COUNT.size)
            tokens = np.frombuffer(data, self._dtype, offset=_COUNT.size + rows.nbytes)
            begin = 0
            for row in rows:
                end = begin + int(row['tokens'])
                yield EncodedDocument(
                    int.from_bytes(bytes(row['key']), 'big'),
                    tokens[begin:end].copy(),
                    **{name: int(row[name]) for name in _COUNTS},
                )
                begin = end

    def array(self, kind: str, dtype: Any) -> np.ndarray:
        """All of a kind; empty if there is nothing."""
        return np.frombuffer(b''.join(self._chunks(kind)), dtype)

    def _chunks(self, kind: str) -> Iterator[bytes]:
        """The contents of the chunks of a kind, in order."""
        if self._last == NOTHING:
            return
        with open(self._path, 'rb') as file:
            found: list[tuple[int, int]] = []
            begin = self._last
            while True:
                file.seek(begin)
                before, size, number = _HEAD.unpack(file.read(_HEAD.size))
                if KINDS[number] == kind:
                    found.append((begin + _HEAD.size, size))
                if before == begin:
                    break
                begin = before
            for place, size in reversed(found):
                file.seek(place)
                yield file.read(size)
