"""What a corpus is: its files, and how each of them becomes documents.

A corpus is a module with ``HELP``, ``add_arguments(parser)`` and ``corpus(args) -> Corpus``. Files are read in
several processes; each makes its corpus from the command line's arguments anew, so a corpus may hold
whatever it likes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.readers import (
    HashingFile,
    InputFile,
    Tap,
    find_inputs,
    open_input,
    read_lines,
)
from skillit_stream.convert.rows import Place, Row, find_text, line_rows


@dataclass(frozen=True, slots=True)
class Document:
    """A piece of text that belongs to one skill."""

    skill: str
    text: str
    """The document; of instruction data the part before the answer."""
    answer: str = ''
    """What follows `text` and, with ``--loss answer``, alone counts in the loss."""
    split: str | None = None
    """'train' or 'eval' where the corpus itself says so; None: by the hash of the document."""


class Corpus(ABC):
    """Files and how to read them."""

    name: ClassVar[str]
    """As in the manifest."""

    @abstractmethod
    def inputs(self) -> list[InputFile]:
        """The files, always in the same order: it is the order of the samples.

        Raises:
            InputError: There are none, or one cannot be found.
        """

    @abstractmethod
    def read(self, file: InputFile, tap: Tap) -> Iterator[Document | BadRecordError]:
        """The documents of one file, in order, and a fault in the place of each record that is no use.

        ``tap.finish`` must have been called when the iterator is at its end.
        """

    def options(self) -> Mapping[str, Any]:
        """What the documents depend on besides the files, for the manifest: plain data."""
        return {}


class RowCorpus(Corpus):
    """JSON rows, one a line: a subclass says to which skill a row belongs.

    Args:
        paths: Files and folders, as on the command line.
        text_field: Key of the text, or a path of keys joined by dots.
    """

    def __init__(self, paths: list[str], text_field: str = 'text') -> None:
        self.paths = paths
        self.text_field = text_field

    @abstractmethod
    def skill_of(self, row: Row, file: InputFile, where: str) -> str:
        """The skill of a row; `where` (``file:line``) is for messages.

        Raises:
            BadRecordError: It cannot be told.
        """

    def document(self, row: Row, file: InputFile, where: str) -> Document:
        """The document of a row; raises BadRecordError for one that is no use."""
        skill = self.skill_of(row, file, where)
        try:
            return Document(skill, find_text(row, self.text_field, where))
        except BadRecordError as fault:
            fault.skill = skill
            raise

    def inputs(self) -> list[InputFile]:
        """The JSON-lines files at and below the paths."""
        return find_inputs(self.paths)

    def read(self, file: InputFile, tap: Tap) -> Iterator[Document | BadRecordError]:
        """Read the rows of one file."""
        try:
            with open_input(file, tap) as raw:
                yield from self._documents(raw, file)
        except BadRecordError as fault:
            yield fault

    def rows(self, raw: HashingFile, path: str) -> Iterator[Place | BadRecordError]:
        """The rows of one file, and a fault in the place of each that is none."""
        return line_rows(read_lines(raw, path), path)

    def _documents(self, raw: HashingFile, file: InputFile) -> Iterator[Document | BadRecordError]:
        for item in self.rows(raw, file.path):
            if isinstance(item, BadRecordError):
                yield item
                continue
            where, row = item
            try:
                yield self.document(row, file, where)
            except BadRecordError as fault:
                yield fault
