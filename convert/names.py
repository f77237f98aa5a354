"""Names of skills as a corpus has them -> names that folders and object stores take."""

import re
from collections.abc import Mapping

from skillit_stream.base.errors import InputError
from skillit_stream.convert.staging import check_skill_name


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
