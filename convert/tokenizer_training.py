"""`skillit tokenizer PATH... --out FOLDER --vocab-size N`: a byte-level BPE of one's own, for models from scratch.

The vocabulary of a published tokenizer outweighs the rest of a small model. This one is trained on the beginning of
each file, as much of each: of JSON rows on their text, not on the quotes, keys and escapes around it, which no model
will see. The same files give the same tokenizer.
"""

import argparse
import os
import shutil
from collections.abc import Iterator
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import number_of
from skillit_stream.convert.corpora import text as plain_text
from skillit_stream.convert.corpus import Tap
from skillit_stream.convert.faults import BadRecordError, Faults
from skillit_stream.convert.inputs import (
    ARCHIVES,
    SUFFIXES,
    InputFile,
    choosing_files,
    find_inputs,
    has_suffix,
)
from skillit_stream.convert.json_files import read_rows
from skillit_stream.convert.options import BAD_RECORDS, FILES, add_options, parse_size
from skillit_stream.convert.readers import HashingFile, open_input, read_lines
from skillit_stream.convert.rows import find_text

END, PAD = '<|endoftext|>', '<|pad|>'
TEXT_SUFFIXES = tuple(form + archive for form in plain_text.SUFFIXES for archive in ('', *ARCHIVES))
# Every byte, and the two tokens that are no text.
SMALLEST = 258
# Lines of a text file are trained on in pieces of about this size.
PIECE_BYTES = 1 << 16
# How much of the text is encoded to say what a token holds.
MEASURED_BYTES = 1 << 20
OPTIONS = (
    ('--out', 'folder to make', {'required': True, 'metavar': 'FOLDER'}),
    (
        '--vocab-size',
        f'tokens at the most, at least {SMALLEST}',
        {'required': True, 'type': int, 'metavar': 'N'},
    ),
    (
        '--text-field',
        'field of JSON rows with the text (text)',
        {'default': 'text', 'metavar': 'PATH.TO.KEY'},
    ),
    (
        '--every-string',
        'of JSON rows every string that is a value, for rows without one text',
        {'action': 'store_true'},
    ),
    (
        '--sample-size',
        'text to train on, the same of the beginning of each file (128mb)',
        {'default': '128mb', 'metavar': 'SIZE'},
    ),
    BAD_RECORDS,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit tokenizer`."""
    kinds = 'plain text (.txt, .md) or JSON rows (.jsonl, .json), also compressed'
    parser.add_argument('paths', nargs='+', metavar='PATH', help=f'folder or file of {kinds}')
    add_options(parser, (*OPTIONS, *FILES))


def run(args: argparse.Namespace) -> int:
    """Train and save the tokenizer, and print what came of it."""
    if args.vocab_size < SMALLEST:
        raise InputError(f'--vocab-size must be at least {SMALLEST}, but got: {args.vocab_size}')
    if os.path.isdir(args.out) and os.listdir(args.out):
        raise InputError(f'--out {args.out}: is not empty; choose another folder')
    if os.path.lexists(args.out) and not os.path.isdir(args.out):
        raise InputError(f'--out {args.out}: is a file; choose another name')
    sample = TextSample(args)
    backend = train_tokenizer(iter(sample), args.vocab_size)
    if not sample.bytes:
        raise InputError(
            f'{", ".join(args.paths)}: no text in {number_of(len(sample.files), "file")}; check the PATH'
        )
    save_whole(backend, args.out)
    _print_result(backend, sample, args)
    return 0


class TextSample:
    """The text of the beginning of each file; can be walked once.

    Args:
        args: Of the command line.

    Raises:
        InputError: There are no files, or an option is out of range.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        with choosing_files(args) as self.choice:
            self.files = find_inputs(args.paths, (*SUFFIXES, *TEXT_SUFFIXES))
        self.bytes = 0
        self.faults = Faults(args.bad_records)
        self.beginning: list[str] = []
        """Up to a MB of the text, the same of each file."""
        self._field = None if args.every_string else args.text_field
        self._quota = max(1, parse_size('--sample-size', args.sample_size) // len(self.files))

    def __iter__(self) -> Iterator[str]:
        """Texts, file by file.

        Raises:
            InputError: A record cannot be used and is not to be left out.
        """
        for file in self.files:
            read = 0
            for item in self._texts(file):
                if isinstance(item, BadRecordError):
                    self.faults.handle(item)
                    continue
                size = len(item.encode())
                if read < MEASURED_BYTES // len(self.files):
                    self.beginning.append(item)
                read += size
                self.bytes += size
                yield item
                if read >= self._quota:
                    break

    def _texts(self, file: InputFile) -> Iterator[str | BadRecordError]:
        try:
            with open_input(file, Tap(lambda _: None)) as raw:
                yield from (
                    self._row_texts(raw, file.path)
                    if has_suffix(file.path, SUFFIXES)
                    else _plain_texts(raw, file.path)
                )
        except BadRecordError as fault:  # the rest of the file cannot be read
            yield fault

    def _row_texts(self, raw: HashingFile, path: str) -> Iterator[str | BadRecordError]:
        for item in read_rows(raw, path):
            if isinstance(item, BadRecordError):
                yield item
                continue
            where, row = item
            try:
                yield '\n'.join(_strings(row)) if self._field is None else find_text(row, self._field, where)
            except BadRecordError as fault:
                yield fault


def _plain_texts(raw: HashingFile, path: str) -> Iterator[str | BadRecordError]:
    """Pieces of a text file, cut between lines."""
    piece: list[bytes] = []
    size = first = 0
    for number, line in read_lines(raw, path):
        first = first or number
        piece.append(line)
        size += len(line) + 1
        if size >= PIECE_BYTES:
            yield _decoded(piece, path, first)
            piece, size, first = [], 0, 0
    if size > 1:
        yield _decoded(piece, path, first)


def _decoded(lines: list[bytes], path: str, first: int) -> str | BadRecordError:
    data = b'\n'.join(lines) + b'\n'
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        where = f'{path}:{first + data.count(bytes([10]), 0, error.start)}'
        what = f'not UTF-8 ({error.reason}: 0x{data[error.start]:02x})'
        return BadRecordError('broken_encoding', where=where, what=what, remedy='convert it to UTF-8')


def _strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value that is not a key, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> Any:
    """A byte-level BPE ``tokenizers.Tokenizer``; it has fewer tokens where the texts hold no more pairs."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    settings: dict[str, Any] = {
        'vocab_size': vocab_size,
        'min_frequency': 2,
        'special_tokens': [END, PAD],
        'initial_alphabet': pre_tokenizers.ByteLevel.alphabet(),
        'show_progress': False,
    }
    backend.train_from_iterator(texts, trainers.BpeTrainer(**settings))
    return backend


def save_whole(backend: Any, folder: str) -> None:
    """Save a tokenizer as a folder that transformers loads, at once or not at all."""
    from transformers.tokenization_utils_fast import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        # Causal models take no token_type_ids.
        model_input_names=['input_ids', 'attention_mask'],
    )
    parent, name = os.path.split(os.path.abspath(folder))
    scratch = os.path.join(parent, f'.{name}.{os.getpid()}.part')
    try:
        tokenizer.save_pretrained(scratch)
        os.replace(scratch, os.path.abspath(folder))
    except OSError as error:
        raise InputError(
            f'--out {folder}: cannot be written ({error.strerror}); choose another folder'
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _print_result(backend: Any, sample: TextSample, args: argparse.Namespace) -> None:
    size = backend.get_vocab_size()
    few = '' if size == args.vocab_size else f' (the text gives no more; {args.vocab_size:,} were asked for)'
    files = number_of(len(sample.files), 'file')
    print(f'{args.out}: {size:,} tokens{few}, from {sample.bytes / 1e6:.2f} MB of text in {files}')
    print(sample.choice.in_words(len(sample.files)))
    tokens = sum(len(one.ids) for one in backend.encode_batch(sample.beginning))
    held = sum(len(text.encode()) for text in sample.beginning)
    print(f'a token holds {held / tokens:.2f} bytes of that text; {END} ends a document, {PAD} fills up')
    for reason, count in sorted(sample.faults.counts[None].items()):
        print(f'left out: {count:,} {reason}')
    print(f'next: skillit convert ... --tokenizer {args.out}')
