"""JSON rows of any origin: the skill is fixed, a field of the row, the file's folder, or a part of its path."""

import argparse
from collections.abc import Mapping
from typing import Any

from skillit_stream.convert.json_files import JsonCorpus
from skillit_stream.convert.options import add_corpus_arguments
from skillit_stream.convert.readers import InputFile
from skillit_stream.convert.rows import Row
from skillit_stream.convert.skill_options import (
    add_skill_arguments,
    add_text_field_argument,
    choose_skill_of,
    chosen_options,
)

HELP = 'JSON files: one object with a text a line, or one array of them'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit convert jsonl`."""
    parser.add_argument('paths', nargs='+', metavar='PATH', help='folder or file of JSON rows')
    add_skill_arguments(parser)
    add_text_field_argument(parser)
    add_corpus_arguments(parser)


def corpus(args: argparse.Namespace) -> JsonCorpus:
    """The rows at and below the PATHs."""
    return JsonRows(args)


class JsonRows(JsonCorpus):
    """JSON rows with the skill where the options say."""

    name = 'jsonl'

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args.paths, args.text_field)
        self._skill_of = choose_skill_of(args)
        self._options = {'text_field': args.text_field, **chosen_options(args)}

    def skill_of(self, row: Row, file: InputFile, where: str) -> str:
        """The skill that the options find for a row."""
        return self._skill_of(row, file, where)

    def options(self) -> Mapping[str, Any]:
        """How skill and text are found."""
        return self._options
