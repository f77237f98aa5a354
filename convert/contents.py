"""Which files in a streams folder are those of its streams: only these are ever removed or replaced."""

import json
import os
import re
from collections.abc import Container, Iterator
from contextlib import suppress
from typing import Any

from skillit_stream.convert.existing import SIZES
from skillit_stream.convert.locks import LOCK_NAME
from skillit_stream.convert.names import GRAPH_NAME
from skillit_stream.convert.tokens import TOKENIZER_FOLDER
from skillit_stream.formats.manifest import CHANGE_NAME, MANIFEST_NAME, SPLITS

# What a split has: an index, shards, and of both what an addition that was stopped has left.
SPLIT_FILE = re.compile(r'index\.json(\.next)?|shard\.([\w-]+\.)*mds(\.\w+)?')
# What tokenizers save.
TOKENIZER_FILE = re.compile(
    r'(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|config|chat_template)\.json'
    r'|(merges|vocab)\.txt|chat_template\.jinja|[\w.-]+\.model'
)
# With this begin the names of shards that were added.
ADDED = 'shard.add'
TOP_FILES = (MANIFEST_NAME, f'{MANIFEST_NAME}.next', CHANGE_NAME, LOCK_NAME)


def foreign_entries(root: str, manifest: str = MANIFEST_NAME) -> list[str]:
    """What lies in a streams folder and is not of its streams: paths of files, links and empty folders in it.

    A file is the folder's own by where it lies and by its name. A skill is what the manifest lists, or, where that is
    broken, any folder with a split; a skills graph is of the streams where they were computed.

    Args:
        root: The folder.
        manifest: Where it has its manifest.
    """
    found = _manifest_of(os.path.join(root, manifest))
    return [entry for entry in sorted(_leaves(root)) if not _is_own(entry.split(os.sep), found)]


def own_entries(root: str, manifest: str = MANIFEST_NAME) -> list[str]:
    """What lies in a streams folder and is of its streams, as paths in it; arguments as above."""
    foreign = set(foreign_entries(root, manifest))
    return [entry for entry in sorted(_leaves(root)) if entry not in foreign]


def remove_entries(root: str, entries: list[str]) -> None:
    """Remove files of a folder, and the folders in it that are empty after that."""
    for entry in entries:
        os.unlink(os.path.join(root, entry))
        above = os.path.dirname(entry)
        with suppress(OSError):  # not empty
            while above:
                os.rmdir(os.path.join(root, above))
                above = os.path.dirname(above)


def clashes(entries: list[str], root: str) -> list[str]:
    """Those of some entries that a folder has no place for: there is a file of that path, or on the way to it."""
    found = []
    for entry in entries:
        names = entry.split(os.sep)
        ways = (os.path.join(root, *names[:depth]) for depth in range(1, len(names)))
        if os.path.lexists(os.path.join(root, entry)) or any(
            os.path.lexists(way) and not os.path.isdir(way) for way in ways
        ):
            found.append(entry)
    return found


def unlisted_skill(root: str, skills: Container[str]) -> str | None:
    """A folder with streams that is none of the given skills; None if there is none.

    What an addition that was stopped has left is nothing that anybody reads, and does not count.
    """
    for entry in sorted(_leaves(root)):
        skill, *rest = entry.split(os.sep)
        is_stream = len(rest) == 2 and rest[0] in SPLITS and SPLIT_FILE.fullmatch(rest[1])
        if is_stream and skill not in skills and not skill.startswith('.') and not is_leftover(rest[1]):
            return skill
    return None


def is_leftover(name: str) -> bool:
    """Whether a file of a split that no index lists is what an addition that was stopped has left."""
    return name.startswith(ADDED) or name == 'index.json.next'


def _manifest_of(path: str) -> dict[str, Any]:
    """The manifest as it is; nothing if it cannot be read."""
    try:
        with open(path, encoding='utf-8') as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_own(names: list[str], manifest: dict[str, Any]) -> bool:
    if len(names) == 1:
        is_computed = not any(name in manifest.get('corpus', ()) for name in SIZES)
        return names[0] in TOP_FILES or (names[0] == GRAPH_NAME and bool(manifest) and is_computed)
    if len(names) == 2:
        return names[0] == TOKENIZER_FOLDER and bool(TOKENIZER_FILE.fullmatch(names[1]))
    skill, split, *rest = names
    is_split = split in SPLITS and (not manifest or skill in manifest.get('skills', ()))
    return is_split and len(rest) == 1 and bool(SPLIT_FILE.fullmatch(rest[0]))


def _leaves(root: str) -> Iterator[str]:
    """Files, links and empty folders, as paths below a folder."""
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        inside = os.path.relpath(folder, root)
        if not folders and not files and folder != root:
            yield inside
        for name in (*links, *files):
            yield os.path.normpath(os.path.join(inside, name))
