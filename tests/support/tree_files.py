"""Input files of random trees: their bytes, the documents in them, and the faults that are to be counted."""

import bz2
import gzip
import json
import lzma
import random
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import zstandard

BOM = b'\xef\xbb\xbf'
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    '': bytes,
    '.gz': gzip.compress,
    '.zst': zstandard.ZstdCompressor().compress,
    '.xz': lzma.compress,
    '.bz2': bz2.compress,
}
# What can be decompressed of the beginning of an archive.
DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    '.gz': lambda data: zlib.decompressobj(31).decompress(data),
    '.zst': lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    '.xz': lambda data: lzma.LZMADecompressor().decompress(data),
    '.bz2': lambda data: bz2.BZ2Decompressor().decompress(data),
}
WORDS = (
    *['the', 'quick', 'brown', 'fox', 'jumps', 'over', 'lazy', 'dogs', '0', '1', '23', '456'],
    'caf\u00e9',
    'cafe\u0301',
    '\u65e5\u672c\u8a9e',
    '\U0001f469\u200d\U0001f467',
    '\t',
    '\n',
    '\r\n',
    '\0',
    '\u2028',
    '\ufeff',
    '"',
    '\\',
    '{"text": 1}',
    '}, {',
)


@dataclass
class Content:
    """A file's bytes and what a conversion finds in them.

    Attributes:
        data: As they lie on disk.
        documents: (name of the skill, text), in order.
        faults: Bad records by reason.
        named: Skills that bad records name.
    """

    data: bytes
    documents: list[tuple[str, str]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)


@dataclass
class Record:
    """A row as text, and what it is: a document, or a fault.

    Attributes:
        text: Its bytes in a file of JSON.
        document: (skill, text) of one that can be used.
        reason: Why it cannot.
        named: The skill that a bad row names.
        row: Its columns, for a table.
        breaks: Whether what follows on its line is lost with it.
    """

    text: bytes
    document: tuple[str, str] | None = None
    reason: str = ''
    named: str = ''
    row: dict[str, Any] | None = None
    breaks: bool = False


class Texts:
    """Texts, each with a mark of its own, some of them twice."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._made: list[str] = []

    def draw(self) -> str:
        """The next one."""
        rng = self._rng
        if self._made and rng.random() < 0.05:
            return rng.choice(self._made)
        words = rng.choices(WORDS, k=rng.choice([0, 1, 5, 5, 20, 60]))
        text = f'<{len(self._made)}> ' + ' '.join(f'{word}{rng.randint(0, 9999)}' for word in words)
        self._made.append(text)
        return text


class SkillValues:
    """The values of the field that names the skill, or the skill of a whole file.

    Args:
        rng: Draws.
        key: Path of the field; empty: the skill is that of the file.
        names: Skills; one that is None cannot be found out.
        unusable: Names that no folder can have.
    """

    def __init__(
        self, rng: random.Random, key: str, names: Sequence[str | None], unusable: Sequence[str] = ()
    ) -> None:
        self.key = key
        self._rng, self._names, self._unusable = rng, names, unusable

    def draw(self, *, bad: bool) -> tuple[Any, str | None, str]:
        """(value of the field, the skill, why there is none)."""
        if not self.key:
            return None, self._names[0], '' if self._names[0] is not None else 'no_skill'
        if bad:
            wrong = self._rng.choice([None, True, 1.5, [], {}, ''])
            return self._rng.choice(
                [
                    (wrong, None, 'mistyped_skill'),
                    (..., None, 'missing_skill'),
                    (name := self._rng.choice(self._unusable), name, 'unusable_skill'),
                ]
            )
        if self._rng.random() < 0.05:
            number = self._rng.randint(-3, 3)
            return number, str(number), ''
        name = self._rng.choice(self._names)
        return name, name, ''


def row_with(values: SkillValues, value: Any, rest: dict[str, Any]) -> dict[str, Any]:
    """A row with the skill's field, unless it is left out (``...``)."""
    if not values.key or value is ...:
        return rest
    outer, _, inner = values.key.partition('.')
    return {outer: {inner: value} if inner else value, **rest}


