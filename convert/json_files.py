"""JSON files of rows: an object a line, or one array of objects, or one object over many lines.

What a file is follows from its name and its lines. Only a ``.json`` file can be one array or object; it is parsed
whole, so its size is limited. JSON lines are read with flat memory, also where their first line is broken: a line that
is a row, with another one below it, shows that the file is not one value. Of a file that is one value and broken, the
rows are read that can be (`broken_json.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import orjson

from skillit_stream.convert.broken_json import rows_of_broken
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import form_of
from skillit_stream.convert.readers import HashingFile, read_lines
from skillit_stream.convert.rows import BOM, Line, Place, check_row, line_rows, load_json

# Parsed, a file takes some ten times its size in memory.
LARGEST_WHOLE = 1 << 30


def read_rows(raw: HashingFile, path: str) -> Iterator[Place | BadRecordError]:
    """The rows of one JSON file, and a fault in the place of each that is none."""
    lines = read_lines(raw, path)
    start = _Start()
    try:
        is_whole = start.is_whole(lines, path)
    except BadRecordError as fault:
        # The archive is cut or broken: what came before that is read all the same.
        if start.read and fault.reason != 'oversized_file':
            yield from rows_of_broken(start.data, path, fault)
        else:
            yield fault
        return
    if not is_whole:
        yield from line_rows(chain(start.read, lines), path)
        return
    try:
        value = load_json(start.data)
    except orjson.JSONDecodeError as error:
        yield from rows_of_broken(start.data, path, _broken(error, path))
        return
    yield from _array_rows(value if isinstance(value, list) else [value], path)


def parse_whole(lines: Iterator[Line], path: str) -> Any:
    """The one JSON value that all lines of a file make up.

    Raises:
        BadRecordError: The file is too large or broken.
    """
    start = _Start()
    for line in lines:
        start.take(line, path)
    try:
        return load_json(start.data)
    except orjson.JSONDecodeError as error:
        raise _broken(error, path) from error


@dataclass
class _Start:
    """The lines of a file that were read to find out what it is."""

    read: list[Line] = field(default_factory=list)
    size: int = 0

    @property
    def data(self) -> bytes:
        """The text of the lines; before them come as many empty ones as were passed over."""
        before = b'\n' * (self.read[0][0] - 1) if self.read else b''
        return before + b'\n'.join(line for _, line in self.read)

    def take(self, line: Line, path: str) -> None:
        """Keep a line.

        Raises:
            BadRecordError: There are too many.
        """
        self.read.append(line)
        self.size += len(line[1]) + 1
        if self.size > LARGEST_WHOLE:
            what = f'one JSON value of more than {LARGEST_WHOLE} bytes, which is parsed in one piece'
            remedy = "write it as JSON lines (jq -c '.[]')"
            raise BadRecordError('oversized_file', where=path, what=what, remedy=remedy)

    def is_whole(self, lines: Iterator[Line], path: str) -> bool:
        """Whether the lines make up one value, all of which are then taken; of JSON lines only the first ones are.

        Raises:
            BadRecordError: The file cannot be read to its end, or is one value that is too large.
        """
        first = b''
        is_row = False
        for line in lines:
            text = line[1].strip()
            if not self.read:
                first = text = text.removeprefix(BOM).strip()
                if not text:
                    continue
                if not _opens_whole(first, path):
                    self.read.append(line)
                    return False
            self.take(line, path)
            # No value ends on one line and goes on with a brace on the next.
            if is_row and text.startswith(b'{'):
                return False
            if text:
                # Rows of a broken array may stand on lines of their own, too.
                is_row = (text is first or not first.startswith(b'[')) and _is_complete(text)
        return bool(self.read)


def _opens_whole(first: bytes, path: str) -> bool:
    """Whether this may be the first line of one array or of an object over many lines."""
    # A row of JSON lines ends on the line it began on.
    opens = first.startswith(b'[') or (first.startswith(b'{') and not first.endswith(b'}'))
    return opens and form_of(path) == '.json'


def _is_complete(line: bytes) -> bool:
    """Whether a line is one whole object or array."""
    if (line[:1], line[-1:]) not in ((b'{', b'}'), (b'[', b']')):
        return False
    try:
        load_json(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _broken(error: orjson.JSONDecodeError, path: str) -> BadRecordError:
    what = f'broken JSON at column {error.colno} ({error.msg})'
    return BadRecordError('broken_json', where=f'{path}:{error.lineno}', what=what, remedy='mend the file')


def _array_rows(rows: list[Any], path: str) -> Iterator[Place | BadRecordError]:
    for number, row in enumerate(rows, 1):
        where = f'{path}: row {number}'
        try:
            yield where, check_row(row, where)
        except BadRecordError as fault:
            yield fault
