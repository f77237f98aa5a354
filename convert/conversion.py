"""One part of a corpus: its files -> documents -> token ids -> train shards, and what waits for the whole."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import xxhash

from skillit_stream.convert.corpus import Corpus, Document, Tap
from skillit_stream.convert.faults import BadRecordError, Faults
from skillit_stream.convert.names import SkillNames
from skillit_stream.convert.options import ConvertOptions
from skillit_stream.convert.packing import Packer, Padder, Samples
from skillit_stream.convert.parts import Part, PartRecord, SkillRecord, SplitRecord, Spool, make_folder
from skillit_stream.convert.readers import InputFile
from skillit_stream.convert.splits import (
    EVAL,
    TRAIN,
    Amount,
    EncodedDocument,
    SkillSplitter,
    SplitRule,
    document_hash,
)
from skillit_stream.convert.tokens import CHECKED_CHARACTERS, DocumentTokenizer
from skillit_stream.convert.writer import shard_bytes, token_columns

BATCH_DOCUMENTS = 2048
BATCH_CHARACTERS = 4_000_000
# Both encoders see the first documents of each file, as long as that is a small part of the work ...
CHECKED_FIRST = 4
CHECKED_FREELY = 100
CHECKED_SHARE = 0.002
# ... and one in so many after that.
CHECKED_EVERY = 1000


@dataclass(frozen=True)
class Progress:
    """What has been done since the last report."""

    bytes: int = 0
    """Read from disk."""
    text_bytes: int = 0
    tokens: int = 0
    documents: dict[str, int] | None = None
    """By skill."""


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Target:
    """Where and how samples are written.

    Attributes:
        options: Of the command.
        folder: The part's.
        signature: Of the part; goes into its record.
        remote: Where train shards are uploaded to, ROOT of ROOT/<skill>/train; None: they stay.
    """

    options: ConvertOptions
    folder: str
    signature: str
    remote: str | None = None


def split_rule(options: ConvertOptions) -> SplitRule:
    """How large the splits of a skill are to be."""
    least = Amount(documents=1) if options.one_per_sample else Amount(tokens=options.seq_len)
    wanted = Amount(options.eval_tokens or 0, options.eval_documents or 0)
    fraction = 0.0 if wanted != Amount() else options.eval_fraction
    need = Amount(max(least.tokens, wanted.tokens), max(least.documents, wanted.documents))
    return SplitRule(fraction, least, need)


def new_packer(options: ConvertOptions, tokenizer: DocumentTokenizer) -> Packer | Padder:
    """What makes samples of a split's documents."""
    answers_only = options.loss == 'answer'
    if options.one_per_sample:
        return Padder(
            options.seq_len, tokenizer.dtype, pad_id=tokenizer.facts.pad_id, answers_only=answers_only
        )
    return Packer(options.seq_len, tokenizer.dtype, answers_only=answers_only)


def sample_keys(samples: Samples) -> np.ndarray:
    """A hash of the tokens of each sample, uint64 [n]; by these, samples alike in train and eval are found."""
    rows = np.ascontiguousarray(samples.tokens)
    return np.array([xxhash.xxh3_64_intdigest(row) for row in rows], np.uint64)


def convert_part(
    part: Part, corpus: Corpus, tokenizer: DocumentTokenizer, target: Target, report: Report
) -> PartRecord:
    """Convert the files of one part.

    Args:
        part: Its files.
        corpus: Reads them.
        tokenizer: Encodes the documents.
        target: Where to write; the folder is emptied first.
        report: Called every few MB; it may raise to stop the work.

    Returns:
        The record, which lies in the folder as well.

    Raises:
        InputError: A record is bad and the policy is 'error', or the encoders differ.
    """
    make_folder(target.folder)
    work = _PartWork(part, corpus, tokenizer, target, report)
    try:
        for file in part.files:
            work.convert_file(file)
        record = work.finish()
    except BaseException:
        work.abort()
        raise
    record.save(target.folder)
    return record


class _Stopwatches:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += perf_counter() - began


