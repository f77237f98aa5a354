"""Finished parts of a skill -> its shards: settle what waited for the whole corpus, and write it."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from skillit_stream.base.names import number_of
from skillit_stream.convert.destinations import REST_FOLDER, Destination
from skillit_stream.convert.options import ConvertOptions
from skillit_stream.convert.packing import Packer, Padder, Samples, new_packer, sample_keys
from skillit_stream.convert.parts import (
    PartRecord,
    SkillRecord,
    SplitRecord,
    shards_folder,
)
from skillit_stream.convert.shard_writer import ShardWriter, new_writer
from skillit_stream.convert.shards import Shard
from skillit_stream.convert.splits import (
    EVAL,
    TRAIN,
    Amount,
    EncodedDocument,
    SkillSplitter,
    TooSmallError,
)
from skillit_stream.convert.spool import SpooledSkill
from skillit_stream.convert.tokens import DocumentTokenizer
from skillit_stream.formats.manifest import (
    SkillInfo,
    SourceInfo,
    SpecialTokensInfo,
    SplitInfo,
    sum_of_special,
)

# Eval documents packed at once.
BATCH = 512


@dataclass(frozen=True)
class DonePart:
    """A part that is done."""

    folder: str
    record: PartRecord


@dataclass(frozen=True)
class Assembly:
    """What a streams folder is put together from.

    Attributes:
        destination: Where they come to lie; complete when the manifest lies there.
        options: Of the command.
        tokenizer: Gives dtype and padding.
        parts: All of them, in order.
        generated: Whether the corpus is computed: what is not left out is not counted.
        min_samples: Skills with fewer are left out; None: one that fills none is refused.
    """

    destination: Destination
    options: ConvertOptions
    tokenizer: DocumentTokenizer
    parts: Sequence[DonePart]
    generated: bool = False
    min_samples: int | None = None

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """What stands for the hash of a file that is divided -> that."""
        return {name: found for part in self.parts for name, found in part.record.hashes.items()}


@dataclass(frozen=True)
class AssembledSkill:
    """A skill whose streams are put together.

    Attributes:
        info: What this conversion brings of it; the hashes are of indexes with all shards.
        eval_below: The hash below which its documents are in eval; None: the corpus decided on some of them.
    """

    info: SkillInfo
    eval_below: int | None


@dataclass(frozen=True)
class SkillDraft:
    """A skill whose shards are written, but not brought together; `info` has no hashes yet."""

    assembled: AssembledSkill
    shards: Mapping[str, tuple[Sequence[str], Sequence[Shard]]]
    """Split -> (folders with its shards, what they are)."""


def parts_of(assembly: Assembly, skill: str) -> list[tuple[str, SkillRecord]]:
    """Folder and record of the parts that have something of a skill."""
    return [
        (part.folder, part.record.skills[skill]) for part in assembly.parts if skill in part.record.skills
    ]


def draft_skill(assembly: Assembly, skill: str) -> SkillDraft | None:
    """Write what waited for all parts of a skill; None if it has no documents. Raises TooSmallError."""
    parts = parts_of(assembly, skill)
    if not any(record.train.documents or record.eval.documents or record.sources for _, record in parts):
        return None
    return _SkillAssembly(assembly, skill, parts).draft()


class _SkillAssembly:
    """One skill while it is put together."""

    def __init__(self, assembly: Assembly, skill: str, parts: Sequence[tuple[str, SkillRecord]]) -> None:
        self.assembly = assembly
        self.skill = skill
        self.parts = parts
        dtype = assembly.tokenizer.dtype
        self.spools = [SpooledSkill(folder, record.spool, dtype) for folder, record in parts]
        self.added: dict[str, list[EncodedDocument]] = {TRAIN: [], EVAL: []}
        self.dropped: Counter[str] = Counter()
        self.shards: dict[str, tuple[Sequence[str], Sequence[Shard]]] = {}
        self.existing = assembly.destination.existing

    def draft(self) -> SkillDraft:
        """Write what waited for all parts; raises TooSmallError."""
        by_hash = any(record.by_hash for _, record in self.parts)
        by_corpus = any(record.by_corpus for _, record in self.parts)
        threshold = self._settle_held() if by_hash else None
        splits = {}
        train_keys: Iterator[np.ndarray] = iter(())
        if self._has(TRAIN):
            splits[TRAIN], train_keys = self._write_train()
        if self._has(EVAL):
            splits[EVAL] = self._write_eval(train_keys)
        if not any(split.samples for split in splits.values()):
            count = number_of(sum(split.documents for split in splits.values()), 'new document')
            raise TooSmallError(
                self.skill,
                f'its {count} cannot fill a sample of train or of eval that is not in the other split',
                'add more at once',
                count,
            )
        for _, record in self.parts:
            self.dropped.update(record.faults)
        sources = tuple(self._sources())
        dropped = +self.dropped if self.assembly.generated else self.dropped
        self.existing.check_sources(sources)
        names = tuple({record.raw_name: None for _, record in self.parts if record.raw_name != self.skill})
        info = SkillInfo(
            splits=splits,
            sources=sources,
            dropped=dict(sorted(dropped.items())),
            special_tokens=sum_of_special(
                SpecialTokensInfo(documents=record.special_documents, tokens=record.special_tokens)
                for _, record in self.parts
            ),
            names=names,
        )
        return SkillDraft(AssembledSkill(info, None if by_corpus else threshold), self.shards)

    def _sources(self) -> Iterator[SourceInfo]:
        """The files that the skill was found in, each once, however many parts it is divided into."""
        known: set[str] = set()
        for source in (one for _, record in self.parts for one in record.sources):
            digest = source['hash']
            if digest not in known or digest not in self.assembly.hashes:
                known.add(digest)
                yield SourceInfo(**{**source, 'hash': self.assembly.hashes.get(digest, digest)})

    def _has(self, split: str) -> bool:
        """Whether there is anything in a split; only a corpus that decides on splits itself leaves one out."""
        return bool(self.added[split]) or any(record.documents for record in self._records(split))

    def _settle_held(self) -> int:
        """Decide on the documents that parts held back; returns the hash below which they go to eval."""
        settled = {
            split: sum((Amount(one.tokens, one.documents) for one in self._records(split)), Amount())
            for split in (TRAIN, EVAL)
        }
        rule = self.existing.rule(self.skill, self.assembly.options)
        splitter = SkillSplitter(
            self.skill, rule, lambda split, document: self.added[split].append(document), settled
        )
        for spool in self.spools:
            for document in spool.documents('held'):
                splitter.add(document)
        splitter.finish()
        return splitter.threshold

    def _write_train(self) -> tuple[SplitInfo, Iterator[np.ndarray]]:
        """Write what the parts left over of train."""
        packer = self._packer(TRAIN)
        pieces, in_eval = self._rest_of_train(packer)
        writer = self._writer(TRAIN, label='rest')
        for piece in pieces:
            writer.write_samples(piece)
        rest = SplitRecord(
            documents=len(self.added[TRAIN]),
            tokens=sum(len(one.tokens) for one in self.added[TRAIN]),
            bytes=sum(one.bytes for one in self.added[TRAIN]),
            samples=writer.samples,
            targets=writer.targets,
            cut_tokens=packer.cut_tokens,
            without_target=writer.without_target,
            dropped_without_target=packer.check.dropped,
            in_eval=in_eval,
            shards=writer.finish_shards(),
        )
        records = [*self._records(TRAIN), rest]
        self._count_cut(packer, records)
        if self.existing.splits(self.skill):
            self.dropped['train_samples_in_eval'] += sum(record.in_eval for record in records)
        self._keep_split(TRAIN, writer, [shard for record in records for shard in record.shards])
        if not self.shards[TRAIN][1] and TRAIN not in self.existing.splits(self.skill):
            documents, tokens = (
                sum(getattr(one, name) for one in records) for name in ('documents', 'tokens')
            )
            empty = sum(one.dropped_without_target for one in records)
            raise self._too_small(TRAIN, documents, tokens, empty)
        samples = sum(record.samples for record in records)
        info = SplitInfo(
            samples=samples,
            tokens=samples * self.assembly.options.seq_len,
            target_tokens=sum(record.targets for record in records),
            bytes=sum(record.bytes for record in records),
            documents=sum(record.documents for record in records),
            index_hash='',
            text_tokens=self._text_tokens(sum(record.tokens for record in records)),
            without_target=sum(record.without_target for record in records) or None,
        )
        spooled = (spool.array('keys', np.uint64) for spool in self.spools)
        return info, chain(spooled, map(sample_keys, pieces))

    def _rest_of_train(self, packer: Packer | Padder) -> tuple[list[Samples], int]:
        """The samples of what the parts left over, and how many were left out of them for being in eval."""
        dtype = self.assembly.tokenizer.dtype
        pieces: list[Samples] = []
        for spool in self.spools:
            tail, mask = spool.array('tail', dtype), spool.array('tail_mask', np.uint8)
            pieces.append(packer.extend(np.array(tail), np.array(mask)))
        if self.added[TRAIN]:
            pieces.append(packer.add(self.added[TRAIN]))
        pieces = [one for one in pieces if len(one)]
        kept = [self.existing.outside_eval(self.skill, sample_keys(one)) for one in pieces]
        chosen = [one.select(which) for one, which in zip(pieces, kept, strict=True)]
        return [one for one in chosen if len(one)], sum(int((~which).sum()) for which in kept)

    def _keep_split(self, split: str, writer: ShardWriter, shards: Sequence[Shard]) -> None:
        """Keep in mind where the shards of a split are."""
        folders = [writer.local]
        if split == TRAIN:
            folders += [
                shards_folder(folder, self.skill) for folder, record in self.parts if record.train.shards
            ]
        self.shards[split] = (folders, shards)

    def _too_small(self, split: str, documents: int, tokens: int, empty: int) -> TooSmallError:
        """Why no sample of a split could be written: of so many tokens, and samples without a target left out."""
        in_train, shared = (self.dropped[f'eval_{kind}_in_train'] for kind in ('documents', 'samples'))
        size = f'{number_of(tokens, "token")} in {number_of(documents, "document")} of {split}'
        if split == EVAL and shared:
            brief = f'each of its {number_of(shared, "eval sample")} is in train too'
            return TooSmallError(self.skill, brief, 'raise --seq-len, or add other documents', brief)
        if split == EVAL and not documents and in_train:
            brief = f'each of its {number_of(in_train, "eval document")} is in train too'
            return TooSmallError(self.skill, brief, 'add other documents to eval', brief)
        if empty:
            brief = f'none of its {number_of(empty, f"{split} sample")} has a token that counts in the loss'
            remedy = 'raise --seq-len, or leave out --drop-without-target'
            return TooSmallError(self.skill, brief, remedy, brief)
        what = f'its {size} do not fill a sample of {self.assembly.options.seq_len} tokens'
        return TooSmallError(self.skill, what, f'lower --seq-len, or add documents to {split}', size)

    def _write_eval(self, train_keys: Iterator[np.ndarray]) -> SplitInfo:
        """Pack and write eval, without what is in train too."""
        documents, shared = self._eval_documents(), self._shared_samples(train_keys)
        packer = self._packer(EVAL)
        writer = self._writer(EVAL)
        count = text = tokens = dropped = 0
        for batch in _batches(documents):
            count += len(batch)
            text += sum(one.bytes for one in batch)
            tokens += sum(len(one.tokens) for one in batch)
            samples = packer.add(batch)
            kept = ~np.isin(sample_keys(samples), shared)
            dropped += int((~kept).sum())
            writer.write_samples(samples.select(kept))
        cut = SplitRecord(cut_tokens=packer.cut_tokens, dropped_without_target=packer.check.dropped)
        self._count_cut(packer, [cut])
        self.dropped['eval_samples_in_train'] += dropped
        if not writer.samples and EVAL not in self.existing.splits(self.skill):
            raise self._too_small(EVAL, count, tokens, cut.dropped_without_target)
        self._keep_split(EVAL, writer, writer.finish_shards())
        return SplitInfo(
            samples=writer.samples,
            tokens=writer.samples * self.assembly.options.seq_len,
            target_tokens=writer.targets,
            bytes=text,
            documents=count,
            index_hash='',
            text_tokens=self._text_tokens(tokens),
            without_target=writer.without_target or None,
        )

    def _text_tokens(self, tokens: int) -> int | None:
        return tokens if self.assembly.options.loss == 'all' else None

    def _eval_documents(self) -> Iterator[EncodedDocument]:
        """The documents of eval, without those that the corpus itself put into train as well."""
        in_train = np.unique(np.concatenate([spool.array('train_keys', np.uint64) for spool in self.spools]))
        for source in (*(spool.documents(EVAL) for spool in self.spools), iter(self.added[EVAL])):
            for document in source:
                if len(in_train) and np.isin(np.uint64(document.key >> 64), in_train):
                    self.dropped['eval_documents_in_train'] += 1
                else:
                    yield document

    def _shared_samples(self, train_keys: Iterator[np.ndarray]) -> np.ndarray:
        """Keys of the samples that would be in both splits, uint64 [n]; eval is packed once to find them."""
        packer = self._packer(EVAL)
        before = self.dropped.copy()
        keys = [sample_keys(packer.add(batch)) for batch in _batches(self._eval_documents())]
        self.dropped = before
        in_eval = np.unique(np.concatenate([np.empty(0, np.uint64), *keys]))
        in_train = chain(self.existing.keys(self.skill, TRAIN), train_keys) if len(in_eval) else ()
        found = [np.intersect1d(array, in_eval) for array in in_train]
        return np.unique(np.concatenate([np.empty(0, np.uint64), *found]))

    def _records(self, split: str) -> list[SplitRecord]:
        return [getattr(record, split) for _, record in self.parts]

    def _packer(self, split: str) -> Packer | Padder:
        return new_packer(self.assembly.options, self.assembly.tokenizer, split)

    def _count_cut(self, packer: Packer | Padder, records: Sequence[SplitRecord]) -> None:
        """What no sample holds: tokens left over at the end or cut off, and samples that teach nothing."""
        self.dropped['tail_tokens'] += len(packer.tail[0])
        self.dropped['cut_tokens'] += sum(record.cut_tokens for record in records)
        empty = sum(record.dropped_without_target for record in records)
        if self.assembly.options.drop_without_target:
            self.dropped['samples_without_target'] += empty

    def _writer(self, split: str, label: str = '') -> ShardWriter:
        local = os.path.join(self.assembly.destination.work, REST_FOLDER, split, self.skill)
        out = self.assembly.destination.writer_target(local, self.skill, split)
        label = self.existing.label(label)
        return new_writer(out, self.assembly.options, self.assembly.tokenizer.dtype, label)


def _batches(documents: Iterator[EncodedDocument]) -> Iterator[list[EncodedDocument]]:
    batch: list[EncodedDocument] = []
    for document in documents:
        batch.append(document)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
