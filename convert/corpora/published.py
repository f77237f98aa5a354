"""Published corpora of JSON rows with a text, in a table: they differ in where a row's skill is found.

Most come with splits of their own, which the names of their files and folders tell; ``--own-splits`` takes them.

- SlimPajama-627B is RedPajama-1T deduplicated; a field says which subset a row is from.
- Of the Pile a field says which of its 22 sources a row is from; the skill is the source's name in lower case with
  ``_`` between its words: ``Wikipedia (en)`` is ``wikipedia_en``.
- Pile of Law (`law.py`) goes by the names of files, RedPajama-1T (`redpajama.py`) by rows and names.
"""

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from skillit_stream.convert.corpora import law, redpajama
from skillit_stream.convert.corpus import Document, RowCorpus
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import InputFile
from skillit_stream.convert.options import add_corpus_arguments, add_paths_argument
from skillit_stream.convert.rows import MISSING, Row, look_up
from skillit_stream.convert.skill_options import SkillOf

TRAIN_NAMES = {'train', 'training'}
EVAL_NAMES = {'validation', 'valid', 'val', 'dev', 'test', 'holdout', 'heldout', 'eval'}
SLIMPAJAMA_SKILLS = {
    'RedPajamaArXiv': 'arxiv',
    'RedPajamaBook': 'book',
    'RedPajamaC4': 'c4',
    'RedPajamaCommonCrawl': 'common_crawl',
    'RedPajamaGithub': 'github',
    'RedPajamaStackExchange': 'stackexchange',
    'RedPajamaWikipedia': 'wikipedia',
}
PILE_SOURCES = (
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
PILE_SKILLS = {source: re.sub('[^a-z0-9]+', '_', source.lower()).strip('_') for source in PILE_SOURCES}


@dataclass(frozen=True)
class Published:
    """A line of the table; has what a module of a corpus has."""

    name: str
    HELP: str
    title: str
    """What the rows are called in the help."""
    skill_of: SkillOf
    has_splits: bool = True
    """Whether its files belong to splits."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The options of its command."""
        add_paths_argument(parser, f'{self.title} rows')
        if self.has_splits:
            parser.add_argument(
                '--own-splits',
                action='store_true',
                help="train and eval by the names of the corpus's own files and folders: train; validation, test "
                '(default: by the hash of each document)',
            )
        add_corpus_arguments(parser)

    def corpus(self, args: argparse.Namespace) -> RowCorpus:
        """The rows at and below the PATHs."""
        return PublishedRows(self, args.paths, own_splits=getattr(args, 'own_splits', False))


class PublishedRows(RowCorpus):
    """The rows of a corpus of the table.

    Args:
        published: Its line.
        paths: Files and folders, as on the command line.
        own_splits: Take the splits from the files' names.
    """

    rows_are_apart = True

    def __init__(self, published: Published, paths: list[str], *, own_splits: bool) -> None:
        super().__init__(paths)
        self.name = published.name
        self._published = published
        self.own_splits = own_splits

    def skill_of(self, row: Row, file: InputFile, where: str) -> str:
        """The skill of a row, as the table has it."""
        return self._published.skill_of(row, file, where)

    def document(self, row: Row, file: InputFile, where: str) -> Document:
        """The document of a row; raises BadRecordError for one that cannot be used."""
        document = super().document(row, file, where)
        if not self.own_splits:
            return document
        split = split_in_path(file)
        if split is None:
            what = 'neither the file nor a folder of it is named after a split'
            raise BadRecordError(
                'no_split', where=where, what=what, remedy='leave out --own-splits', skill=document.skill
            )
        return replace(document, split=split)

    def options(self) -> Mapping[str, Any]:
        """Whose splits they are."""
        return {'own_splits': True} if self.own_splits else {}


@lru_cache(maxsize=1)  # the rows of a file come one after another
def split_in_path(file: InputFile) -> str | None:
    """'train' or 'eval': by a part of the file's name, else by the nearest folder that is named so; else None."""
    parts = re.split('[^a-z]+', file.name.rsplit('/', 1)[-1].lower())
    for name in (*parts, *(folder.lower() for folder in reversed(file.folders))):
        if name in TRAIN_NAMES:
            return 'train'
        if name in EVAL_NAMES:
            return 'eval'
    return None


def skill_named(field: str, skills: Mapping[str, str], row: Row, file: InputFile, where: str) -> str:  # noqa: ARG001
    """The skill of a row whose field holds one of the names that are the keys of `skills`.

    Raises:
        BadRecordError: There is no such field, or another name in it.
    """
    source = look_up(row, field)
    if not isinstance(source, str) or source not in skills:
        got = 'is absent' if source is MISSING else f'is {str(source)[:40]!r}'
        raise BadRecordError(
            'unknown_source',
            where=where,
            what=f'{field!r} must be one of the {len(skills)} source names, but it {got}',
            remedy='check that this is the right corpus',
        )
    return skills[source]


REDPAJAMA = Published(
    'redpajama',
    'RedPajama-1T: skills are its seven subsets',
    'RedPajama-1T',
    redpajama.skill_of,
    has_splits=False,
)
SLIMPAJAMA = Published(
    'slimpajama',
    'SlimPajama: skills are the seven subsets of RedPajama',
    'SlimPajama',
    partial(skill_named, 'meta.redpajama_set_name', SLIMPAJAMA_SKILLS),
)
PILE = Published(
    'pile',
    'the Pile: skills are its 22 sources',
    'Pile',
    partial(skill_named, 'meta.pile_set_name', PILE_SKILLS),
)
LAW = Published('law', 'Pile of Law: skills are its slices', 'Pile of Law', law.skill_of)
