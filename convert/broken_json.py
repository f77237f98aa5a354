"""The rows of a JSON file that was to be one value and is broken: each that is whole is read.

A broken array loses the rows that are broken, and no others, where its rows begin lines of their own: reading goes on
at the next line that begins as the line of the broken row does. Where nothing shows the next row, what follows is one
fault, whose reason says so.
"""

import json
import re
from collections.abc import Iterator

import orjson

from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.rows import BOM, Place, check_row, load_json

_BLANK = re.compile(r'\s*')
_BETWEEN = re.compile(r'[\s,]*')
# Where one object ends and another begins.
_ANOTHER = re.compile(r'\}\s*,?\s*\{')
_DECODER = json.JSONDecoder()


def rows_of_broken(data: bytes, path: str, fault: BadRecordError) -> Iterator[Place | BadRecordError]:
    """The rows, and a fault in the place of each that is none.

    Args:
        data: The whole file, or what could be read of it.
        path: Its name, for messages.
        fault: What is wrong with it. It comes last where no broken row shows that something is missing, and always
            where the file could not be read to its end.
    """
    # Bytes that are no text are kept as they are: the row that they are in is refused, and no other.
    items = _Scan(data.removeprefix(BOM).decode(errors='surrogateescape'), path).rows()
    is_cut = fault.reason != 'broken_json'
    found = False
    item = next(items, None)
    while item is not None:
        following = next(items, None)
        is_broken = isinstance(item, BadRecordError)
        # Where the file is cut, its last row is.
        if not (is_cut and is_broken and following is None):
            yield item
        found |= is_broken
        item = following
    if is_cut or not found:
        yield fault


class _Scan:
    """Goes through a text from value to value.

    Args:
        text: Of the file.
        path: Its name, for messages.
    """

    def __init__(self, text: str, path: str) -> None:
        self._text = text
        self._path = path
        self._counted = self._line = 0

    def rows(self) -> Iterator[Place | BadRecordError]:
        """The values that are rows, and faults."""
        at: int | None = 0
        inside = False
        while at is not None:
            at = self._next(at)
            if at == len(self._text):
                return
            if self._text[at] == ('[', ']')[inside]:
                at, inside = at + 1, not inside
                continue
            line = self._line_of(at)
            try:
                end = _DECODER.raw_decode(self._text, at)[1]
            except json.JSONDecodeError as error:
                line += self._text.count('\n', at, error.pos)
                column = error.pos - self._text.rfind('\n', 0, error.pos)
                begin, at = at, self._next_row(at)
                yield self._broken(line, f'broken JSON at column {column} ({error.msg})', begin, at)
            except RecursionError:
                begin, at = at, self._next_row(at)
                yield self._broken(line, 'broken JSON (nested too deep)', begin, at)
            else:
                yield self._row(self._text[at:end], f'{self._path}:{line}')
                at = end

    def _next(self, at: int) -> int:
        found = _BETWEEN.match(self._text, at)
        return found.end() if found else at

    def _broken(self, line: int, what: str, begin: int, following: int | None) -> BadRecordError:
        """The fault of a value that begins at a place, with that of the next row, if there is one."""
        reason = 'broken_json'
        if following is None and _ANOTHER.search(self._text, begin):
            reason, what = 'broken_rest', f'{what}, and nothing shows where the next row begins'
        return BadRecordError(reason, where=f'{self._path}:{line}', what=what, remedy='mend the file')

    def _row(self, text: str, where: str) -> Place | BadRecordError:
        try:
            return where, check_row(load_json(text.encode(errors='surrogateescape')), where)
        except BadRecordError as fault:
            return fault
        except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
            what = f'broken JSON ({getattr(error, "msg", error)})'
            return BadRecordError('broken_json', where=where, what=what, remedy='mend or remove the row')

    def _next_row(self, at: int) -> int | None:
        """Where the next row begins behind a broken one: as many blanks into its line as that one is into its."""
        begin = self._text.rfind('\n', 0, at) + 1
        blank = _BLANK.match(self._text, begin, at)
        indent = blank[0] if blank else ''
        found = re.compile(rf'\n{re.escape(indent)}(?:\}}\s*,\s*|,\s*)?\{{').search(self._text, at)
        return found.end() - 1 if found else None

    def _line_of(self, at: int) -> int:
        self._line += self._text.count('\n', self._counted, at)
        self._counted = at
        return self._line + 1
