"""Generated corpora: question and answer, one example a sample; evaluated on the answer alone.

The sentences come with their own tokenizer of whole words, made here and saved into the streams folder; for a
model that is trained already they can be encoded by its tokenizer instead. Of the answer the token counts in which
another answer differs, as in the published code (HazyResearch/skill-it, dataset/lego_dataset.py): where a tokenizer
writes the blank before a digit as a token of its own, it is the same whatever the answer, and would halve the loss.
"""

import argparse
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.convert.corpus import Corpus, Document, Tap
from skillit_stream.convert.inputs import InputFile, VirtualFile
from skillit_stream.convert.names import GRAPH_NAME
from skillit_stream.convert.options import SMALLEST_SAMPLE, add_output_arguments, add_work_arguments
from skillit_stream.convert.sampling import check_space
from skillit_stream.convert.tokens import DocumentTokenizer, use_threads

PAD, EOS, UNKNOWN = '<pad>', '<eos>', '<unk>'
# A word with its colon, if it has one ('Input:'), or any other single sign ('7', '=', ',').
WORD = r'[A-Za-z]+:?|\S'


@dataclass(frozen=True, slots=True)
class Example:
    """One sentence in three parts; the loss is on the middle one."""

    question: str
    answer: str
    other: str
    """Another answer, by which the tokens of the answer are found."""
    rest: str = ''

    @property
    def text(self) -> str:
        """The sentence."""
        return self.question + self.answer + self.rest

    def document(self, skill: str, split: str) -> Document:
        """The document."""
        return Document(skill, self.question, self.answer, split, self.rest, self.other)


class GeneratedCorpus(Corpus):
    """A corpus that is computed, not read: each skill is a file.

    Args:
        args: Of the command line.
        skills: Their names.
        graph: The skills graph, rows helping columns, in the order of `skills`.
        options: What the examples depend on, for the manifest.
    """

    generated = True
    vocabulary: Sequence[str]
    """Every word of every sentence."""

    def __init__(
        self,
        args: argparse.Namespace,
        skills: Sequence[str],
        graph: list[list[float]],
        options: Mapping[str, Any],
    ) -> None:
        self.args = args
        self.skills = list(skills)
        self._train, self._eval = args.train_samples, args.eval_samples
        self._graph = graph
        self._options = options

    @abstractmethod
    def space(self, number: int) -> int:
        """How many different sentences the skill of that number has."""

    @abstractmethod
    def examples(self, number: int, count: int) -> Iterator[Example]:
        """So many different examples of the skill of that number."""

    def inputs(self) -> list[InputFile]:
        """One for each skill.

        Raises:
            InputError: There are fewer sentences than are asked for.
        """
        count = self._train + self._eval
        for number, skill in enumerate(self.skills):
            check_space(skill, count, self.space(number))
        size = count * len(next(self.examples(0, count)).text)
        return [
            VirtualFile(f'{self.name}:{skill}', skill, (self.name,), size, f'{self._train}+{self._eval}')
            for skill in self.skills
        ]

    def read(self, file: InputFile, tap: Tap) -> Iterator[Document]:
        """The train samples of a skill, then those of eval."""
        examples = self.examples(self.skills.index(file.name), self._train + self._eval)
        for index, example in enumerate(examples):
            tap.on_bytes(len(example.text))
            yield example.document(file.name, 'train' if index < self._train else 'eval')

    def options(self) -> Mapping[str, Any]:
        """What the examples depend on, and what is trained on where that is not the answer."""
        train_on = self.args.train_on
        return {**self._options, **({} if train_on == 'answer' else {'train_on': train_on})}

    def companions(self) -> Mapping[str, Any]:
        """The skills graph."""
        names = {'train_skills': self.skills, 'eval_skills': self.skills}
        return {GRAPH_NAME: {'version': 1, **names, 'weights': self._graph}}

    def own_tokenizer(self) -> Any:
        """One of whole words."""
        return make_tokenizer(self.vocabulary)

    def sentence_tokens(self, tokenizer: DocumentTokenizer) -> int:
        """Tokens of the first sentence; each has the same number of words."""
        one = next(self.examples(0, self._train + self._eval))
        return len(tokenizer.encode([one.text], eos=False).flat)


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
    parser.add_argument(
        '--train-on',
        choices=['answer', 'sentence'],
        default='answer',
        help="what counts in the loss of train: the answer (default), or the whole sentence, as in the paper's "
        'experiments; eval is the answer',
    )
    parser.add_argument('--seed', type=int, default=17, help='decides all samples (17)')
    parser.add_argument(
        '--graph', choices=['chain', 'published'], help=f'skills graph in graph.json ({graph_default})'
    )
    add_work_arguments(parser)
    # The rest of what a corpus of documents can be asked for follows; each skill is a part of the work.
    parser.set_defaults(one_per_sample=True, loss='answer', encoder='tokenizers', part_size='1')


def check_counts(args: argparse.Namespace, size: str, most: int) -> None:
    """Refuse sample counts, seeds and sizes that make no corpus; `size` names the option that is at most `most`."""
    if not 1 <= getattr(args, size) <= most:
        raise InputError(f'--{size} must lie between 1 and {most}, but got: {getattr(args, size)}')
    for option, value, least in (
        ('--train-samples', args.train_samples, 1),
        ('--eval-samples', args.eval_samples, 1),
        ('--seq-len', SMALLEST_SAMPLE if args.seq_len is None else args.seq_len, SMALLEST_SAMPLE),
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


def make_tokenizer(vocabulary: Iterable[str]) -> Any:
    """A word-level ``PreTrainedTokenizerFast`` with pad, eos and unknown tokens; the same ids every time."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers.tokenization_utils_fast import PreTrainedTokenizerFast

    use_threads()
    words = {word: index for index, word in enumerate([PAD, EOS, UNKNOWN, *vocabulary])}
    backend = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), 'removed', invert=True)  # type: ignore[assignment]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN, padding_side='right'
    )
