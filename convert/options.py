"""Options that all corpora of documents, or all corpora, have in common."""

import argparse
from dataclasses import dataclass

from skillit_stream.convert.faults import Faults
from skillit_stream.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """How documents become samples, whatever the corpus."""

    out: str
    """The streams folder to make."""
    tokenizer: str
    """A folder with a tokenizer, or a name on the hub."""
    seq_len: int
    """Tokens in a sample."""
    eval_fraction: float = 0.05
    """Share of the documents that goes to eval, by hash."""
    shard_size: int | str = '64mb'
    """Largest shard, in bytes or as text such as ``64mb``."""
    overwrite: bool = False
    """Replace a finished streams folder at `out`."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: One is out of range.
        """
        if self.seq_len < 2:
            raise InputError(
                f'--seq-len must be at least 2 (a token and its target), but got: {self.seq_len}'
            )
        if not 0 < self.eval_fraction < 1:
            raise InputError(f'--eval-fraction must lie between 0 and 1, but got: {self.eval_fraction}')


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Options about the streams folder."""
    parser.add_argument('--out', required=True, metavar='DIR', help='streams folder to make')
    parser.add_argument('--overwrite', action='store_true', help='replace a finished streams folder at --out')
    parser.add_argument('--shard-size', default='64mb', help='largest shard (default: 64mb)')


def add_corpus_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a corpus of documents."""
    add_output_arguments(parser)
    parser.add_argument('--tokenizer', required=True, metavar='NAME_OR_FOLDER', help='Hugging Face tokenizer')
    parser.add_argument('--seq-len', required=True, type=int, metavar='N', help='tokens in a sample')
    parser.add_argument(
        '--eval-fraction', type=float, default=0.05, metavar='F', help='share of documents for eval (0.05)'
    )
    parser.add_argument(
        '--bad-records',
        choices=Faults.POLICIES,
        default='error',
        help='stop at the first bad record (default), or count and leave them out',
    )


def options_of(args: argparse.Namespace) -> ConvertOptions:
    """The checked options of a corpus of documents."""
    return ConvertOptions(
        out=args.out,
        tokenizer=args.tokenizer,
        seq_len=args.seq_len,
        eval_fraction=args.eval_fraction,
        shard_size=args.shard_size,
        overwrite=args.overwrite,
    )
