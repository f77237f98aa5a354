"""Any data set that `datasets` loads: from the hub, from files, or as ``save_to_disk`` wrote it.

A stored set is cut into ranges of rows; a streamed one has shards of its own. Each is read by itself.
"""

import argparse
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from skillit_stream.base.errors import InputError, as_input_error, first_line
from skillit_stream.convert.corpus import Document, Tap
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import InputFile, VirtualFile
from skillit_stream.convert.options import add_corpus_arguments
from skillit_stream.convert.rows import Place, Row
from skillit_stream.convert.skill_options import add_skill_arguments, add_text_field_argument
from skillit_stream.convert.tables import BATCH_ROWS, RowProgress, TableCorpus, python_rows

HELP = 'a Hugging Face data set, from the hub or from disk'
SHARD_ROWS = 100_000
UNKNOWN_SHARD_SIZE = 1 << 28
# Files that save_to_disk writes.
SAVED = ('state.json', 'dataset_dict.json')


@dataclass(frozen=True, slots=True)
class DataShard(VirtualFile):
    """A part of a data set; its size is that of the rows in memory, or a guess."""

    first: int
    """The first row; of a streamed set the shard's number."""
    end: int
    """One more than the last row; of a streamed set the number of shards."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit convert hf`."""
    parser.add_argument('dataset', metavar='NAME_OR_FOLDER', help='data set on the hub, or a folder of one')
    parser.add_argument('--split', metavar='SPLIT', help='its split, such as train[:10%%] (default: train)')
    parser.add_argument('--config', metavar='NAME', help='its configuration')
    parser.add_argument('--revision', metavar='REV', help='commit, tag or branch on the hub')
    parser.add_argument(
        '--data-files', nargs='+', metavar='FILE', help='files of NAME, such as json, parquet or csv'
    )
    parser.add_argument('--streaming', action='store_true', help='read without downloading it first')
    add_skill_arguments(parser, files=False)
    add_text_field_argument(parser)
    add_corpus_arguments(parser, files=False)


def corpus(args: argparse.Namespace) -> TableCorpus:
    """The rows of the data set."""
    return HuggingFace(args, [])