def _good(rng: random.Random, values: SkillValues, texts: Texts, *, bad_skill: bool = False) -> Record:
    value, skill, reason = values.draw(bad=bad_skill)
    text = texts.draw()
    extras: dict[str, Any] = {
        'n': rng.choice([1, 10**30, -(2**63), float('nan'), float('-inf'), 0.1]),
        'deep': [[{'text': 'inside'}]],
        '\u00fc': None,
    }
    more = {name: extras[name] for name in rng.sample(sorted(extras), rng.randint(0, 2))}
    row = row_with(values, value, {**more, 'text': text} if rng.random() < 0.5 else {'text': text, **more})
    if reason or skill is None:
        return Record(_dump(rng, row), None, reason, row=row)
    return Record(_dump(rng, row), (skill, text), row=row)


def _dump(rng: random.Random, row: Any) -> bytes:
    tight = (',', ':') if rng.random() < 0.5 else None
    return json.dumps(row, ensure_ascii=rng.random() < 0.5, separators=tight).encode()


def _bad(rng: random.Random, values: SkillValues, texts: Texts, *, lines: bool) -> Record:
    """A row that cannot be used; `lines`: it may be any line."""
    if values.key and rng.random() < 0.3:
        return _good(rng, values, texts, bad_skill=True)
    value, skill, no_skill = values.draw(bad=False)
    kinds: list[tuple[str, dict[str, Any]]] = [
        ('missing_text', {'txt': 'x'}),
        ('mistyped_text', {'text': rng.choice([None, 3, ['x'], {}, float('nan')])}),
        ('empty_text', {'text': ''}),
    ]
    if rng.random() < 0.4:
        reason, rest = rng.choice(kinds)
        row = row_with(values, value, rest)
        return Record(
            _dump(rng, row), None, no_skill or reason, named='' if no_skill else skill or '', row=row
        )
    whole = [b'null', b'"text"', b'[1, 2]', b'[{"text": "x"}]']
    spoilt = [b'{"text": "\\ud800"}', b'{"text": "caf\xe9"}', b'{"text": "\xff\xfe"}']
    broken = [b'{"text": "abc', b'{"text": }', b'{"text": "abc" "kind": "x"}', b'{"text": "abc",']
    if lines:
        broken += [
            b'\0\0\0\0',
            b'nonsense',
            b'{"text": "a\0b"}',
            b'{"text": "a"} {"text": "b"}',
            b'}',
            b'<html>',
        ]
    kind = rng.choice(['whole', 'spoilt', 'broken', 'broken'])
    if kind == 'whole':
        return Record(rng.choice(whole), None, 'not_an_object')
    return Record(
        rng.choice(spoilt if kind == 'spoilt' else broken), None, 'broken_json', breaks=kind == 'broken'
    )


def _records(
    rng: random.Random, values: SkillValues, texts: Texts, *, damaged: bool, lines: bool = True
) -> list[Record]:
    count = rng.choice([0, 1, 2, 3, 10, 10, 30, 60])
    bad = rng.choice([0.05, 0.3, 1.0]) if damaged else 0.0
    return [
        _bad(rng, values, texts, lines=lines) if rng.random() < bad else _good(rng, values, texts)
        for _ in range(count)
    ]


@dataclass
class _Layout:
    """Bytes with records in them, and where each begins and ends."""

    data: bytes = b''
    places: list[tuple[int, int, Record]] = field(default_factory=list)
    whole: bool = False
    """Whether the file is one JSON value."""
    lost: bool = False
    """Whether what is behind the last place is lost with it."""

    def put(self, record: Record, text: bytes | None = None) -> None:
        begin = len(self.data)
        self.data += record.text if text is None else text
        self.places.append((begin, len(self.data), record))


def lines_file(
    rng: random.Random, values: SkillValues, texts: Texts, archive: str, *, damaged: bool
) -> tuple[Content, str]:
    """JSON lines."""
    layout = _lines(rng, _records(rng, values, texts, damaged=damaged))
    content, what = _packed(rng, layout, archive, damaged=damaged)
    return content, f'lines{archive}{what}'


def json_file(
    rng: random.Random, values: SkillValues, texts: Texts, archive: str, *, damaged: bool
) -> tuple[Content, str]:
    """A ``.json`` file of any form."""
    form = rng.choice(['lines', 'tight', 'rows', 'pretty', 'object'])
    # Of an archive of one value that is cut, the last line that is whole may be broken by the cut, too.
    records = _records(rng, values, texts, damaged=damaged and not archive, lines=form == 'lines')
    if form == 'lines':
        layout = _lines(rng, records)
    elif form == 'object':
        layout = _Layout(whole=True)
        layout.put(record := _good(rng, values, texts), json.dumps(record.row, indent=2).encode())
    else:
        layout = _array(rng, records, form)
    content, what = _packed(rng, layout, archive, damaged=damaged)
    return content, f'{form}{archive}{what}'


