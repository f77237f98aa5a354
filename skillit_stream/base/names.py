"""Names: which known one was meant, which are unique, and whether one is of a place elsewhere."""

import difflib
import os
import re
from collections.abc import Iterable

from skillit_stream.base.errors import InputError

MOST_LISTED = 30  # names in an error message


def is_url(place: str | None) -> bool:
    """Whether it is in an object store or the like, and no path."""
    return place is not None and '://' in place


def is_missing_folder(name: str) -> bool:
    """Whether a name that might be one on a hub can only mean a folder here, and there is none.

    A hub's names are ``NAME`` or ``OWNER/NAME``. Others are paths, and so is what lies in a folder that is there, or in
    one called `tokenizers`.
    """
    if os.path.isdir(name):
        return False
    if not re.fullmatch(r'\w[\w.-]*(/\w[\w.-]*)?', name) or '--' in name or '..' in name:
        return True
    owner, slash, _ = name.partition('/')
    return os.path.exists(name) or bool(slash and (os.path.isdir(owner) or owner == 'tokenizers'))


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, or list them: the tail of an error message."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f'did you mean {close[0]!r}?'
    listed = sorted(names)[:MOST_LISTED]
    more = f' and {len(names) - MOST_LISTED} more' if len(names) > MOST_LISTED else ''
    return f'known: {", ".join(listed) or "none"}{more}'


def unique_names(what: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return `names` as a tuple.

    Raises:
        InputError: If there are none, one is empty or no string, or one comes twice.
    """
    if isinstance(names, str):
        raise InputError(f'{what} must be a list of names, but got the text: {names!r}')
    if not isinstance(names, Iterable):
        raise InputError(f'{what} must be a list of names, but got: {names!r}')
    result = tuple(names)
    if not result:
        raise InputError(f'{what} must name at least one skill, but got none')
    seen: set[str] = set()
    for position, name in enumerate(result):
        if not isinstance(name, str) or not name:
            raise InputError(f'{what} must be non-empty names, but got: {name!r} at position {position}')
        if name in seen:
            raise InputError(f'{what} must be unique, but got: {name!r} twice')
        seen.add(name)
    return result


def number_of(count: int, noun: str) -> str:
    """A count and its noun: ``1 file``, ``2,084 files``."""
    return f'{count:,} {noun}' if count == 1 else f'{count:,} {noun}s'