class HuggingFace(TableCorpus):
    """A Hugging Face data set."""

    name = 'hf'

    def __init__(self, args: argparse.Namespace, paths: list[str]) -> None:
        super().__init__(args, paths)
        self._args = args
        given = ('split', 'config', 'revision', 'data_files')
        found = {name: getattr(args, name) for name in given if getattr(args, name) is not None}
        self._options = {'dataset': args.dataset, **found, **self._options}

    def inputs(self) -> list[InputFile]:
        """The shards of a streamed data set, or ranges of the rows of a stored one.

        Raises:
            InputError: The data set cannot be loaded, is empty, or has no such column.
        """
        names = self._dataset.column_names
        lacking = self.lacking_among(names) if names else None
        if lacking:
            field, option = lacking
            columns = ', '.join(names[:12])
            raise InputError(f'{option} {field}: {self._args.dataset} has only the columns {columns}')
        if self._args.streaming:
            count = self._dataset.num_shards
            size = self._streamed_size() // count
            version = self._version or self._unknown_version()
            return [self._shard(f'{index}/{count}', index, count, size, version) for index in range(count)]
        total = len(self._dataset)
        if not total:
            raise InputError(f'{self._args.dataset}: has no rows; name another --split')
        size = self._dataset.data.nbytes
        ranges = [(first, min(first + SHARD_ROWS, total)) for first in range(0, total, SHARD_ROWS)]
        return [
            self._shard(f'{first}:{end}', first, end, size * (end - first) // total, self._version)
            for first, end in ranges
        ]

    def read(self, file: InputFile, tap: Tap) -> Iterator[Document | BadRecordError]:
        """The documents of one shard."""
        if not isinstance(file, DataShard):
            raise RuntimeError('Internal error: not an input of this corpus')
        if self._version and self._version != file.stamp:
            raise InputError(f'{file.path}: the data has changed since the command began; run it again')
        rows = self._streamed_rows(file) if self._args.streaming else self._stored_rows(file, tap)
        digest = hashlib.blake2b(digest_size=32)
        size = 0
        try:
            for item in self.documents_of(rows, file):
                if self._args.streaming and isinstance(item, Document):
                    text = item.text.encode()
                    digest.update(len(text).to_bytes(8, 'little') + text)
                    size += len(text)
                    tap.on_bytes(len(text))
                yield item
        except BadRecordError as fault:
            yield fault
        if self._args.streaming:  # nothing else says what was read
            tap.finish(f'blake2b-texts:{digest.hexdigest()}', size)
        else:
            tap.finish(f'fingerprint:{file.stamp}[{file.first}:{file.end}]', file.size)

    @property
    def _dataset(self) -> Any:
        return self._loaded[0]

    @property
    def _version(self) -> str:
        """Changes with the data; empty where that is not known."""
        return self._loaded[1]

    @cached_property
    def _loaded(self) -> tuple[Any, str]:
        """The data set, and what its version is."""
        import datasets
        from datasets.exceptions import DatasetsError

        args = self._args
        datasets.disable_progress_bars()
        what = f'{args.dataset}: cannot be loaded; check the name, --config and --split'
        with as_input_error(what, OSError, KeyError, DatasetsError):
            if os.path.isdir(args.dataset) and any(
                os.path.exists(os.path.join(args.dataset, name)) for name in SAVED
            ):
                found = _load_saved(args)
                return found, found._fingerprint
            where = {'revision': args.revision, 'data_files': args.data_files}
            split = args.split or 'train'
            if not args.streaming:
                found = datasets.load_dataset(args.dataset, args.config, split=split, **where)
                return found, found._fingerprint
            builder = datasets.load_dataset_builder(args.dataset, args.config, **where)
            return builder.as_streaming_dataset(split=split), _version_of(builder)

    def _unknown_version(self) -> str:
        """One that no other command has: it goes on with the work of none."""
        if self._args.task is not None:
            raise InputError(
                f'--task: {self._args.dataset} does not say which version of the data it reads, and the tasks may read '
                'different ones; leave out --task'
            )
        return f'unknown, {uuid.uuid4().hex}'

    @cached_property
    def _labels(self) -> list[str] | None:
        """Names of the classes, where the skill field is a class label."""
        return getattr((self._dataset.features or {}).get(self.skill_field), 'names', None)

    def _shard(self, part: str, first: int, end: int, size: int, fingerprint: str) -> DataShard:
        base = os.path.basename(os.path.abspath(self._args.dataset))
        name = base if os.path.isdir(self._args.dataset) else self._args.dataset
        path = f'hf:{self._args.dataset}[{part}]'
        return DataShard(path, f'{name}[{part}]', (base,), size, fingerprint, first, end)

    def _streamed_size(self) -> int:
        """Bytes of a streamed split, as its card says; else so many that each shard is a part of the work."""
        split = (self._dataset.info.splits or {}).get(self._args.split or 'train')
        return getattr(split, 'num_bytes', None) or UNKNOWN_SHARD_SIZE * self._dataset.num_shards

    def _stored_rows(self, shard: DataShard, tap: Tap) -> Iterator[Place | BadRecordError]:
        progress = RowProgress(tap, size=shard.size, rows=shard.end - shard.first)
        table = self._dataset.select_columns(self.columns_among(self._dataset.column_names))
        rows = table.select(range(shard.first, shard.end)).with_format('arrow')
        number = shard.first
        for batch in rows.iter(batch_size=BATCH_ROWS):
            for item in python_rows(batch, lambda at, first=number: f'hf:{self._args.dataset}[{first + at}]'):
                yield item if isinstance(item, BadRecordError) else (item[0], self._with_label(item[1]))
            number += batch.num_rows
            progress.rows(batch.num_rows)

    def _streamed_rows(self, shard: DataShard) -> Iterator[Place | BadRecordError]:
        from datasets.exceptions import DatasetsError

        number = 0
        try:
            for row in self._dataset.shard(num_shards=shard.end, index=shard.first):
                number += 1
                yield f'{shard.path}: row {number}', self._with_label(dict(row))
        except (OSError, ValueError, DatasetsError) as error:
            what = f'cannot be read on ({first_line(error)})'
            raise BadRecordError(
                'unreadable_file', where=f'{shard.path}: row {number + 1}', what=what, remedy='try again'
            ) from error

    def _with_label(self, row: Row) -> Row:
        field = self.skill_field or ''
        value = row.get(field)
        if self._labels and isinstance(value, int) and 0 <= value < len(self._labels):
            row[field] = self._labels[value]
        return row


def _version_of(builder: Any) -> str:
    """What identifies the files that a builder reads: size and time of local ones, else their commit or ETag.

    Returns:
        A hash; empty where a file has none of these, or there are no files.
    """
    stamps = []
    for split, files in (builder.config.data_files or {}).items():
        for file, origin in zip(files, files.origin_metadata, strict=True):
            found = os.stat(file) if os.path.exists(file) else None
            stamps.append((split, file, [found.st_size, found.st_mtime_ns] if found else list(origin)))
    if not stamps or not all(stamp for _, _, stamp in stamps):
        return ''
    return hashlib.blake2b(json.dumps(stamps).encode(), digest_size=16).hexdigest()


def _load_saved(args: argparse.Namespace) -> Any:
    """The data set that ``save_to_disk`` wrote into a folder.

    Raises:
        InputError: It has not the split asked for, or an option was given that means nothing here.
    """
    from datasets import DatasetDict, load_from_disk

    for option in ('config', 'revision', 'data_files', 'streaming'):
        if getattr(args, option):
            flag = '--' + option.replace('_', '-')
            raise InputError(f'{flag}: has no meaning for {args.dataset}, a saved data set; leave it out')
    found = load_from_disk(args.dataset)
    if not isinstance(found, DatasetDict):
        if args.split:
            raise InputError(f'--split {args.split}: {args.dataset} is one split by itself; leave it out')
        return found
    split = args.split or 'train'
    if split not in found:
        raise InputError(
            f'--split {split}: {args.dataset} has only {", ".join(map(str, found))}; name one of them'
        )
    return found[split]
