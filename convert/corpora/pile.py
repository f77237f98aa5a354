"""The Pile: ``meta.pile_set_name`` says which of its 22 sources a row is from.

A skill is the source's name in lower case with ``_`` between its words: ``Wikipedia (en)`` is ``wikipedia_en``.
"""

import argparse
import re

from skillit_stream.convert.options import add_corpus_arguments
from skillit_stream.convert.own_splits import SplitCorpus, add_own_splits_argument
from skillit_stream.convert.readers import InputFile
from skillit_stream.convert.rows import Row
from skillit_stream.convert.skill_options import named_skill

HELP = 'the Pile: skills are its 22 sources'
FIELD = 'meta.pile_set_name'
SOURCES = (
    'ArXiv',
    'BookCorpus2',
    'Books3',
    'DM Mathematics',
    'Enron Emails',
    'EuroParl',
    'FreeLaw',
    'Github',
    'Gutenberg (PG-19)',
    'HackerNews',
    'NIH ExPorter',
    'OpenSubtitles',
    'OpenWebText2',
    'PhilPapers',
    'Pile-CC',
    'PubMed Abstracts',
    'PubMed Central',
    'StackExchange',
    'USPTO Backgrounds',
    'Ubuntu IRC',
    'Wikipedia (en)',
    'YoutubeSubtitles',
)
SKILLS = {source: re.sub('[^a-z0-9]+', '_', source.lower()).strip('_') for source in SOURCES}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit convert pile`."""
    parser.add_argument('paths', nargs='+', metavar='PATH', help='folder or file of Pile rows')
    add_own_splits_argument(parser)
    add_corpus_arguments(parser)


def corpus(args: argparse.Namespace) -> SplitCorpus:
    """The rows at and below the PATHs."""
    return Pile(args.paths, own_splits=args.own_splits)


class Pile(SplitCorpus):
    """The Pile."""

    name = 'pile'

    def skill_of(self, row: Row, file: InputFile, where: str) -> str:  # noqa: ARG002
        """The source a row is from."""
        return named_skill(row, FIELD, SKILLS, where)
