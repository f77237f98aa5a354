"""RedPajama-Data-1T: seven subsets whose rows differ, as downloaded from its URLs, from the hub, or sampled.

A row's own evidence comes first, because it does not depend on where somebody put the file: the hub's
``red_pajama_subset``, ``source: "cc/..."``, ``meta.source``, or a key of ``meta`` that only one subset has.
Where the row says nothing, the names of its file and folders decide, the nearest first. ``meta`` may be an
object, a JSON string, the repr of a Python dict (the hub's sample), or absent (common_crawl).
"""

import ast
import re
from typing import Any
from urllib.parse import urlsplit

import orjson

from skillit_stream.convert.faults import BadRecordError
from skillit_stream.convert.inputs import InputFile
from skillit_stream.convert.rows import Row

SKILLS = ('arxiv', 'book', 'c4', 'common_crawl', 'github', 'stackexchange', 'wikipedia')

# What people and the published files call the subsets; compared without case, separators, end digits.
ALIASES = {
    'arxiv': 'arxiv',
    'book': 'book',
    'books': 'book',
    'c4': 'c4',
    'cc': 'common_crawl',
    'commoncrawl': 'common_crawl',
    'github': 'github',
    'stackexchange': 'stackexchange',
    'wikipedia': 'wikipedia',
    'wiki': 'wikipedia',
}
# Keys of `meta` that one subset alone has.
META_KEYS = {
    'arxiv_id': 'arxiv',
    'short_book_title': 'book',
    'repo_name': 'github',
    'question_score': 'stackexchange',
}


def skill_of(row: Row, file: InputFile, where: str) -> str:
    """The subset a row belongs to.

    Raises:
        BadRecordError: Neither the row nor its path says.
    """
    skill = _skill_of_row(row) or _skill_of_path(file)
    if skill is None:
        raise BadRecordError(
            'unknown_source',
            where=where,
            what=f'a row of no known RedPajama subset (source: {row.get("source")!r})',
            remedy=f'put the file in a folder named after one of {", ".join(SKILLS)}',
        )
    return skill


def _skill_of_row(row: Row) -> str | None:
    meta = _meta(row)
    for value in (row.get('red_pajama_subset'), row.get('source'), meta.get('source')):
        if isinstance(value, str):
            if value in SKILLS:
                return value
            if value.startswith('cc/'):
                return 'common_crawl'
    for key, skill in META_KEYS.items():
        if key in meta:
            return skill
    url = meta.get('url')
    if isinstance(url, str) and 'title' in meta and _host(url).endswith('.wikipedia.org'):
        return 'wikipedia'
    return None


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ''
    except ValueError:
        return ''


def _meta(row: Row) -> dict[str, Any]:
    meta = row.get('meta')
    if isinstance(meta, str):
        try:
            meta = orjson.loads(meta)
        except orjson.JSONDecodeError:
            try:
                meta = ast.literal_eval(meta)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                meta = None  # no evidence: the path decides
    return meta if isinstance(meta, dict) else {}


def _skill_of_path(file: InputFile) -> str | None:
    file_name = file.name.rsplit('/', 1)[-1]
    for name in (file_name, *reversed(file.folders)):
        if skill := _skill_of_name(name):
            return skill
    return None


def _skill_of_name(name: str) -> str | None:
    """The subset that a file or folder name, or else its parts, stand for; None if they stand for several."""
    stem = name.lower().split('.')[0]
    if whole := _alias(re.sub('[^a-z0-9]', '', stem)):
        return whole
    named = {_alias(part) for part in re.split('[^a-z0-9]+', stem)} - {None}
    return named.pop() if len(named) == 1 else None


def _alias(word: str) -> str | None:
    return ALIASES.get(word) or ALIASES.get(word.rstrip('0123456789'))
