"""Output folders appear complete or not at all: staged beside the target, renamed into place at the end."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from skillit_stream.errors import InputError
from skillit_stream.streams.manifest import MANIFEST_NAME

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


@contextmanager
def staged_folder(target: str, *, overwrite: bool = False) -> Iterator[str]:
    """Give an empty folder beside `target` that takes its place when the block ends well.

    What a killed run left behind is cleared first. The target of an earlier run is moved aside, not deleted,
    until the new one stands in its place; if a kill falls between the two renames, the next run moves it
    back.

    Args:
        target: The folder to make; a local path.
        overwrite: Replace a finished streams folder.

    Raises:
        InputError: The target is remote, or exists and may not be replaced.
    """
    if '://' in target:
        raise InputError(f'--out {target}: must be a local folder; convert to one, then upload it')
    target = os.path.abspath(target)
    parent, name = os.path.split(target)
    staging = os.path.join(parent, f'.{name}.skillit-partial')
    previous = os.path.join(parent, f'.{name}.skillit-previous')
    if not os.path.exists(target) and os.path.isdir(previous):
        os.rename(previous, target)
    _check_target(target, overwrite)
    _remove(staging)
    _remove(previous)
    try:
        os.makedirs(staging)
    except OSError as error:
        raise InputError(
            f'--out {target}: cannot be made ({error.strerror}); choose another folder'
        ) from error
    try:
        yield staging
        if os.path.exists(target):
            os.rename(target, previous)
        os.rename(staging, target)
        _remove(previous)
    finally:
        _remove(staging)


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
