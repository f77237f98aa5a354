"""Options that all corpora of documents, or all corpora, have in common."""

import argparse
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.base.tasks import add_task_arguments
from skillit_stream.convert.faults import Faults
from skillit_stream.convert.special_tokens import MODES, SPECIAL

ENCODERS = ('auto', 'gigatoken', 'tokenizers')
LOSSES = ('all', 'answer')
# A token and its target.
SMALLEST_SAMPLE = 2
# Options, and tables of them, as `add_options` takes them.
BAD_RECORDS = (
    '--bad-records',
    'stop at the first bad record (default), or count and leave them out',
    {'choices': Faults.POLICIES, 'default': 'error'},
)
READING = (
    BAD_RECORDS,
    (
        '--encoder',
        'who encodes: gigatoken where it can load the tokenizer (auto), or tokenizers',
        {'choices': ENCODERS, 'default': 'auto'},
    ),
    (
        '--special-tokens',
        "what the words of a special token in a document's text become: that token (special, default), or text",
        {'choices': MODES, 'default': SPECIAL},
    ),
    (
        '--part-size',
        'input bytes that are converted, and kept if the command is stopped, as one (a 128th of the corpus, but at '
        'least 8mb and at most 256mb)',
        {'metavar': 'SIZE'},
    ),
)
FILES = (
    (
        '--include',
        "read only files whose path below PATH, or a name on it, this shell pattern matches ('2024/*', '*.jsonl'); "
        'may be given again; one that names a hidden or underscored folder has it looked into',
        {'action': 'append', 'metavar': 'PATTERN'},
    ),
    (
        '--exclude',
        'pass over files that this pattern matches; may be given again',
        {'action': 'append', 'metavar': 'PATTERN'},
    ),
)
INSTRUCTIONS = (
    ('--one-per-sample', 'one example a sample, padded (default: packed)', {'action': 'store_true'}),
    (
        '--loss',
        'what the loss is on: all tokens (default), or the answer',
        {'choices': LOSSES, 'default': 'all'},
    ),
    (
        '--drop-without-target',
        'leave out samples without a token that counts in the loss (default: kept)',
        {'action': 'store_true'},
    ),
)


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What the samples depend on besides the corpus."""

    seq_len: int
    """Tokens in a sample."""
    eval_fraction: float | None = None
    """Share of the documents of a skill that goes to eval, by hash; None: a twentieth, and more of a small skill."""
    eval_documents: int | None = None
    """Documents of a skill that go to eval, in place of a share."""
    eval_tokens: int | None = None
    """Tokens of a skill that go to eval, in place of a share; the document that completes them included."""
    one_per_sample: bool = False
    """One document a sample, padded, in place of documents packed end to end."""
    loss: str = 'all'
    """'all', or 'answer': only the answers of instruction data count in the loss."""
    train_on: str = 'answer'
    """With `loss` 'answer', what counts in the loss of train: 'answer', or 'sentence': all of the document."""
    drop_without_target: bool = False
    """Leave out samples whose mask counts no token: they teach nothing."""
    shard_size: int | str = '64mb'
    """Largest shard, in bytes or as text such as ``64mb``."""
    bad_records: str = 'error'
    """'error' or 'skip'."""
    special_tokens: str = SPECIAL
    """'special': the words of a special token in a document's text become that token; 'text': they are text."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: One is out of range.
        """
        if self.seq_len < SMALLEST_SAMPLE:
            raise InputError(
                f'--seq-len must be at least {SMALLEST_SAMPLE} (a token and its target), but got: {self.seq_len}'
            )
        if self.eval_fraction is not None and not 0 < self.eval_fraction < 1:
            raise InputError(f'--eval-fraction must lie between 0 and 1, but got: {self.eval_fraction}')
        check_positive(self, 'eval_documents', 'eval_tokens')

    @property
    def masked(self) -> bool:
        """Whether samples come with a loss mask."""
        return self.one_per_sample or self.loss == 'answer'

    def in_manifest(self) -> dict[str, Any]:
        """Those that a streams folder's manifest tells of."""
        sizes: dict[str, Any] = {'eval_fraction': self.eval_fraction}
        for name in ('eval_documents', 'eval_tokens'):
            if getattr(self, name) is not None:
                sizes = {name: getattr(self, name)}
        shape: dict[str, Any] = {'one_per_sample': True} if self.one_per_sample else {}
        if self.loss != 'all':
            shape['loss'] = self.loss
        if self.drop_without_target:
            shape['drop_without_target'] = True
        if self.special_tokens != SPECIAL:
            shape['special_tokens'] = self.special_tokens
        return {**sizes, **shape, 'bad_records': self.bad_records}


def check_positive(given: Any, *names: str) -> None:
    """Refuse attributes of `given`, named as their options are, that are neither None nor at least 1.

    Raises:
        InputError: One is smaller.
    """
    for name in names:
        value = getattr(given, name)
        if value is not None and value < 1:
            raise InputError(f'--{name.replace("_", "-")} must be at least 1, but got: {value}')


