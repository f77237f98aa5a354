"""A finished streams folder whose skills are renamed, dropped or merged: files move, none is written anew.

What is to be done is worked out and checked first, and written down as ``skills.json.change``. From then on it is made:
whoever finds it only finishes it, and every step of that can be done twice::

    1. skills.json.change     the manifest to come, and what is to be moved, indexed and removed
    2. skills.json            removed: nobody takes what is half done for streams
    3. folders and shards     renamed; the shards of a merged skill under names that no index has used
    4. index.json             of merged skills
    5. files of skills that are gone, removed: those of the streams, no others
    6. graph.json             of computed streams, without those skills
    7. skills.json            and skills.json.change removed
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.files import from_plain, read_json, write_json
from skillit_stream.convert.contents import clashes
from skillit_stream.convert.grown_folder import check_not_growing
from skillit_stream.convert.locks import LOCK_NAME, locked
from skillit_stream.convert.names import GRAPH_NAME
from skillit_stream.convert.shards import write_index
from skillit_stream.convert.staged_folder import staging_of
from skillit_stream.formats.manifest import CHANGE_NAME, MANIFEST_NAME


@dataclass(frozen=True, kw_only=True)
class FolderChange:
    """What is to be done in a streams folder; all paths are in it."""

    command: str
    """That was typed, and that finishes it."""
    manifest: Mapping[str, Any]
    """The new one, as it is written."""
    moves: list[list[str]] = field(default_factory=list)
    """[path, its new path], in order."""
    indexes: Mapping[str, list[Any]] = field(default_factory=dict)
    """Folder of a split -> entries of its index."""
    removed: list[str] = field(default_factory=list)
    """Files, a skill's index before its shards."""
    graph: Mapping[str, Any] | None = None
    """The new skills graph; None: it stays."""


@contextmanager
def folder_to_change(root: str) -> Iterator[str]:
    """Keep other commands from a streams folder, after finishing what one was stopped at.

    Yields:
        The command that was finished; empty if there was none.

    Raises:
        InputError: Another command is at work there, an addition was stopped in it, or it cannot be written to.
    """
    staging = staging_of(root)
    lock = os.path.join(staging, LOCK_NAME)
    with as_input_error(f'{root}: cannot be changed', OSError), locked(lock, what=root):
        try:
            check_not_growing(root)
            yield _finish_earlier(root)
        finally:
            with suppress(OSError):
                if os.listdir(staging) == [LOCK_NAME]:
                    os.unlink(lock)
                    os.rmdir(staging)


def make_change(root: str, change: FolderChange) -> None:
    """Do it, within :func:`folder_to_change`.

    Raises:
        InputError: Something lies where a skill or a shard is to go.
    """
    taken = clashes([place for _, place in change.moves], root)
    if taken:
        raise InputError(
            f'{os.path.join(root, taken[0])}: is there already, and no stream that {MANIFEST_NAME} lists; move it away'
        )
    write_json(os.path.join(root, CHANGE_NAME), asdict(change))
    _finish(root, change)


def check_not_read(root: str, skills: Sequence[str]) -> None:
    """Refuse to change streams that a process of this machine has mapped into its memory, as a training run has.

    Raises:
        InputError: One has.
    """
    folders = [os.path.join(root, skill) + os.sep for skill in skills]
    for path in Path('/proc').glob('[0-9]*/maps'):
        if path.parent.name == str(os.getpid()):
            continue
        with suppress(OSError):  # it has ended, or is another user's
            text = path.read_text(encoding='utf-8', errors='surrogateescape')
            if any(folder in text for folder in folders):
                raise InputError(
                    f'{root}: process {path.parent.name} reads its shards; end it first: to a run these streams would '
                    'be gone, or others'
                )


def _finish_earlier(root: str) -> str:
    path = Path(root, CHANGE_NAME)
    if not path.exists():
        return ''
    with as_input_error(f'{path}: restore the folder from a copy'):
        change = from_plain(FolderChange, read_json(path))
    _finish(root, change)
    return change.command


def _finish(root: str, change: FolderChange) -> None:
    """Do a change that is written down, or what is left of it."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(root, MANIFEST_NAME))
    for source, place in change.moves:
        if os.path.lexists(os.path.join(root, source)):
            os.makedirs(os.path.dirname(os.path.join(root, place)), exist_ok=True)
            os.rename(os.path.join(root, source), os.path.join(root, place))
    for folder, shards in change.indexes.items():
        write_index(os.path.join(root, folder), shards)
    for entry in change.removed:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(root, entry))
    splits = sorted({os.path.dirname(entry) for entry in change.removed})
    for folder in (*splits, *map(os.path.dirname, splits)):
        with suppress(OSError):  # gone, or not empty: what is left is not of the streams
            os.rmdir(os.path.join(root, folder))
    if change.graph is not None:
        write_json(os.path.join(root, GRAPH_NAME), change.graph)
    write_json(os.path.join(root, MANIFEST_NAME), change.manifest)
    os.unlink(os.path.join(root, CHANGE_NAME))