class _PartWork:
    """A part while it is converted."""

    def __init__(
        self, part: Part, corpus: Corpus, tokenizer: DocumentTokenizer, target: Target, report: Report
    ) -> None:
        self.part = part
        self.corpus = corpus
        self.tokenizer = tokenizer
        self.target = target
        self.report = report
        self.faults = Faults(target.options.bad_records)
        self.names = SkillNames()
        self.watches = _Stopwatches()
        self.sinks: dict[str, _SkillSink] = {}
        self.sources: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.checks = _Checks()

    def convert_file(self, file: InputFile) -> None:
        read = 0

        def count(size: int) -> None:
            nonlocal read
            read += size

        tap = Tap(count)
        before = self.faults.counts[None].copy()
        skills: set[str] = set()
        number = 0
        batches = self._batches(self.corpus.read(file, tap))
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
            self.report(Progress(read, text, tokens, found))
            read = 0
        self.faults.place(before, skills)
        self.report(Progress(read))
        for skill in skills:
            self.sources[skill].append({'file': file.name, 'hash': tap.hash, 'bytes': tap.bytes})

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
            # An example is encoded in two pieces, so that its answer begins with a token of its own.
            texts = [one.text.encode() for one in batch]
            answers = [one.answer.encode() for one in batch]
            if any(answers):
                prompts = self.tokenizer.encode(texts, eos=False)
                ends = self.tokenizer.encode(answers)
                encoded = [np.concatenate(pair) for pair in zip(prompts, ends, strict=True)]
                lengths = np.diff(prompts.ends).tolist()
            else:
                encoded = list(self.tokenizer.encode(texts))
                lengths = [0] * len(batch)
        with self.watches.time('split'):
            for document, text, answer, tokens, length in zip(
                batch, texts, answers, encoded, lengths, strict=True
            ):
                data = text + answer if answer else text
                one = EncodedDocument(document_hash(data), tokens, len(data), prompt=length if answer else 0)
                self._sink(document.skill).take(one, document.split)
        for sink in self.sinks.values():
            sink.flush()
        return sum(map(len, encoded))

    def _sink(self, raw: str) -> '_SkillSink':
        skill = self.names.safe(raw)
        if skill not in self.sinks:
            self.sinks[skill] = _SkillSink(skill, self.part, self.tokenizer, self.target, self.watches)
        return self.sinks[skill]

    def finish(self) -> PartRecord:
        skills = {}
        # A skill whose records were all bad has counts, too.
        for skill in sorted({*self.sinks, *(one for one in self.faults.counts if one is not None)}):
            record = SkillRecord(self.names.raw.get(skill, skill))
            if skill in self.sinks:
                record.train, record.eval = self.sinks[skill].finish()
                record.by_hash = self.sinks[skill].by_hash
            record.sources = self.sources[skill]
            record.faults = dict(self.faults.counts[skill])
            skills[skill] = record
        return PartRecord(
            self.target.signature,
            skills,
            dict(self.faults.counts[None]),
            self.tokenizer.encoder,
            self.checks.done,
            dict(self.watches.seconds),
        )

    def abort(self) -> None:
        for sink in self.sinks.values():
            sink.abort()


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


class _SkillSink:
    """Where the documents of one skill of a part go: its splitter, train shards, the spool."""

    def __init__(
        self, skill: str, part: Part, tokenizer: DocumentTokenizer, target: Target, watches: _Stopwatches
    ) -> None:
        self.by_hash = False
        self._skill = skill
        self._part = part
        self._target = target
        self._watches = watches
        self._dtype = np.dtype(tokenizer.dtype)
        self._spool = Spool(target.folder, skill, tokenizer.dtype)
        self._splitter = SkillSplitter(skill, split_rule(target.options), self._emit)
        self._packer = new_packer(target.options, tokenizer)
        self._waiting: dict[str, list[EncodedDocument]] = {TRAIN: [], EVAL: []}
        self._records = {TRAIN: SplitRecord(), EVAL: SplitRecord()}
        self._train_keys: list[int] = []
        self._writer: Any = None

    def take(self, document: EncodedDocument, split: str | None) -> None:
        if split is None:
            self.by_hash = True
            self._splitter.add(document)
            return
        if split == TRAIN:
            # By hash no document is in both splits; where the corpus decides, one may be.
            self._train_keys.append(document.key >> 64)
        self._splitter.settle(split, document)

    def _emit(self, split: str, document: EncodedDocument) -> None:
        record = self._records[split]
        record.documents += 1
        record.tokens += len(document.tokens)
        record.bytes += document.bytes
        self._waiting[split].append(document)

    def flush(self) -> None:
        """Pack and write what has been settled."""
        train, self._waiting[TRAIN] = self._waiting[TRAIN], []
        evaluation, self._waiting[EVAL] = self._waiting[EVAL], []
        if train:
            with self._watches.time('pack'):
                samples = self._packer.add(train)
                self._spool.append('keys', sample_keys(samples))
            with self._watches.time('write'):
                self._write(samples)
        if evaluation:
            with self._watches.time('write'):
                # Copies were told apart when they were settled.
                self._spool.add_documents(EVAL, [_single(one) for one in evaluation])

    def _write(self, samples: Samples) -> None:
        if not len(samples):
            return
        if self._writer is None:
            from skillit_stream.convert.shard_writer import ShardWriter

            local = os.path.join(self._target.folder, self._skill, TRAIN)
            remote = self._target.remote
            out = (local, f'{remote}/{self._skill}/{TRAIN}') if remote else local
            options = self._target.options
            self._writer = ShardWriter(
                out,
                token_columns(self._dtype.type, options.seq_len, masked=options.masked),
                shard_bytes(options.shard_size, self._dtype, options.seq_len),
                self._part.name,
            )
        self._writer.write_samples(samples)

    def finish(self) -> tuple[SplitRecord, SplitRecord]:
        """Write what is left; what was settled of train and of eval."""
        self.flush()
        self._spool.append('train_keys', np.array(self._train_keys, np.uint64))
        held = self._splitter.hold()
        if held:
            self._spool.add_documents('held', held)
        tokens, mask = self._packer.tail
        self._spool.append('tail', tokens)
        if mask is not None:
            self._spool.append('tail_mask', mask)
        train = self._records[TRAIN]
        train.cut_tokens = self._packer.cut_tokens
        if self._writer is not None:
            with self._watches.time('write'):
                train.shards = self._writer.finish_shards()
            train.samples, train.targets = self._writer.samples, self._writer.targets
        return train, self._records[EVAL]

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.cancel_future_jobs()


def _single(document: EncodedDocument) -> EncodedDocument:
    return EncodedDocument(document.key, document.tokens, document.bytes, prompt=document.prompt)
