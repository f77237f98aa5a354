"""Lines -> documents: parse a JSON row, ask the corpus for its skill, find its text."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from skillit_stream.convert.faults import BadRecordError, Faults
from skillit_stream.convert.readers import HashingFile, InputFile, read_lines
from skillit_stream.streams.manifest import SourceInfo

Row = dict[str, Any]
SkillOf = Callable[[Row, InputFile, str], str]
"""(row, the file it is in, 'file:line' for messages) -> skill; raises BadRecordError when it cannot tell."""

MISSING = object()


@dataclass(frozen=True, slots=True)
class Document:
    """A piece of text that belongs to one skill."""

    skill: str
    text: str


class RowReader:
    """The documents of JSON-lines files, in the order of the files and their lines.

    Args:
        inputs: The files, from :func:`~skillit_stream.convert.readers.find_inputs`.
        skill_of: The corpus' way to tell a row's skill.
        text_field: Key of the text, or a path of keys joined by dots.
        faults: What to do about bad records.
        on_bytes: Called with the number of bytes read from disk, for a progress bar.
    """

    def __init__(
        self,
        inputs: list[InputFile],
        *,
        skill_of: SkillOf,
        text_field: str = 'text',
        faults: Faults,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.inputs = inputs
        self.faults = faults
        self.sources: dict[str, list[SourceInfo]] = {}
        self._skill_of = skill_of
        self._text_field = text_field
        self._on_bytes = on_bytes

    def __iter__(self) -> Iterator[Document]:
        """Read every file once.

        Raises:
            BadRecordError: A record cannot be used and the policy is ``error``.
        """
        for file in self.inputs:
            try:
                raw = HashingFile(file.path, self._on_bytes)
            except OSError as error:
                what = f'cannot be opened ({error.strerror})'
                self.faults.handle(
                    BadRecordError('unreadable_file', where=file.path, what=what, remedy='check the file')
                )
                continue
            skills: set[str] = set()
            before = self.faults.counts[None].copy()
            try:
                for document in self._documents(raw, file):
                    skills.add(document.skill)
                    yield document
                source = SourceInfo(file=file.name, hash=raw.finish(), bytes=raw.bytes)
            finally:
                raw.close()
            self.faults.place(before, skills)
            for skill in skills:
                self.sources.setdefault(skill, []).append(source)

    def _documents(self, raw: HashingFile, file: InputFile) -> Iterator[Document]:
        lines = read_lines(raw, file.path)
        while True:
            try:
                number, line = next(lines, (0, b''))
            except BadRecordError as fault:
                self.faults.handle(fault)
                return
            if not number:
                return
            if not line.strip():
                continue  # an empty line separates records, it is not one
            skill = None
            where = f'{file.path}:{number}'
            try:
                row = parse_row(line, where)
                skill = self._skill_of(row, file, where)
                document = Document(skill, find_text(row, self._text_field, where))
            except BadRecordError as fault:
                self.faults.handle(fault, skill)
            else:
                yield document


def parse_row(line: bytes, where: str) -> Row:
    """One JSON object from one line.

    Raises:
        BadRecordError: It is not JSON (wrong encodings and lone surrogates included), or not an object.
    """
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        what = f'broken JSON at column {error.colno} ({error.msg})'
        raise BadRecordError(
            'broken_json', where=where, what=what, remedy='mend or remove the line'
        ) from error
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
    value: Any = row
    for key in path.split('.'):
        if isinstance(value, str):
            try:
                value = orjson.loads(value)
            except orjson.JSONDecodeError:
                return MISSING
        if not isinstance(value, dict) or key not in value:
            return MISSING
        value = value[key]
    return value


def find_text(row: Row, field: str, where: str) -> str:
    """The text of a row.

    Raises:
        BadRecordError: There is none, it is not a string, or it is empty.
    """
    text = look_up(row, field)
    if text is MISSING:
        keys = ', '.join(list(row)[:8]) or 'none'
        what = f'a row without {field!r} (its keys: {keys})'
        raise BadRecordError('missing_text', where=where, what=what, remedy='name the right --text-field')
    if not isinstance(text, str):
        what = f'{field!r} must be a string, but got: {type(text).__name__}'
        raise BadRecordError('mistyped_text', where=where, what=what, remedy='name the right --text-field')
    if not text:
        raise BadRecordError(
            'empty_text', where=where, what=f'{field!r} is an empty string', remedy='remove the line'
        )
    return text
