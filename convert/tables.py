"""Tables: rows with columns become documents; only the columns that are needed are read."""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from skillit_stream.convert.corpus import Corpus, Document, Tap
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.readers import InputFile
from skillit_stream.convert.rows import Row, find_text
from skillit_stream.convert.skill_options import choose_skill_of, chosen_options

# Few, because a row can be a document of 200 MB.
BATCH_ROWS = 64


class TableCorpus(Corpus):
    """Rows of tables, with text and skill in the columns that the options name.

    Args:
        args: Of the command line, with the options of `skill_options.py`.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.text_field: str = args.text_field
        self.skill_field: str | None = args.skill_field
        self._skill_of = choose_skill_of(args)
        self._options = {'text_field': args.text_field, **chosen_options(args)}

    def options(self) -> Mapping[str, Any]:
        """How skill and text are found."""
        return self._options

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

    def document_of(self, row: Row, file: InputFile, where: str) -> Document | BadRecordError:
        """The document of a row, or the fault of one that is no use."""
        skill = None
        try:
            skill = self._skill_of(row, file, where)
            return Document(skill, find_text(row, self.text_field, where))
        except BadRecordError as fault:
            fault.skill = skill
            return fault


class Progress:
    """Tells of a file's bytes in the measure in which its rows are done.

    Args:
        tap: Is told.
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


def python_rows(batch: Any) -> Iterator[Row | UnicodeDecodeError]:
    """The rows of an Arrow batch or table as dicts, and an error in the place of one with a broken string."""
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:
        pass  # find out which
    for index in range(batch.num_rows):
        try:
            yield batch.slice(index, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            yield error


def broken_encoding(error: UnicodeDecodeError, where: str) -> BadRecordError:
    """The fault of a row with a string that is not UTF-8."""
    what = f'not UTF-8 ({error.reason} at byte {error.start})'
    return BadRecordError('broken_encoding', where=where, what=what, remedy='write it as UTF-8')
