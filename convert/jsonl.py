"""JSON-lines of any origin: the skill is fixed, a field of the row, or the folder a file is in."""

import argparse
import re

from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.options import add_corpus_arguments
from skillit_stream.convert.pipeline import convert_rows
from skillit_stream.convert.readers import InputFile
from skillit_stream.convert.rows import MISSING, Row, SkillOf, look_up
from skillit_stream.convert.staging import check_skill_name
from skillit_stream.errors import InputError
from skillit_stream.streams.manifest import Manifest

HELP = 'JSON-lines files: one object with a text a line'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit convert jsonl`."""
    parser.add_argument('paths', nargs='+', metavar='PATH', help='folder or file of JSON-lines')
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument('--skill', metavar='NAME', help='every row belongs to this skill')
    group.add_argument('--skill-field', metavar='PATH.TO.KEY', help='the skill is this field of the row')
    group.add_argument('--skill-from', choices=['folder'], help="the skill is the file's folder")
    parser.add_argument(
        '--text-field', default='text', metavar='PATH.TO.KEY', help='field with the text (default: text)'
    )
    add_corpus_arguments(parser)


def run(args: argparse.Namespace) -> Manifest:
    """Convert the rows at and below the PATHs."""
    how = {'skill': args.skill, 'skill_field': args.skill_field, 'skill_from': args.skill_from}
    corpus = {'name': 'jsonl', 'text_field': args.text_field, **{k: v for k, v in how.items() if v}}
    return convert_rows(args, skill_of=choose_skill_of(args), corpus=corpus, text_field=args.text_field)


def choose_skill_of(args: argparse.Namespace) -> SkillOf:
    """The function from row to skill that the options ask for."""
    if args.skill is not None:
        name = check_skill_name(args.skill)
        return lambda _row, _file, _where: name
    names = SkillNames()
    if args.skill_field is not None:
        field = args.skill_field
        return lambda row, _file, where: names.safe(skill_in_field(row, field, where))
    return lambda _row, file, _where: names.safe(folder_of(file))


def skill_in_field(row: Row, field: str, where: str) -> str:
    """The value of the row's skill field as a string.

    Raises:
        BadRecordError: The field is missing, empty, or neither a string nor a whole number.
    """
    value = look_up(row, field)
    if value is MISSING:
        keys = ', '.join(list(row)[:8]) or 'none'
        what = f'a row without the skill field {field!r} (its keys: {keys})'
        raise BadRecordError('missing_skill', where=where, what=what, remedy='name the right --skill-field')
    if isinstance(value, bool) or not isinstance(value, str | int) or value == '':
        what = f'the skill field {field!r} must be a name, but got: {str(value)[:40]!r}'
        raise BadRecordError('mistyped_skill', where=where, what=what, remedy='name the right --skill-field')
    return str(value)


def folder_of(file: InputFile) -> str:
    """The name of the folder a file is in."""
    return file.folders[-1]


class SkillNames:
    """Makes names safe for folders and object stores, and sees to it that no two become one."""

    def __init__(self) -> None:
        self._safe: dict[str, str] = {}
        self._raw: dict[str, str] = {}

    def safe(self, raw: str) -> str:
        """`raw` with every run of characters other than letters, digits, ``_ . -`` replaced by ``_``.

        Raises:
            InputError: Another name became the same, or the name is reserved.
        """
        if raw not in self._safe:
            name = check_skill_name(re.sub(r'[^\w.-]+', '_', raw).lstrip('.') or '_')
            other = self._raw.setdefault(name, raw)
            if other != raw:
                raise InputError(
                    f'skills {other!r} and {raw!r} would both be stored as {name!r}; '
                    'rename one, or choose another --skill-field'
                )
            self._safe[raw] = name
        return self._safe[raw]
