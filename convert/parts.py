"""Parts of a corpus: consecutive files that are converted together, and what is kept of one that is done.

The parts follow from the files alone, never from who converts them, and each is converted for itself: any number
of processes and machines gives the same streams, and a command that was killed goes on with the parts that
are missing. A part's folder::

    part.json               written last: the part is done
    shards/<skill>/         its train shards, under names that no other part uses
    spool                   what only the whole corpus decides on (`spool.py`)
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from skillit_stream.base.files import write_text
from skillit_stream.convert.inputs import FileRange, InputFile
from skillit_stream.convert.shards import Shard
from skillit_stream.convert.spool import NOTHING

RECORD_NAME = 'part.json'
# Parts of a corpus, unless they would be smaller or larger.
PARTS, SMALLEST_PART, LARGEST_PART = 128, 8 << 20, 256 << 20
# With this and its path begins what stands for the hash of a file that is divided.
RANGE = 'range of '
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


def suitable_part_bytes(total: int) -> int:
    """How large the parts of a corpus of `total` bytes are: so many that all cores of a machine have some.

    A power of two, so that a corpus that grows is mostly cut as before.
    """
    size = SMALLEST_PART
    while size < LARGEST_PART and size * PARTS < total:
        size *= 2
    return size


def divided(
    files: Sequence[InputFile], part_bytes: int, by_line: Callable[[InputFile], bool]
) -> list[InputFile]:
    """Files, those of several parts cut into ranges of about `part_bytes` where `by_line` says that they can be."""
    found: list[InputFile] = []
    for file in files:
        size = file.size
        if size < 2 * part_bytes or not by_line(file):
            found.append(file)
            continue
        count = size // part_bytes
        bounds = [size * number // count for number in range(count + 1)]
        found += [FileRange(file.path, file.name, file.folders, *bound) for bound in pairwise(bounds)]
    return found


def plan_parts(
    files: Sequence[InputFile],
    part_bytes: int | None,
    settings: Mapping[str, Any],
    by_line: Callable[[InputFile], bool] = lambda _: False,
) -> list[Part]:
    """Cut the list of files into parts of at least `part_bytes` (the last may be smaller).

    Args:
        files: Of the corpus, in order.
        part_bytes: On disk; None: :func:`suitable_part_bytes`.
        settings: All that the samples depend on besides the files.
        by_line: Whether a file may be cut between any two lines.
    """
    part_bytes = part_bytes or suitable_part_bytes(sum(file.size for file in files))
    files = divided(files, part_bytes, by_line)
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


@dataclass(slots=True)
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
    shards: list[Shard] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take shards as JSON has them."""
        self.shards = [Shard(*one) for one in self.shards]


@dataclass(slots=True)
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
    spool: int = NOTHING
    """Where its last chunk begins in the part's spool."""


@dataclass
class PartRecord:
    """The contents of part.json."""

    signature: str
    skills: dict[str, SkillRecord] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    """Of no known skill."""
    hashes: dict[str, str] = field(default_factory=dict)
    """In the part that has the beginning of a file that is divided: what stands for its hash -> that."""
    encoder: str = ''
    checked: int = 0
    """Documents encoded by both encoders."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Where the time went."""

    def save(self, folder: str) -> None:
        """Write part.json."""
        write_text(Path(folder, RECORD_NAME), json.dumps(asdict(self)))

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


def shards_folder(folder: str, skill: str) -> str:
    """Where a part has the train shards of a skill, whose name meets nothing else there.

    Folders are few: with thousands of skills, making and removing them is most of what the disk has to do.
    """
    return os.path.join(folder, 'shards', skill)


def make_folder(folder: str) -> None:
    """An empty folder, whatever was there."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
