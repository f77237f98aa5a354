"""Corpora of JSON rows: which skill a row belongs to, the files that people have, and what is no use."""

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.convert import json_files
from skillit_stream.convert.corpora import jsonl, law, redpajama_v2
from skillit_stream.convert.corpora.published import LAW, PILE, PILE_SOURCES, SLIMPAJAMA
from skillit_stream.convert.inputs import SUFFIXES, find_inputs
from tests.support.corpora_reading import make_corpus, read_corpus

COMPRESS = {
    '.gz': gzip.compress,
    '.zst': zstandard.compress,
    '.xz': lzma.compress,
    '.bz2': bz2.compress,
}


def write(path: Path, rows: Sequence[object]) -> Path:
    data = b''.join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b'\n' for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(COMPRESS.get(path.suffix, bytes)(data))
    return path


NAMES = ('ArXiv', 'Book', 'C4', 'CommonCrawl', 'Github', 'StackExchange', 'Wikipedia')
SOURCES = ('arxiv', 'book', 'c4', 'common_crawl', 'github', 'stackexchange', 'wikipedia')
SUBSETS = {f'RedPajama{name}': source for name, source in zip(NAMES, SOURCES, strict=True)}


def test_slimpajama_skills_are_named_as_those_of_redpajama(tmp_path):
    rows = [{'text': f'a {name}', 'meta': {'redpajama_set_name': name}} for name in SUBSETS]
    write(tmp_path / 'train' / 'chunk1' / 'example_train_0.jsonl.zst', rows)
    found = read_corpus(SLIMPAJAMA, tmp_path)
    assert dict(zip(found.skills, found.texts, strict=True)) == {
        skill: f'a {name}' for name, skill in SUBSETS.items()
    }
    assert {document.split for document in found.documents} == {None}


def test_a_corpus_can_keep_its_own_splits(tmp_path):
    row = {'text': 'a', 'meta': {'redpajama_set_name': 'RedPajamaC4'}}
    write(tmp_path / 'train' / 'chunk1' / 'example_train_0.jsonl.zst', [row, row])
    write(tmp_path / 'validation' / 'chunk1' / 'example_holdout_0.jsonl.zst', [row])
    write(tmp_path / 'test' / 'chunk1' / 'example_holdout_0.jsonl.zst', [row])
    write(tmp_path / 'others' / '0.jsonl', [row])
    found = read_corpus(SLIMPAJAMA, tmp_path, '--own-splits')
    assert sorted(document.split or '' for document in found.documents) == ['eval', 'eval', 'train', 'train']
    [fault] = found.faults
    assert (fault.reason, fault.skill) == ('no_split', 'c4')
    assert f'{tmp_path}/others/0.jsonl:1: neither the file nor a folder' in str(fault)
    assert make_corpus(SLIMPAJAMA, tmp_path, '--own-splits').options() == {'own_splits': True}


def test_the_pile_has_22_skills_with_names_for_folders(tmp_path):
    rows = [{'text': 'a', 'meta': {'pile_set_name': name}} for name in PILE_SOURCES]
    write(tmp_path / 'val.jsonl.zst', rows[:1])
    write(tmp_path / 'train' / '00.jsonl.zst', rows)
    found = read_corpus(PILE, tmp_path, '--own-splits')
    assert len(set(found.skills)) == 22
    named = dict(zip(PILE_SOURCES, found.skills[1:], strict=True))
    assert named['Wikipedia (en)'] == 'wikipedia_en'
    assert named['Gutenberg (PG-19)'] == 'gutenberg_pg_19'
    assert named['Pile-CC'] == 'pile_cc'
    assert [document.split for document in found.documents] == ['eval'] + ['train'] * 22


@pytest.mark.parametrize(
    ('module', 'meta', 'message'),
    [
        (SLIMPAJAMA, {'redpajama_set_name': 'RedPajamaNew'}, r"it is 'RedPajamaNew'; check"),
        (SLIMPAJAMA, {}, 'one of the 7 source names, but it is absent'),
        (PILE, {'pile_set_name': 'Wikipedia'}, "one of the 22 source names, but it is 'Wikipedia'"),
        (PILE, {'pile_set_name': ['ArXiv']}, 'but it is'),
    ],
)
def test_an_unknown_source_is_a_fault_with_file_and_line(tmp_path, module, meta, message):
    path = write(tmp_path / 'a.jsonl', [{'text': 'a', 'meta': meta}])
    [fault] = read_corpus(module, path).faults
    assert fault.reason == 'unknown_source'
    with pytest.raises(InputError, match=rf'a\.jsonl:1: .*{message}'):
        raise fault


