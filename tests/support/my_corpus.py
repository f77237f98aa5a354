"""A corpus of one's own, as docs/extending.md shows one: questions and answers in lines of tab-separated text."""

import argparse
from collections.abc import Iterator

from skillit_stream.convert.corpus import Corpus, Document, Tap
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.options import add_corpus_arguments, add_instruction_arguments
from skillit_stream.convert.readers import HashingFile, InputFile, find_inputs, read_lines

HELP = 'questions and answers'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('paths', nargs='+')
    add_corpus_arguments(parser)
    add_instruction_arguments(parser)


def corpus(args: argparse.Namespace) -> Corpus:
    return Questions(args.paths)


class Questions(Corpus):
    name = 'questions'

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def inputs(self) -> list[InputFile]:
        return find_inputs(self.paths, ('.tsv',))

    def read(self, file: InputFile, tap: Tap) -> Iterator[Document | BadRecordError]:
        raw = HashingFile(file.path, tap.on_bytes)
        for number, line in read_lines(raw, file.path):
            cells = line.decode().split('\t')
            if len(cells) == 4:
                yield Document(cells[0], cells[1], answer=cells[2], split=cells[3] or None)
            else:
                where = f'{file.path}:{number}'
                yield BadRecordError('cells', where=where, what='not four cells', remedy='mend the line')
        tap.finish(raw.finish(), raw.bytes)
        raw.close()
