"""A finished streams folder that is added to: valid before, and after a kill at any moment, and then grown.

All work is done beside the folder. What is finished comes into it in this order::

    1. new shards             under names that no index lists: nobody reads them yet
    2. <split>/index.json.next
    3. skills.json.next       from here on the addition is made: a command that finds it only finishes it
    4. index.json.next        -> index.json, one by one; an index is the old one with shards behind it, so the
                              streams can be trained on in between
    5. skills.json.next       -> skills.json

A command that was killed before the third step has added nothing; the next addition removes what it left.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import write_json
from skillit_stream.convert.contents import is_leftover
from skillit_stream.convert.destinations import Destination, remove_folder
from skillit_stream.convert.existing import Existing, index_entries
from skillit_stream.convert.shards import index_hash
from skillit_stream.convert.staged_folder import StagedFolder
from skillit_stream.formats.manifest import MANIFEST_NAME, SPLITS, Manifest

INDEX = 'index.json'
NEXT = '.next'
PENDING = MANIFEST_NAME + NEXT


class GrownFolder(StagedFolder):
    """A local streams folder to which a conversion adds.

    Args:
        target: The folder.
        work: Folder for work in progress, if not beside it.

    Raises:
        InputError: There are no finished streams.
    """

    def __init__(self, target: str, work: str | None) -> None:
        super().__init__(target, work, overwrite=True)
        if not os.path.exists(os.path.join(self._target, MANIFEST_NAME)):
            raise InputError(
                f'--add: --out {self._target} holds no finished streams to add to; leave out --add to make them'
            )
        with self._locked():
            if os.path.exists(os.path.join(self._target, PENDING)):
                _roll_forward(self._target)
                self.finished_earlier = True
                self.clear()
        self._grown: list[tuple[str, str]] = []
        self.existing = Existing(self._target, self.work, Manifest.load(self._target))

    def finish_split(
        self, skill: str, split: str, folders: Sequence[str], shards: Sequence[Mapping[str, Any]]
    ) -> str:
        """Bring new shards together beside the folder, with the index of the old ones and these."""
        old: list[dict[str, Any]] = []
        if split in self.existing.splits(skill):
            old = index_entries(os.path.join(self._target, skill, split))
        # Work of another command, which was killed, may lie beside it.
        self._grown.append((skill, split))
        return super().finish_split(skill, split, folders, [*old, *shards])

    def publish(self, manifest: Manifest, companions: Mapping[str, Any]) -> None:
        """Bring all that is new into the folder, the manifest last.

        Raises:
            InputError: Another command has added to it meanwhile.
        """
        del companions  # generated corpora alone have some, and are not added
        with self._locked():
            if Manifest.load(self._target) != self.existing.manifest:
                raise InputError(f'--out {self._target}: was changed meanwhile; run the same command again')
            self._sweep()
            self._check_new()
            for skill, split in self._grown:
                self._bring(skill, split)
            write_json(os.path.join(self._target, PENDING), manifest.to_json())
            _roll_forward(self._target)
        self.clear()

    def _check_new(self) -> None:
        """Refuse to put a new skill where there are streams that the manifest does not list; raises InputError."""
        for skill, split in self._grown:
            place = os.path.join(self._target, skill, split)
            if split not in self.existing.splits(skill) and os.path.exists(os.path.join(place, INDEX)):
                raise InputError(
                    f'{place}: streams that {MANIFEST_NAME} does not list; move them away and run the same '
                    'command again'
                )

    def _bring(self, skill: str, split: str) -> None:
        """Move the new shards of a split into the folder and put its new index beside the old one."""
        staged, target = (os.path.join(root, skill, split) for root in (self.root, self._target))
        os.makedirs(target, exist_ok=True)
        for entry in index_entries(staged):
            shard = entry['raw_data']
            place = os.path.join(target, shard['basename'])
            if os.path.exists(os.path.join(staged, shard['basename'])):
                shutil.move(os.path.join(staged, shard['basename']), place)
            # Otherwise it is an old one, or a command that was killed has moved it.
            if not os.path.exists(place) or os.path.getsize(place) != shard['bytes']:
                self.clear()
                raise InputError(f'{place}: is not what was converted; run the same command again')
        shutil.copyfile(os.path.join(staged, INDEX), os.path.join(target, INDEX + NEXT))

    def _sweep(self) -> None:
        """Remove what an addition that was killed before it was made has left in the folder."""
        for skill in os.listdir(self._target):
            for split in SPLITS:
                folder = os.path.join(self._target, skill, split)
                if os.path.isdir(folder):
                    self._sweep_split(skill, split)
                    with suppress(OSError):  # not empty: as it should be
                        os.removedirs(folder)

    def _sweep_split(self, skill: str, split: str) -> None:
        kept: set[str] = set()
        for root in [self._target, *([self.root] if (skill, split) in self._grown else [])]:
            folder = os.path.join(root, skill, split)
            if os.path.exists(os.path.join(folder, INDEX)):
                kept |= {entry['raw_data']['basename'] for entry in index_entries(folder)}
        for name in os.listdir(os.path.join(self._target, skill, split)):
            if is_leftover(name) and name not in kept:
                os.unlink(os.path.join(self._target, skill, split, name))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other commands from changing the folder."""
        folder = os.open(self._target, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def clear(self) -> None:
        """Remove the work; the folder stays as it is."""
        Destination.clear(self)
        remove_folder(self.root)


def check_not_growing(root: str) -> None:
    """Refuse a folder in which an addition was stopped that is made, but not put in its place; raises InputError."""
    if os.path.exists(os.path.join(root, PENDING)):
        raise InputError(
            f'{root}: `skillit convert --add` was stopped while it put new indexes in their place; run it again to '
            'finish that'
        )


def _roll_forward(target: str) -> None:
    """Put the indexes and the manifest of an addition that is made in the place of the old ones."""
    pending = os.path.join(target, PENDING)
    manifest = Manifest.load(target, PENDING)
    for skill, info in manifest.skills.items():
        for split, wanted in info.splits.items():
            folder = os.path.join(target, skill, split)
            if os.path.exists(os.path.join(folder, INDEX + NEXT)):
                os.replace(os.path.join(folder, INDEX + NEXT), os.path.join(folder, INDEX))
            if index_hash(folder) != wanted.index_hash:
                raise InputError(f'{folder}: its index is not that of {pending}; convert the corpus again')
    os.replace(pending, os.path.join(target, MANIFEST_NAME))
