"""A corpus of one's own in a function: ``row(row) -> (skill, text)`` over rows of JSON and Parquet files.

The file of the function is all that is written; files, archives, bad records, parts and options are as for the corpora
that come with the package. What a function cannot say (other files, other options) takes a whole corpus (`corpus.py`).
"""

import argparse
import inspect
import os
import traceback
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from skillit_stream.base.errors import InputError, first_line
from skillit_stream.convert.corpora.parquet import read_parquet
from skillit_stream.convert.corpus import Document, RowCorpus, Tap
from skillit_stream.convert.faults import BadRecordError, LeftOutError
from skillit_stream.convert.inputs import SUFFIXES, InputFile, form_of
from skillit_stream.convert.json_files import read_rows
from skillit_stream.convert.options import (
    add_corpus_arguments,
    add_instruction_arguments,
    add_paths_argument,
)
from skillit_stream.convert.readers import HashingFile
from skillit_stream.convert.rows import Place, Row

FUNCTION = 'row'
HELP = 'rows of JSON and Parquet files, by a function of the row'
RETURNS = '(skill, text), a Document or None'
SPLITS = ('train', 'eval', None)
# Of what a function returned, this much is shown.
SHOWN = 60


def make_corpus(module: ModuleType, path: str) -> None:
    """Give a module with a function ``row`` what a module of a corpus has.

    Args:
        module: Of the user's file.
        path: Of that file.

    Raises:
        InputError: `row` is no function of one row, or the module has options, which it would not see.
    """
    _check_function(getattr(module, FUNCTION), path)
    if hasattr(module, 'add_arguments'):
        raise InputError(
            f'{path}: has options of its own (add_arguments), which {FUNCTION}(row) does not see; write corpus(args) '
            'too, see docs/extending.md'
        )
    title = (module.__doc__ or HELP).strip().splitlines()[0]
    made: dict[str, Any] = {
        'HELP': title.replace('%', '%%'),
        'add_arguments': _add_arguments,
        'corpus': lambda args: OwnRows(args.paths, module, path),
    }
    for name, value in made.items():
        setattr(module, name, value)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths_argument(parser, 'JSON or Parquet rows')
    add_corpus_arguments(parser)
    add_instruction_arguments(parser)


def _check_function(function: Any, path: str) -> None:
    got = '' if callable(function) else type(function).__name__
    if inspect.iscoroutinefunction(function):
        got = f'async {FUNCTION}'
    elif not got:
        try:
            inspect.signature(function).bind({})
        except TypeError:
            got = f'{FUNCTION}{inspect.signature(function)}'
        except ValueError:  # written in C: it does not say
            pass
    if got:
        raise InputError(
            f'{path}: {FUNCTION} must be a function of one row, but got: {got}; write def {FUNCTION}({FUNCTION}): '
            'return skill, text'
        )


class OwnRows(RowCorpus):
    """Rows whose skill and text a function says.

    Args:
        paths: Files and folders, as on the command line.
        module: Has the function.
        path: Of the module's file.
    """

    def __init__(self, paths: list[str], module: ModuleType, path: str) -> None:
        super().__init__(paths, suffixes=(*SUFFIXES, '.parquet'))
        self.name = os.path.splitext(os.path.basename(path))[0]
        self._function = getattr(module, FUNCTION)
        self._path = path
        self._called = f'{FUNCTION}() of {os.path.basename(path)}'

    def read(self, file: InputFile, tap: Tap) -> Iterator[Document | BadRecordError]:
        """The documents of one file."""
        read = read_parquet(self, file, tap) if form_of(file.path) == '.parquet' else super().read(file, tap)
        yield from read

    def rows(self, raw: HashingFile, path: str) -> Iterator[Place | BadRecordError]:
        """The rows of one JSON file."""
        return read_rows(raw, path)

    def skill_of(self, row: Row, file: InputFile, where: str) -> str:
        """The skill of a row; raises BadRecordError."""
        return self.document(row, file, where).skill

    def document(self, row: Row, file: InputFile, where: str) -> Document:  # noqa: ARG002
        """What the function makes of a row.

        Raises:
            LeftOutError: None.
            BadRecordError: The function fails, or returns something else than it must.
        """
        try:
            made = self._function(row)
        except Exception as error:  # whatever the user's code trips over
            line = line_in(error, self._path)
            place = f' in its line {line}' if line else ''  # none, where it is another module's
            cause = f'{self._called} raised {type(error).__name__}: {first_line(error)}{place}'
            raise BadRecordError('row_raised', where=where, what=cause, remedy=_MEND) from error
        if made is None:
            raise LeftOutError('row_is_none', where=where, what=f'{self._called} returned None', remedy=_MEND)
        if isinstance(made, tuple | list) and len(made) == 2:
            made = Document(*made)
        if not isinstance(made, Document):
            raise self._mistyped(where, RETURNS, made)
        return self._checked(made, where)

    def _checked(self, made: Document, where: str) -> Document:
        """A document all of whose fields are what they must be; raises BadRecordError."""
        skill = made.skill
        if isinstance(skill, bool) or not isinstance(skill, str | int):
            raise self._mistyped(where, RETURNS, skill, 'a skill that is no string')
        for text in (made.text, made.answer, made.rest or ''):
            if not isinstance(text, str):
                raise self._mistyped(where, RETURNS, text, 'a text that is no string')
            try:
                text.encode()
            except UnicodeEncodeError as error:
                what = (
                    f'what {self._called} returned is no text: it cannot be written as UTF-8 ({error.reason})'
                )
                raise BadRecordError('broken_encoding', where=where, what=what, remedy=_MEND) from error
        if made.split not in SPLITS:
            raise self._mistyped(where, "a split of 'train', 'eval' or None", made.split)
        if not made.text:
            what = f'the text that {self._called} returned is empty'
            raise BadRecordError('empty_text', where=where, what=what, remedy=_MEND, skill=str(skill))
        return (
            made
            if isinstance(skill, str)
            else Document(str(skill), made.text, made.answer, made.split, made.rest)
        )

    def _mistyped(self, where: str, must: str, value: Any, kind: str = '') -> BadRecordError:
        shown = repr(value)
        shown = shown if len(shown) <= SHOWN else f'{shown[:SHOWN]} ...'
        got = f'but got{f" {kind}" if kind else ""}: {shown}'
        what = f'{self._called} must return {must}, {got}'
        return BadRecordError('row_mistyped', where=where, what=what, remedy='mend it')


_MEND = f'mend it, or have {FUNCTION}() return None for rows to leave out'


def line_in(error: BaseException, path: str) -> int:
    """The line of a file at which an error came up; 0 if it was elsewhere."""
    if isinstance(error, SyntaxError):
        return error.lineno or 0
    steps = traceback.extract_tb(error.__traceback__)
    place = os.path.abspath(path)  # which Python makes of it
    return next((step.lineno or 0 for step in reversed(steps) if step.filename == place), 0)
