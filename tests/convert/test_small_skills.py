"""Skills that are too small: all named at once, what is converted kept, left out by name where asked."""

import hashlib
import re
from pathlib import Path

import pytest

from skillit_stream.convert.verify import verify
from skillit_stream.formats.manifest import Manifest
from tests.support.streams_reading import left_in, read_tokens

MODULE = Path(__file__).parent.parent / 'support' / 'my_corpus.py'
LARGE = [
    {'text': f'{kind} number {i}, whose text is long enough', 'kind': kind}
    for i in range(60)
    for kind in ('prose', 'verse')
]
TINY = [{'text': f'tiny {i}', 'kind': f'tiny{i}'} for i in range(7)]
ALIKE = [{'text': 'the same text again and again', 'kind': 'alike'}] * 9
FEW = [{'text': f'document {i} of a skill of few', 'kind': 'few'} for i in range(5)]


@pytest.fixture
def command(tmp_path: Path, tokenizer: str):
    """The arguments of a conversion in several parts to the folder S, or another."""

    def arguments(path: Path, *more: object, out: str = 'S') -> list[object]:
        options = ['--tokenizer', tokenizer, '--seq-len', 32, '--skill-field', 'kind', '--workers', 1]
        return ['convert', 'jsonl', path, '--out', tmp_path / out, *options, '--part-size', '2kb', *more]

    return arguments


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file() and path.name != 'skills.json'
    }


@pytest.fixture
def corpus(write_rows) -> Path:
    rows = LARGE + ALIKE + FEW
    for number in range(3):
        write_rows(f'{number}.jsonl', rows[number::3])
    return write_rows('3.jsonl', TINY).parent


def test_all_small_skills_are_named_at_once_and_no_work_is_lost(tmp_path, refused, skillit, corpus, command):
    error = refused(*command(corpus))
    assert "8 skills are too small: 'alike' (all its 9 documents are alike), 'tiny0' (7 tokens in 1" in error
    assert re.findall(r"'(tiny\d)'", error) == [row['kind'] for row in TINY]
    assert 'or leave them out with --min-samples 1 (the work that is done is kept)' in error
    work = tmp_path / '.S.skillit-partial' / '.work' / 'parts'
    parts = {path: path.stat().st_mtime_ns for path in work.rglob('part.json')}
    assert len(parts) == 4
    # No shard has left its part: another command may want other skills.
    assert left_in(tmp_path / '.S.skillit-partial') == ['.skillit-lock', '.work', 'tokenizer']
    refused(*command(corpus, '--min-samples', 1000))
    assert {path: path.stat().st_mtime_ns for path in work.rglob('part.json')} == parts
    printed = skillit(*command(corpus, '--min-samples', 1))
    assert left_in(tmp_path) == ['S', 'corpus']
    assert 'left out: 8 skills under --min-samples 1, 16 documents: alike, tiny0, tiny1' in printed


def test_what_is_left_out_is_in_the_manifest_and_nowhere_else(tmp_path, skillit, write_rows, corpus, command):
    skillit(*command(corpus, '--min-samples', 6))
    manifest = verify(str(tmp_path / 'S'))
    left_out = manifest.corpus['left_out']
    expected = {
        row['kind']: [one for one in ALIKE + FEW + TINY if one['kind'] == row['kind']]
        for row in ALIKE + FEW + TINY
    }
    # The tokenizer has a token a byte; one ends each document.
    assert left_out == {
        kind: {'documents': len(rows), 'tokens': sum(len(row['text']) + 1 for row in rows)}
        for kind, rows in sorted(expected.items())
    }
    splits = [split for skill in manifest.skills.values() for split in skill.splits.values()]
    documents = sum(split.documents for split in splits)
    assert documents + sum(one['documents'] for one in left_out.values()) == len(LARGE + ALIKE + FEW + TINY)
    assert left_in(tmp_path / 'S') == ['prose', 'skills.json', 'tokenizer', 'verse']
    # The skills that are left have the bytes that they have alone.
    for number in range(3):
        write_rows(f'{number}.jsonl', [row for row in (LARGE + ALIKE + FEW)[number::3] if row in LARGE])
    (corpus / '3.jsonl').unlink()
    skillit(*command(corpus, out='alone'))
    assert digests(tmp_path / 'S') == digests(tmp_path / 'alone')


def test_a_skill_of_enough_samples_stays(tmp_path, skillit, corpus, command):
    skillit(*command(corpus, '--min-samples', 2))
    manifest = Manifest.load(str(tmp_path / 'S'))
    assert list(manifest.skills) == ['few', 'prose', 'verse']
    assert len(read_tokens(tmp_path / 'S', 'few', 'eval')) >= 32


def test_to_leave_out_all_skills_or_fewer_than_one_sample_is_refused(refused, write_rows, command):
    path = write_rows('a.jsonl', TINY)
    error = refused(*command(path, '--min-samples', 1))
    assert '--min-samples 1: leaves out 7 skills, which is all of them; lower it, or --seq-len' in error
    assert '--min-samples must be at least 1, but got: 0' in refused(*command(path, '--min-samples', 0))


def test_documents_that_are_all_alike_are_said_to_be(refused, write_rows, command):
    error = refused(*command(write_rows('a.jsonl', ALIKE)))
    assert "skill 'alike': all its 9 documents are alike, and equal documents are in one split; add" in error


def test_an_addition_that_is_too_small_leaves_the_streams_as_they_were(
    tmp_path, refused, skillit, write_rows, command
):
    skillit(*command(write_rows('a.jsonl', LARGE)))
    before = digests(tmp_path / 'S')
    more = write_rows('b.jsonl', [*TINY, *({**row, 'kind': 'law'} for row in LARGE)])
    error = refused(*command(more, '--add'))
    assert '7 skills are too small' in error
    assert digests(tmp_path / 'S') == before
    skillit(*command(more, '--add', '--min-samples', 1))
    manifest = verify(str(tmp_path / 'S'))
    assert list(manifest.skills) == ['law', 'prose', 'verse']
    assert list(manifest.history[-1].corpus['left_out']) == [row['kind'] for row in TINY]
    after = digests(tmp_path / 'S')
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ('rows', 'options', 'message'),
    [
        (
            [('long enough ' * 9, 'train'), ('short', 'eval')],
            (),
            'its 10 tokens in 1 document of eval do not fill a sample of 64 tokens; lower --seq-len, or add documents',
        ),
        (
            [('short', 'train'), ('long enough ' * 9, 'eval')],
            (),
            'its 10 tokens in 1 document of train do not fill a sample of 64 tokens; lower --seq-len, or add',
        ),
        (
            [('long enough ' * 9, 'train'), ('long enough ' * 9, 'eval')],
            (),
            'each of its 1 eval document is in train too; add other documents to eval',
        ),
        (
            [*((f'short {i}', 'train') for i in range(20)), ('long enough ' * 30, 'eval')],
            ('--loss', 'answer', '--drop-without-target'),
            'none of its 5 eval samples has a token that counts in the loss; raise --seq-len',
        ),
    ],
)
def test_a_split_of_the_corpus_own_that_is_short_is_told_by_its_tokens(
    tmp_path, refused, tokenizer, rows, options, message
):
    path = tmp_path / 'a.tsv'
    path.write_text('\n'.join(f'prose\t{text}\tyes.\t{split}' for text, split in rows))
    arguments = ['--out', tmp_path / 'S', '--tokenizer', tokenizer, '--seq-len', 64, *options]
    error = refused('convert', 'custom', MODULE, path, *arguments)
    assert f"skill 'prose': {message}" in error
    assert 'raise --seq-len' not in error or '--drop-without-target' in options
