"""Where the documents of one skill of a part go, and how long each stage takes."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter

import numpy as np

from skillit_stream.convert.job import Job
from skillit_stream.convert.packing import Samples, new_packer, sample_keys
from skillit_stream.convert.parts import SkillRecord, SplitRecord, shards_folder
from skillit_stream.convert.shard_writer import ShardWriter, new_writer
from skillit_stream.convert.splits import EVAL, TRAIN, EncodedDocument, SkillSplitter
from skillit_stream.convert.spool import SkillSpool, SpoolFile
from skillit_stream.convert.tokens import DocumentTokenizer

# Documents wait until they are so many tokens: with thousands of skills a batch has few of each.
PACKED_TOKENS = 1 << 15


class Stopwatches:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Count the time of this context for a stage."""
        began = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += perf_counter() - began


class SkillSink:
    """Where the documents of one skill of a part go: its splitter, train shards, the spool.

    Args:
        skill: Its safe name.
        folder: The part's.
        spool: The part's.
        job: Has the options, and the destination of the shards.
        tokenizer: Gives dtype and padding.
        label: Part of the names of the shards.
        watches: Are told where the time goes.
    """

    def __init__(
        self,
        skill: str,
        folder: str,
        spool: SpoolFile,
        job: Job,
        tokenizer: DocumentTokenizer,
        *,
        label: str,
        watches: Stopwatches,
    ) -> None:
        self.by_hash = self.by_corpus = False
        self._skill = skill
        self._folder = folder
        self._job = job
        self._label = label
        self._watches = watches
        self._dtype = tokenizer.dtype
        self._spool = SkillSpool(spool)
        self._existing = job.destination.existing
        self._splitter = SkillSplitter(skill, self._existing.rule(skill, job.options), self._emit)
        self._packer = new_packer(job.options, tokenizer, TRAIN)
        self._waiting: dict[str, list[EncodedDocument]] = {TRAIN: [], EVAL: []}
        self._records = {TRAIN: SplitRecord(), EVAL: SplitRecord()}
        self._waiting_tokens = 0
        self._train_keys: list[int] = []
        self._writer: ShardWriter | None = None

    @property
    def waiting_bytes(self) -> int:
        """What waits in memory and can be put on disk."""
        in_writer = self._writer.waiting_bytes if self._writer is not None else 0
        return self._waiting_tokens * np.dtype(self._dtype).itemsize + self._spool.waiting_bytes + in_writer

    def take(self, document: EncodedDocument, split: str | None) -> None:
        """Take the next document of the skill; `split` is the corpus's word, if it has one."""
        # As part of its batch it would keep that alive for as long as it is held back.
        document.tokens = document.tokens.copy()
        if split is None:
            if not self.by_hash:
                self._existing.check_split(self._skill, None, self._job.options)
            self.by_hash = True
            self._splitter.add(document)
            return
        if not self.by_corpus:
            self._existing.check_split(self._skill, split, self._job.options)
        self.by_corpus = True
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
        self._waiting_tokens += len(document.tokens)
        if self._waiting_tokens >= PACKED_TOKENS:
            self._pack()

    def spill(self) -> None:
        """Put on disk what waits in memory, but for the documents that are held back."""
        self._pack()
        with self._watches.time('write'):
            self._spool.append('train_keys', np.array(self._train_keys, np.uint64))
            self._train_keys.clear()
            self._spool.spill()
            if self._writer is not None:
                self._writer.spill()

    def _pack(self) -> None:
        """Make samples of what has been settled for train."""
        self._waiting_tokens = 0
        train, self._waiting[TRAIN] = self._waiting[TRAIN], []
        evaluation, self._waiting[EVAL] = self._waiting[EVAL], []
        if train:
            with self._watches.time('pack'):
                samples = self._packer.add(train)
                keys = sample_keys(samples)
                kept = self._existing.outside_eval(self._skill, keys)
                self._records[TRAIN].in_eval += int((~kept).sum())
                samples = samples.select(kept)
                self._spool.append('keys', keys[kept])
            with self._watches.time('write'):
                self._write(samples)
        if evaluation:
            # A document stands here once for each of its copies.
            self._spool.add_documents([replace(one, copies=1) for one in evaluation])

    def _write(self, samples: Samples) -> None:
        if not len(samples):
            return
        if self._writer is None:
            local = shards_folder(self._folder, self._skill)
            out = self._job.destination.writer_target(local, self._skill, TRAIN)
            self._writer = new_writer(out, self._job.options, self._dtype, self._label)
        self._writer.write_samples(samples)

    def finish(self) -> SkillRecord:
        """Write what is left; returns what was settled."""
        self._pack()
        held = self._splitter.hold()
        tokens, mask = self._packer.tail
        self._spool.append('tail', tokens)
        if mask is not None:
            self._spool.append('tail_mask', mask)
        train = self._records[TRAIN]
        train.cut_tokens = self._packer.cut_tokens
        train.dropped_without_target = self._packer.check.dropped
        with self._watches.time('write'):
            self._spool.append('train_keys', np.array(self._train_keys, np.uint64))
            self._spool.spill()
            self._spool.put_documents('held', held)
            if self._writer is not None:
                train.shards = self._writer.finish_shards()
        if self._writer is not None:
            train.samples, train.targets = self._writer.samples, self._writer.targets
            train.without_target = self._writer.without_target
        return SkillRecord(
            self._skill,
            train,
            self._records[EVAL],
            by_hash=self.by_hash,
            by_corpus=self.by_corpus,
            spool=self._spool.last,
        )

    def abort(self) -> None:
        """Upload no more."""
        if self._writer is not None:
            self._writer.abort()
