"""The manifest of streams that were added to: counts are sums, and each conversion has an entry in the history."""

import argparse
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from skillit_stream.convert.existing import BOUNDS, Existing
from skillit_stream.formats.manifest import (
    MANIFEST_NAME,
    ConversionInfo,
    Manifest,
    SkillInfo,
    SourceInfo,
    SplitInfo,
    sum_of_special,
)

COUNTS = ('documents', 'bytes', 'samples', 'tokens', 'target_tokens')
# Of a command line: they have no influence on the result.
NO_INFLUENCE = ('add', 'command', 'corpus', 'debug', 'overwrite', 'ray', 'task', 'work', 'workers')


def grown_manifest(existing: Existing, new: Manifest, args: argparse.Namespace) -> Manifest:
    """The manifest of the old streams and the new ones together.

    Args:
        existing: What is added to; without a manifest the new one is returned as it is.
        new: Of what this conversion brings, with the hashes of whole indexes.
        args: Its command line.
    """
    old = existing.manifest
    if old is None:
        return new
    skills = {**old.skills, **{name: _sum(old.skills.get(name), info) for name, info in new.skills.items()}}
    history = old.history or (_entry(old, _written(existing.root), {}),)
    arguments = {
        name: value
        for name, value in vars(args).items()
        if name not in NO_INFLUENCE and value is not None and isinstance(value, str | int | float | list)
    }
    now = datetime.now(timezone.utc).isoformat(timespec='seconds')
    return replace(
        old,
        skills=dict(sorted(skills.items())),
        dropped=dict(sorted((Counter(old.dropped) + Counter(new.dropped)).items())),
        corpus={**old.corpus, BOUNDS: {**old.corpus.get(BOUNDS, {}), **new.corpus.get(BOUNDS, {})}},
        history=(*history, _entry(new, now, arguments)),
    )


def _sum(old: SkillInfo | None, new: SkillInfo) -> SkillInfo:
    if old is None:
        return new
    splits = dict(old.splits)
    for split, info in new.splits.items():
        splits[split] = sum_of_splits(splits[split], info) if split in splits else info
    dropped = Counter(old.dropped)
    dropped.update(new.dropped)
    return SkillInfo(
        splits=splits,
        sources=(*old.sources, *new.sources),
        dropped=dict(sorted(dropped.items())),
        special_tokens=sum_of_special(filter(None, (old.special_tokens, new.special_tokens))),
        names=old.names,
    )


def sum_of_splits(old: SplitInfo, new: SplitInfo) -> SplitInfo:
    """What two splits hold together; the hash is that of the second."""
    texts = (old.text_tokens, new.text_tokens)
    return SplitInfo(
        **{name: getattr(old, name) + getattr(new, name) for name in COUNTS},
        index_hash=new.index_hash,
        text_tokens=None if None in texts else sum(filter(None, texts)),
        without_target=(old.without_target or 0) + (new.without_target or 0) or None,
    )


def _entry(manifest: Manifest, date: str, arguments: Mapping[str, Any]) -> ConversionInfo:
    files: dict[tuple[str, str], SourceInfo] = {
        (source.file, source.hash): source for skill in manifest.skills.values() for source in skill.sources
    }
    counts = {
        name: {
            split: {count: getattr(info, count) for count in COUNTS} for split, info in skill.splits.items()
        }
        for name, skill in manifest.skills.items()
    }
    return ConversionInfo(
        date=date, corpus=manifest.corpus, arguments=arguments, files=tuple(files.values()), counts=counts
    )


def _written(root: str) -> str:
    """When the manifest of a folder was written, ISO 8601 in UTC."""
    seconds = os.stat(os.path.join(root, MANIFEST_NAME)).st_mtime
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec='seconds')
