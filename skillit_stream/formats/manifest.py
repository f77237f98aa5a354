"""The manifest of a streams folder, ``ROOT/skills.json``: which skills there are and what is in them.

Torch-free: a tool that only wants to know the skills of a folder pays little for it.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import from_plain, write_json

MANIFEST_NAME = 'skills.json'
# In the place of the manifest while the skills of a folder are renamed, dropped or merged: what is being done.
CHANGE_NAME = 'skills.json.change'
# Written where there is a history; without one, a manifest is of version 1.
VERSION = 2
SPLITS = ('train', 'eval')
# Key of `Manifest.corpus`: skills that were too small -> their documents and tokens.
LEFT_OUT = 'left_out'


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
    without_target: int | None = None
    """Samples written whose ``loss_mask`` counts no token behind the first; None where there is none."""


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
class SpecialTokensInfo:
    """Special tokens whose words the documents of a skill hold."""

    documents: int
    """Documents of the input that hold some."""
    tokens: Mapping[str, int]
    """Special token -> how often its words occur."""


@dataclass(frozen=True, kw_only=True)
class SkillInfo:
    """One skill: its splits, the files it came from, and what was left out of it."""

    splits: Mapping[str, SplitInfo]
    """Split name (train, eval) -> contents."""
    sources: tuple[SourceInfo, ...] = ()
    """Input files; empty for a generated corpus."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason -> count: records for a bad record's reason, tokens for ``tail_tokens``."""
    special_tokens: SpecialTokensInfo | None = None
    """None where there are none, and in the manifest of an earlier release."""
    names: tuple[str, ...] = ()
    """Names that a corpus has for it; empty where there is one, its own."""


@dataclass(frozen=True, kw_only=True)
class ConversionInfo:
    """One of the conversions that a streams folder was made by."""

    date: str
    """When it ended, ISO 8601 in UTC; of the first one, when ``skills.json`` was last written before the second."""
    corpus: Mapping[str, Any]
    """As :attr:`Manifest.corpus`."""
    arguments: Mapping[str, Any]
    """Of the command line; empty for the first one."""
    files: tuple[SourceInfo, ...]
    """Input files that documents were found in."""
    counts: Mapping[str, Mapping[str, Mapping[str, int]]]
    """Skill -> split -> documents, bytes, samples, tokens, target_tokens that it brought."""


@dataclass(frozen=True, kw_only=True)
class ChangeInfo:
    """One of the times that skills of a streams folder were renamed, dropped or merged."""

    date: str
    """When, ISO 8601 in UTC."""
    action: str
    """``rename``, ``drop`` or ``merge``."""
    skills: tuple[str, ...]
    """Those that it was done to."""
    into: str = ''
    """What their streams are called since; empty where they are gone."""