def add_options(parser: Any, table: Iterable[tuple[str, str, Mapping[str, Any]]]) -> None:
    """Add a table of options to a parser or a group of one: (option, help, what else argparse is told)."""
    for option, text, settings in table:
        parser.add_argument(option, help=text, **settings)


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Options about the streams folder."""
    parser.add_argument('--out', required=True, metavar='DIR', help='streams folder to make')
    finished = parser.add_mutually_exclusive_group()
    finished.add_argument(
        '--overwrite', action='store_true', help='replace a finished streams folder at --out'
    )
    finished.add_argument(
        '--add',
        action='store_true',
        help='add to the finished streams folder at --out: skills, or files of them',
    )
    parser.add_argument('--shard-size', default='64mb', help='largest shard (default: 64mb)')


def add_paths_argument(parser: argparse.ArgumentParser, what: str) -> None:
    """Files and folders of `what`."""
    parser.add_argument('paths', nargs='+', metavar='PATH', help=f'folder or file of {what}')


def add_corpus_arguments(parser: argparse.ArgumentParser, *, files: bool = True) -> None:
    """Options of a corpus of documents; `files`: found by :func:`~skillit_stream.convert.inputs.find_inputs`."""
    add_output_arguments(parser)
    parser.add_argument('--tokenizer', required=True, metavar='NAME_OR_FOLDER', help='Hugging Face tokenizer')
    parser.add_argument('--seq-len', required=True, type=int, metavar='N', help='tokens in a sample')
    split = parser.add_mutually_exclusive_group()
    split.add_argument(
        '--eval-fraction',
        type=float,
        metavar='F',
        help='share of documents for eval (default: 0.05, and of a small skill up to a fifth, for 16 documents and 4 '
        'samples)',
    )
    split.add_argument('--eval-documents', type=int, metavar='N', help='documents of each skill for eval')
    split.add_argument('--eval-tokens', type=int, metavar='N', help='tokens of each skill for eval')
    parser.add_argument(
        '--min-samples',
        type=int,
        metavar='N',
        help='leave out skills with fewer samples, and name them in the manifest (default: a skill that fills none is '
        'refused)',
    )
    add_options(parser, (*FILES, *READING) if files else READING)
    add_work_arguments(parser)


def add_work_arguments(parser: argparse.ArgumentParser) -> None:
    """Options about who does the work."""
    work = parser.add_argument_group('how the work is divided (no influence on the result)')
    work.add_argument('--workers', type=int, metavar='N', help='processes (default: one a core)')
    after = ' and stop; the command without --task then does what is left and puts the streams together'
    add_task_arguments(work, 'the work', after=after)
    work.add_argument('--work', metavar='DIR', help='folder for work in progress (default: beside --out)')


def add_instruction_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a corpus of questions and answers."""
    add_options(parser, INSTRUCTIONS)


def options_of(args: argparse.Namespace) -> ConvertOptions:
    """The checked options of a corpus; a sample's length that is left open is the smallest one for now.

    Raises:
        InputError: One is out of range.
    """
    given = {one.name: getattr(args, one.name) for one in fields(ConvertOptions) if hasattr(args, one.name)}
    return ConvertOptions(**{**given, 'seq_len': SMALLEST_SAMPLE if args.seq_len is None else args.seq_len})


def min_samples_of(args: argparse.Namespace) -> int | None:
    """Samples that a skill must have not to be left out; None: none is left out.

    Raises:
        InputError: Fewer than one is asked for.
    """
    least = getattr(args, 'min_samples', None)  # generated corpora have no such option
    if least is not None:
        check_positive(args, 'min_samples')
    return least


def part_size_of(args: argparse.Namespace) -> int | None:
    """Bytes in a part; None: as many as suit the corpus.

    Raises:
        InputError: It cannot be read.
    """
    return None if args.part_size is None else parse_size('--part-size', args.part_size)


def parse_size(option: str, text: str, example: str = '256mb or 268435456') -> int:
    """Bytes in the value of an option, such as `example`.

    Raises:
        InputError: It cannot be read, or is 0.
    """
    found = re.fullmatch(r'(\d+(?:\.\d+)?)\s*(|b|kb|mb|gb|tb)', str(text).lower().strip())
    units = {'': 0, 'b': 0, 'kb': 10, 'mb': 20, 'gb': 30, 'tb': 40}
    size = int(float(found[1]) * (1 << units[found[2]])) if found else 0
    if not size:
        raise InputError(f'{option} must be like {example}, but got: {text}')
    return size


def workers_of(args: argparse.Namespace) -> int:
    """How many processes to use.

    Raises:
        InputError: Fewer than one is asked for.
    """
    if args.workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    check_positive(args, 'workers')
    return args.workers
