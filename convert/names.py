"""Names of skills as a corpus has them -> names that folders and object stores take."""

import re
from collections.abc import Mapping

from skillit_stream.base.errors import InputError
from skillit_stream.convert.tokens import TOKENIZER_FOLDER
from skillit_stream.formats.manifest import MANIFEST_NAME

GRAPH_NAME = 'graph.json'
RESERVED = (TOKENIZER_FOLDER, MANIFEST_NAME, GRAPH_NAME)


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


class SkillNames:
    """Makes names safe for folders and object stores, and sees to it that no two become one."""

    def __init__(self) -> None:
        self._safe: dict[str, str] = {}
        self._raw: dict[str, str] = {}

    @property
    def raw(self) -> Mapping[str, str]:
        """Safe name -> the name it was made of."""
        return self._raw

    def safe(self, raw: str) -> str:
        """`raw` with every run of characters other than letters, digits, ``_ . -`` replaced by ``_``.

        Raises:
            InputError: Another name became the same, or the name is reserved.
        """
        if raw not in self._safe:
            name = check_skill_name(re.sub(r'[^\w.-]+', '_', raw).lstrip('.') or '_')
            other = self._raw.setdefault(name, raw)
            if other != raw:
                raise InputError(
                    f'skills {other!r} and {raw!r} would both be stored as {name!r}; '
                    'rename one, or choose another --skill-field'
                )
            self._safe[raw] = name
        return self._safe[raw]
