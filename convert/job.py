"""What a process has to know to convert parts of a corpus."""

import argparse
from dataclasses import dataclass

from skillit_stream.convert.destinations import Destination
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
    """

    module: str
    args: argparse.Namespace
    options: ConvertOptions
    encoder: str
    facts: TokenizerFacts
    destination: Destination

    def load_tokenizer(self) -> DocumentTokenizer:
        """The tokenizer, without transformers."""
        return reload_tokenizer(self.destination.tokenizer, self.facts, self.encoder)

    def part_folder(self, part: Part) -> str:
        """The folder of a part."""
        return self.destination.part_folder(part.name)

    def load_record(self, part: Part) -> PartRecord | None:
        """The record of a part; None if it is not done."""
        return PartRecord.load(self.part_folder(part), part.signature)
