"""Read a corpus as the command would: from its options to its documents."""

import argparse
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from skillit_stream.convert.corpus import Corpus, Document, Tap
from skillit_stream.convert.faults import BadRecordError


class Found(NamedTuple):
    """What is in a corpus."""

    documents: list[Document]
    faults: list[BadRecordError]
    taps: list[Tap]
    progress: list[int]
    """Bytes told of while each file was read."""

    @property
    def skills(self) -> list[str]:
        """The skill of each document, in order."""
        return [document.skill for document in self.documents]

    @property
    def texts(self) -> list[str]:
        """The text of each document, in order."""
        return [document.text for document in self.documents]

    @property
    def reasons(self) -> list[str]:
        """The reason of each fault, in order."""
        return [fault.reason for fault in self.faults]


def make_corpus(module: Any, *arguments: object) -> Corpus:
    """The corpus that `skillit convert` would make of these arguments."""
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    required = ['--out', 'S', '--tokenizer', 'T', '--seq-len', '8']
    return module.corpus(parser.parse_args([str(argument) for argument in arguments] + required))


def read_corpus(module: Any, *arguments: object) -> Found:
    """All documents and faults of a corpus; hash and size of each file on disk are checked."""
    corpus = make_corpus(module, *arguments)
    found = Found([], [], [], [])
    for file in corpus.inputs():
        told: list[int] = []
        tap = Tap(told.append)
        for item in corpus.read(file, tap):
            (found.documents if isinstance(item, Document) else found.faults).append(item)  # type: ignore
        found.taps.append(tap)
        found.progress.append(sum(told))
        path = Path(file.path)
        if path.is_file():
            data = path.read_bytes()
            assert tap.hash == f'blake2b:{hashlib.blake2b(data, digest_size=32).hexdigest()}'
            assert tap.bytes == len(data) == file.size
    return found
