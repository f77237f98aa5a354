"""What is to be done in a streams folder so that skills are renamed, dropped or merged; checked, and not yet done."""

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import nearest, number_of
from skillit_stream.convert.changed_folder import FolderChange, check_not_read
from skillit_stream.convert.contents import own_entries
from skillit_stream.convert.existing import SIZES, Existing, index_entries
from skillit_stream.convert.names import GRAPH_NAME, check_skill_name
from skillit_stream.convert.progress import bytes_bar
from skillit_stream.convert.regrouping import names_of, regrouped
from skillit_stream.convert.replacing import is_mount
from skillit_stream.convert.shards import index_hash, index_text
from skillit_stream.convert.splits import EVAL, TRAIN
from skillit_stream.formats.manifest import SPLITS, ChangeInfo, Manifest
from skillit_stream.mixture.graph import SkillsGraph


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        command: As it is typed.
        action: ``rename``, ``drop`` or ``merge``.
        skills: Of the folder.
        into: What they are to be called; empty to drop them.
    """

    command: str
    action: str
    skills: Sequence[str]
    into: str = ''


def plan_change(root: str, manifest: Manifest, wish: Wish) -> FolderChange:
    """Work out a change.

    Raises:
        InputError: It cannot be made, or what there would be then would be no valid streams.
    """
    skills = _known_skills(root, manifest, wish.skills)
    into = _free_name(root, manifest, skills, wish)
    _check_places(root, skills, links=wish.action == 'rename')
    check_not_read(root, skills)
    # A run on a skill that the others are merged into finds its stream lengthened.
    skills.sort(key=lambda skill: skill != into)
    moves = [[skills[0], into]] if into and skills[0] != into else []
    removed: list[str] = []
    indexes: dict[str, list[Any]] = {}
    if wish.action == 'merge':
        _check_alike(root, manifest, skills)
        _check_apart(root, manifest, skills)
        shards, indexes = _merged_shards(root, manifest, skills, into)
        moves += shards
    if wish.action != 'rename':
        gone, moved = skills if not into else skills[1:], {source for source, _ in moves}
        own = [entry for entry in own_entries(root) if entry.split(os.sep)[0] in gone and entry not in moved]
        removed = sorted(own, key=lambda entry: not entry.endswith('index.json'))
    now = datetime.now(timezone.utc).isoformat(timespec='seconds')
    change = ChangeInfo(date=now, action=wish.action, skills=tuple(skills), into=into)
    hashes = {
        os.path.basename(folder): f'sha256:{sha256(index_text(entries).encode()).hexdigest()}'
        for folder, entries in indexes.items()
    }
    return FolderChange(
        command=wish.command,
        manifest=regrouped(manifest, dict.fromkeys(skills, into), change, hashes).to_json(),
        moves=moves,
        indexes=indexes,
        removed=removed,
        graph=_changed_graph(root, manifest, skills, into),
    )


def _known_skills(root: str, manifest: Manifest, asked: Sequence[str]) -> list[str]:
    """The skills that are named, in whatever Unicode form; raises InputError for others, or one named twice."""
    known = {unicodedata.normalize('NFC', skill): skill for skill in manifest.skills}
    found: list[str] = []
    for name in asked:
        skill = known.get(unicodedata.normalize('NFC', name))
        if skill is None:
            raise InputError(f'{root}: no skill {name!r}; {nearest(name, manifest.skills)}')
        if skill in found:
            raise InputError(f'{root}: skill {name!r} is named twice; name it once')
        found.append(skill)
    return found


def _free_name(root: str, manifest: Manifest, skills: Sequence[str], wish: Wish) -> str:
    """The new name of the skills; raises InputError if it cannot be theirs, or if nothing would be left."""
    if wish.action == 'drop':
        if len(skills) == len(manifest.skills):
            raise InputError(f'{root}: has no other skills than those to drop; remove the folder instead')
        return ''
    into = check_skill_name(wish.into)
    if wish.action == 'rename' and into == skills[0]:
        raise InputError(f'{root}: skill {into!r} has that name; choose another')
    if wish.action == 'merge' and len(skills) < 2:
        raise InputError(
            f'merge: {skills[0]!r} is one skill, and two are needed; `rename` gives it another name'
        )
    for other in manifest.skills:
        if other in skills:
            continue
        if into == unicodedata.normalize('NFC', other):
            raise InputError(f'{root}: has a skill {into!r} already; choose another name, or merge them')
        if into in names_of(manifest, other):
            raise InputError(
                f'{root}: {into!r} is what a corpus calls the skill {other!r}, and `convert --add` would put its '
                'documents there; choose another name'
            )
    return into


def _check_places(root: str, skills: Sequence[str], *, links: bool) -> None:
    """Refuse skills whose files cannot be moved within the folder; `links`: a skill may be a link to its folder."""
    disk = os.stat(root).st_dev
    for skill in skills:
        for place in (os.path.join(root, skill), *(os.path.join(root, skill, split) for split in SPLITS)):
            if os.path.islink(place) and not links:
                raise InputError(f'{place}: is a link; put what it leads to in its place')
            if not os.path.isdir(place):
                continue
            if (not links and os.stat(place).st_dev != disk) or is_mount(place):
                raise InputError(f'{place}: is on another disk than {root}; bring it there')
            if not os.access(place, os.W_OK):
                raise InputError(f'{place}: cannot be written to; change its permissions')


def _check_alike(root: str, manifest: Manifest, skills: Sequence[str]) -> None:
    """Refuse skills whose shards are not those of the manifest, or not in its format."""
    for folder, split, skill in _split_folders(root, manifest, skills):
        if index_hash(folder) != manifest.skills[skill].splits[split].index_hash:
            raise InputError(
                f'{folder}: its index is not the one that the manifest knows; `skillit verify {root}`'
            )
        for entry in index_entries(folder):
            columns = dict(zip(entry['column_names'], entry['column_encodings'], strict=True))
            if columns != dict(manifest.columns):
                raise InputError(
                    f'{folder}: shards with the columns {columns}, the others have {dict(manifest.columns)}; convert '
                    'the skill again'
                )
            for file in filter(None, (entry['raw_data'], entry.get('zip_data'))):
                if os.path.islink(os.path.join(folder, file['basename'])):
                    raise InputError(
                        f'{folder}/{file["basename"]}: is a link; put what it leads to in its place'
                    )


def _check_apart(root: str, manifest: Manifest, skills: Sequence[str]) -> None:
    """Refuse skills of which one has samples in train that another one has in eval."""
    existing = Existing(root, '', manifest)
    total = sum(split.samples for skill in skills for split in manifest.skills[skill].splits.values())
    with bytes_bar('comparing', total * manifest.seq_len * np.dtype(manifest.dtype).itemsize) as advance:

        def keys(split: str) -> Iterator[tuple[str, np.ndarray]]:
            for skill in skills:
                for found in existing.keys(skill, split):
                    advance(len(found) * manifest.seq_len * np.dtype(manifest.dtype).itemsize)
                    yield skill, found

        held = np.unique(np.concatenate([np.empty(0, np.uint64), *(found for _, found in keys(EVAL))]))
        shared = sum(len(np.intersect1d(found, held)) for _, found in keys(TRAIN))
    if shared:
        raise InputError(
            f'{root}: {number_of(shared, "sample")} would be in train and in eval of {" and ".join(skills)} together; '
            'convert them as one skill'
        )


def _merged_shards(
    root: str, manifest: Manifest, skills: Sequence[str], into: str
) -> tuple[list[list[str]], dict[str, list[Any]]]:
    """([path, new path] of the shards of all skills but the first, folder of a split -> entries of its index)."""
    moves: list[list[str]] = []
    indexes: dict[str, list[Any]] = {}
    numbers = dict.fromkeys(skills, 0)
    for folder, split, skill in _split_folders(root, manifest, skills):
        place = os.path.join(into, split)
        entries = indexes.setdefault(place, [])
        for entry in index_entries(folder):
            if skill != skills[0]:
                # A label that no index of this folder has had: a path never leads to other samples than before.
                label = f'merge{len(manifest.changes) + 1}-{skills.index(skill)}.{numbers[skill]:05}'
                numbers[skill] += 1
                for kind in ('raw_data', 'zip_data'):
                    if entry.get(kind):
                        name = entry[kind]['basename']
                        new = f'shard.{label}{name[name.index(".mds") :]}'
                        entry[kind]['basename'] = new
                        if os.path.exists(os.path.join(folder, name)):
                            moves.append([os.path.join(skill, split, name), os.path.join(place, new)])
            entries.append(entry)
    return moves, indexes


def _split_folders(root: str, manifest: Manifest, skills: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(folder, split, skill) of all splits of some skills."""
    for skill in skills:
        for split in manifest.skills[skill].splits:
            yield os.path.join(root, skill, split), split, skill


def _changed_graph(
    root: str, manifest: Manifest, skills: Sequence[str], into: str
) -> Mapping[str, Any] | None:
    """The skills graph of computed streams as it is to be; None if there is none, or it is not of the streams.

    Raises:
        InputError: Skills of it are to be merged.
    """
    path = os.path.join(root, GRAPH_NAME)
    if not os.path.exists(path) or any(name in manifest.corpus for name in SIZES):
        return None
    if len(skills) > 1 and into:
        raise InputError(
            f'{path}: does not say how much the merged skill helps the others; move the graph away'
        )
    graph = SkillsGraph.load(path)
    kept = [
        [one for one in names if into or one not in skills]
        for names in (graph.train_skills, graph.eval_skills)
    ]
    plain = graph.select(*kept).to_dict()
    for side in ('train_skills', 'eval_skills'):
        plain[side] = [into if one in skills else one for one in plain[side]]
    return plain
