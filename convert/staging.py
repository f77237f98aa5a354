"""Output folders appear complete or not at all: staged beside the target, renamed into place at the end."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from skillit_stream.base.errors import InputError
from skillit_stream.formats.manifest import MANIFEST_NAME

TOKENIZER_FOLDER = 'tokenizer'
RESERVED = (TOKENIZER_FOLDER, MANIFEST_NAME, 'graph.json')


def check_skill_name(name: str) -> str:
    """Return `name` if it can be a folder of its own.

    Raises:
        InputError: It is reserved, starts with a dot, or holds others than letters, digits, ``_ . -``.
    """
    if not re.fullmatch(r'[\w-][\w.-]{0,199}', name):
        raise InputError(
            f'skill {name[:60]!r} cannot name a folder; use at most 200 letters, digits, "_", "-" and "."'
        )
    if name in RESERVED:
        raise InputError(f'skill {name!r} is a reserved name in a streams folder; choose another')
    return name


class Staging:
    """The place of a streams folder that is being made.

    Args:
        target: The folder to make; a local path.
        overwrite: Replace a finished streams folder.

    Raises:
        InputError: The target is remote, or exists and may not be replaced.
    """

    def __init__(self, target: str, *, overwrite: bool = False) -> None:
        if is_remote(target):
            raise InputError(f'--out {target}: must be a local folder; convert to one, then upload it')
        self.target = os.path.abspath(target)
        parent, name = os.path.split(self.target)
        self.folder = os.path.join(parent, f'.{name}.skillit-partial')
        self._previous = os.path.join(parent, f'.{name}.skillit-previous')
        # A kill between the two renames of `publish`.
        if not os.path.exists(self.target) and os.path.isdir(self._previous):
            os.rename(self._previous, self.target)
        _check_target(self.target, overwrite)

    def open(self) -> str:
        """Make the folder, or find it as an earlier try left it."""
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as error:
            raise InputError(
                f'--out {self.target}: cannot be made ({error.strerror}); choose another folder'
            ) from error
        return self.folder

    def publish(self) -> None:
        """Put the folder in the target's place; an older target is moved aside until it stands there."""
        _remove(self._previous)
        if os.path.exists(self.target):
            os.rename(self.target, self._previous)
        os.rename(self.folder, self.target)
        _remove(self._previous)

    def clear(self) -> None:
        """Remove the folder with all that is in it."""
        _remove(self.folder)


@contextmanager
def staged_folder(target: str, *, overwrite: bool = False) -> Iterator[str]:
    """Give an empty folder beside `target` that takes its place when the block ends well.

    What a killed run left behind is cleared first. The target of an earlier run is moved aside, not deleted,
    until the new one stands in its place; if a kill falls between the two renames, the next run moves it
    back.

    Raises:
        InputError: As :class:`Staging`.
    """
    staging = Staging(target, overwrite=overwrite)
    staging.clear()
    try:
        yield staging.open()
        staging.publish()
    finally:
        staging.clear()


def is_remote(path: str) -> bool:
    """Whether a path is one of an object store."""
    return '://' in path


def _check_target(target: str, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not os.path.isdir(target):
        raise InputError(f'--out {target}: is a file; choose another name')
    if os.path.exists(os.path.join(target, MANIFEST_NAME)):
        if not overwrite:
            raise InputError(
                f'--out {target}: holds finished streams; pass --overwrite to replace them, '
                'or choose another folder'
            )
    elif os.listdir(target):
        raise InputError(f'--out {target}: is not empty and no streams folder; choose another folder')


def _remove(folder: str) -> None:
    if os.path.isdir(folder):
        shutil.rmtree(folder)
