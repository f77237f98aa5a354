"""Where a row's or a file's skill is found, for corpora that do not say themselves: options and their meaning."""

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.convert.corpus import RowCorpus
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import SUFFIXES, InputFile
from skillit_stream.convert.names import check_skill_name
from skillit_stream.convert.options import add_corpus_arguments, add_paths_argument
from skillit_stream.convert.rows import MISSING, Row, keys_on_the_way, look_up

SkillOf = Callable[[Row, InputFile, str], str]
"""(row, the file it is in, 'file:line' for messages) -> skill; raises BadRecordError when it cannot tell."""

OPTIONS = ('skill', 'skill_field', 'skill_from', 'skill_pattern')


def add_skill_arguments(parser: argparse.ArgumentParser, *, fields: bool = True, files: bool = True) -> None:
    """Add the options, one of which must be given.

    Args:
        parser: Of the corpus.
        fields: The corpus has rows with fields.
        files: The corpus has files in folders.
    """
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument('--skill', metavar='NAME', help='everything belongs to this skill')
    if fields:
        group.add_argument('--skill-field', metavar='PATH.TO.KEY', help='the skill is this field of the row')
    if files:
        group.add_argument(
            '--skill-from',
            choices=['folder', 'file'],
            help="the skill is the file's folder, or its name up to the first dot",
        )
        group.add_argument(
            '--skill-pattern',
            metavar='REGEX',
            help="the skill is what the first group matches in the file's path below PATH",
        )


def add_text_field_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the field with the text."""
    parser.add_argument(
        '--text-field', default='text', metavar='PATH.TO.KEY', help='field with the text (default: text)'
    )


def add_row_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the options of rows in files that do not say themselves what their skill is."""
    add_paths_argument(parser, what)
    add_skill_arguments(parser)
    add_text_field_argument(parser)
    add_corpus_arguments(parser)


class ChosenRows(RowCorpus):
    """Rows with text and skill where the options say.

    Args:
        args: Of the command line.
        paths: Files and folders.
        suffixes: What the names of its files end in.
    """

    def __init__(
        self, args: argparse.Namespace, paths: list[str], suffixes: tuple[str, ...] = SUFFIXES
    ) -> None:
        super().__init__(paths, args.text_field, suffixes)
        self.skill_field: str | None = getattr(args, 'skill_field', None)
        self._skill_of = choose_skill_of(args)
        self._options = {'text_field': args.text_field, **chosen_options(args)}

    def skill_of(self, row: Row, file: InputFile, where: str) -> str:
        """The skill that the options find for a row."""
        return self._skill_of(row, file, where)

    def options(self) -> Mapping[str, Any]:
        """How skill and text are found."""
        return self._options


def chosen_options(args: argparse.Namespace) -> dict[str, Any]:
    """Those options that were given, for the manifest."""
    return {name: getattr(args, name) for name in OPTIONS if getattr(args, name, None) is not None}


def choose_skill_of(args: argparse.Namespace) -> SkillOf:
    """The function from row to skill that the options ask for.

    Raises:
        InputError: A name cannot be a skill, or a pattern is none.
    """
    [(option, value)] = chosen_options(args).items()
    if option == 'skill':
        name = check_skill_name(value)
        return lambda _row, _file, _where: name
    if option == 'skill_field':
        return lambda row, _file, where: skill_in_field(row, value, where)
    if option == 'skill_from':
        return lambda _row, file, _where: folder_of(file) if value == 'folder' else name_of(file)
    pattern = compile_pattern(value)
    return lambda _row, file, where: skill_in_path(pattern, file, where)


def skill_in_field(row: Row, field: str, where: str) -> str:
    """The value of the row's skill field as a string.

    Raises:
        BadRecordError: The field is missing, empty, or neither a string nor a whole number.
    """
    value = look_up(row, field)
    if value is MISSING:
        what = f'a row without the skill field {field!r} ({keys_on_the_way(row, field)})'
        raise BadRecordError('missing_skill', where=where, what=what, remedy='name the right --skill-field')
    if isinstance(value, bool) or not isinstance(value, str | int) or value == '':
        what = f'the skill field {field!r} must be a name, but got: {str(value)[:40]!r}'
        raise BadRecordError('mistyped_skill', where=where, what=what, remedy='name the right --skill-field')
    return str(value)


def folder_of(file: InputFile) -> str:
    """The name of the folder a file is in."""
    return file.folders[-1]


def name_of(file: InputFile) -> str:
    """The file's name up to its first dot."""
    return Path(file.path).name.split('.')[0]


def compile_pattern(text: str) -> re.Pattern[str]:
    """The value of --skill-pattern as a pattern.

    Raises:
        InputError: It is not a regular expression, or has no group.
    """
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise InputError(f'--skill-pattern {text!r}: not a regular expression ({error}); mend it') from error
    if not pattern.groups:
        raise InputError(f'--skill-pattern {text!r}: has no group; put the part that names the skill in ( )')
    return pattern


def skill_in_path(pattern: re.Pattern[str], file: InputFile, where: str) -> str:
    """What the first group of `pattern` matches in the file's path below its PATH.

    Raises:
        BadRecordError: Nothing.
    """
    found = pattern.search(file.name)
    skill = found[1] if found else None
    if not skill:
        what = f'--skill-pattern {pattern.pattern!r} finds no skill in the path {file.name!r}'
        raise BadRecordError('no_skill', where=where, what=what, remedy='widen the pattern')
    return skill


def read_list(value: str, option: str, *, file: bool = False) -> list[str]:
    """The names in the value of an option: a text file with one a line, or names with commas between them.

    Args:
        value: A path that ends in ``.txt``, or names.
        option: The option, for messages.
        file: It is a path, whatever it ends in.

    Raises:
        InputError: The file cannot be read, or there are no names.
    """
    if file or value.endswith('.txt'):
        try:
            with open(value, encoding='utf-8') as text:
                names = text.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else 'not UTF-8'
            raise InputError(f'{option}: {value} cannot be read ({reason}); check the path') from error
    else:
        names = value.split(',')
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise InputError(f'{option} {value}: names nothing; give one name a line')
    return names
