"""JSON rows: parse a line, look fields up, find the text."""

import codecs
import json
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from skillit_stream.convert.faults import BadRecordError

Row = dict[str, Any]
Line = tuple[int, bytes]
Place = tuple[str, Row]
"""Where a row is, for messages (``file:line``, or ``file: row N`` from 1 in an array), and the row."""

MISSING = object()
# Digits, and a sign, of a 64-bit number at the most.
LONGEST_INTEGER = 20
# Some programs of Windows write it at the start of a file.
BOM = codecs.BOM_UTF8


def load_json(data: bytes) -> Any:
    """The value of a JSON text, with null for the numbers that Python writes and JSON has not (``NaN``).

    Raises:
        orjson.JSONDecodeError: It is not JSON, or not UTF-8.
    """
    data = data.removeprefix(BOM)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        if b'NaN' not in data and b'Infinity' not in data:
            raise
        try:
            # Written and read again, what only Python takes for text (lone surrogates) is refused after all.
            return orjson.loads(orjson.dumps(json.loads(data.decode(), parse_int=_whole_number)))
        except (ValueError, TypeError, RecursionError):
            pass
        raise


def _whole_number(digits: str) -> int | float:
    """A whole number as orjson reads it: beyond 64 bits it is a float."""
    number = int(digits) if len(digits) <= LONGEST_INTEGER else float(digits)
    return number if -(1 << 63) <= number < 1 << 64 else float(digits)


def line_rows(lines: Iterator[Line], path: str) -> Iterator[Place | BadRecordError]:
    """The row of each line, and a fault in the place of one that holds none."""
    while True:
        try:
            number, line = next(lines, (0, b''))
        except BadRecordError as fault:
            yield fault
            return
        if not number:
            return
        if not line.removeprefix(BOM).strip():
            continue  # an empty line separates records, it is not one
        where = f'{path}:{number}'
        try:
            yield where, parse_row(line, where)
        except BadRecordError as fault:
            yield fault


def parse_row(line: bytes, where: str) -> Row:
    """One JSON object from one line.

    Raises:
        BadRecordError: It is not JSON (wrong encodings and lone surrogates included), or not an object.
    """
    try:
        row = load_json(line)
    except orjson.JSONDecodeError as error:
        what = f'broken JSON at column {error.colno} ({error.msg})'
        raise BadRecordError(
            'broken_json', where=where, what=what, remedy='mend or remove the line'
        ) from error
    return check_row(row, where)


def check_row(row: Any, where: str) -> Row:
    """`row` if it is an object.

    Raises:
        BadRecordError: It is not.
    """
    if not isinstance(row, dict):
        what = f'a row must be one JSON object, but got: {type(row).__name__}'
        raise BadRecordError('not_an_object', where=where, what=what, remedy='write one object a line')
    return row


def look_up(row: Row, path: str) -> Any:
    """The value at a key or a dotted path of keys, through nested objects or objects kept as JSON strings.

    Returns:
        The value, or :data:`MISSING`.
    """
    if path in row:
        return row[path]
    keys = path.split('.')
    way = _way(row, keys)
    return way[-1] if len(way) > len(keys) else MISSING


def _way(row: Row, keys: Sequence[str]) -> list[Any]:
    """The row and the values behind one key after another, as far as they go."""
    way: list[Any] = [row]
    for key in keys:
        inside = way[-1]
        if isinstance(inside, str):
            try:
                inside = way[-1] = orjson.loads(inside)
            except orjson.JSONDecodeError:
                break
        if not isinstance(inside, dict) or key not in inside:
            break
        way.append(inside[key])
    return way


def keys_on_the_way(row: Row, path: str) -> str:
    """The keys that there are where a path of keys ends that the row does not have."""
    keys = path.split('.')
    way = _way(row, keys)
    found = ', '.join(list(way[-1])[:8]) if isinstance(way[-1], dict) else ''
    done = '.'.join(keys[: len(way) - 1])
    return f'keys of its {done}: {found or "none"}' if done else f'its keys: {found or "none"}'


def find_text(row: Row, field: str, where: str, remedy: str = 'name the right --text-field') -> str:
    """The text of a row.

    Args:
        row: The row.
        field: Key of the text, or a path of keys joined by dots.
        where: File and line.
        remedy: What to do about a field that is missing or no string.

    Raises:
        BadRecordError: There is none, it is not a string, or it is empty.
    """
    text = look_up(row, field)
    if text is MISSING:
        what = f'a row without {field!r} ({keys_on_the_way(row, field)})'
        raise BadRecordError('missing_text', where=where, what=what, remedy=remedy)
    if not isinstance(text, str):
        what = f'{field!r} must be a string, but got: {type(text).__name__}'
        raise BadRecordError('mistyped_text', where=where, what=what, remedy=remedy)
    if not text:
        raise BadRecordError(
            'empty_text', where=where, what=f'{field!r} is an empty string', remedy='remove the record'
        )
    return text
