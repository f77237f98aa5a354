"""What a process has to know to convert parts of a corpus."""

import argparse
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from skillit_stream.convert.destinations import Destination
from skillit_stream.convert.locks import locked
from skillit_stream.convert.options import ConvertOptions
from skillit_stream.convert.parts import Part, PartRecord
from skillit_stream.convert.tokens import DocumentTokenizer, TokenizerFacts, reload_tokenizer


@dataclass(frozen=True)
class Job:
    """What a process needs to convert a part: plain data, so that it can be sent anywhere.

    Attributes:
        module: The corpus' module, or the path of its file.
        args: The command line.
        options: Of the command.
        encoder: As in :class:`~skillit_stream.convert.tokens.DocumentTokenizer`.
        facts: Of the tokenizer.
        destination: Where tokenizer and parts lie and where shards go, and what is there already.
        code: Hash of the corpus' file; empty if it is one of the package.
    """

    module: str
    args: argparse.Namespace
    options: ConvertOptions
    encoder: str
    facts: TokenizerFacts
    destination: Destination
    code: str = ''

    def load_tokenizer(self) -> DocumentTokenizer:
        """The tokenizer, without transformers."""
        mode = self.options.special_tokens
        return reload_tokenizer(self.destination.tokenizer, self.facts, self.encoder, special_tokens=mode)

    def part_folder(self, part: Part) -> str:
        """The folder of a part."""
        return self.destination.part_folder(part.name)

    def load_record(self, part: Part) -> PartRecord | None:
        """The record of a part; None if it is not done, or its shards are gone."""
        folder = self.part_folder(part)
        record = PartRecord.load(folder, part.signature)
        if record is None:
            return None
        there = (
            self.destination.has_shards(folder, skill, one.train.shards)
            for skill, one in record.skills.items()
        )
        return record if all(there) else None

    def part_lock(self, part: Part) -> AbstractContextManager[None]:
        """Keeps other tasks from a part; a command without --task has the whole folder for itself."""
        if getattr(self.args, 'task', None) is None or self.args.ray:
            return nullcontext()
        folder = self.part_folder(part)
        return locked(f'{folder}.lock', what=folder)