V2_ROW = {
    'url': 'https://example.org/a',
    'date_download': '2023-01-27T01:37:21Z',
    'digest': 'sha1:X',
    'length': 3,
    'nlines': 1,
    'source_domain': 'example.org',
    'title': 'A',
    'raw_content': 'a page',
    'language': 'en',
    'language_score': 0.9,
    'perplexity': 234.5,
    'bucket': 'head',
}


def test_redpajama_v2_skills_come_from_the_row_or_else_the_files_name(tmp_path):
    bare = {'raw_content': 'a bare page'}
    write(tmp_path / 'documents/2023-06/0000/en_head.json.gz', [V2_ROW])
    write(tmp_path / 'documents/2023-06/0000/de_middle.json.gz', [bare])
    write(tmp_path / 'quality_signals/2023-06/0000/en_head.signals.json.gz', [{'id': 'x'}])
    write(
        tmp_path / 'sample.jsonl', [bare | {'meta': json.dumps({'language': 'fr', 'source_domain': 'b.fr'})}]
    )

    def skills(*options):
        found = read_corpus(redpajama_v2, tmp_path, *options)
        return sorted(found.skills), found.reasons

    assert skills() == (['de', 'en', 'fr'], [])
    assert skills('--skill-from', 'bucket') == (['head', 'middle'], ['unknown_source'])
    assert skills('--skill-from', 'language-bucket') == (['de-middle', 'en-head'], ['unknown_source'])
    assert skills('--skill-from', 'domain', '--domains', 'b.fr,c.de') == (
        ['b.fr', 'other'],
        ['unknown_source'],
    )
    (tmp_path / 'domains.txt').write_text('example.org\n\nb.fr\n')
    assert skills('--skill-from', 'domain', '--domains', tmp_path / 'domains.txt') == (
        ['b.fr', 'example.org'],
        ['unknown_source'],
    )


@pytest.mark.parametrize('arguments', [['--skill-from', 'domain'], ['--domains', 'a.org']])
def test_domains_belong_to_skills_by_domain(tmp_path, arguments):
    with pytest.raises(InputError, match='--domains must be given with --skill-from domain and only there'):
        make_corpus(redpajama_v2, tmp_path, *arguments)


def test_law_slices_by_the_names_of_the_published_files(tmp_path):
    names = {
        'train.r_legaldvice.jsonl.xz': 'r_legaladvice',
        'train.courtlisteneropinions.15.jsonl.xz': 'courtlistener_opinions',
        'train.congressional_hearings.jsonl.xz': 'congressional_hearings',
        'validation.ijc.jsonl.xz': 'icj-pcij',
        'validation.examoutlines.jsonl.xz': 'bar_exam_outlines',
        'edgar/part-3.jsonl.gz': 'edgar',
    }
    row = {'text': 'a text', 'created_timestamp': '', 'downloaded_timestamp': '', 'url': ''}
    for name in names:
        write(tmp_path / name, [row])
    write(tmp_path / 'train.poems.jsonl', [row])
    found = read_corpus(LAW, tmp_path)
    assert sorted(found.skills) == sorted(names.values())
    assert found.reasons == ['unknown_source']
    found = read_corpus(LAW, tmp_path / 'validation.ijc.jsonl.xz', '--own-splits')
    assert [document.split for document in found.documents] == ['eval']


def test_every_law_slice_of_the_published_experiments_is_known(shared_data):
    listed = (shared_data / 'skill_it' / 'law_slices.txt').read_text().split()
    assert set(listed) <= set(law.SLICES)
    assert set(law.STEMS.values()) <= set(law.SLICES)


PATTERNS = {
    r'^(\w+)/': ['en', 'fr'],
    r'(\d{4})-\d\d': ['2021', '2022'],
    r'crawl-(?:\d{4})-(\d\d)': ['05', '11'],
}


