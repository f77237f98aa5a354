"""JSON files of rows: an object a line, or one array of objects, or one object over many lines.

What a file is follows from its name and its first line. Only a ``.json`` file can be one array or object; it is
parsed whole, so its size is limited. JSON lines are read with flat memory.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import orjson

from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import form_of
from skillit_stream.convert.readers import HashingFile, read_lines
from skillit_stream.convert.rows import BOM, Line, Place, check_row, line_rows, load_json

# Parsed, a file takes some ten times its size in memory.
LARGEST_WHOLE = 1 << 30


def read_rows(raw: HashingFile, path: str) -> Iterator[Place | BadRecordError]:
    """The rows of one JSON file, and a fault in the place of each that is none."""
    lines = read_lines(raw, path)
    try:
        first = next((line for line in lines if line[1].strip()), None)
        whole = None
        if first is not None and _opens_whole(first[1], path):
            whole = parse_whole(chain([first], lines), path)
    except BadRecordError as fault:
        yield fault
        return
    if whole is not None:
        yield from _array_rows(whole if isinstance(whole, list) else [whole], path)
    elif first is not None:
        yield from line_rows(chain([first], lines), path)


def parse_whole(lines: Iterator[Line], path: str) -> Any:
    """The one JSON value that all lines of a file make up.

    Raises:
        BadRecordError: The file is too large or broken.
    """
    pieces = []
    size = 0
    for _, line in lines:
        pieces.append(line)
        size += len(line) + 1
        if size > LARGEST_WHOLE:
            what = f'one JSON value of more than {LARGEST_WHOLE} bytes, which is parsed in one piece'
            remedy = "write it as JSON lines (jq -c '.[]')"
            raise BadRecordError('oversized_file', where=path, what=what, remedy=remedy)
    try:
        return load_json(b'\n'.join(pieces))
    except orjson.JSONDecodeError as error:
        what = f'broken JSON at column {error.colno} ({error.msg})'
        where = f'{path}:{error.lineno}'
        raise BadRecordError('broken_json', where=where, what=what, remedy='mend the file') from error


def _opens_whole(first: bytes, path: str) -> bool:
    """Whether this is the first line of one array or of an object over many lines."""
    # A row of JSON lines ends on the line it began on.
    first = first.removeprefix(BOM).strip()
    opens = first.startswith(b'[') or (first.startswith(b'{') and not first.endswith(b'}'))
    return opens and form_of(path) == '.json'


def _array_rows(rows: list[Any], path: str) -> Iterator[Place | BadRecordError]:
    for number, row in enumerate(rows, 1):
        where = f'{path}: row {number}'
        try:
            yield where, check_row(row, where)
        except BadRecordError as fault:
            yield fault
