"""A corpus of one's own in five lines: a function from a row to its skill and its text."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skillit_stream.convert.runners import load_module
from skillit_stream.convert.verify import verify
from skillit_stream.formats.manifest import Manifest
from tests.support.adding import documents_of

FUNCTION = """
def row(row):
    return row['meta']['source'], row['title'] + ': ' + row['body']
"""


def rows(first: int, count: int, *skills: str) -> list[dict]:
    return [
        {
            'title': f'title {n}',
            'body': f'body {n} {"more " * (n % 4)}',
            'meta': {'source': skills[n % len(skills)]},
        }
        for n in range(first, first + count)
    ]


def texts(found: list[dict]) -> set[str]:
    return {f'{one["title"]}: {one["body"]}' for one in found}


@pytest.fixture
def command(tmp_path: Path, tokenizer: str) -> Callable[..., list[object]]:
    """The arguments of a conversion by a file with this code."""

    def arguments(code: str, *paths: object) -> list[object]:
        (tmp_path / 'mine.py').write_text(code)
        load_module.cache_clear()
        options = ['--out', tmp_path / 'S', '--tokenizer', tokenizer, '--seq-len', 16, '--eval-fraction', 0.2]
        return ['convert', 'custom', tmp_path / 'mine.py', *(paths or [tmp_path / 'corpus']), *options]

    return arguments


def found_in(root: Path, skill: str) -> set[str]:
    """Whole documents of a skill, both splits; those that a sample's end cuts are not among them."""
    return documents_of(root, skill, 'train') | documents_of(root, skill, 'eval')


@pytest.mark.parametrize('workers', [1, 2])
def test_a_function_of_the_row_is_a_corpus(tmp_path, write_rows, command, skillit, workers):
    first, second, third = rows(0, 90, 'a', 'b'), rows(90, 60, 'a'), rows(150, 60, 'b')
    write_rows('x.jsonl', first)
    (tmp_path / 'corpus' / 'y.json').write_text(json.dumps(second))
    pq.write_table(pa.Table.from_pylist(third), tmp_path / 'corpus' / 'z.parquet')
    printed = skillit(*command(FUNCTION), '--workers', workers, '--part-size', 1)
    assert '3 files read' in printed
    verify(str(tmp_path / 'S'))
    manifest = Manifest.load(str(tmp_path / 'S'))
    assert manifest.corpus['name'] == 'mine'
    documents = {
        name: sum(one.documents for one in skill.splits.values()) for name, skill in manifest.skills.items()
    }
    assert documents == {'a': 45 + 60, 'b': 45 + 60}
    assert {one.file for one in manifest.skills['b'].sources} == {'x.jsonl', 'z.parquet'}
    expected = texts([*first, *second, *third])
    whole = found_in(tmp_path / 'S', 'a') | found_in(tmp_path / 'S', 'b')
    assert len(whole & expected) > 180
    assert len(whole - expected) < 25  # cut by the ends of streams


def test_the_streams_are_those_of_the_same_texts_as_fields(tmp_path, write_rows, command, skillit, tokenizer):
    plain = [{'text': f'{one["title"]}: {one["body"]}', **one} for one in rows(0, 120, 'a', 'b')]
    path = write_rows('x.jsonl', plain)
    skillit(*command(FUNCTION, path))
    arguments = ['convert', 'jsonl', path, '--out', tmp_path / 'J', '--tokenizer', tokenizer, '--seq-len', 16]
    skillit(*arguments, '--eval-fraction', 0.2, '--skill-field', 'meta.source')
    own, fields = (Manifest.load(str(tmp_path / name)) for name in 'SJ')
    assert own.skills == fields.skills  # with the hashes of their indexes, which have those of the shards


def test_rows_that_the_function_leaves_out_are_counted_whatever_bad_records_says(
    tmp_path, write_rows, command, skillit
):
    write_rows('x.jsonl', rows(0, 200, 'a', 'b', 'c', 'd'))
    code = "def row(row):\n    if row['meta']['source'] in 'ab':\n        return row['meta']['source'], row['body']\n"
    printed = skillit(*command(code))
    assert 'left out, of no known skill: 100 row_is_none\n' in printed
    assert Manifest.load(str(tmp_path / 'S')).dropped == {'row_is_none': 100}
    code = "def row(row):\n    return ('a', row['body']) if row['meta']['source'] == 'a' else None\n"
    printed = skillit(*command(code), '--overwrite')
    assert 'left out: 150 row_is_none (the function returned None for them) in a\n' in printed


@pytest.mark.parametrize(
    ('body', 'said', 'reason'),
    [
        (
            "return row['sauce'], row['body']",
            "row() of mine.py raised KeyError: 'sauce' in its line 3",
            'row_raised',
        ),
        (
            'return row.no_such',
            "raised AttributeError: 'dict' object has no attribute 'no_such' in",
            'row_raised',
        ),
        (
            "return 'a'",
            "row() of mine.py must return (skill, text), a Document or None, but got: 'a'",
            'row_mistyped',
        ),
        ("return 'a', None", 'but got a text that is no string: None', 'row_mistyped'),
        ("return 'a', b'text'", "but got a text that is no string: b'text'", 'row_mistyped'),
        ("return None, 'text'", 'but got a skill that is no string: None', 'row_mistyped'),
        ("return 'a', 'text', 'more'", "but got: ('a', 'text', 'more')", 'row_mistyped'),
        ("yield 'a', 'text'", 'but got: <generator object row', 'row_mistyped'),
        ("return 'a', ''", 'is empty', 'empty_text'),
        ("return 'a', '\\ud800'", 'no text: it cannot be written as UTF-8', 'broken_encoding'),
        ("return 'a' * 300, 'text'", 'bytes', None),
    ],
)
def test_a_function_that_fails_is_one_line_with_file_and_row(
    tmp_path, write_rows, command, refused, skillit, body, said, reason
):
    path = write_rows('x.jsonl', rows(0, 120, 'a'))
    code = f"def row(row):\n    if row['title'] == 'title 7':\n        {body}\n    return 'a', row['body']\n"
    if 'yield' in body:
        code = f'def row(row):\n    {body}\n'
    error = refused(*command(code))
    place = 'x.jsonl:1:' if 'yield' in body else 'x.jsonl:8:'
    assert f'{path.parent}/{place}' in error
    assert said in error
    assert '--bad-records skip' in error
    if reason and 'yield' not in body:
        skillit(*command(code), '--bad-records', 'skip')
        assert Manifest.load(str(tmp_path / 'S')).skills['a'].dropped[reason] == 1