@pytest.mark.parametrize('pattern', PATTERNS)
def test_a_skill_from_a_pattern_in_the_path(tmp_path, pattern):
    write(tmp_path / 'en' / 'crawl-2021-05.jsonl', [{'text': 'a'}])
    write(tmp_path / 'fr' / 'crawl-2022-11.jsonl', [{'text': 'b'}])
    found = read_corpus(jsonl, tmp_path, '--skill-pattern', pattern)
    assert found.skills == PATTERNS[pattern]


def test_a_path_without_the_pattern_is_a_fault(tmp_path):
    path = write(tmp_path / 'a.jsonl', [{'text': 'a'}])
    [fault] = read_corpus(jsonl, path, '--skill-pattern', r'(\d+)').faults
    assert fault.reason == 'no_skill'
    assert "finds no skill in the path 'a.jsonl'; widen the pattern" in str(fault)


@pytest.mark.parametrize(
    ('pattern', 'message'), [('(', 'not a regular expression'), (r'\d+', 'has no group')]
)
def test_a_pattern_that_cannot_name_a_skill_is_refused(tmp_path, pattern, message):
    with pytest.raises(InputError, match=rf'--skill-pattern .*{message}'):
        make_corpus(jsonl, tmp_path, '--skill-pattern', pattern)


ROWS = [{'text': f'row {i}', 'n': {'s': 'ab'[i % 2]}} for i in range(5)]
FORMS = {
    'lines': '\n'.join(json.dumps(row) for row in ROWS),
    'one array on one line': json.dumps(ROWS),
    'one array over many lines': '\n' + json.dumps(ROWS, indent=2) + '\n',
    'with the mark of Windows': '\ufeff' + json.dumps(ROWS),
    'the mark of Windows on a line of its own': '\ufeff\n' + '\n'.join(json.dumps(row) for row in ROWS),
    'an array behind such a line': '\ufeff\n' + json.dumps(ROWS, indent=2),
    'lines with the mark of Windows': '\ufeff' + '\n'.join(json.dumps(row) for row in ROWS),
}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('archive', ['', '.gz', '.zst', '.xz', '.bz2'])
def test_a_json_file_in_every_form_gives_the_same_rows(tmp_path, form, archive):
    path = tmp_path / f'a.json{archive}'
    path.write_bytes(COMPRESS.get(archive, bytes)(FORMS[form].encode()))
    found = read_corpus(jsonl, path, '--skill-field', 'n.s')
    assert (found.texts, found.skills) == ([row['text'] for row in ROWS], list('ababa'))
    assert not found.faults
    assert found.progress == [path.stat().st_size]


def test_one_object_over_many_lines_is_one_row(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(ROWS[0], indent=2))
    assert read_corpus(jsonl, path, '--skill', 'x').texts == ['row 0']


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.fixed_dictionaries({'text': st.text(min_size=1), 'k': st.integers(0, 3)}), max_size=8),
    indent=st.sampled_from([None, 0, 3]),
)
def test_any_rows_come_back_from_an_array_and_from_lines(tmp_path_factory, rows, indent):
    folder = tmp_path_factory.mktemp('rows')
    (folder / 'array.json').write_text(json.dumps(rows, indent=indent))
    (folder / 'lines.json').write_text('\n'.join(json.dumps(row) for row in rows))
    for name in ('array.json', 'lines.json'):
        found = read_corpus(jsonl, folder / name, '--skill-field', 'k')
        assert list(zip(found.texts, found.skills, strict=True)) == [(r['text'], str(r['k'])) for r in rows]


BROKEN = {
    'a cut-off array': (
        '[{"text": "a"},\n{"text": "b"}',
        'broken_json',
        r'a\.json:\d+: broken JSON at column \d+ \(.*\); mend the file',
    ),
    'a row that is no object': ('[{"text": "a"}, 7]', 'not_an_object', r'a\.json: row 2: .*but got: int'),
    'a row without text': ('[{"txt": "a"}]', 'missing_text', r"a\.json: row 1: a row without 'text'"),
    'two arrays': ('[]\n[]', 'broken_json', r'a\.json:2: broken JSON'),
}


