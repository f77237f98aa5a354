"""A local streams folder that is made beside its place, or in it where it is a mount point, and appears complete."""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import write_json
from skillit_stream.convert.destinations import Destination, remove_folder
from skillit_stream.convert.locks import LOCK_NAME, locked
from skillit_stream.convert.parts import shards_folder
from skillit_stream.convert.replacing import (
    LOST,
    MADE,
    check_free,
    fill_folder,
    finish_filling,
    finish_replacing,
    must_stay,
    replace_folder,
)
from skillit_stream.convert.shards import Shard, index_hash, write_index
from skillit_stream.formats.manifest import MANIFEST_NAME, Manifest, check_unchanged

WORK_FOLDER = '.work'
INSIDE = '.skillit-partial'


class StagedFolder(Destination):
    """A local folder.

    Args:
        target: The folder, or a link to it.
        work: Folder for work in progress, if not in the one that is made.
        overwrite: Replace a finished streams folder.

    Raises:
        InputError: The target exists and may not be replaced.
    """

    def __init__(self, target: str, work: str | None, *, overwrite: bool) -> None:
        # Of a link that which it leads to: there is its disk, and it alone can be replaced.
        self._target = os.path.realpath(target)
        check_unchanged(self._target)
        parent, name = os.path.split(self._target)
        self._stays = must_stay(self._target)
        root = staging_of(self._target)
        super().__init__(root, work or os.path.join(root, WORK_FOLDER))
        self._previous = os.path.join(parent, f'.{name}.skillit-previous')
        # Where the work is while the folder that it was in is put in its place.
        self._aside = os.path.join(parent, f'.{name}.skillit-work')
        self._overwrite = overwrite
        self._finish_earlier()
        self._check_target()

    def _finish_earlier(self) -> None:
        """Finish the publication that a command was killed at.

        Raises:
            InputError: A command is just about it, or what lies there does not let it.
        """
        if self._stays:
            if os.path.exists(os.path.join(self.root, MADE)):
                with locked(os.path.join(self.root, LOCK_NAME)):
                    finish_filling(self.root, self._target)
        elif any(map(os.path.exists, (self._previous, self._aside, os.path.join(self._target, LOCK_NAME)))):
            was_moved = not os.path.isdir(self.root)
            with ExitStack() as locks:
                for folder in (self.root, self._target):
                    if folder == self.root or os.path.exists(os.path.join(folder, LOCK_NAME)):
                        locks.enter_context(locked(os.path.join(folder, LOCK_NAME)))
                finish_replacing(self._target, self._previous)
                if was_moved:
                    for folder in (self._aside, self.work):
                        remove_folder(folder)
                elif os.path.isdir(self._aside):
                    os.rename(self._aside, self.work)
                self._remove_locks()

    def _remove_locks(self) -> None:
        """Remove the locks of this command, and its folder if there is nothing else in it."""
        for folder in (self._target, self.root):
            with suppress(OSError):
                if folder == self._target or os.listdir(folder) == [LOCK_NAME]:
                    os.unlink(os.path.join(folder, LOCK_NAME))
        with suppress(OSError):
            os.rmdir(self.root)

    def _check_target(self) -> None:
        out = f'--out {self._target}'
        if not os.path.lexists(self._target):
            return
        if not os.path.isdir(self._target):
            raise InputError(f'{out}: is a file; choose another name')
        if os.path.exists(os.path.join(self._target, MANIFEST_NAME)):
            if not self._overwrite:
                raise InputError(
                    f'{out}: holds finished streams; pass --overwrite to replace them, or choose another folder'
                )
        elif set(os.listdir(self._target)) - {INSIDE, LOST}:
            raise InputError(f'{out}: is not empty and no streams folder; choose another folder')

    def _make_root(self) -> None:
        try:
            os.makedirs(self.root, exist_ok=True)
        except OSError as error:
            raise InputError(
                f'--out {self._target}: cannot be made ({error.strerror}); choose another folder'
            ) from error

    def writer_target(self, local: str, skill: str, split: str) -> str:
        """The folder itself."""
        del skill, split
        return local

    def has_shards(self, folder: str, skill: str, shards: Sequence[Shard]) -> bool:
        """Whether the shards lie in the folder of the part, with all their bytes."""
        for shard in shards:
            path = os.path.join(shards_folder(folder, skill), shard.name)
            if not os.path.exists(path) or os.path.getsize(path) != shard.bytes:
                return False
        return True

    def finish_split(
        self, skill: str, split: str, folders: Sequence[str], shards: Sequence[Mapping[str, Any]]
    ) -> str:
        """Bring the shards into the split's folder and write the index there."""
        target = os.path.join(self.root, skill, split)
        os.makedirs(target, exist_ok=True)
        for folder in folders:
            for name in os.listdir(folder) if folder != target and os.path.isdir(folder) else ():
                _bring(os.path.join(folder, name), os.path.join(target, name))
        write_index(target, shards)
        return index_hash(target)

    def publish(self, manifest: Manifest, companions: Mapping[str, Any]) -> None:
        """Put the folder in the target's place.

        Raises:
            InputError: Something has come to lie there meanwhile; the parts are kept.
        """
        for name, contents in companions.items():
            write_json(os.path.join(self.root, name), contents)
        if not self._overwrite:
            self._check_target()
        check_free(self.root, self._target, staging=INSIDE)
        if self._stays:
            remove_folder(self.work)
            write_json(os.path.join(self.root, MADE), manifest.to_json())
            fill_folder(self.root, self._target)
            return
        manifest.save(self.root)
        is_inside = os.path.dirname(self.work) == self.root
        if is_inside:
            os.rename(self.work, self._aside)
        try:
            replace_folder(self.root, self._target, self._previous)
        except (OSError, InputError):
            if is_inside and os.path.isdir(self.root):
                os.rename(self._aside, self.work)
            raise
        remove_folder(self._aside if is_inside else self.work)
        self._remove_locks()

    def clear(self) -> None:
        """Remove all that was made."""
        super().clear()
        remove_folder(self.root)


def staging_of(target: str) -> str:
    """The folder in which a folder's new streams are put together: whoever holds its lock may change the folder.

    Args:
        target: The real path of the folder.
    """
    if must_stay(target):
        return os.path.join(target, INSIDE)
    parent, name = os.path.split(target)
    return os.path.join(parent, f'.{name}.skillit-partial')


def _bring(path: str, place: str) -> None:
    """Have a shard lie in a second place too; where a disk has no such links it is moved, to another one copied."""
    try:
        os.link(path, place)
    except OSError:
        is_same_disk = os.stat(path).st_dev == os.stat(os.path.dirname(place)).st_dev
        (shutil.move if is_same_disk else shutil.copyfile)(path, place)
