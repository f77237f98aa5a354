"""Finished parts -> a streams folder: settle what waited for the whole corpus, write indexes and manifest."""

import os
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import number_of
from skillit_stream.convert.destinations import Destination
from skillit_stream.convert.options import ConvertOptions
from skillit_stream.convert.packing import Packer, Padder, Samples, new_packer, sample_keys
from skillit_stream.convert.parts import PartRecord, SkillRecord, SplitRecord, Spool, make_folder
from skillit_stream.convert.shards import new_writer
from skillit_stream.convert.splits import EVAL, TRAIN, Amount, EncodedDocument, SkillSplitter
from skillit_stream.convert.tokens import DocumentTokenizer
from skillit_stream.formats.manifest import SkillInfo, SourceInfo, SplitInfo

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
    """

    destination: Destination
    options: ConvertOptions
    tokenizer: DocumentTokenizer
    parts: Sequence[DonePart]
    generated: bool = False


@dataclass(frozen=True)
class AssembledSkill:
    """A skill whose streams are put together.

    Attributes:
        info: What this conversion brings of it; the hashes are of indexes with all shards.
        eval_below: The hash below which its documents are in eval; None: the corpus decided on some of them.
    """

    info: SkillInfo
    eval_below: int | None


def assemble_skills(assembly: Assembly) -> dict[str, AssembledSkill]:
    """Put the streams of all skills together; they are complete but for the manifest.

    Raises:
        InputError: A skill has too little for both splits, or two skills would have one name.
    """
    raw_names: dict[str, str] = {}
    for part in assembly.parts:
        for skill, record in part.record.skills.items():
            other = raw_names.setdefault(skill, record.raw_name)
            if other != record.raw_name:
                raise InputError(
                    f'skills {other!r} and {record.raw_name!r} would both be stored as {skill!r}; rename one, or '
                    'choose another --skill-field'
                )
    return {skill: one for skill in sorted(raw_names) if (one := _assemble(assembly, skill)) is not None}


def unplaced(assembly: Assembly, skills: Container[str]) -> dict[str, int]:
    """Counts of bad records of no known skill, or of a skill that no document is left of."""
    total: Counter[str] = Counter()
    for part in assembly.parts:
        total.update(part.record.faults)
        for skill, record in part.record.skills.items():
            if skill not in skills:
                total.update(record.faults)
    return dict(sorted((reason, count) for reason, count in total.items() if count))


def _assemble(assembly: Assembly, skill: str) -> AssembledSkill | None:
    parts = [
        (part.folder, part.record.skills[skill]) for part in assembly.parts if skill in part.record.skills
    ]
    if not any(record.train.documents or record.eval.documents or record.sources for _, record in parts):
        return None
    return _SkillAssembly(assembly, skill, parts).assemble()


class _SkillAssembly:
    """One skill while it is put together."""

    def __init__(self, assembly: Assembly, skill: str, parts: Sequence[tuple[str, SkillRecord]]) -> None:
        self.assembly = assembly
        self.skill = skill
        self.parts = parts
        dtype = assembly.tokenizer.dtype
        self.spools = [Spool(folder, skill, dtype) for folder, _ in parts]
        self.added: dict[str, list[EncodedDocument]] = {TRAIN: [], EVAL: []}
        self.dropped: Counter[str] = Counter()
        self.existing = assembly.destination.existing

    def assemble(self) -> AssembledSkill:
        by_hash = any(record.by_hash for _, record in self.parts)
        by_corpus = any(record.by_corpus for _, record in self.parts)
        threshold = self._settle_held() if by_hash else None
        splits = {}
        train_keys: Iterator[np.ndarray] = iter(())
        if self._has(TRAIN):
            splits[TRAIN], train_keys = self._finish_train()
        if self._has(EVAL):
            splits[EVAL] = self._write_eval(train_keys)
        if not any(split.samples for split in splits.values()):
            count = sum(split.documents for split in splits.values())
            raise InputError(
                f'skill {self.skill!r}: its {number_of(count, "new document")} cannot fill a sample of train or of '
                'eval that is not in the other split; add more at once'
            )
        for _, record in self.parts:
            self.dropped.update(record.faults)
        sources = tuple(SourceInfo(**source) for _, record in self.parts for source in record.sources)
        dropped = +self.dropped if self.assembly.generated else self.dropped
        self.existing.check_sources(sources)
        info = SkillInfo(splits=splits, sources=sources, dropped=dict(sorted(dropped.items())))
        return AssembledSkill(info, None if by_corpus else threshold)

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

    def _finish_train(self) -> tuple[SplitInfo, Iterator[np.ndarray]]:
        """Write what the parts left over of train, and the index of all of it."""
        packer = self._packer()
        pieces, in_eval = self._rest_of_train(packer)
        writer = self._writer(os.path.join(self.assembly.destination.work, 'rest'), TRAIN, label='rest')
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
        digest = self._finish_split(TRAIN, writer, [shard for record in records for shard in record.shards])
        samples = sum(record.samples for record in records)
        info = SplitInfo(
            samples=samples,
            tokens=samples * self.assembly.options.seq_len,
            target_tokens=sum(record.targets for record in records),
            bytes=sum(record.bytes for record in records),
            documents=sum(record.documents for record in records),
            index_hash=digest,
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

    def _finish_split(self, split: str, writer: Any, shards: Sequence[Mapping[str, Any]]) -> str:
        """Bring a split's shards together and write its index; returns the hash of that."""
        if not shards and split not in self.existing.splits(self.skill):
            raise InputError(
                f'skill {self.skill!r}: no {split} sample could be filled; lower --seq-len, or add documents'
            )
        folders = [writer.local, *(os.path.join(folder, self.skill, split) for folder, _ in self.parts)]
        return self.assembly.destination.finish_split(self.skill, split, folders, shards)

    def _write_eval(self, train_keys: Iterator[np.ndarray]) -> SplitInfo:
        """Pack and write eval, without what is in train too."""
        documents, shared = self._eval_documents(), self._shared_samples(train_keys)
        packer = self._packer()
        writer = self._writer(self.assembly.destination.root, EVAL)
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
            raise InputError(
                f'skill {self.skill!r}: each of its {number_of(dropped, "eval sample")} is in train too; '
                'raise --seq-len, or add other documents'
            )
        digest = self._finish_split(EVAL, writer, writer.finish_shards())
        return SplitInfo(
            samples=writer.samples,
            tokens=writer.samples * self.assembly.options.seq_len,
            target_tokens=writer.targets,
            bytes=text,
            documents=count,
            index_hash=digest,
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
        packer = self._packer()
        before = self.dropped.copy()
        keys = [sample_keys(packer.add(batch)) for batch in _batches(self._eval_documents())]
        self.dropped = before
        in_eval = np.unique(np.concatenate([np.empty(0, np.uint64), *keys]))
        in_train = chain(self.existing.keys(self.skill, TRAIN), train_keys) if len(in_eval) else ()
        found = [np.intersect1d(array, in_eval) for array in in_train]
        return np.unique(np.concatenate([np.empty(0, np.uint64), *found]))

    def _records(self, split: str) -> list[SplitRecord]:
        return [getattr(record, split) for _, record in self.parts]

    def _packer(self) -> Packer | Padder:
        return new_packer(self.assembly.options, self.assembly.tokenizer)

    def _count_cut(self, packer: Packer | Padder, records: Sequence[SplitRecord]) -> None:
        """What no sample holds: tokens left over at the end or cut off, and samples that teach nothing."""
        self.dropped['tail_tokens'] += len(packer.tail[0])
        self.dropped['cut_tokens'] += sum(record.cut_tokens for record in records)
        empty = sum(record.dropped_without_target for record in records)
        if self.assembly.options.drop_without_target:
            self.dropped['samples_without_target'] += empty

    def _writer(self, root: str, split: str, label: str = '') -> Any:
        """A writer into an empty folder: MDSWriter takes no other."""
        local = os.path.join(root, self.skill, split)
        make_folder(local)
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
