"""SlimPajama-627B: RedPajama-1T deduplicated; ``meta.redpajama_set_name`` says which subset a row is from."""

import argparse

from skillit_stream.convert.options import add_corpus_arguments
from skillit_stream.convert.own_splits import SplitCorpus, add_own_splits_argument
from skillit_stream.convert.readers import InputFile
from skillit_stream.convert.rows import Row
from skillit_stream.convert.skill_options import named_skill

HELP = 'SlimPajama: skills are the seven subsets of RedPajama'
FIELD = 'meta.redpajama_set_name'
# The skills have the names that those of `redpajama` have.
SKILLS = {
    'RedPajamaArXiv': 'arxiv',
    'RedPajamaBook': 'book',
    'RedPajamaC4': 'c4',
    'RedPajamaCommonCrawl': 'common_crawl',
    'RedPajamaGithub': 'github',
    'RedPajamaStackExchange': 'stackexchange',
    'RedPajamaWikipedia': 'wikipedia',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit convert slimpajama`."""
    parser.add_argument('paths', nargs='+', metavar='PATH', help='folder or file of SlimPajama rows')
    add_own_splits_argument(parser)
    add_corpus_arguments(parser)


def corpus(args: argparse.Namespace) -> SplitCorpus:
    """The rows at and below the PATHs."""
    return SlimPajama(args.paths, own_splits=args.own_splits)


class SlimPajama(SplitCorpus):
    """SlimPajama."""

    name = 'slimpajama'

    def skill_of(self, row: Row, file: InputFile, where: str) -> str:  # noqa: ARG002
        """The subset a row is from."""
        return named_skill(row, FIELD, SKILLS, where)
