"""Texts and tables of random trees: see `tree_files`."""

import io
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.support.tree_files import BOM, COMPRESS, Content, Record, SkillValues, Texts, content_of, row_with


def text_file(
    rng: random.Random, values: SkillValues, texts: Texts, archive: str, *, damaged: bool
) -> tuple[Content, str]:
    """A text, which is one document."""
    _, skill, no_skill = values.draw(bad=False)
    text = texts.draw()
    data = (BOM if rng.random() < 0.1 else b'') + text.encode() + (b'\n' if rng.random() < 0.5 else b'')
    kind = rng.choice(['empty', 'blank', 'latin', 'cut']) if damaged else ''
    reason = {'empty': 'empty_text', 'blank': 'empty_text', 'latin': 'broken_encoding'}.get(kind, '')
    data = {'empty': b'', 'blank': b' \r\n\t\n', 'latin': 'caf\u00e9'.encode('latin-1')}.get(kind, data)
    packed = COMPRESS[archive](data)
    if kind == 'cut' and archive:
        return Content(packed[: rng.randint(1, len(packed) - 1)], [], Counter(truncated_file=1)), 'text, cut'
    # Its skill is asked for before its bytes are read as text.
    reason = no_skill if no_skill and reason != 'empty_text' else reason
    if reason:
        return Content(packed, [], Counter({reason: 1})), f'text{archive}, {kind}'
    return Content(packed, [(skill or '', text)]), f'text{archive}'


def table_file(
    rng: random.Random, values: SkillValues, texts: Texts, _: str, *, damaged: bool
) -> tuple[Content, str]:
    """A Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = list(_table_records(rng, values, texts, damaged=damaged))
    columns: dict[str, Any] = {'text': pa.array([one.row['text'] for one in found if one.row], pa.string())}
    if values.key:
        outer, _, inner = values.key.partition('.')
        kinds = [one.row[outer] for one in found if one.row]
        kind = pa.struct([(inner, pa.string())]) if inner else pa.string()
        columns[outer] = pa.array(kinds, kind)
    columns['unused'] = pa.array([rng.choice([None, 1.5]) for _ in found], pa.float64())
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, row_group_size=rng.choice([1, 7, 1000]))
    data = file.getvalue()
    if damaged and rng.random() < 0.3:
        data = data[: rng.randint(0, len(data) - 1)]
        return Content(data, [], Counter(broken_archive=1)), 'table, cut'
    return content_of(data, found), 'table'


def _table_records(
    rng: random.Random, values: SkillValues, texts: Texts, *, damaged: bool
) -> Iterator[Record]:
    for _ in range(rng.choice([0, 1, 3, 10, 100])):
        value, skill, no_skill = values.draw(bad=False)
        value, named, reason, text = None if value is None else str(value), skill, no_skill, texts.draw()
        if damaged and rng.random() < 0.2:
            if values.key and rng.random() < 0.5:
                value, named, reason = None, '', no_skill or 'mistyped_skill'
            else:
                text, reason = rng.choice(
                    [(None, no_skill or 'mistyped_text'), ('', no_skill or 'empty_text')]
                )
        row = row_with(values, value, {'text': text})
        usable = not reason and named is not None
        yield Record(b'', (named or '', text or '') if usable else None, reason, named or '', row)
