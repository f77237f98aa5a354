"""Parquet files: a document a row, read a batch at a time."""

import argparse
from collections.abc import Iterator
from functools import partial

from skillit_stream.base.errors import first_line
from skillit_stream.convert.corpus import Document, RowCorpus, Tap
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import InputFile
from skillit_stream.convert.readers import hash_file
from skillit_stream.convert.rows import Place
from skillit_stream.convert.skill_options import add_row_arguments
from skillit_stream.convert.tables import BATCH_ROWS, RowProgress, TableCorpus, missing_column, python_rows

HELP = 'Parquet files: a document a row'
# Pages are read through a buffer of this size; without it a column of a row group is in memory at once.
BUFFER_BYTES = 1 << 20
add_arguments = partial(add_row_arguments, what='Parquet')


def corpus(args: argparse.Namespace) -> TableCorpus:
    """The rows of the Parquet files at and below the PATHs."""
    return Parquet(args, args.paths, ('.parquet',))


class Parquet(TableCorpus):
    """Parquet files."""

    name = 'parquet'

    def read(self, file: InputFile, tap: Tap) -> Iterator[Document | BadRecordError]:
        """The documents of one file."""
        return read_parquet(self, file, tap)


def read_parquet(corpus: RowCorpus, file: InputFile, tap: Tap) -> Iterator[Document | BadRecordError]:
    """The documents of the rows of one Parquet file; of a :class:`TableCorpus` only the columns it needs are read."""
    try:
        # Parquet is read from its end and by columns, so the bytes are hashed in a pass of their own.
        tap.finish(*hash_file(file.path))
        table = corpus if isinstance(corpus, TableCorpus) else None
        yield from corpus.documents_of(_rows(file.path, tap, table), file)
    except BadRecordError as fault:  # the rest of the file cannot be read
        yield fault


def _rows(path: str, tap: Tap, corpus: TableCorpus | None) -> Iterator[Place | BadRecordError]:
    """Rows, or faults in their place; a row is ``file: row N`` from 1.

    Raises:
        BadRecordError: The file, or the rest of it, cannot be read.
    """
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    number = 0
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False) as table:
            names = table.schema_arrow.names
            lacking = corpus.lacking_among(names) if corpus else None
            progress = RowProgress(tap, size=tap.bytes, rows=table.metadata.num_rows)
            # Without any column there would be no rows.
            columns = (corpus.columns_among(names) or names[:1]) if corpus else names
            for batch in table.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
                for row in python_rows(batch, lambda at, first=number + 1: f'{path}: row {first + at}'):
                    number += 1
                    if lacking:
                        yield missing_column(*lacking, names, f'{path}: row {number}')
                    else:
                        yield row
                progress.rows(batch.num_rows)
    except (ArrowException, OSError) as error:
        where = f'{path}: row {number + 1}' if number else path
        what = f'not a valid Parquet file ({first_line(error)})'
        raise BadRecordError(
            'broken_archive', where=where, what=what, remedy='fetch the file again'
        ) from error
