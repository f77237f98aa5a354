"""One part of a corpus: its files -> documents -> token ids -> train shards, and what waits for the whole."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.convert.corpus import Corpus, Document, Tap
from skillit_stream.convert.faults import BadRecordError, Faults
from skillit_stream.convert.inputs import FileRange, InputFile
from skillit_stream.convert.job import Job
from skillit_stream.convert.names import SkillNames
from skillit_stream.convert.parts import RANGE, Part, PartRecord, SkillRecord, make_folder
from skillit_stream.convert.readers import lines_before
from skillit_stream.convert.sinks import SkillSink, Stopwatches
from skillit_stream.convert.special_tokens import Found, found_in_pieces
from skillit_stream.convert.splits import EncodedDocument, document_hash
from skillit_stream.convert.spool import SpoolFile
from skillit_stream.convert.tokens import CHECKED_CHARACTERS, DocumentTokenizer

BATCH_DOCUMENTS = 2048
BATCH_CHARACTERS = 4_000_000
# What a process keeps in memory of all skills together before it puts it on disk.
WAITING_BYTES = 1 << 26
# Both encoders see the first documents of each file, as long as that is a small part of the work ...
CHECKED_FIRST = 4
CHECKED_FREELY = 100
CHECKED_SHARE = 0.002
# ... and one in so many after that.
CHECKED_EVERY = 1000


@dataclass(frozen=True)
class Done:
    """What has been done since the last report."""

    bytes: int = 0
    """Read from disk."""
    text_bytes: int = 0
    tokens: int = 0
    documents: dict[str, int] | None = None
    """By skill."""


Report = Callable[[Done], None]


def convert_part(
    part: Part, job: Job, corpus: Corpus, tokenizer: DocumentTokenizer, report: Report
) -> PartRecord:
    """Convert the files of one part.

    Args:
        part: Its files; its folder is emptied first.
        job: Says how, and where to write.
        corpus: Reads them.
        tokenizer: Encodes the documents.
        report: Called every few MB; it may raise to stop the work.

    Returns:
        The record, which lies in the folder as well.

    Raises:
        InputError: A record is bad and the policy is 'error', the encoders differ, or another task is at this part.
    """
    with job.part_lock(part):
        make_folder(job.part_folder(part))
        work = _PartWork(part, job, corpus, tokenizer, report)
        try:
            for file in part.files:
                with _lines_of_whole_file(file):
                    work.convert_file(file)
            record = work.finish()
        except BaseException:
            work.abort()
            raise
        record.save(job.part_folder(part))
    return record


@dataclass
class _PartWork:
    """A part while it is converted."""

    part: Part
    job: Job
    corpus: Corpus
    tokenizer: DocumentTokenizer
    report: Report

    def __post_init__(self) -> None:
        self.faults = Faults(self.job.options.bad_records)
        self.names = SkillNames(self.job.destination.existing.names())
        self.watches = Stopwatches()
        self.sinks: dict[str, SkillSink] = {}
        self.spool = SpoolFile(self.job.part_folder(self.part))
        self.sources: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.hashes: dict[str, str] = {}
        self.checks = _Checks()
        self.special_documents: Counter[str] = Counter()
        self.special_tokens: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def convert_file(self, file: InputFile) -> None:
        read = 0

        def count(size: int) -> None:
            nonlocal read
            read += size

        tap = Tap(count)
        before = self.faults.counts[None].copy()
        skills: set[str] = set()
        number = 0
        batches = self._batches(self._usable(self.corpus.read(file, tap), file))
        while True:
            with self.watches.time('read and parse'):
                batch = next(batches, None)
            if batch is None:
                break
            self._check(file, batch, number)
            number += len(batch)
            tokens = self._convert(batch)
            found = {self.names.safe(one.skill): 0 for one in batch}
            for one in batch:
                found[self.names.safe(one.skill)] += 1
            skills |= found.keys()
            text = sum(len(one.text) + len(one.answer) for one in batch)
            self.report(Done(read, text, tokens, found))
            read = 0
        self.faults.place(before, skills)
        self.report(Done(read))
        digest = tap.hash
        if isinstance(file, FileRange):
            digest = f'{RANGE}{file.path}'
            self.hashes.update({digest: tap.hash} if tap.hash else {})
        for skill in skills if tap.bytes else ():  # without any it was computed
            self.sources[skill].append({'file': file.name, 'hash': digest, 'bytes': tap.bytes})

    def _usable(
        self, found: Iterator[Document | BadRecordError], file: InputFile
    ) -> Iterator[Document | BadRecordError]:
        """What a corpus has found, with a fault in the place of a document whose skill no folder can be named for."""
        for number, one in enumerate(found, 1):
            try:
                if one.skill is not None:
                    self.names.safe(one.skill, f'{file.path}: document {number}')
                yield one
            except BadRecordError as fault:
                yield fault if isinstance(one, Document) else _of_no_skill(one)

    def _batches(self, found: Iterator[Document | BadRecordError]) -> Iterator[list[Document]]:
        """Group documents so that a batch is neither many nor long; faults go where faults go."""
        batch: list[Document] = []
        characters = 0
        for one in found:
            if isinstance(one, BadRecordError):
                if one.skill is not None:
                    one.skill = self.names.safe(one.skill)
                self.faults.handle(one)
                continue
            batch.append(one)
            characters += len(one.text) + len(one.answer)
            if len(batch) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
                yield batch
                batch, characters = [], 0
        if batch:
            yield batch

    def _check(self, file: InputFile, batch: list[Document], first: int) -> None:
        with self.watches.time('check'):
            for number, document in enumerate(batch, start=first):
                if self.checks.wants(number, document):
                    self.tokenizer.check(document.text, f'{file.path}: document {number + 1}')

    def _convert(self, batch: list[Document]) -> int:
        """Encode a batch and pass it on; returns its tokens."""
        with self.watches.time('encode'):
            texts = [one.text.encode() for one in batch]
            pieces = [(one.answer + one.rest).encode() for one in batch]
            if any(pieces):
                encoded, special = self._encode_pieces(batch)
            else:
                ids = self.tokenizer.encode(texts)
                encoded, special = [(tokens, 0, 0) for tokens in ids], ids.special
        self._count_special(batch, special)
        with self.watches.time('split'):
            for document, text, piece, (tokens, prompt, rest) in zip(
                batch, texts, pieces, encoded, strict=True
            ):
                data = text + piece if piece else text
                one = EncodedDocument(document_hash(data), tokens, len(data), prompt=prompt, rest=rest)
                self._sink(document.skill).take(one, document.split)
        if sum(sink.waiting_bytes for sink in self.sinks.values()) > WAITING_BYTES:
            for sink in self.sinks.values():
                sink.spill()
        return sum(len(tokens) for tokens, _, _ in encoded)

    def _count_special(self, batch: list[Document], found: Found) -> None:
        for number, words in () if self.corpus.generated else found.items():
            skill = self.names.safe(batch[number].skill)
            self.special_documents[skill] += 1
            self.special_tokens[skill] += words

    def _encode_pieces(self, batch: list[Document]) -> tuple[list[tuple[np.ndarray, int, int]], Found]:
        """Tokens of each document, how many are before those of its answer that count, and how many after them.

        Special tokens are looked for in documents that are no sentences, which come from a generator.
        """
        places = [at for at, one in enumerate(batch) if not one.other]
        sentences = iter(self._encode_sentences([one for one in batch if one.other]))
        answered, special = self._encode_answers([batch[at] for at in places])
        others = iter(answered)
        encoded = [next(sentences if one.other else others) for one in batch]
        return encoded, {places[number]: words for number, words in special.items()}

    def _encode_answers(self, batch: list[Document]) -> tuple[list[tuple[np.ndarray, int, int]], Found]:
        """Text, answer and rest are encoded one by one: the answer begins with a token of its own; EOS is last."""
        columns = ([getattr(one, name) for one in batch] for name in ('text', 'answer', 'rest'))
        pieces = [self.tokenizer.encode(column, eos=False) for column in columns]
        eos = np.array([self.tokenizer.facts.eos_id], self.tokenizer.dtype)
        encoded = [
            (
                np.concatenate([prompt, answer, rest, eos]),
                len(prompt) if one.answer else 0,
                len(rest),
            )
            for one, (prompt, answer, rest) in zip(batch, zip(*pieces, strict=True), strict=True)
        ]
        return encoded, found_in_pieces(piece.special for piece in pieces)

    def _encode_sentences(self, batch: list[Document]) -> list[tuple[np.ndarray, int, int]]:
        """Sentences are encoded as a whole, and once more with the other answer.

        Raises:
            InputError: A sentence is longer than a sample, or the two differ in anything but one token.
        """
        columns = (
            [one.text + getattr(one, name) + one.rest for one in batch] for name in ('answer', 'other')
        )
        encoded = zip(*(self.tokenizer.encode(column, eos=False) for column in columns), strict=True)
        found = []
        for one, (tokens, other) in zip(batch, encoded, strict=True):
            sentence = one.text + one.answer + one.rest
            if len(tokens) > self.job.options.seq_len:
                raise InputError(
                    f'--seq-len must hold a sentence, but got: {self.job.options.seq_len}, and one has {len(tokens)} '
                    f'tokens: {sentence!r}'
                )
            different = np.flatnonzero(tokens != other) if len(tokens) == len(other) else ()
            if len(different) != 1:
                raise InputError(
                    f'--tokenizer {self.tokenizer.facts.name}: must write an answer in one token, but {one.answer!r} '
                    f'and {one.other!r} differ in none or in several in {sentence!r}; take one that has a token for '
                    'each digit, or leave it out'
                )
            at = int(different[0])
            found.append((tokens, at, len(tokens) - at - 1))
        return found

    def _sink(self, raw: str) -> SkillSink:
        skill = self.names.safe(raw)
        if skill not in self.sinks:
            self.sinks[skill] = SkillSink(
                skill,
                self.job.part_folder(self.part),
                self.spool,
                self.job,
                self.tokenizer,
                label=self.job.destination.existing.label('' if self.corpus.generated else self.part.name),
                watches=self.watches,
            )
        return self.sinks[skill]

    def finish(self) -> PartRecord:
        skills = {}
        # A skill whose records were all bad has counts, too.
        for skill in sorted({*self.sinks, *(one for one in self.faults.counts if one is not None)}):
            record = self.sinks[skill].finish() if skill in self.sinks else SkillRecord(skill)
            record.raw_name = self.names.raw.get(skill, skill)
            record.sources = self.sources[skill]
            record.faults = dict(self.faults.counts[skill])
            record.special_documents = self.special_documents[skill]
            record.special_tokens = dict(self.special_tokens[skill])
            skills[skill] = record
        self.spool.close()
        return PartRecord(
            self.part.signature,
            skills,
            dict(self.faults.counts[None]),
            self.hashes,
            self.tokenizer.encoder,
            self.checks.done,
            dict(self.watches.seconds),
        )

    def abort(self) -> None:
        self.spool.close()
        for sink in self.sinks.values():
            sink.abort()


@contextmanager
def _lines_of_whole_file(file: InputFile) -> Iterator[None]:
    """Within this context an InputError that names a line of a range names that of the whole file."""
    try:
        yield
    except InputError as error:
        if not isinstance(file, FileRange):
            raise
        path, before = re.escape(file.path), lines_before(file)
        # Each line is a document, but for those that are none: a number that is about right is of use, too.
        pattern = rf'(?<={path}:)\d+|(?<={path}: document )\d+'
        raise InputError(re.sub(pattern, lambda line: str(int(line[0]) + before), str(error))) from error


def _of_no_skill(fault: BadRecordError) -> BadRecordError:
    """A fault whose skill has a name that cannot be used."""
    fault.skill = None
    return fault


class _Checks:
    """Which documents are encoded by both encoders: a function of the documents alone."""

    def __init__(self) -> None:
        self.done = 0
        self._checked_characters = 0
        self._characters = 0

    def wants(self, number: int, document: Document) -> bool:
        """Whether to check the document of this number in its file."""
        size = min(len(document.text), CHECKED_CHARACTERS)
        self._characters += len(document.text)
        is_first = number < CHECKED_FIRST and (
            self.done < CHECKED_FREELY or self._checked_characters + size < CHECKED_SHARE * self._characters
        )
        if not is_first and (number + 1) % CHECKED_EVERY:
            return False
        self.done += 1
        self._checked_characters += size
        return True