def _lines(rng: random.Random, records: Sequence[Record]) -> _Layout:
    end = b'\r\n' if rng.random() < 0.2 else b'\n'
    layout = _Layout(BOM if rng.random() < 0.1 else b'')
    for number, record in enumerate(records):
        while rng.random() < 0.05:
            layout.data += rng.choice([b'', b'  ', b'\t']) + end
        layout.put(record)
        if number < len(records) - 1 or rng.random() < 0.8:
            layout.data += end
    return layout


def _array(rng: random.Random, records: Sequence[Record], form: str) -> _Layout:
    layout = _Layout(BOM if rng.random() < 0.1 else b'', whole=True)
    opening, between, closing = {
        'tight': (b'[', b', ', b']'),
        'rows': rng.choice([(b'[\n', b',\n', b'\n]\n'), (b'[', b',\n', b']')]),
        'pretty': (b'[\n  ', b',\n  ', b'\n]'),
    }[form]
    layout.data += opening
    lost = False
    for number, record in enumerate(records):
        # Behind a broken row reading goes on at the next object: what is none is not looked at.
        lost = record.breaks or (lost and not record.text.startswith(b'{'))
        pretty = form == 'pretty' and record.row is not None
        text = json.dumps(record.row, indent=2).replace('\n', '\n  ').encode() if pretty else None
        layout.data += between if number else b''
        layout.put(record if record.breaks or not lost else Record(record.text), text)
        if form == 'tight' and record.breaks:
            layout.lost = True
            for one in records[number + 1 :]:
                layout.data += between + one.text
            break
    layout.data += closing
    return layout


def _packed(rng: random.Random, layout: _Layout, archive: str, *, damaged: bool) -> tuple[Content, str]:
    """The file, cut perhaps."""
    cut = damaged and rng.random() < 0.4
    data = layout.data
    if not archive:
        place = rng.randint(0, len(data))
        if not cut or place == len(data):
            return content_of(data, [record for *_, record in layout.places]), ''
        return _cut_plain(layout, place), f', cut at {place}'
    packed = COMPRESS[archive](data)
    if cut and rng.random() < 0.2 and len(data) > 9:
        return Content(data, [], Counter(broken_archive=1)), ', not compressed'
    if cut:
        place = rng.randint(0, len(packed) - 1)
        if not place:
            return Content(b''), ', empty'
        known = DECOMPRESS[archive](packed[:place])
        kept = [record for _, end, record in layout.places if end <= known.rfind(b'\n')]
        content = content_of(packed[:place], kept)
        content.faults['truncated_file'] += 1
        return content, f', cut at {place}'
    if rng.random() < 0.2:
        middle = rng.randint(0, len(data))
        packed = COMPRESS[archive](data[:middle]) + COMPRESS[archive](data[middle:])
        packed += bytes(4 * rng.randint(0, 3)) if archive in ('.gz', '.xz') else b''
    return content_of(packed, [record for *_, record in layout.places]), ''


def _cut_plain(layout: _Layout, place: int) -> Content:
    data = layout.data[:place]
    content = content_of(data, [record for _, end, record in layout.places if end <= place])
    if data and BOM.startswith(data) and data != BOM:
        content.faults['broken_json'] += 1
        return content
    if layout.whole:
        if layout.lost and layout.places[-1][1] <= place:
            return content
        if data.removeprefix(BOM).strip() and not _is_json(data):
            content.faults['broken_json'] += 1
        return content
    for begin, end, _ in layout.places:
        if begin < place < end:
            rest = data[begin:]
            content.faults['not_an_object' if _is_json(rest) else 'broken_json'] += 1
    return content


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data.removeprefix(BOM))
    except ValueError:
        return False
    return True


def content_of(data: bytes, records: Sequence[Record]) -> Content:
    """A file of these bytes with these records."""
    return Content(
        data,
        [record.document for record in records if record.document],
        Counter(record.reason for record in records if record.reason),
        [record.named for record in records if record.named],
    )
