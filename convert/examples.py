"""Generated corpora: question and answer, one example a sample, the loss on the answer alone.

The sentences come with their own tokenizer of whole words, made here and saved into the streams folder; for a
model that is trained already they can be encoded by its tokenizer instead.
"""

import argparse
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.convert.options import add_output_arguments
from skillit_stream.convert.staging import TOKENIZER_FOLDER, staged_folder
from skillit_stream.convert.tokens import (
    TokenizerFacts,
    called,
    find_tokenizer,
    tokenizer_facts,
    tokenizer_hash,
)
from skillit_stream.convert.writer import StreamsWriter
from skillit_stream.formats.manifest import Manifest, SkillInfo, write_json

PAD, EOS, UNKNOWN = '<pad>', '<eos>', '<unk>'
# A word with its colon, if it has one ('Input:'), or any other single sign ('7', '=', ',').
WORD = r'[A-Za-z]+:?|\S'
ENCODE_BATCH = 4096
GRAPH_NAME = 'graph.json'


@dataclass(frozen=True, slots=True)
class Example:
    """One sentence in three parts; the loss is on the middle one."""

    question: str
    answer: str
    rest: str = ''

    @property
    def text(self) -> str:
        """The sentence."""
        return self.question + self.answer + self.rest


@dataclass(frozen=True, kw_only=True)
class GeneratedCorpus:
    """A corpus that is computed, not read."""

    name: str
    vocabulary: list[str]
    """Every word of every sentence."""
    examples: Mapping[str, Iterator[Example]]
    """Skill -> different examples, as many as train and eval need together."""
    graph: list[list[float]]
    """The skills graph, rows helping columns, in the order of `examples`."""
    options: Mapping[str, Any]
    """What the examples depend on, for the manifest."""


def add_example_arguments(parser: argparse.ArgumentParser, *, graph_default: str) -> None:
    """The options of all generated corpora."""
    add_output_arguments(parser)
    parser.add_argument(
        '--train-samples', type=int, default=50_000, metavar='N', help='train samples per skill (50000)'
    )
    parser.add_argument(
        '--eval-samples', type=int, default=1_000, metavar='N', help='eval samples per skill (1000)'
    )
    parser.add_argument(
        '--tokenizer',
        metavar='NAME_OR_FOLDER',
        help='that of a model (default: one of whole words, made here)',
    )
    parser.add_argument(
        '--seq-len', type=int, metavar='N', help='tokens in a sample (default: as many as a sentence has)'
    )
    parser.add_argument('--seed', type=int, default=17, help='decides all samples (17)')
    parser.add_argument(
        '--graph', choices=['chain', 'published'], help=f'skills graph in graph.json ({graph_default})'
    )


def check_counts(args: argparse.Namespace) -> None:
    """Refuse sample counts and seeds that make no corpus."""
    for option, value, least in (
        ('--train-samples', args.train_samples, 1),
        ('--eval-samples', args.eval_samples, 1),
        ('--seq-len', 2 if args.seq_len is None else args.seq_len, 2),
        ('--seed', args.seed, 0),
    ):
        if value < least:
            raise InputError(f'{option} must be at least {least}, but got: {value}')


def chain_graph(size: int) -> list[list[float]]:
    """The graph where each skill helps itself and the next one: ones on the diagonal and right above it."""
    return (np.eye(size) + np.eye(size, k=1)).tolist()


def choose_graph(
    args: argparse.Namespace, size: int, published: Mapping[int, list[list[float]]], *, default: str
) -> tuple[str, list[list[float]]]:
    """The skills graph that --graph asks for, and its name.

    Raises:
        InputError: The published one is asked for at a size nothing was published for.
    """
    name = args.graph or default
    if name == 'chain':
        return name, chain_graph(size)
    if size not in published:
        sizes = ', '.join(map(str, published))
        raise InputError(
            f'--graph published: exists for {sizes} skills, not for {size}; choose --graph chain'
        )
    return name, published[size]


