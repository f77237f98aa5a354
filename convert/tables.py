"""Tables: rows with columns become documents; only the columns that are needed are read."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from skillit_stream.convert.corpus import Tap
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.rows import Place, Row
from skillit_stream.convert.skill_options import ChosenRows

# Few, because a row can be a document of 200 MB.
BATCH_ROWS = 64


class TableCorpus(ChosenRows):
    """Rows of tables, with text and skill in the columns that the options name."""

    def columns_among(self, names: Iterable[str]) -> list[str]:
        """Those of the columns that hold text or skill."""
        return columns_for(filter(None, (self.text_field, self.skill_field)), names)

    def lacking_among(self, names: Iterable[str]) -> tuple[str, str] | None:
        """The first field that no column can hold, and the option that names it."""
        names = list(names)
        for field, option in ((self.skill_field, '--skill-field'), (self.text_field, '--text-field')):
            if field is not None and not columns_for([field], names):
                return field, option
        return None


class RowProgress:
    """Reports a file's bytes as its rows are finished.

    Args:
        tap: Gets the reports.
        size: Bytes of the file.
        rows: Rows in it.
    """

    def __init__(self, tap: Tap, *, size: int, rows: int) -> None:
        self._tap, self._size, self._total, self._done = tap, size, max(rows, 1), 0

    def rows(self, count: int) -> None:
        """So many more rows are done."""
        before = self._size * self._done // self._total
        self._done += count
        self._tap.on_bytes(self._size * self._done // self._total - before)


def columns_for(fields: Iterable[str], names: Iterable[str]) -> list[str]:
    """The columns that hold the fields: by their whole name, or by the first key of a dotted path.

    Args:
        fields: Names of columns, or paths of keys that begin with one.
        names: All columns.

    Returns:
        Those of `names` that are needed, in their order.
    """
    names = list(names)
    wanted = {field if field in names else field.split('.')[0] for field in fields}
    return [name for name in names if name in wanted]


def missing_column(field: str, option: str, names: Iterable[str], where: str) -> BadRecordError:
    """The fault of a row in a table without the column that an option names."""
    columns = ', '.join(list(names)[:12]) or 'none'
    reason = 'missing_text' if option == '--text-field' else 'missing_skill'
    what = f'no column for {field!r} (the columns: {columns})'
    return BadRecordError(reason, where=where, what=what, remedy=f'name the right {option}')


def python_rows(batch: Any, place: Callable[[int], str]) -> Iterator[Place | BadRecordError]:
    """The rows of an Arrow batch or table as dicts, and a fault in the place of one with a broken string.

    A date that Python has not (in the year 300,000) becomes null: neither text nor skill can be one.

    Args:
        batch: The rows.
        place: Number of a row in the batch -> where it is, for messages.
    """
    try:
        yield from ((place(number), row) for number, row in enumerate(batch.to_pylist()))
        return
    except (ValueError, OverflowError):
        pass  # find out which
    for number in range(batch.num_rows):
        try:
            yield place(number), _python_row(batch.slice(number, 1))
        except UnicodeDecodeError as error:
            what = f'not UTF-8 ({error.reason} at byte {error.start})'
            yield BadRecordError(
                'broken_encoding', where=place(number), what=what, remedy='write it as UTF-8'
            )


def _python_row(batch: Any) -> Row:
    """The only row of an Arrow batch or table; raises UnicodeDecodeError."""
    return {name: _python_value(batch.column(name)[0]) for name in batch.schema.names}


def _python_value(scalar: Any) -> Any:
    """An Arrow scalar as a Python value, with null for what Python cannot hold; raises UnicodeDecodeError."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError):
        if isinstance(scalar, Mapping):
            return {name: _python_value(inside) for name, inside in scalar.items()}
        inner = getattr(scalar, 'values', None)
        return None if inner is None else [_python_value(inside) for inside in inner]
