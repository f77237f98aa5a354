"""Parquet files: a document a row, read a batch at a time."""

import argparse
from collections.abc import Iterator

from skillit_stream.base.errors import first_line
from skillit_stream.convert.corpus import Document, Tap
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.options import add_corpus_arguments
from skillit_stream.convert.readers import InputFile, find_inputs, hash_file
from skillit_stream.convert.rows import Row
from skillit_stream.convert.skill_options import add_skill_arguments, add_text_field_argument
from skillit_stream.convert.tables import (
    BATCH_ROWS,
    Progress,
    TableCorpus,
    broken_encoding,
    missing_column,
    python_rows,
)

HELP = 'Parquet files: a document a row'
# Pages are read through a buffer of this size; without it a column of a row group is in memory at once.
BUFFER_BYTES = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit convert parquet`."""
    parser.add_argument('paths', nargs='+', metavar='PATH', help='folder or file of Parquet')
    add_skill_arguments(parser)
    add_text_field_argument(parser)
    add_corpus_arguments(parser)


def corpus(args: argparse.Namespace) -> TableCorpus:
    """The rows of the Parquet files at and below the PATHs."""
    return Parquet(args)


class Parquet(TableCorpus):
    """Parquet files."""

    name = 'parquet'

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args)
        self.paths = args.paths

    def inputs(self) -> list[InputFile]:
        """The Parquet files at and below the paths."""
        return find_inputs(self.paths, ('.parquet',))

    def read(self, file: InputFile, tap: Tap) -> Iterator[Document | BadRecordError]:
        """The documents of one file."""
        try:
            # Parquet is read from its end and by columns, so the bytes are hashed in a pass of their own.
            tap.finish(*hash_file(file.path))
            for where, row in self._rows(file.path, tap):
                yield row if isinstance(row, BadRecordError) else self.document_of(row, file, where)
        except BadRecordError as fault:  # the rest of the file is no use
            yield fault

    def _rows(self, path: str, tap: Tap) -> Iterator[tuple[str, Row | BadRecordError]]:
        """Rows, or faults in their place, with where they are: ``file: row N`` from 1.

        Raises:
            BadRecordError: The file, or the rest of it, cannot be read.
        """
        import pyarrow.parquet as pq
        from pyarrow import ArrowException

        number = 0
        try:
            with pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False) as table:
                names = table.schema_arrow.names
                lacking = self.lacking_among(names)
                progress = Progress(tap, size=tap.bytes, rows=table.metadata.num_rows)
                columns = self.columns_among(names) or names[:1]  # without any, there would be no rows
                for batch in table.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
                    for row in python_rows(batch):
                        number += 1
                        where = f'{path}: row {number}'
                        if lacking:
                            yield where, missing_column(*lacking, names, where)
                        elif isinstance(row, UnicodeDecodeError):
                            yield where, broken_encoding(row, where)
                        else:
                            yield where, row
                    progress.rows(batch.num_rows)
        except (ArrowException, OSError) as error:
            where = f'{path}: row {number + 1}' if number else path
            what = f'not a valid Parquet file ({first_line(error)})'
            raise BadRecordError(
                'broken_archive', where=where, what=what, remedy='fetch the file again'
            ) from error
