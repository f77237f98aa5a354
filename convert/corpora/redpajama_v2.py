"""RedPajama-Data-V2: web pages in five languages, with the quality buckets of CCNet.

A row has its text in ``raw_content`` and says itself which language and bucket it is of, or (the sample on the
hub) says so in ``meta``. Where it does not, the file's name does: ``documents/2023-06/0000/en_head.json.gz``.
"""

import argparse
import re
from collections.abc import Mapping
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.convert.corpus import RowCorpus
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import InputFile, has_suffix
from skillit_stream.convert.options import add_corpus_arguments, add_paths_argument
from skillit_stream.convert.rows import Row, look_up
from skillit_stream.convert.skill_options import read_list

HELP = 'RedPajama-V2: skills are languages, quality buckets or domains'
LANGUAGES = ('de', 'en', 'es', 'fr', 'it')
BUCKETS = ('head', 'middle', 'tail')
OTHER = 'other'
FILE_NAME = re.compile(r'(?:^|[^a-z])(de|en|es|fr|it)_(head|middle|tail)\.')
# What lies beside the documents, in the same kind of archive but without a text.
ANNOTATIONS = '.signals.json.gz'
KEYS = {'language': 'language', 'bucket': 'bucket', 'domain': 'source_domain'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit convert redpajama-v2`."""
    add_paths_argument(parser, 'RedPajama-V2 documents')
    parser.add_argument(
        '--skill-from',
        choices=['language', 'bucket', 'language-bucket', 'domain'],
        default='language',
        help='what a skill is (default: language)',
    )
    parser.add_argument(
        '--domains',
        metavar='LIST',
        help='with --skill-from domain: the domains to tell apart, with commas between them or in a '
        f'file, one a line; rows of all others are the skill {OTHER}',
    )
    add_corpus_arguments(parser)


def corpus(args: argparse.Namespace) -> RowCorpus:
    """The documents at and below the PATHs.

    Raises:
        InputError: --domains is missing, or given without need.
    """
    if (args.skill_from == 'domain') != (args.domains is not None):
        raise InputError(
            f'--domains must be given with --skill-from domain and only there, but got: {args.domains}; '
            'a corpus has millions of domains'
        )
    return RedPajamaV2(
        args.paths, args.skill_from, read_list(args.domains, '--domains') if args.domains else []
    )


class RedPajamaV2(RowCorpus):
    """RedPajama-V2.

    Args:
        paths: Files and folders, as on the command line.
        skill_from: What a skill is, as on the command line.
        domains: Those that are skills, where domains are.
    """

    name = 'redpajama-v2'
    rows_are_apart = True

    def __init__(self, paths: list[str], skill_from: str, domains: list[str]) -> None:
        super().__init__(paths, 'raw_content')
        self.parts = skill_from.split('-')
        self.domains = frozenset(domains)

    def inputs(self) -> list[InputFile]:
        """The files of documents; quality signals beside them are passed over."""
        return [file for file in super().inputs() if not has_suffix(file.name, (ANNOTATIONS,))]

    def skill_of(self, row: Row, file: InputFile, where: str) -> str:
        """Language, bucket or domain of a row."""
        skill = '-'.join(_property(part, row, file, where) for part in self.parts)
        return skill if not self.domains or skill in self.domains else OTHER

    def options(self) -> Mapping[str, Any]:
        """What a skill is."""
        return {'skill_from': '-'.join(self.parts), 'domains': sorted(self.domains)}


def _property(what: str, row: Row, file: InputFile, where: str) -> str:
    key = KEYS[what]
    for path in (key, f'meta.{key}'):
        value = look_up(row, path)
        if isinstance(value, str) and _is_valid(what, value):
            return value
    if found := FILE_NAME.search(file.name):
        named = {'language': found[1], 'bucket': found[2]}
        if what in named:
            return named[what]
    raise BadRecordError(
        'unknown_source',
        where=where,
        what=f'a row of no known {what} ({key}: {row.get(key)!r})',
        remedy=f'keep the published file names, such as {LANGUAGES[1]}_{BUCKETS[0]}.json.gz',
    )


def _is_valid(what: str, value: str) -> bool:
    allowed = {'language': LANGUAGES, 'bucket': BUCKETS}.get(what)
    return value in allowed if allowed else bool(value)