@dataclass(frozen=True, kw_only=True)
class _TokenizerInfo:
    name: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of ``skills.json``: version 1, or 2 where the folder was added to."""

    seq_len: int
    """Tokens in a sample."""
    dtype: str
    """``uint16`` or ``uint32``."""
    columns: Mapping[str, str]
    """MDS column -> encoding; ``tokens``, and ``loss_mask`` where not every token is a target."""
    tokenizer_name: str
    """What was asked for on the command line; the copy beside the manifest is what was used."""
    tokenizer_hash: str
    """``sha256:`` and the hex digest of ``ROOT/tokenizer/tokenizer.json``."""
    vocab_size: int
    """Every token id is smaller than this."""
    skills: Mapping[str, SkillInfo]
    """Skill -> contents, sorted by name."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason -> records left out that no skill could be named for."""
    corpus: Mapping[str, Any] = field(default_factory=dict)
    """The corpus and the options that decide what is in the folder."""
    history: tuple[ConversionInfo, ...] = ()
    """The conversions it was made by, the oldest first; empty if it was one."""
    changes: tuple[ChangeInfo, ...] = ()
    """What was done to its skills since, the oldest first."""

    @classmethod
    def load(cls, root: str, name: str = MANIFEST_NAME) -> 'Manifest':
        """Read ``ROOT/skills.json``.

        Args:
            root: The streams folder.
            name: Of the file in it.

        Raises:
            InputError: The file is missing, broken, or of a version this release does not know.
        """
        path = os.path.join(root, name)
        try:
            with open(path, encoding='utf-8') as file:
                data = json.load(file)
        except OSError as error:
            check_unchanged(root)
            reason = error.strerror or type(error).__name__
            raise InputError(
                f'{path}: cannot be read ({reason}); name a folder made by `skillit convert`'
            ) from error
        except ValueError as error:
            raise _broken(path, f'not JSON: {error}') from error
        if not isinstance(data, dict):
            raise _broken(path, 'not a JSON object')
        if data.get('version') not in range(1, VERSION + 1):
            raise InputError(
                f'{path}: version {data.get("version")!r}, but this release reads versions 1 to {VERSION}; '
                'convert the corpus again, or install the release that wrote it'
            )
        try:
            tokenizer = from_plain(_TokenizerInfo, data.pop('tokenizer', {}), 'tokenizer')
            flat = {**data, 'tokenizer_name': tokenizer.name, 'tokenizer_hash': tokenizer.hash}
            return from_plain(cls, {**flat, 'skills': dict(sorted(data.get('skills', {}).items()))})
        except (ValueError, AttributeError) as error:
            raise _broken(path, str(error)) from error

    def save(self, root: str) -> None:
        """Write ``ROOT/skills.json`` at once or not at all."""
        write_json(Path(root, MANIFEST_NAME), self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The manifest as the plain data of ``skills.json``."""
        data: dict[str, Any] = {
            'version': VERSION if self.history else 1,
            'tokenizer': {'name': self.tokenizer_name, 'hash': self.tokenizer_hash},
            'vocab_size': self.vocab_size,
            'seq_len': self.seq_len,
            'dtype': self.dtype,
            'columns': dict(self.columns),
            'skills': {
                name: {**_plain(skill), 'sources': [asdict(source) for source in skill.sources]}
                for name, skill in sorted(self.skills.items())
            },
        }
        if self.dropped:
            data['dropped'] = dict(self.dropped)
        if self.corpus:
            data['corpus'] = dict(self.corpus)
        if self.changes:
            data['changes'] = [asdict(one) for one in self.changes]
        if self.history:
            data['history'] = [
                {**asdict(one), 'files': [asdict(file) for file in one.files]} for one in self.history
            ]
        return data


def check_unchanged(root: str) -> None:
    """Refuse a folder whose skills are being renamed, dropped or merged, or in which that was stopped.

    Raises:
        InputError: There is a :data:`CHANGE_NAME`; the message is the way on.
    """
    path = os.path.join(root, CHANGE_NAME)
    try:
        with open(path, encoding='utf-8') as file:
            command = json.load(file)['command']
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path}: cannot be read ({error}); restore the folder from a copy') from error
    raise InputError(f'{root}: its skills are being changed; if that was stopped, finish it: {command}')


def _plain(skill: SkillInfo) -> dict[str, Any]:
    """As JSON takes it, without what only some skills and some streams have."""
    plain = asdict(skill)
    if skill.special_tokens is None:
        del plain['special_tokens']
    if not skill.names:
        del plain['names']
    for split in plain['splits'].values():
        if split['without_target'] is None:
            del split['without_target']
    return plain


def sum_of_special(counts: Iterable[SpecialTokensInfo]) -> SpecialTokensInfo | None:
    """What several parts of a skill hold of special tokens; None if it is nothing."""
    documents, tokens = 0, Counter[str]()
    for one in counts:
        documents += one.documents
        tokens.update(one.tokens)
    return SpecialTokensInfo(documents=documents, tokens=dict(sorted(tokens.items()))) if documents else None


def _broken(path: str, reason: str) -> InputError:
    return InputError(f'{path}: broken manifest ({reason}); convert the corpus again with --overwrite')
