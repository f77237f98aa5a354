"""What a corpus is: its files, and how each of them becomes documents.

A corpus is a module, or an object in one, with ``HELP``, ``add_arguments(parser)`` and ``corpus(args) -> Corpus``.
Files are read in several processes; each makes its corpus from the command line's arguments anew, so a corpus may
hold whatever it likes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import SUFFIXES, InputFile, find_inputs, suffix_of
from skillit_stream.convert.names import SkillNames
from skillit_stream.convert.readers import HashingFile, Tap, open_input, read_lines
from skillit_stream.convert.rows import Place, Row, find_text, line_rows
from skillit_stream.convert.tokens import DocumentTokenizer


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
    rest: str = ''
    """What follows `answer` and does not count with it."""
    other: str = ''
    """Another answer that could stand in the place of `answer`. A document that has one is a sentence: encoded as a
    whole, not longer than a sample, without EOS, and of its answer the token counts in which the other one differs."""


class Corpus(ABC):
    """Files and how to read them."""

    name: str
    """As in the manifest."""
    generated: bool = False
    """Whether it is computed: each file is the whole of one skill, and its own options alone decide on it."""

    def by_line(self, file: InputFile) -> bool:
        """Whether any line of a file is read as if there were no others: then a large one is done in several parts."""
        del file
        return False

    @abstractmethod
    def inputs(self) -> list[InputFile]:
        """The files, always in the same order: it is the order of the samples.

        Raises:
            InputError: There are none, or one cannot be found.
        """

    @abstractmethod
    def read(self, file: InputFile, tap: Tap) -> Iterator[Document | BadRecordError]:
        """The documents of one file, in order, and a fault in the place of each record that cannot be used.

        ``tap.finish`` must have been called when the iterator is at its end, unless the file is computed.
        """

    def options(self) -> Mapping[str, Any]:
        """What the documents depend on besides the files, for the manifest: plain data."""
        return {}

    def decisions(self) -> Mapping[str, Any]:
        """What else they depend on, for the work alone: when it changes, parts are converted again."""
        return {}

    def companions(self) -> Mapping[str, Any]:
        """JSON files to lie beside the manifest: name -> contents."""
        return {}

    def own_tokenizer(self) -> Any:
        """A ``PreTrainedTokenizerFast`` of the corpus, where its command does not ask for --tokenizer."""
        raise RuntimeError(f'Internal error: {self.name} has no tokenizer of its own')

    def sentence_tokens(self, tokenizer: DocumentTokenizer) -> int:
        """Tokens in a sample, where its command does not ask for --seq-len."""
        raise RuntimeError(f'Internal error: {self.name} has no length of its own for {tokenizer.facts.name}')


class FileCorpus(Corpus):
    """Files that are read from begin to end.

    Args:
        paths: Files and folders, as on the command line.
        suffixes: What the names of its files end in.
    """

    def __init__(self, paths: list[str], suffixes: tuple[str, ...] = SUFFIXES) -> None:
        self.paths = paths
        self.suffixes = suffixes

    def inputs(self) -> list[InputFile]:
        """The files at and below the paths."""
        return find_inputs(self.paths, self.suffixes)

    def read(self, file: InputFile, tap: Tap) -> Iterator[Document | BadRecordError]:
        """Read the documents of one file."""
        try:
            with open_input(file, tap) as raw:
                yield from self.documents(raw, file)
        except BadRecordError as fault:  # the file cannot be opened
            yield fault

    @abstractmethod
    def documents(self, raw: HashingFile, file: InputFile) -> Iterator[Document | BadRecordError]:
        """The documents of an open file, and a fault in the place of each record that cannot be used."""


class RowCorpus(FileCorpus):
    """JSON rows, one a line: a subclass says to which skill a row belongs.

    Args:
        paths: Files and folders, as on the command line.
        text_field: Key of the text, or a path of keys joined by dots.
        suffixes: What the names of its files end in.
    """

    def __init__(
        self, paths: list[str], text_field: str = 'text', suffixes: tuple[str, ...] = SUFFIXES
    ) -> None:
        super().__init__(paths, suffixes)
        self.text_field = text_field
        self.names = SkillNames()

    rows_are_apart = False
    """Whether a document depends on its row and the file's name alone; a corpus of one's own may know better."""

    def by_line(self, file: InputFile) -> bool:
        """JSON lines that are not compressed, if the corpus has nothing to do with other rows."""
        return self.rows_are_apart and suffix_of(file.path) == '.jsonl' and type(file) is InputFile

    @abstractmethod
    def skill_of(self, row: Row, file: InputFile, where: str) -> str:
        """The skill of a row; `where` (``file:line``) is for messages.

        Raises:
            BadRecordError: Neither the row nor its file says.
        """

    def document(self, row: Row, file: InputFile, where: str) -> Document:
        """The document of a row; raises BadRecordError for one that cannot be used."""
        skill = self.skill_of(row, file, where)
        try:
            return Document(skill, find_text(row, self.text_field, where))
        except BadRecordError as fault:
            fault.skill = skill
            raise

    def rows(self, raw: HashingFile, path: str) -> Iterator[Place | BadRecordError]:
        """The rows of one file, and a fault in the place of each that is none."""
        return line_rows(read_lines(raw, path), path)

    def documents(self, raw: HashingFile, file: InputFile) -> Iterator[Document | BadRecordError]:
        """The documents of the rows of an open file."""
        return self.documents_of(self.rows(raw, file.path), file)

    def documents_of(
        self, rows: Iterable[Place | BadRecordError], file: InputFile
    ) -> Iterator[Document | BadRecordError]:
        """The document of each row, or its fault."""
        for item in rows:
            if isinstance(item, BadRecordError):
                yield item
                continue
            where, row = item
            try:
                document = self.document(row, file, where)
                self.names.safe(document.skill, where)  # whose messages name the line
                yield document
            except BadRecordError as fault:
                yield fault
