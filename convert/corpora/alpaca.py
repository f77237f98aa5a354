"""Alpaca: instructions with an optional input, and the answer; the skill is a field or the instruction's verb.

The verb is the first word of the instruction in lower case, without a polite or leading word before it
(``Please write ...`` is ``write``). Verbs of fewer than ``--min-rows`` rows of a file are the skill ``other``.
Row formats and prompts are those of the published data: ``{instruction, input, output}``.
"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from skillit_stream.convert.corpus import Document, FileCorpus
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import InputFile
from skillit_stream.convert.json_files import read_rows
from skillit_stream.convert.options import (
    INSTRUCTIONS,
    add_corpus_arguments,
    add_options,
    add_paths_argument,
    check_positive,
)
from skillit_stream.convert.readers import HashingFile
from skillit_stream.convert.rows import Row, find_text
from skillit_stream.convert.skill_options import skill_in_field

HELP = 'Alpaca: skills are a field of the row, or the verb of the instruction'
OTHER = 'other'
REMEDY = 'write rows of instruction, input and output'
# Stand before the verb.
LEADING = frozenset(
    {'please', 'kindly', 'now', 'then', 'first', 'can', 'could', 'would', 'will', 'you', 'to'}
)
WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
TEMPLATES = {
    # (with an input, without one)
    'alpaca': (
        'Below is an instruction that describes a task, paired with an input that provides further context. '
        'Write a response that appropriately completes the request.\n\n'
        '### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n',
        'Below is an instruction that describes a task. '
        'Write a response that appropriately completes the request.\n\n'
        '### Instruction:\n{instruction}\n\n### Response:\n',
    ),
    'plain': ('{instruction}\n{input}\n', '{instruction}\n'),
}
OPTIONS = (
    (
        '--min-rows',
        f'rarer verbs are the skill {OTHER} (20)',
        {'type': int, 'default': 20, 'metavar': 'N'},
    ),
    (
        '--template',
        'how the prompt reads (default: alpaca)',
        {'choices': list(TEMPLATES), 'default': 'alpaca'},
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `skillit convert alpaca`."""
    add_paths_argument(parser, 'Alpaca rows')
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument('--skill-field', metavar='PATH.TO.KEY', help='the skill is this field of the row')
    group.add_argument('--skill-from', choices=['verb'], help="the skill is the instruction's verb")
    add_options(parser, (*OPTIONS, *INSTRUCTIONS))
    add_corpus_arguments(parser)


class Alpaca(FileCorpus):
    """The rows of Alpaca, or of other data in its format, at and below the PATHs."""

    name = 'alpaca'

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args.paths)
        check_positive(args, 'min_rows')
        self.skill_field: str | None = args.skill_field
        self.min_rows = args.min_rows
        self.template = args.template

    def options(self) -> Mapping[str, Any]:
        """How skill and prompt are made."""
        if self.skill_field is None:
            return {'template': self.template, 'skill_from': 'verb', 'min_rows': self.min_rows}
        return {'template': self.template, 'skill_field': self.skill_field}

    def documents(self, raw: HashingFile, file: InputFile) -> Iterator[Document | BadRecordError]:
        """The documents of an open file; held in memory, for a verb is rare or not by all rows of the file."""
        items = [self._document(item) for item in read_rows(raw, file.path)]
        counts = Counter(item.skill for item in items if isinstance(item, Document))
        for item in items:
            rare = isinstance(item, Document) and counts[item.skill] < self.min_rows
            if isinstance(item, Document) and rare and self.skill_field is None:
                yield Document(OTHER, item.text, item.answer)
            else:
                yield item

    def _document(self, item: tuple[str, Row] | BadRecordError) -> Document | BadRecordError:
        if isinstance(item, BadRecordError):
            return item
        where, row = item
        skill = None
        try:
            if self.skill_field is not None:
                skill = skill_in_field(row, self.skill_field, where)
            instruction = find_text(row, 'instruction', where, REMEDY)
            answer = find_text(row, 'output', where, REMEDY)
            prompt = self._prompt(row, instruction, where)
            return Document(skill or verb_of(instruction) or OTHER, prompt, answer)
        except BadRecordError as fault:
            fault.skill = skill  # not a verb: it may prove rare
            return fault

    def _prompt(self, row: Row, instruction: str, where: str) -> str:
        with_input, without = TEMPLATES[self.template]
        if row.get('input') in (None, ''):
            return without.format(instruction=instruction)
        return with_input.format(instruction=instruction, input=find_text(row, 'input', where, REMEDY))


corpus = Alpaca


def verb_of(instruction: str) -> str | None:
    """The first word of an instruction that is none of the leading ones; None if there is no such word."""
    words = (found[0].lower() for found in WORD.finditer(instruction))
    return next((word for word in words if word not in LEADING), None)
