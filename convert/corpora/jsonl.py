"""JSON rows of any origin: the skill is fixed, a field of the row, the file's folder, or a part of its path."""

import argparse
from collections.abc import Iterator
from functools import partial

from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.json_files import read_rows
from skillit_stream.convert.readers import HashingFile
from skillit_stream.convert.rows import Place
from skillit_stream.convert.skill_options import ChosenRows, add_row_arguments

HELP = 'JSON files: one object with a text a line, or one array of them'
add_arguments = partial(add_row_arguments, what='JSON rows')


def corpus(args: argparse.Namespace) -> ChosenRows:
    """The rows at and below the PATHs."""
    return JsonRows(args, args.paths)


class JsonRows(ChosenRows):
    """Rows in JSON files of any form."""

    name = 'jsonl'
    rows_are_apart = True

    def rows(self, raw: HashingFile, path: str) -> Iterator[Place | BadRecordError]:
        """The rows of one file."""
        return read_rows(raw, path)
