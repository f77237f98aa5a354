"""Plain text: a document a file, or several in a file with a separating line between them."""

import argparse
import codecs
from collections.abc import Iterator, Mapping
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.convert.corpus import Document, FileCorpus
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import ARCHIVES, InputFile
from skillit_stream.convert.options import add_corpus_arguments, add_paths_argument
from skillit_stream.convert.readers import HashingFile, read_lines
from skillit_stream.convert.skill_options import add_skill_arguments, choose_skill_of, chosen_options

HELP = 'plain text files: one document a file, or several with a separating line'
SUFFIXES = ('.txt', '.md')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit convert text`."""
    add_paths_argument(parser, 'plain text')
    add_skill_arguments(parser, fields=False)
    parser.add_argument(
        '--separator',
        metavar='LINE',
        help="documents in a file are separated by lines that read like this; '': by empty lines (default: one "
        'document a file)',
    )
    parser.add_argument(
        '--suffix',
        action='append',
        default=[],
        metavar='.EXT',
        help=f'read files with this ending too, plain or compressed (besides {", ".join(SUFFIXES)})',
    )
    add_corpus_arguments(parser)


class Text(FileCorpus):
    """The text files at and below the PATHs, in UTF-8."""

    name = 'text'

    def __init__(self, args: argparse.Namespace) -> None:
        for suffix in args.suffix:
            if not suffix.startswith('.') or len(suffix) == 1:
                raise InputError(f'--suffix must begin with a dot, such as .rst, but got: {suffix}')
        suffixes = (form + archive for form in (*SUFFIXES, *args.suffix) for archive in ('', *ARCHIVES))
        super().__init__(args.paths, tuple(suffixes))
        self.separator = None if args.separator is None else args.separator.strip().encode()
        self._skill_of = choose_skill_of(args)
        self._options = chosen_options(args)
        if args.separator is not None:
            self._options['separator'] = args.separator

    def options(self) -> Mapping[str, Any]:
        """How skills and documents are found."""
        return self._options

    def documents(self, raw: HashingFile, file: InputFile) -> Iterator[Document | BadRecordError]:
        """The documents of an open file."""
        empty = True
        for start, item in self._pieces(raw, file.path):
            empty = False
            yield self._document(item, file, start)
        if empty:
            what = 'a file without any text'
            yield BadRecordError('empty_text', where=file.path, what=what, remedy='remove the file')

    def _document(
        self, item: bytes | BadRecordError, file: InputFile, start: int
    ) -> Document | BadRecordError:
        """A document, or the fault, of its bytes, which begin `start` bytes into the (decompressed) file."""
        if isinstance(item, BadRecordError):
            return item
        try:
            return Document(self._skill_of({}, file, file.path), item.decode())
        except BadRecordError as fault:
            return fault
        except UnicodeDecodeError as error:
            place = f'{file.path}: byte {start + error.start}'
            what = f'not UTF-8 ({error.reason}: 0x{item[error.start]:02x})'
            return BadRecordError('broken_encoding', where=place, what=what, remedy='convert it to UTF-8')

    def _pieces(self, raw: HashingFile, path: str) -> Iterator[tuple[int, bytes | BadRecordError]]:
        """The documents as bytes, each with where it begins; what is white space only is none."""
        lines = read_lines(raw, path)
        piece: list[bytes] = []
        start = offset = 0
        while True:
            try:
                number, line = next(lines, (0, b''))
            except BadRecordError as fault:
                yield offset, fault
                return
            if number == 1:
                start = len(line) - len(line := line.removeprefix(codecs.BOM_UTF8))
                offset = start
            if not number or line.strip() == self.separator:
                text = b'\n'.join(piece)
                if text.strip():
                    yield start, text
                piece, start = [], offset + len(line) + 1
            else:
                piece.append(line)
            if not number:
                return
            offset += len(line) + 1


corpus = Text
