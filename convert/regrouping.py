"""The skills of a streams folder renamed, dropped, merged: what becomes of its manifest. Pure functions.

All three are one thing: each skill gets a new home, several may get the same, and one that gets none is gone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from skillit_stream.convert.existing import BOUNDS
from skillit_stream.convert.history import COUNTS, sum_of_splits
from skillit_stream.formats.manifest import ChangeInfo, ConversionInfo, Manifest, SkillInfo, sum_of_special

Homes = Mapping[str, str]
"""Skill -> what it is called from now on; one that is not named stays, one with the name '' is gone."""


def regrouped(
    manifest: Manifest, homes: Homes, change: ChangeInfo, hashes: Mapping[str, str] | None = None
) -> Manifest:
    """The manifest after a change: counts are sums, and so are those of every conversion of the history.

    Args:
        manifest: Before it.
        homes: Where each skill goes; those that go to one home are put together in this order.
        change: Is put behind the others.
        hashes: Split -> hash of its index, where skills are merged.
    """
    groups: dict[str, list[str]] = {}
    for skill in dict.fromkeys([*homes, *manifest.skills]):
        groups.setdefault(homes.get(skill, skill), []).append(skill)
    groups.pop('', None)
    skills = {home: _joined(manifest, home, members, hashes or {}) for home, members in groups.items()}
    corpus = dict(manifest.corpus)
    if BOUNDS in corpus:
        corpus[BOUNDS] = _bounds(corpus[BOUNDS], groups)
    return replace(
        manifest,
        skills=dict(sorted(skills.items())),
        corpus=corpus,
        history=tuple(replace(one, counts=_counts(one, groups)) for one in manifest.history),
        changes=(*manifest.changes, change),
    )


def names_of(manifest: Manifest, skill: str) -> tuple[str, ...]:
    """The names that a corpus has for a skill."""
    return manifest.skills[skill].names or (skill,)


def _joined(manifest: Manifest, home: str, members: Sequence[str], hashes: Mapping[str, str]) -> SkillInfo:
    """What skills hold together."""
    first, *others = (manifest.skills[skill] for skill in members)
    if members == [home]:
        return first
    splits, dropped = dict(first.splits), Counter(first.dropped)
    sources = dict.fromkeys(first.sources)
    for other in others:
        for split, info in other.splits.items():
            splits[split] = sum_of_splits(splits[split], info) if split in splits else info
        dropped.update(other.dropped)
        sources |= dict.fromkeys(other.sources)
    return SkillInfo(
        splits={
            split: replace(splits[split], index_hash=hashes.get(split, splits[split].index_hash))
            for split in sorted(splits, reverse=True)
        },
        sources=tuple(sources),
        dropped=dict(sorted(dropped.items())),
        special_tokens=sum_of_special(
            one.special_tokens for one in (first, *others) if one.special_tokens is not None
        ),
        names=tuple(dict.fromkeys([*(name for one in members for name in names_of(manifest, one)), home])),
    )


def _bounds(bounds: Mapping[str, str], groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The hash below which the documents of a skill are in eval, where it is one and the same for all of them."""
    found = {home: {bounds.get(skill, '') for skill in members} for home, members in groups.items()}
    return {
        home: next(iter(values))
        for home, values in sorted(found.items())
        if len(values) == 1 and '' not in values
    }


def _counts(conversion: ConversionInfo, groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What a conversion brought, by the skills there are now."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    for home, members in sorted(groups.items()):
        for skill in members:
            for split, brought in conversion.counts.get(skill, {}).items():
                place = counts.setdefault(home, {}).setdefault(split, Counter(dict.fromkeys(COUNTS, 0)))
                place.update(brought)
    return {home: {split: dict(one) for split, one in splits.items()} for home, splits in counts.items()}
