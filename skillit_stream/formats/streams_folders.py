"""The streams folders of a run, one or several: where they are, and their manifests put together to one.

Several folders are one corpus, each with skills of its own: the order in which they are named plays no part, and a run
on them is the run on one folder that holds all of their skills. So they must agree in what a sample is.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import is_url
from skillit_stream.formats.manifest import MANIFEST_NAME, Manifest, SkillInfo
from skillit_stream.formats.remote_folder import fetch_file, fetch_manifest

TOKENIZER_CONFIG = 'tokenizer/tokenizer_config.json'


@dataclass(frozen=True)
class SourceFolder:
    """One streams folder of a run."""

    source: str
    """As it was named: a path or a URL."""
    local: Path
    """The folder here: the same, or the cache of one that is elsewhere."""
    is_cached: bool
    """Whether `local` is a cache."""

    def manifest(self) -> Manifest:
        """What is in it; of one that is elsewhere a copy stays in the cache. Raises InputError."""
        if self.is_cached:
            return fetch_manifest(self.source, self.local)
        return Manifest.load(str(self.local))

    def file(self, name: str) -> Path:
        """The path of a file in it, which is fetched from a folder that is elsewhere; raises InputError there."""
        return fetch_file(self.source, name, self.local) if self.is_cached else self.local / name


def listed_folders(streams: Any) -> tuple[str, ...]:
    """The folders that `streams` names; ``~`` is the home folder, which no shell fills in behind a ``streams=``.

    Raises:
        InputError: It is neither a folder nor a list of folders.
    """
    named = [streams] if isinstance(streams, str) else streams
    if not isinstance(named, Sequence) or not named or not all(isinstance(one, str) and one for one in named):
        raise InputError(f'`streams` must be a streams folder, or a list of them, but got: {streams!r}.')
    named = [one if is_url(one) else os.path.expanduser(one) for one in named]
    places = [one.rstrip('/') if is_url(one) else os.path.abspath(one) for one in named]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise InputError(f'`streams` names {named[number]} twice: leave it out once.')
    return tuple(named)


def source_folders(streams: str | Sequence[str], streams_local: str | None) -> list[SourceFolder]:
    """The folders of a run.

    Args:
        streams: A folder or several.
        streams_local: Where they are kept here. Each of several has its own folder in it, named by its address.

    Raises:
        InputError: `streams` names none.
    """
    named = listed_folders(streams)
    if streams_local is None:
        return [SourceFolder(one, Path(one), is_cached=False) for one in named]
    if len(named) == 1:
        return [SourceFolder(named[0], Path(streams_local), is_cached=True)]
    addresses = [one.split('://')[1] if is_url(one) else os.path.abspath(one) for one in named]
    return [
        SourceFolder(one, Path(streams_local, address.strip('/')), is_cached=True)
        for one, address in zip(named, addresses, strict=True)
    ]


def joined_manifest(folders: Sequence[SourceFolder]) -> Manifest:
    """The manifest of one folder with the skills of all of these.

    Raises:
        InputError: One cannot be read, a skill is in two of them, or they differ in what a sample is.
    """
    manifests = {folder.source: folder.manifest() for folder in folders}
    if len(folders) == 1:
        return manifests[folders[0].source]
    first, *others = folders
    for other in others:
        _check_samples(first.source, manifests[first.source], other.source, manifests[other.source])
        _check_end(first, other)
    dropped: dict[str, int] = {}
    for manifest in manifests.values():
        for reason, count in manifest.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    like = manifests[first.source]
    return Manifest(
        seq_len=like.seq_len,
        dtype=like.dtype,
        columns=like.columns,
        tokenizer_name=like.tokenizer_name,
        tokenizer_hash=like.tokenizer_hash,
        vocab_size=like.vocab_size,
        skills=_joined_skills(manifests),
        dropped=dropped,
    )


def manifest_bytes(folders: Sequence[SourceFolder]) -> bytes:
    """The manifests that lie here as they are written, the same whatever the order of the folders."""
    return b''.join(sorted((folder.local / MANIFEST_NAME).read_bytes() for folder in folders))


def homes_of_skills(folders: Sequence[SourceFolder]) -> dict[str, SourceFolder]:
    """Skill -> the folder that it is in, by the manifests that lie here; raises InputError if one cannot be read."""
    return {skill: folder for folder in folders for skill in Manifest.load(str(folder.local)).skills}


def _joined_skills(manifests: Mapping[str, Manifest]) -> dict[str, SkillInfo]:
    home: dict[str, str] = {}
    for source, manifest in manifests.items():
        for skill in manifest.skills:
            if skill in home:
                raise InputError(
                    f'`streams`: skill {skill!r} is in {home[skill]} and in {source}: convert it under another name '
                    f'in one of them (--skill), or leave one of them out.'
                )
            home[skill] = source
    return {skill: manifests[home[skill]].skills[skill] for skill in sorted(home)}


def _check_samples(first: str, like: Manifest, second: str, other: Manifest) -> None:
    """Refuse manifests of samples that cannot be in one batch."""
    again = f'convert one of them again with --tokenizer {first.rstrip("/")}/tokenizer'
    if other.seq_len != like.seq_len:
        raise InputError(
            f'`streams`: {second} has samples of {other.seq_len} tokens, {first} of {like.seq_len}: convert one of '
            f'them again with the --seq-len of the other.'
        )
    if (other.tokenizer_hash, other.vocab_size) != (like.tokenizer_hash, like.vocab_size):
        raise InputError(
            f'`streams`: {second} is of another tokenizer ({other.tokenizer_name}) than {first} '
            f'({like.tokenizer_name}): {again}.'
        )
    if other.dtype != like.dtype:
        raise InputError(
            f'`streams`: {second} has tokens as {other.dtype}, {first} as {like.dtype}: {again}.'
        )
    if other.columns != like.columns:
        raise InputError(
            f'`streams`: {second} has the columns {", ".join(sorted(other.columns))}, {first} has '
            f'{", ".join(sorted(like.columns))}: convert one of them again with the --loss of the other.'
        )


def _check_end(first: SourceFolder, second: SourceFolder) -> None:
    """Refuse folders whose documents end with different tokens."""
    ends = [_end_of_documents(folder) for folder in (first, second)]
    if ends[0] != ends[1]:
        raise InputError(
            f'`streams`: documents end with {ends[1]!r} in {second.source}, with {ends[0]!r} in {first.source}: '
            f'convert one of them again with --tokenizer {first.source.rstrip("/")}/tokenizer.'
        )


def _end_of_documents(folder: SourceFolder) -> str:
    """The EOS token, by the copy of the tokenizer that lies beside the streams."""
    path = folder.file(TOKENIZER_CONFIG)
    try:
        token = json.loads(path.read_bytes()).get('eos_token')
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f'`streams`: {path} cannot be read, and so not whether documents end in {folder.source} as in the others: '
            f'restore it, or convert again.'
        ) from error
    return str(token.get('content') if isinstance(token, dict) else token)