@pytest.mark.parametrize('case', BROKEN)
def test_a_broken_array_is_a_fault_with_its_place(tmp_path, case):
    text, reason, message = BROKEN[case]
    path = tmp_path / 'a.json'
    path.write_text(text)
    [fault] = read_corpus(jsonl, path, '--skill', 'x').faults
    assert fault.reason == reason
    with pytest.raises(InputError, match=message):
        raise fault


def test_an_array_too_large_for_memory_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, 'LARGEST_WHOLE', 100)
    path = tmp_path / 'a.json'
    path.write_text(json.dumps([{'text': 'a' * 120}]))
    [fault] = read_corpus(jsonl, path, '--skill', 'x').faults
    assert fault.reason == 'oversized_file'
    assert 'write it as JSON lines' in str(fault)


def test_an_endless_line_is_a_fault_and_no_end_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr('skillit_stream.convert.readers.LONGEST_LINE', 1 << 17)
    path = write(tmp_path / 'a.jsonl', [{'text': 'a'}, b'x' * (1 << 18)])
    found = read_corpus(jsonl, path, '--skill', 'x')
    assert (found.texts, found.reasons) == (['a'], ['oversized_line'])
    assert 'a.jsonl:2: a line of more than' in str(found.faults[0])


@pytest.mark.parametrize('name', ['a.jsonl', 'a.json'])
def test_numbers_that_only_python_writes_do_no_harm(tmp_path, name):
    good = [
        b'{"text": "a NaN", "score": NaN}',
        b'{"text": "b", "score": -Infinity}',
        b'{"text": "c", "x": -Infinity, "id": 123456789012345678901, "low": -9223372036854775809}',
        b'{"text": "d", "x": NaN, "id": 18446744073709551615, "long": %s}' % (b'7' * 5000),
    ]
    bad = [b'{"text": "\\ud800", "score": NaN}', b'{"text": NaN}', b'{"text": "NaN"', b'\xff NaN']
    path = write(tmp_path / name, [*good, *bad])
    found = read_corpus(jsonl, path, '--skill', 'x')
    assert found.texts == ['a NaN', 'b', 'c', 'd']
    assert found.reasons == ['broken_json', 'mistyped_text', 'broken_json', 'broken_json']
    (tmp_path / 'whole.json').write_bytes(b'[' + b','.join(good) + b']')
    assert read_corpus(jsonl, tmp_path / 'whole.json', '--skill', 'x').texts == ['a NaN', 'b', 'c', 'd']


@pytest.mark.parametrize('name', ['a.jsonl', 'a.json'])
def test_nul_is_text_and_a_lone_surrogate_is_a_fault(tmp_path, name):
    path = write(tmp_path / name, [{'text': 'a\0b'}, b'{"text": "\\udc00"}', b'{"text": "\xff"}'])
    found = read_corpus(jsonl, path, '--skill', 'x')
    assert found.texts == ['a\0b']
    assert found.reasons == ['broken_json', 'broken_json']


def test_a_document_of_200_mb_is_read(tmp_path):
    text = 'word ' * (40 << 20)
    path = write(tmp_path / 'a.jsonl.zst', [{'text': text}])
    assert read_corpus(jsonl, path, '--skill', 'x').texts == [text]


@pytest.mark.parametrize('module', [SLIMPAJAMA, PILE, LAW, redpajama_v2])
def test_truncated_and_missing_files_are_faults(tmp_path, module):
    row = {'text': 'a', 'raw_content': 'a', 'language': 'en'}
    row['meta'] = {'redpajama_set_name': 'RedPajamaC4', 'pile_set_name': 'ArXiv'}  # type: ignore[assignment]
    path = write(tmp_path / 'edgar' / 'a.jsonl.gz', [row] * 1000)
    path.write_bytes(path.read_bytes()[:-9])
    gone = tmp_path / 'edgar' / 'b.jsonl'
    gone.symlink_to(tmp_path / 'nowhere')
    found = read_corpus(module, tmp_path)
    assert found.reasons == ['truncated_file', 'unreadable_file']
    assert f'{gone}: cannot be' in str(found.faults[1])


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    write(tmp_path / 'a.jsonl', [{'text': 'a'}])
    (tmp_path / 'locked').mkdir()
    scan = os.scandir

    def scandir(path):
        if str(path).endswith('locked'):
            raise PermissionError(13, 'Permission denied', str(path))
        return scan(path)

    monkeypatch.setattr(os, 'scandir', scandir)
    with pytest.raises(InputError, match=r'locked: cannot be listed \(Permission denied\); check the folder'):
        find_inputs([str(tmp_path)], SUFFIXES)


