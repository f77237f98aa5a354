"""Where the documents of one skill of a part go, and how long each stage takes."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from skillit_stream.convert.job import Job
from skillit_stream.convert.packing import Samples, new_packer, sample_keys
from skillit_stream.convert.parts import SplitRecord, Spool, shards_folder
from skillit_stream.convert.shards import new_writer
from skillit_stream.convert.splits import EVAL, TRAIN, EncodedDocument, SkillSplitter
from skillit_stream.convert.tokens import DocumentTokenizer


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
        job: Has the options, and the destination of the shards.
        tokenizer: Gives dtype and padding.
        label: Part of the names of the shards.
        watches: Are told where the time goes.
    """

    def __init__(
        self,
        skill: str,
        folder: str,
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
        self._spool = Spool(folder, skill, tokenizer.dtype)
        self._existing = job.destination.existing
        self._splitter = SkillSplitter(skill, self._existing.rule(skill, job.options), self._emit)
        self._packer = new_packer(job.options, tokenizer, TRAIN)
        self._waiting: dict[str, list[EncodedDocument]] = {TRAIN: [], EVAL: []}
        self._records = {TRAIN: SplitRecord(), EVAL: SplitRecord()}
        self._train_keys: list[int] = []
        self._writer: Any = None

    def take(self, document: EncodedDocument, split: str | None) -> None:
        """Take the next document of the skill; `split` is the corpus's word, if it has one."""
        if split is None:
            self.by_hash = True
            self._splitter.add(document)
            return
        self._existing.check_split(self._skill, split)
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

    def flush(self) -> None:
        """Pack and write what has been settled."""
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
            with self._watches.time('write'):
                # A document stands here once for each of its copies.
                self._spool.add_documents(EVAL, [replace(one, copies=1) for one in evaluation])

    def _write(self, samples: Samples) -> None:
        if not len(samples):
            return
        if self._writer is None:
            local = shards_folder(self._folder, self._skill, TRAIN)
            out = self._job.destination.writer_target(local, self._skill, TRAIN)
            self._writer = new_writer(out, self._job.options, self._dtype, self._label)
        self._writer.write_samples(samples)

    def finish(self) -> tuple[SplitRecord, SplitRecord]:
        """Write what is left; returns what was settled of train and of eval."""
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
        train.dropped_without_target = self._packer.check.dropped
        if self._writer is not None:
            with self._watches.time('write'):
                train.shards = self._writer.finish_shards()
            train.samples, train.targets = self._writer.samples, self._writer.targets
            train.without_target = self._writer.without_target
        return train, self._records[EVAL]

    def abort(self) -> None:
        """Stop the writer's threads."""
        if self._writer is not None:
            self._writer.cancel_future_jobs()