def test_lines_are_named_of_a_file_that_is_called_by_a_relative_path(
    tmp_path, write_rows, command, refused, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_rows('x.jsonl', rows(0, 80, 'a'))
    (tmp_path / 'link.py').symlink_to('mine.py')
    for code, said in (
        ('row = None.x\n', ':1: cannot be loaded'),
        (FUNCTION, "KeyError: 'sauce' in its line 3"),
    ):
        arguments = command(code.replace('source', 'sauce'))
        for name in ('mine.py', 'link.py'):
            assert said in refused(*arguments[:2], name, *arguments[3:])


def test_a_parquet_row_is_named_too(tmp_path, command, refused):
    pq.write_table(pa.Table.from_pylist(rows(0, 90, 'a')), tmp_path / 'z.parquet')
    error = refused(*command("def row(row):\n    return 'a', row['text']\n", tmp_path / 'z.parquet'))
    assert "z.parquet: row 1: row() of mine.py raised KeyError: 'text' in its line 2" in error


def test_a_function_may_return_a_document_with_an_answer_and_a_split(tmp_path, write_rows, command, skillit):
    write_rows('x.jsonl', rows(0, 80, 'a'))
    code = (
        'from skillit_stream.convert.corpus import Document\n\n\ndef row(row):\n'
        "    split = 'eval' if int(row['title'][6:]) % 4 == 0 else 'train'\n"
        "    return Document('a', row['title'], answer=row['body'], split=split)\n"
    )
    skillit(*command(code), '--one-per-sample', '--loss', 'answer')
    splits = Manifest.load(str(tmp_path / 'S')).skills['a'].splits
    assert {name: one.documents for name, one in splits.items()} == {'train': 60, 'eval': 20}
    assert splits['train'].target_tokens < 60 * 16


def test_a_document_with_a_split_that_is_none_is_refused(tmp_path, write_rows, command, refused):
    write_rows('x.jsonl', rows(0, 80, 'a'))
    code = 'from skillit_stream.convert.corpus import Document\n\n\ndef row(row):\n'
    code += "    return Document('a', row['title'], split='test')\n"
    error = refused(*command(code))
    assert (
        "x.jsonl:1: row() of mine.py must return a split of 'train', 'eval' or None, but got: 'test'" in error
    )


@pytest.mark.parametrize(
    ('code', 'said'),
    [
        ('rows = 3\n', 'mine.py: has neither a function row(row) nor corpus(args); see docs/extending.md'),
        ('row = 3\n', 'mine.py: row must be a function of one row, but got: int'),
        (
            'def row(row, file):\n    pass\n',
            'mine.py: row must be a function of one row, but got: row(row, file)',
        ),
        ('async def row(row):\n    pass\n', 'mine.py: row must be a function of one row, but got: async'),
        ('def row(row)\n    pass\n', 'mine.py:1: cannot be loaded (SyntaxError'),
        (
            'import no_such_module\ndef row(row):\n    pass\n',
            'mine.py:1: cannot be loaded (ModuleNotFoundError',
        ),
        ('def add_arguments(p):\n    pass\ndef row(row):\n    pass\n', 'mine.py: has options of its own'),
    ],
)
def test_a_file_that_is_no_corpus_is_refused_before_anything_is_read(
    tmp_path, write_rows, command, refused, code, said
):
    write_rows('x.jsonl', rows(0, 80, 'a'))
    assert said in refused(*command(code))
    assert not (tmp_path / 'S').exists()


def test_the_function_is_a_setting_of_the_parts(tmp_path, write_rows, command, skillit):
    for name in 'xy':
        write_rows(f'{name}.jsonl', [{'title': name, **one} for one in rows(0, 60, 'a')])
    old = "def row(row):\n    return 'a', 'old ' + row['body']\n"
    skillit(*command(old), '--part-size', 1, '--task', '0/2')
    skillit(*command(old.replace('old', 'new')), '--part-size', 1)
    words = Counter(' '.join(found_in(tmp_path / 'S', 'a')).split())
    assert words['old'] == 0
    assert words['new'] > 50


def test_patterns_choose_among_the_files(tmp_path, write_rows, command, skillit):
    write_rows('x.jsonl', rows(0, 80, 'a'))
    write_rows('y.jsonl', rows(0, 80, 'b'))
    printed = skillit(*command(FUNCTION), '--include', 'x*')
    assert '1 file read, 1 passed over (1 not of --include)' in printed
    assert list(Manifest.load(str(tmp_path / 'S')).skills) == ['a']


def test_help_names_what_the_file_is_for(tmp_path, command, capsys):
    from skillit_stream.cli import main

    command('"""Titles and bodies."""\n' + FUNCTION)
    with pytest.raises(SystemExit) as ended:
        main(['convert', 'custom', str(tmp_path / 'mine.py'), '--help'])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert 'Titles and bodies.' in printed
    assert '--bad-records' in printed