GOOD_TEXTS = [f'good row {number}' for number in range(100)]
# Rows with damage among them -> how many faults there are to be; every good row comes out.
DAMAGED = {
    'lines, the first one broken': ('{"text": "abc\n{GOOD}', '\n', ['broken_json']),
    'lines, the first one an array': ('[1]\n{GOOD}', '\n', ['not_an_object']),
    'lines, the first two broken': ('{"text": "abc\n{"text":\n{GOOD}', '\n', ['broken_json'] * 2),
    'an array, the first row broken': ('[\n{"text": "abc},\n{GOOD}\n]', ',\n', ['broken_json']),
    'an array, one row in the middle': ('[{GOOD},\n{"text": b"x"},\n{GOOD}]', ',\n', ['broken_json']),
    'an array without an end': ('[{GOOD},\n', ',\n', ['broken_json']),
    'an array with a comma missing': ('[{GOOD}\n{"text": "x"}]', ',\n', ['broken_json']),
    'an array with a byte of no text': ('[{GOOD},\n{"text": "\udcff"}]', ',\n', ['broken_json']),
    'two arrays': ('[{GOOD}]\n[{GOOD}]', ',\n', ['broken_json']),
    'objects over many lines': ('{\n "text": "a" "b"\n}\n{GOOD}', '\n', ['broken_json']),
    'one line, broken': ('[{GOOD}, {"text": b}, {"text": "c"}]', ',', ['broken_rest']),
}


@pytest.mark.parametrize('case', DAMAGED)
def test_a_broken_json_file_loses_what_is_broken_and_no_more(tmp_path, case):
    form, between, reasons = DAMAGED[case]
    indent = 1 if case == 'objects over many lines' else None
    rows = between.join(json.dumps({'text': text}, indent=indent) for text in GOOD_TEXTS)
    path = tmp_path / 'x.json'
    path.write_bytes(form.replace('{GOOD}', rows).encode(errors='surrogateescape'))
    found = read_corpus(jsonl, path, '--skill', 'x')
    assert [text for text in found.texts if text != 'x'] == GOOD_TEXTS * form.count('{GOOD}')
    assert found.reasons == reasons
    assert 'x.json:' in str(found.faults[0])


@pytest.mark.parametrize('indent', [None, 0, 2])
def test_any_row_of_an_array_may_be_broken(tmp_path, indent):
    texts = GOOD_TEXTS[:9]
    rows = [{'meta': {'kind': [1, 2]}, 'text': text} for text in texts]
    for number in range(len(rows)):
        lines = json.dumps(rows, indent=indent)
        if indent is None:
            lines = lines.replace('}, {"meta"', '},\n{"meta"')
        path = tmp_path / 'x.json'
        path.write_text(lines.replace(f'"{texts[number]}"', f'{texts[number]}"'))
        found = read_corpus(jsonl, path, '--skill', 'x')
        assert found.texts == [*texts[:number], *texts[number + 1 :]]
        assert found.reasons == ['broken_json']


def test_the_file_of_lines_is_told_apart_before_it_is_large(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, 'LARGEST_WHOLE', 100)
    path = tmp_path / 'x.json'
    path.write_text('{"text": "abc\n' + '\n'.join(json.dumps({'text': text}) for text in GOOD_TEXTS))
    found = read_corpus(jsonl, path, '--skill', 'x')
    assert (found.texts, found.reasons) == (GOOD_TEXTS, ['broken_json'])


def test_the_rows_before_the_end_of_a_cut_archive_are_read(tmp_path):
    whole = json.dumps([{'text': text} for text in GOOD_TEXTS], indent=1).encode()
    data = zstandard.compress(whole[:700]) + zstandard.compress(whole[700:])
    path = tmp_path / 'x.json.zst'
    path.write_bytes(data[:-5])
    found = read_corpus(jsonl, path, '--skill', 'x')
    assert found.texts == GOOD_TEXTS[: whole[:700].count(b'}')]
    assert found.texts
    assert found.reasons == ['truncated_file']
