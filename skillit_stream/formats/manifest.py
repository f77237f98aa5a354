"""The manifest of a streams folder, ``ROOT/skills.json``: which skills there are and what is in them.

NumPy-free and torch-free: a tool that only wants to know the skills of a folder pays nothing for it.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from skillit_stream.base.errors import InputError

MANIFEST_NAME = 'skills.json'
VERSION = 1
SPLITS = ('train', 'eval')


@dataclass(frozen=True, kw_only=True)
class SplitInfo:
    """What one split of one skill holds. All counts are exact."""

    samples: int
    """Fixed-length token sequences written."""
    tokens: int
    """Tokens written, padding included: ``samples * seq_len``."""
    target_tokens: int
    """Tokens that count as prediction targets: the ones of ``loss_mask``; all tokens without that column."""
    bytes: int
    """UTF-8 bytes of text of the split's documents."""
    documents: int
    """Documents in the split, the one cut by the dropped tail included."""
    index_hash: str
    """``sha256:`` and the hex digest of the split's ``index.json``, which holds the shards' hashes."""
    text_tokens: int | None = None
    """Tokens that the text of `bytes` was encoded to, an EOS a document included, whether they came into a
    sample or not; None where the loss is on answers alone, and in the manifest of an earlier release."""


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """One input file of a skill, so that a streams folder can be traced to its corpus."""

    file: str
    """Path relative to the folder that was converted."""
    bytes: int
    """Size on disk, compressed if the file is."""
    hash: str
    """``blake2b:`` and the hex digest of the file as it is on disk."""


@dataclass(frozen=True, kw_only=True)
class SkillInfo:
    """One skill: its splits, the files it came from, and what was left out of it."""

    splits: Mapping[str, SplitInfo]
    """Split name (train, eval) -> contents."""
    sources: tuple[SourceInfo, ...] = ()
    """Input files; empty for a generated corpus."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason -> count: records for a bad record's reason, tokens for ``tail_tokens``."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of ``skills.json``, version 1."""

    tokenizer_name: str
    """What was asked for on the command line; the copy beside the manifest is what was used."""
    tokenizer_hash: str
    """``sha256:`` and the hex digest of ``ROOT/tokenizer/tokenizer.json``."""
    vocab_size: int
    """Every token id is smaller than this."""
    seq_len: int
    """Tokens in a sample."""
    dtype: str
    """``uint16`` or ``uint32``."""
    columns: Mapping[str, str]
    """MDS column -> encoding; ``tokens``, and ``loss_mask`` where not every token is a target."""
    skills: Mapping[str, SkillInfo]
    """Skill -> contents, sorted by name."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason -> records left out that no skill could be named for."""
    corpus: Mapping[str, Any] = field(default_factory=dict)
    """The corpus and the options that decide what is in the folder."""

    @classmethod
    def load(cls, root: str) -> 'Manifest':
        """Read ``ROOT/skills.json``.

        Args:
            root: The streams folder.

        Raises:
            InputError: The file is missing, broken, or of a version this release does not know.
        """
        path = os.path.join(root, MANIFEST_NAME)
        try:
            with open(path, encoding='utf-8') as file:
                data = json.load(file)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InputError(
                f'{path}: cannot be read ({reason}); name a folder made by `skillit convert`'
            ) from error
        except ValueError as error:
            raise _broken(path, f'not JSON: {error}') from error
        if not isinstance(data, dict):
            raise _broken(path, 'not a JSON object')
        if data.get('version') != VERSION:
            raise InputError(
                f'{path}: version {data.get("version")!r}, but this release reads version {VERSION}; '
                'convert the corpus again, or install the release that wrote it'
            )
        try:
            return _manifest_from_json(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _broken(path, f'{type(error).__name__}: {error}') from error

    def save(self, root: str) -> None:
        """Write ``ROOT/skills.json`` at once or not at all."""
        write_json(os.path.join(root, MANIFEST_NAME), self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The manifest as the plain data of ``skills.json``."""
        data: dict[str, Any] = {
            'version': VERSION,
            'tokenizer': {'name': self.tokenizer_name, 'hash': self.tokenizer_hash},
            'vocab_size': self.vocab_size,
            'seq_len': self.seq_len,
            'dtype': self.dtype,
            'columns': dict(self.columns),
            'skills': {name: _skill_to_json(self.skills[name]) for name in sorted(self.skills)},
        }
        if self.dropped:
            data['dropped'] = dict(self.dropped)
        if self.corpus:
            data['corpus'] = dict(self.corpus)
        return data


def write_json(path: str, data: Any) -> None:
    """Write `data` to `path` as indented JSON through a temporary name, so that no half file is ever seen."""
    partial = f'{path}.partial'
    try:
        with open(partial, 'w', encoding='utf-8') as file:
            json.dump(data, file, indent=1, ensure_ascii=False)
            file.write('\n')
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def _broken(path: str, reason: str) -> InputError:
    return InputError(f'{path}: broken manifest ({reason}); convert the corpus again with --overwrite')


def _skill_to_json(skill: SkillInfo) -> dict[str, Any]:
    return {
        'splits': {name: vars(split).copy() for name, split in skill.splits.items()},
        'sources': [vars(source).copy() for source in skill.sources],
        'dropped': dict(skill.dropped),
    }


def _manifest_from_json(data: dict[str, Any]) -> Manifest:
    return Manifest(
        tokenizer_name=_typed(data['tokenizer']['name'], str, 'tokenizer.name'),
        tokenizer_hash=_typed(data['tokenizer']['hash'], str, 'tokenizer.hash'),
        vocab_size=_typed(data['vocab_size'], int, 'vocab_size'),
        seq_len=_typed(data['seq_len'], int, 'seq_len'),
        dtype=_typed(data['dtype'], str, 'dtype'),
        columns=dict(data['columns']),
        skills={name: _skill_from_json(name, skill) for name, skill in sorted(data['skills'].items())},
        dropped=dict(data.get('dropped', {})),
        corpus=dict(data.get('corpus', {})),
    )


def _skill_from_json(name: str, data: dict[str, Any]) -> SkillInfo:
    return SkillInfo(
        splits={
            split: _record(SplitInfo, contents, f'{name}.{split}')
            for split, contents in data['splits'].items()
        },
        sources=tuple(_record(SourceInfo, source, f'{name}.sources') for source in data.get('sources', ())),
        dropped=dict(data.get('dropped', {})),
    )


def _record(make: Callable[..., Any], data: dict[str, Any], where: str) -> Any:
    """Build the dataclass `make` from `data`; a key of a later release is passed over, one of this may be left out."""
    return make(
        **{
            f.name: _typed(data[f.name], f.type, f'{where}.{f.name}')
            for f in fields(make)  # type: ignore[arg-type]
            if f.name in data or f.default is MISSING
        }
    )


def _typed(value: Any, kind: Any, where: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f'{where} must be {getattr(kind, "__name__", kind)}, but got: {value!r}')
    return value
