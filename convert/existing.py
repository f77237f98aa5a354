"""Finished streams that a conversion adds to: what in them decides on the new documents.

A document goes where an equal one of the old streams went: their manifest has, for every skill, the hash below which
documents are for eval (``corpus.eval_below``), and ``--add`` keeps to it. So no document of eval comes into train. A
skill whose corpus itself says what is for eval has no such hash: to it is added where every document is a sample, so
that those of the old eval are known.

Documents apart, a *sample* can be alike in both splits (200 blanks in a row). New train samples that are old eval
samples are left out of train, new eval samples that are train samples, old or new, out of eval.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.files import write_array
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import InputFile, VirtualFile
from skillit_stream.convert.options import ConvertOptions
from skillit_stream.convert.packing import Samples, sample_keys
from skillit_stream.convert.readers import hash_file
from skillit_stream.convert.splits import EVAL, HASH_BYTES, SplitRule, split_rule
from skillit_stream.convert.tokens import TOKENIZER_FOLDER
from skillit_stream.formats.manifest import Manifest, SourceInfo, SplitInfo

BOUNDS = 'eval_below'
SIZES = ('eval_fraction', 'eval_documents', 'eval_tokens')


@dataclass(frozen=True, eq=False)
class Existing:
    """The streams that are added to; without a manifest: none, as in a conversion to a new folder.

    Attributes:
        root: Their folder.
        work: Folder for what is computed from them.
        manifest: What is in them.
    """

    root: str = ''
    work: str = ''
    manifest: Manifest | None = None

    @property
    def name(self) -> str:
        """Of this addition, in the names of its shards; empty where there is nothing to add to."""
        return f'add{max(len(self.manifest.history), 1)}' if self.manifest else ''

    def settle(self, options: ConvertOptions, tokenizer_hash: str, asked: str) -> ConvertOptions:
        """Refuse options that make other samples than those of the streams, or another eval.

        Args:
            options: Of the command.
            tokenizer_hash: Of its tokenizer.
            asked: What the command calls that.

        Returns:
            The options, with the streams' size of eval where the command names none.

        Raises:
            InputError: One differs.
        """
        if self.manifest is None:
            return options
        has = self.manifest
        sizes = {name: has.corpus[name] for name in SIZES if name in has.corpus}
        if not sizes:
            raise InputError(
                f'--add: the streams in {self.root} are computed ({has.corpus.get("name")}), and cannot be added to'
            )
        if tokenizer_hash != has.tokenizer_hash:
            raise InputError(
                f'--tokenizer {asked}: is not the one of {self.root} ({has.tokenizer_name}); pass '
                f'--tokenizer {os.path.join(self.root, TOKENIZER_FOLDER)}'
            )
        shape: dict[str, Any] = {'one_per_sample': False, 'loss': 'all', 'drop_without_target': False}
        shape['special_tokens'] = ConvertOptions.special_tokens
        shape |= {name: has.corpus[name] for name in shape if name in has.corpus}
        sizes = {**dict.fromkeys(SIZES), **sizes}
        if all(getattr(options, name) is None for name in SIZES):
            options = replace(options, **sizes)
        wanted = {'seq_len': has.seq_len, **shape, **sizes}
        for name, value in wanted.items():
            if getattr(options, name) != value:
                raise InputError(
                    f'--{name.replace("_", "-")}: must be as in {self.root}, {_in_words(value)}, but got: '
                    f'{_in_words(getattr(options, name))}'
                )
        return options

    def label(self, label: str) -> str:
        """A label of shards that no earlier conversion has used."""
        return '.'.join(filter(None, (self.name, label)))

    def splits(self, skill: str) -> Mapping[str, SplitInfo]:
        """What there is of a skill; nothing of a new one."""
        known = self.manifest.skills.get(skill) if self.manifest else None
        return known.splits if known else {}

    def settings(self) -> dict[str, Any]:
        """What the work of an addition depends on besides the options."""
        if not self.manifest:
            return {}
        hashes = {
            skill: {split: info.index_hash for split, info in one.splits.items()}
            for skill, one in self.manifest.skills.items()
        }
        return {'added_to': [self.name, hashes, self.names()]}

    def names(self) -> dict[str, str]:
        """Name of a corpus -> the skill that its documents are of."""
        skills = self.manifest.skills if self.manifest else {}
        return {name: skill for skill, info in skills.items() for name in info.names or (skill,)}

    def rule(self, skill: str, options: ConvertOptions) -> SplitRule:
        """How the documents of a skill are split by their hash."""
        bound = self._bound(skill)
        return split_rule(options) if bound is None else SplitRule.at(int(bound, 16))

    def check_split(self, skill: str, split: str | None, options: ConvertOptions) -> None:
        """Refuse a document of a known skill of which nobody can say that its twins went to the same split.

        Args:
            skill: Its skill.
            split: The one that its corpus says; None: its hash decides.
            options: Of the command.

        Raises:
            InputError: The hash decides where the corpus did before, or the other way round; or the corpus did, and
                the documents do not stand alone in their samples, where they could be compared.
        """
        if not self.splits(skill):
            return
        own = 'give the new files a skill of their own'
        is_by_hash = self._bound(skill) is not None
        if split is not None and is_by_hash:
            raise InputError(
                f'skill {skill!r}: the corpus says itself which documents are for eval, but in {self.root} their hash '
                f'does; {own}'
            )
        if split is None and not is_by_hash:
            raise InputError(
                f'skill {skill!r}: {self.root} does not say which of its documents are for eval (its corpus decided, '
                f'it was merged of skills that were split differently, or an earlier release made it); {own}, or '
                'convert all anew'
            )
        if split is not None and not options.one_per_sample:
            raise InputError(
                f'skill {skill!r}: its corpus decides which documents are for eval, and in samples of several '
                f'documents those of {self.root} cannot be told apart, so that one of eval could come into train; '
                f'{own}, or convert all anew'
            )

    def _bound(self, skill: str) -> str | None:
        """The hash below which documents of a known skill are for eval; None if there is none."""
        bounds = self.manifest.corpus.get(BOUNDS, {}) if self.manifest else {}
        return bounds.get(skill) if self.splits(skill) else None

    def outside_eval(self, skill: str, keys: np.ndarray) -> np.ndarray:
        """Which samples, by their :func:`~skillit_stream.convert.packing.sample_keys`, are not in eval; bool [n]."""
        if EVAL not in self.splits(skill):
            return np.ones(len(keys), bool)
        known = _sorted_keys(self, skill)
        places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return known[places] != keys

    def keys(self, skill: str, split: str) -> Iterator[np.ndarray]:
        """The keys of the samples of a split, uint64 [samples] a shard; none of a new skill.

        Raises:
            InputError: A shard is missing or damaged.
        """
        if split not in self.splits(skill):
            return
        from streaming.base.format import reader_from_json

        from skillit_stream.loader.shards import DamagedShardError, ShardMaps, sample_dtype

        folder = os.path.join(self.root, skill, split)
        for entry in index_entries(folder):
            shard = reader_from_json(folder, '', entry)
            dtype = sample_dtype(shard)
            if dtype is None:
                raise RuntimeError(f'Internal error: {folder} has columns of varying size')
            with as_input_error(self.root, DamagedShardError, OSError):
                tokens = ShardMaps(dtype).get(0, shard)['tokens']  # type: ignore[arg-type]
            yield sample_keys(Samples(tokens, None))

    def unknown(self, files: Sequence[InputFile]) -> tuple[list[InputFile], list[str]]:
        """Divide files by their contents.

        Returns:
            (files that are not in the streams yet, paths of those that are).
        """
        known = self._known
        sizes = {size for size, _ in known}
        new: list[InputFile] = []
        old: list[InputFile] = []
        for file in files:
            is_known = file.size in sizes and not isinstance(file, VirtualFile) and _stamp(file) in known
            (old if is_known else new).append(file)
        return new, [file.path for file in old]

    def check_sources(self, sources: Sequence[SourceInfo]) -> None:
        """Refuse sources whose contents only reading has shown to be in the streams; raises InputError."""
        for source in sources:
            name = self._known.get((source.bytes, source.hash))
            if name is not None:
                raise InputError(
                    f'{source.file}: {self.root} has it already, as {name}; name only what is new'
                )

    @cached_property
    def _known(self) -> Mapping[tuple[int, str], str]:
        """Bytes and hash of each file in the streams -> its name; asked for once a skill."""
        skills = self.manifest.skills.values() if self.manifest else ()
        return {(source.bytes, source.hash): source.file for one in skills for source in one.sources}


def _stamp(file: InputFile) -> tuple[int, str] | None:
    """Size and hash of a file; None if it cannot be read, which whoever converts it reports."""
    try:
        digest, size = hash_file(file.path)
    except BadRecordError:
        return None
    return size, digest


@lru_cache(maxsize=64)
def _sorted_keys(existing: Existing, skill: str) -> np.ndarray:
    """The keys of the samples in eval, uint64 ascending; every process of a conversion asks for them."""
    info = existing.splits(skill)[EVAL]
    path = Path(existing.work, 'eval_keys', skill, f'{info.index_hash[-32:]}.npy')
    if not path.exists():
        write_array(path, np.sort(np.concatenate(list(existing.keys(skill, EVAL)))))
    return np.load(path, mmap_mode='r')


def index_entries(folder: str) -> list[dict[str, Any]]:
    """The shards that the index of a split lists."""
    with open(os.path.join(folder, 'index.json'), encoding='utf-8') as file:
        return json.load(file)['shards']


def _in_words(value: Any) -> str:
    """The value of an option, or whether it is given."""
    if value is None or isinstance(value, bool):
        return 'given' if value else 'not given'
    return str(value)


def bound_in_words(threshold: int) -> str:
    """A hash as the manifest has it."""
    return f'{threshold:0{2 * HASH_BYTES}x}'
