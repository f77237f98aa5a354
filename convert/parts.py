"""Parts of a corpus: consecutive files that are converted together, and what is kept of one that is done.

The parts follow from the files alone, never from who converts them, and each is converted for itself: any number
of processes and machines gives the same streams, and a command that was killed goes on with the parts that
are missing. A part's folder::

    part.json               written last: the part is done
    shards/<skill>/train/   its train shards, under names that no other part uses
    spool/<skill>.*         what only the whole corpus decides on (see `Spool`)
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from skillit_stream.convert.inputs import InputFile
from skillit_stream.convert.splits import HASH_BYTES, EncodedDocument
from skillit_stream.formats.manifest import write_json

RECORD_NAME = 'part.json'
# Of what a part keeps on disk: one that was kept in another form is converted again.
FORM = 5


@dataclass(frozen=True)
class Part:
    """Consecutive files of a corpus."""

    number: int
    files: tuple[InputFile, ...]
    size: int
    """Bytes on disk."""
    signature: str
    """Changes when a file of the part or a setting does: the part must then be converted again."""

    @property
    def name(self) -> str:
        """In file names."""
        return f'{self.number:05}'


def plan_parts(files: Sequence[InputFile], part_bytes: int, settings: Mapping[str, Any]) -> list[Part]:
    """Cut the list of files into parts of at least `part_bytes` (the last may be smaller).

    Args:
        files: Of the corpus, in order.
        part_bytes: On disk.
        settings: All that the samples depend on besides the files.
    """
    parts: list[Part] = []
    waiting: list[InputFile] = []
    size = 0
    for file in files:
        waiting.append(file)
        size += file.size
        if size >= part_bytes or file is files[-1]:
            found = (len(parts), tuple(waiting))
            parts.append(Part(*found, size, _signature(*found, settings)))
            waiting, size = [], 0
    return parts


def _signature(number: int, files: tuple[InputFile, ...], settings: Mapping[str, Any]) -> str:
    stamps = [(file.name, file.size, file.stamp) for file in files]
    text = json.dumps([FORM, settings, number, stamps], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass
class SplitRecord:
    """What a part has settled of one split of a skill."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    samples: int = 0
    targets: int = 0
    cut_tokens: int = 0
    without_target: int = 0
    """Samples written without a target token."""
    dropped_without_target: int = 0
    in_eval: int = 0
    """Samples left out of train because they are in the eval that is added to."""
    shards: list[dict[str, Any]] = field(default_factory=list)
    """Entries of an index.json."""


@dataclass
class SkillRecord:
    """What a part has of one skill."""

    raw_name: str
    """As the corpus names it."""
    train: SplitRecord = field(default_factory=SplitRecord)
    eval: SplitRecord = field(default_factory=SplitRecord)
    by_hash: bool = False
    """Whether the split of a document had to be decided: the corpus did not say."""
    by_corpus: bool = False
    """Whether the corpus said to which split a document belongs."""
    sources: list[dict[str, Any]] = field(default_factory=list)
    """Files it was found in: file, hash, bytes."""
    faults: dict[str, int] = field(default_factory=dict)
    special_documents: int = 0
    """Documents whose text holds the words of special tokens."""
    special_tokens: dict[str, int] = field(default_factory=dict)
    """How often it holds those of each."""


@dataclass
class PartRecord:
    """The contents of part.json."""

    signature: str
    skills: dict[str, SkillRecord] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    """Of no known skill."""
    encoder: str = ''
    checked: int = 0
    """Documents encoded by both encoders."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Where the time went."""

    def save(self, folder: str) -> None:
        """Write part.json."""
        write_json(os.path.join(folder, RECORD_NAME), asdict(self))

    @classmethod
    def load(cls, folder: str, signature: str) -> 'PartRecord | None':
        """Read part.json; None if the part is not done, or was done from other files or settings."""
        try:
            with open(os.path.join(folder, RECORD_NAME), encoding='utf-8') as file:
                data = json.load(file)
            if data['signature'] != signature:
                return None
            skills = {
                name: SkillRecord(
                    **{
                        **skill,
                        'train': SplitRecord(**skill['train']),
                        'eval': SplitRecord(**skill['eval']),
                    }
                )
                for name, skill in data['skills'].items()
            }
            return cls(**{**data, 'skills': skills})
        except (OSError, ValueError, KeyError, TypeError):
            return None


_COUNTS = ('bytes', 'copies', 'prompt', 'rest')
_ROW = np.dtype([('key', f'V{HASH_BYTES}'), ('tokens', '<i8'), *((name, '<i8') for name in _COUNTS)])


class Spool:
    """Documents and arrays of one skill of a part on disk, appended to while the part is converted.

    - ``eval``: documents settled for eval; they are packed when all parts are there, without the samples that
      are in train too.
    - ``held``: documents that may yet change sides.
    - ``tail``, ``tail_mask``: train tokens that did not fill a sample.
    - ``keys``: a hash of each train sample.
    - ``train_keys``: half the hash of each document that the corpus itself put into train.

    Args:
        folder: The part's.
        skill: Safe name of the skill.
        dtype: Of the tokens.
    """

    def __init__(self, folder: str, skill: str, dtype: Any) -> None:
        self._stem = os.path.join(folder, 'spool', skill)
        self._dtype = np.dtype(dtype)

    def add_documents(self, kind: str, documents: Sequence[EncodedDocument]) -> None:
        """Append documents to 'eval' or 'held'."""
        rows = np.array(
            [
                (
                    one.key.to_bytes(HASH_BYTES, 'big'),
                    len(one.tokens),
                    *(getattr(one, name) for name in _COUNTS),
                )
                for one in documents
            ],
            _ROW,
        )
        self.append(kind, rows)
        self.append(f'{kind}_tokens', np.concatenate([one.tokens for one in documents]))

    def documents(self, kind: str) -> Iterator[EncodedDocument]:
        """The documents again, in order; memory is that of one."""
        rows = self.array(kind, _ROW)
        tokens = self.array(f'{kind}_tokens', self._dtype)
        begin = 0
        for row in rows:
            end = begin + int(row['tokens'])
            yield EncodedDocument(
                int.from_bytes(bytes(row['key']), 'big'),
                np.array(tokens[begin:end]),
                **{name: int(row[name]) for name in _COUNTS},
            )
            begin = end

    def append(self, kind: str, array: np.ndarray) -> None:
        """Append an array to the file of a kind."""
        if len(array):
            os.makedirs(os.path.dirname(self._stem), exist_ok=True)
            with open(self._path(kind), 'ab') as file:
                file.write(array.tobytes())

    def array(self, kind: str, dtype: Any) -> np.ndarray:
        """All that was appended to a kind, mapped from disk; empty if nothing was."""
        if not os.path.exists(self._path(kind)):
            return np.empty(0, dtype)
        return np.memmap(self._path(kind), dtype, mode='r')

    def _path(self, kind: str) -> str:
        return f'{self._stem}.{kind}'


def shards_folder(folder: str, skill: str, split: str) -> str:
    """Where a part has the shards of a split; the name of a skill meets nothing else there."""
    return os.path.join(folder, 'shards', skill, split)


def make_folder(folder: str) -> None:
    """An empty folder, whatever was there."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
