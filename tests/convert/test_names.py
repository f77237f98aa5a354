"""Names of skills: one rule, two names never one folder, and no name meets the files of the work in progress."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.convert.names import LONGEST, SkillNames
from skillit_stream.convert.verify import verify
from skillit_stream.formats.manifest import Manifest
from tests.support.streams_reading import left_in, read_split

COMPOSED, APART = (unicodedata.normalize(form, 'café') for form in ('NFC', 'NFD'))
# Each is a file or a folder of a part, or of the work, or a skill of its own beside them.
NAMES = (
    'docs',
    'docs.held',
    'docs.eval',
    'docs.held_tokens',
    'part.json',
    'spool',
    'shards',
    'rest',
    '漢' * 80,
)


def rows_of(*names: str) -> list[dict[str, str]]:
    return [
        {'text': f'document {i} of the skill {number}, which has a name', 'kind': name}
        for i in range(30)
        for number, name in enumerate(names)
    ]


@pytest.fixture
def command(tmp_path: Path, tokenizer: str):
    def arguments(*paths: object) -> list[object]:
        options = ['--tokenizer', tokenizer, '--seq-len', 16, '--skill-field', 'kind', '--workers', 1]
        return ['convert', 'jsonl', *paths, '--out', tmp_path / 'S', *options]

    return arguments


def test_no_name_meets_a_file_of_the_work_in_progress(tmp_path, skillit, write_rows, command):
    skillit(*command(write_rows('a.jsonl', rows_of(*NAMES)), '--part-size', '8kb'))
    manifest = verify(str(tmp_path / 'S'))
    assert sorted(manifest.skills) == sorted(NAMES)
    assert left_in(tmp_path / 'S') == sorted([*NAMES, 'skills.json', 'tokenizer'])
    for name, skill in manifest.skills.items():
        assert sum(split.documents for split in skill.splits.values()) == 30
        for split, info in skill.splits.items():
            assert info.samples == len(read_split(tmp_path / 'S', name, split))


def test_streams_with_such_names_are_added_to(tmp_path, skillit, write_rows, command):
    path = write_rows('a.jsonl', rows_of('docs', 'docs.held', '漢' * 80))
    skillit(*command(path))
    more = [{**row, 'text': f'more: {row["text"]}'} for row in rows_of('docs', '漢' * 80)]
    skillit(*command(write_rows('b.jsonl', more)), '--add')
    counts = {
        name: sum(split.documents for split in skill.splits.values())
        for name, skill in verify(str(tmp_path / 'S')).skills.items()
    }
    assert counts == {'docs': 60, 'docs.held': 30, '漢' * 80: 60}


def test_two_forms_of_a_word_and_blanks_around_it(tmp_path, skillit, write_rows, command):
    skillit(*command(write_rows('a.jsonl', rows_of(COMPOSED, APART, ' x'))))
    skills = Manifest.load(str(tmp_path / 'S')).skills
    assert {
        name: sum(split.documents for split in skill.splits.values()) for name, skill in skills.items()
    } == {
        COMPOSED: 60,
        'x': 30,
    }


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('x' * 241, 'cannot name a folder: it has 241 bytes, and 240 is the most; shorten it'),
        ('漢' * 90, 'cannot name a folder: it has 270 bytes, and 240 is the most; shorten it'),
        ('tokenizer', "skill 'tokenizer' is a reserved name in a streams folder; choose another"),
        ('skills.json.next', 'is a reserved name'),
    ],
)
def test_a_name_that_cannot_be_used_is_said_with_its_line_or_counted(
    tmp_path, refused, skillit, write_rows, command, name, message
):
    rows = rows_of('prose', 'verse')
    path = write_rows('a.jsonl', [*rows[:7], {'text': 'x', 'kind': name}, *rows[7:]])
    error = refused(*command(path))
    assert 'a.jsonl:8: skill ' in error
    assert message in error
    skillit(*command(path), '--bad-records', 'skip')
    manifest = Manifest.load(str(tmp_path / 'S'))
    assert (list(manifest.skills), manifest.dropped) == (['prose', 'verse'], {'unusable_skill': 1})


def test_two_names_that_would_become_one_are_said_with_both_places(refused, skillit, write_rows, command):
    path = write_rows('a.jsonl', rows_of('a b', 'a/b'))
    error = refused(*command(path))
    assert "a.jsonl:2: skills 'a b' and 'a/b' would both be stored as 'a_b'" in error
    assert 'a.jsonl:1); rename one' in error
    # In processes of their own each is alone; then the files are named.
    paths = [write_rows(f'{i}.jsonl', rows_of(name)) for i, name in enumerate([' x', 'x'])]
    size = min(path.stat().st_size for path in paths)  # a part each, and neither cut in two
    for task in ('0/2', '1/2'):
        skillit(*command(*paths), '--part-size', size, '--task', task)
    error = refused(*command(*paths), '--part-size', size)
    assert "1.jsonl: skills ' x' and 'x' would both be stored as 'x' (the first is in 0.jsonl)" in error


def test_a_folder_with_an_unusable_name_is_named(tmp_path, refused, tokenizer):
    folder = tmp_path / 'tokenizer'
    folder.mkdir()
    (folder / 'a.txt').write_text('text')
    arguments = ['--out', tmp_path / 'S', '--tokenizer', tokenizer, '--seq-len', 16]
    error = refused('convert', 'text', folder, '--skill-from', 'folder', *arguments)
    assert "a.txt: document 1: skill 'tokenizer' is a reserved name" in error


@settings(max_examples=300, deadline=None)
@given(names=st.lists(st.text('ab ./_-é\u0301漢', max_size=90), max_size=8))
def test_the_rule_is_injective_and_its_results_are_names(names: list[str]):
    rule = SkillNames()
    found: dict[str, str] = {}
    for name in names:
        try:
            safe = rule.safe(name, 'here')
        except InputError:
            continue
        assert found.setdefault(safe, unicodedata.normalize('NFC', name)) == unicodedata.normalize(
            'NFC', name
        )
        assert 0 < len(safe.encode()) <= LONGEST
        assert SkillNames().safe(safe) == safe
        assert Path(safe).name == json.loads(json.dumps(safe)) == safe
