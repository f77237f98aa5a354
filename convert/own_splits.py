"""Corpora that come with splits of their own, told by the names of their files and folders."""

import argparse
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from skillit_stream.convert.corpus import Document, RowCorpus
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.readers import InputFile
from skillit_stream.convert.rows import Row

TRAIN = {'train', 'training'}
EVAL = {'validation', 'valid', 'val', 'dev', 'test', 'holdout', 'heldout', 'eval'}


def add_own_splits_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option that takes the corpus's splits."""
    parser.add_argument(
        '--own-splits',
        action='store_true',
        help="train and eval by the names of the corpus's own files and folders: train; validation, test "
        '(default: by the hash of each document)',
    )


class SplitCorpus(RowCorpus):
    """Rows of files that say which split they belong to, where the user wants that split.

    Args:
        paths: Files and folders, as on the command line.
        own_splits: Take the splits from the files' names.
    """

    def __init__(self, paths: list[str], *, own_splits: bool) -> None:
        super().__init__(paths)
        self.own_splits = own_splits

    def document(self, row: Row, file: InputFile, where: str) -> Document:
        """The document of a row; raises BadRecordError for one that is no use."""
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
        if name in TRAIN:
            return 'train'
        if name in EVAL:
            return 'eval'
    return None