def convert_generated(args: argparse.Namespace, corpus: GeneratedCorpus) -> Manifest:
    """Write a generated corpus into a streams folder, with its tokenizer and its graph.

    Raises:
        InputError: The folder may not be written.
    """
    with staged_folder(args.out, overwrite=args.overwrite) as folder:
        tokenizer = find_tokenizer(args.tokenizer) if args.tokenizer else make_tokenizer(corpus.vocabulary)
        facts = tokenizer_facts(
            tokenizer, called(args.tokenizer) if args.tokenizer else f'{corpus.name} words'
        )
        tokenizer.save_pretrained(os.path.join(folder, TOKENIZER_FOLDER))
        writer, skills = _write_examples(args, corpus, tokenizer, facts, folder)
        names = list(corpus.examples)
        graph = {'version': 1, 'train_skills': names, 'eval_skills': names, 'weights': corpus.graph}
        write_json(os.path.join(folder, GRAPH_NAME), graph)
        manifest = Manifest(
            tokenizer_name=facts.name,
            tokenizer_hash=tokenizer_hash(os.path.join(folder, TOKENIZER_FOLDER)),
            vocab_size=facts.vocab_size,
            seq_len=writer.seq_len,
            dtype=writer.dtype.name,
            columns=writer.columns,
            skills=skills,
            corpus={'name': corpus.name, **corpus.options},
        )
        manifest.save(folder)
    return manifest


def make_tokenizer(vocabulary: Iterable[str]) -> Any:
    """A word-level ``PreTrainedTokenizerFast`` with pad, eos and unknown tokens; the same ids every time."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers.tokenization_utils_fast import PreTrainedTokenizerFast

    words = {word: index for index, word in enumerate([PAD, EOS, UNKNOWN, *vocabulary])}
    backend = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), 'removed', invert=True)  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN, padding_side='right'
    )


def encode_examples(
    tokenizer: Any, examples: Iterable[Example]
) -> Iterator[tuple[Example, np.ndarray, np.ndarray]]:
    """Yield each example with its token ids and its mask (1 on the answer), both of shape (tokens,)."""
    examples = iter(examples)
    encode = tokenizer.backend_tokenizer.encode_batch_fast
    while batch := list(islice(examples, ENCODE_BATCH)):
        columns = zip(*map(_parts, batch), strict=True)
        parts = [encode(list(column), add_special_tokens=False) for column in columns]
        for example, *encodings in zip(batch, *parts, strict=True):
            ids = [encoding.ids for encoding in encodings]
            mask = np.repeat(np.array([0, 1, 0], np.uint8), [len(part) for part in ids])
            yield example, np.array([token for part in ids for token in part]), mask


def _parts(example: Example) -> tuple[str, str, str]:
    """Question, answer and rest; a blank before the answer is of its first token, as tokenizers of text have it."""
    question = example.question.rstrip(' ')
    return question, example.question[len(question) :] + example.answer, example.rest


def _write_examples(
    args: argparse.Namespace, corpus: GeneratedCorpus, tokenizer: Any, facts: TokenizerFacts, folder: str
) -> tuple[StreamsWriter, dict[str, SkillInfo]]:
    writer: StreamsWriter | None = None
    try:
        for skill, examples in corpus.examples.items():
            for index, (example, tokens, mask) in enumerate(encode_examples(tokenizer, examples)):
                if writer is None:
                    # Every sentence of these corpora has the same number of words.
                    writer = StreamsWriter(
                        folder,
                        seq_len=args.seq_len or len(tokens),
                        dtype=np.uint16 if facts.vocab_size <= 1 << 16 else np.uint32,
                        masked=True,
                        shard_size=args.shard_size,
                    )
                if len(tokens) > writer.seq_len:
                    raise InputError(
                        f'--seq-len must hold a sentence, but got: {writer.seq_len}, and one has {len(tokens)} tokens: '
                        f'{example.text!r}'
                    )
                split = 'train' if index < args.train_samples else 'eval'
                writer.write(
                    skill,
                    split,
                    pad(tokens, writer.seq_len, facts.pad_id),
                    pad(mask, writer.seq_len),
                )
                writer.count_document(skill, split, len(example.text.encode()))
        if writer is None:
            raise RuntimeError('Internal error: a generated corpus without examples')
        written = writer.finish()
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
    return writer, {skill: SkillInfo(splits=splits) for skill, splits in written.items()}


def pad(values: np.ndarray, length: int, value: int = 0) -> np.ndarray:
    """`values` filled up with `value` at the end to `length`."""
    return np.pad(values, (0, length - len(values)), constant_values=value)
