"""Names of skills as a corpus has them -> names that folders and object stores take.

One rule: a name is taken in Unicode's composed form (NFC), blanks around it are dropped, every run of characters other
than letters, digits, ``_ . -`` becomes ``_``, and dots at its beginning are dropped; what is left is at most
:data:`LONGEST` bytes long and not reserved. No two names become one: that is refused, as is a name that cannot be used.
"""

import re
import unicodedata
from collections.abc import Mapping

from skillit_stream.base.errors import InputError
from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.tokens import TOKENIZER_FOLDER
from skillit_stream.formats.manifest import CHANGE_NAME, MANIFEST_NAME

GRAPH_NAME = 'graph.json'
RESERVED = (TOKENIZER_FOLDER, MANIFEST_NAME, f'{MANIFEST_NAME}.next', CHANGE_NAME, GRAPH_NAME)
# In UTF-8. File systems take 255, and a part keeps files whose names are a skill's and a word more.
LONGEST = 240


def check_skill_name(name: str) -> str:
    """Return `name`, in Unicode's composed form, if it can be a folder of its own.

    Raises:
        InputError: It is reserved, too long, starts with a dot, or holds others than letters, digits, ``_ . -``.
    """
    name = unicodedata.normalize('NFC', name)
    if fault := _fault_of(name):
        raise InputError(f'skill {name[:60]!r} {fault}')
    return name


def _fault_of(name: str) -> str:
    """What is wrong with a name, and the remedy; empty if nothing is."""
    if name in RESERVED:
        return 'is a reserved name in a streams folder; choose another'
    size = len(name.encode())
    if size > LONGEST:
        return f'cannot name a folder: it has {size} bytes, and {LONGEST} is the most; shorten it'
    if not re.fullmatch(r'[\w-][\w.-]*', name):
        return f'cannot name a folder; use at most {LONGEST} bytes of letters, digits, "_", "-" and "."'
    return ''


class SkillNames:
    """Makes names safe for folders and object stores, and sees to it that no two become one.

    Args:
        known: Name of a corpus -> skill, of streams that are added to: what has such a name is of that skill, and no
            other name becomes one of these skills.
    """

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self._known = dict(known or {})
        self._taken = {skill: raw for raw, skill in self._known.items()}
        self._safe: dict[str, str] = {}
        self._raw: dict[str, str] = {}
        self._places: dict[str, str] = {}

    @property
    def raw(self) -> Mapping[str, str]:
        """Safe name -> the name it was made of, in its composed form."""
        return self._raw

    def safe(self, raw: str, where: str = '') -> str:
        """The name of the folder of a skill.

        Args:
            raw: As the corpus names it.
            where: Where it does so, for messages.

        Raises:
            BadRecordError: It is reserved or too long.
            InputError: Another name became the same.
        """
        if raw not in self._safe:
            composed = unicodedata.normalize('NFC', raw)
            if composed in self._known:
                self._safe[raw] = self._known[composed]
                self._raw.setdefault(self._safe[raw], composed)
                return self._safe[raw]
            name = re.sub(r'[^\w.-]+', '_', composed.strip()).lstrip('.') or '_'
            if fault := _fault_of(name):
                what, _, remedy = fault.partition('; ')
                raise BadRecordError(
                    'unusable_skill', where=where, what=f'skill {raw[:60]!r} {what}', remedy=remedy
                )
            if name in self._taken:
                raise clash(self._taken[name], composed, name, where, 'the streams that are added to')
            other = self._raw.setdefault(name, composed)
            if other != composed:
                raise clash(other, composed, name, where, self._places[name])
            self._places.setdefault(name, where)
            self._safe[raw] = name
        return self._safe[raw]


def clash(first: str, second: str, name: str, where: str, before: str) -> InputError:
    """The error of two skills, the second of them found at `where`, that would be stored as `name`."""
    return InputError(
        f'{where}: skills {first!r} and {second!r} would both be stored as {name!r} (the first is in {before}); '
        'rename one, or choose another --skill-field'
    )
