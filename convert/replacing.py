"""A folder that was put together takes the place of another one, in steps that can be gone on with after a kill.

Only files of the old streams are removed; what else lies there stays, and where it would be in the way nothing is
replaced. A folder that can be renamed appears at once, complete::

    target -> previous      only where there are streams; a kill here leaves the target's place empty
    new -> target           from here on the target is complete
    previous                what is foreign goes into the target, what is of the old streams is removed

One that must stay where it is (a mount point, or a folder in one that is not the user's) is filled from a folder in
it. Without a manifest it holds no streams, so that nobody reads what is half done::

    new/skills.json.next    from here on it is made: a command that finds it only finishes it
    skills.json             -> new/skills.json.old
    old files               removed, and new/skills.json.old at last
    new files               moved up, the manifest at last
"""

import os
import shutil

from skillit_stream.base.errors import InputError
from skillit_stream.convert.contents import clashes, foreign_entries, own_entries, remove_entries
from skillit_stream.convert.locks import LOCK_NAME
from skillit_stream.formats.manifest import MANIFEST_NAME

MADE = f'{MANIFEST_NAME}.next'
OLD = f'{MANIFEST_NAME}.old'
# A file system of its own has this from the beginning.
LOST = 'lost+found'


def must_stay(folder: str) -> bool:
    """Whether a folder can be filled, but not renamed."""
    if not os.path.isdir(folder):
        return False
    return is_mount(folder) or not os.access(os.path.dirname(folder), os.W_OK)


def is_mount(folder: str) -> bool:
    """Whether a folder is a mount point, be it of the same file system."""
    if os.path.ismount(folder):
        return True
    try:
        with open('/proc/self/mountinfo', encoding='utf-8', errors='surrogateescape') as file:
            points = [line.split(' ')[4] for line in file]
    except (OSError, IndexError):
        return False
    escapes = (('\\040', ' '), ('\\011', '\t'), ('\\012', '\n'), ('\\134', '\\'))
    for escape, sign in escapes:
        points = [point.replace(escape, sign) for point in points]
    return folder in points


def check_free(new: str, target: str, *, staging: str = '') -> None:
    """Look once more at what is to be replaced.

    Args:
        new: The folder that is to come there.
        target: Its place.
        staging: Name of what is in the target and of this command.

    Raises:
        InputError: Something lies there that is not of finished streams and would be in the way.
    """
    if not os.path.lexists(target):
        return
    if os.path.exists(os.path.join(target, MANIFEST_NAME)):
        foreign = [one for one in foreign_entries(target) if one.split(os.sep)[0] != staging]
        found, why = clashes(foreign, new), 'where the new streams have files of their own'
    else:
        found = sorted(set(os.listdir(target)) - {staging, LOST}) if os.path.isdir(target) else ['a file']
        why = 'since the command began'
    if found:
        raise InputError(
            f'--out {target}: holds what this command did not write ({_first(found)}), {why}; move it away and run the '
            'same command again: all parts are kept'
        )


def replace_folder(new: str, target: str, previous: str) -> None:
    """Put a folder in the place of another one, or of none.

    Raises:
        InputError: Something foreign is in the way.
    """
    check_free(new, target)
    if os.path.exists(os.path.join(target, MANIFEST_NAME)):
        os.rename(target, previous)
    try:
        os.rename(new, target)  # over an empty folder too, and over no other
    except OSError:
        finish_replacing(target, previous)
        check_free(new, target)
        raise
    finish_replacing(target, previous)


def finish_replacing(target: str, previous: str) -> None:
    """Finish what :func:`replace_folder` was killed at; without a new folder the old one is put back.

    Raises:
        InputError: Something foreign is in the way.
    """
    if not os.path.isdir(previous):
        return
    if not os.path.exists(os.path.join(target, MANIFEST_NAME)):
        check_free(previous, target)
        os.rename(previous, target)
        return
    own = own_entries(previous)
    for entry in foreign_entries(previous):
        place = os.path.join(target, entry)
        if not clashes([entry], target):
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.rename(os.path.join(previous, entry), place)
    # Its manifest says which files are of the streams: it goes last.
    remove_entries(previous, sorted(own, key=lambda entry: entry == MANIFEST_NAME))
    _remove_empty(previous)
    if os.path.exists(previous):
        raise InputError(
            f'{previous}: holds what no conversion has written ({_first(foreign_entries(previous))}), which was in the '
            'old streams; move it away'
        )


def fill_folder(new: str, target: str) -> None:
    """Bring a folder that is in another one, complete with its :data:`MADE`, into that one.

    Raises:
        InputError: Something foreign is in the way.
    """
    check_free(new, target, staging=os.path.basename(new))
    finish_filling(new, target)


def finish_filling(new: str, target: str) -> None:
    """Bring a folder into the one it is in, or go on with that."""
    manifest, old = os.path.join(target, MANIFEST_NAME), os.path.join(new, OLD)
    if os.path.exists(manifest):
        os.rename(manifest, old)
    if os.path.exists(old):
        staging = os.path.basename(new)
        entries = own_entries(target, os.path.join(staging, OLD))
        remove_entries(target, [entry for entry in entries if entry.split(os.sep)[0] != staging])
        os.unlink(old)
    for folder, _, names in os.walk(new):
        inside = os.path.relpath(folder, new)
        os.makedirs(os.path.normpath(os.path.join(target, inside)), exist_ok=True)
        for name in names:
            if folder != new or name not in (MADE, LOCK_NAME):
                os.replace(os.path.join(folder, name), os.path.join(target, inside, name))
    os.replace(os.path.join(new, MADE), manifest)
    shutil.rmtree(new)


def _remove_empty(root: str) -> None:
    """Remove a folder if there is nothing in it but empty ones."""
    for folder, _, _ in os.walk(root, topdown=False):
        if not os.listdir(folder):
            os.rmdir(folder)


def _first(entries: list[str]) -> str:
    more = f' and {len(entries) - 1} more' if len(entries) > 1 else ''
    return f'{entries[0]}{more}'
