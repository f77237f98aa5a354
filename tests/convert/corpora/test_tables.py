"""Parquet files and Hugging Face data sets: rows become documents, and each bad row is named."""

import json
from pathlib import Path

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.convert.corpora import hf, parquet
from skillit_stream.convert.corpus import Tap
from tests.support.adding import digests
from tests.support.corpora_reading import make_corpus, read_corpus

pa = pytest.importorskip('pyarrow')
pq = pytest.importorskip('pyarrow.parquet')

ROWS = [{'text': f'row {i}', 'meta': {'source': 'ab'[i % 2]}, 'n': i % 3, 'other': [i]} for i in range(150)]
SKILLS = [row['meta']['source'] for row in ROWS]
TEXTS = [row['text'] for row in ROWS]


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No data set is looked for on the network, and what is cached goes with the test."""
    from datasets import config

    monkeypatch.setattr(config, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(config, 'HF_DATASETS_CACHE', tmp_path / 'cache')


def write(path: Path, rows: list[dict], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def test_parquet_rows_in_order_with_a_nested_skill_field(tmp_path):
    path = write(tmp_path / 'a.parquet', ROWS, row_group_size=64)
    found = read_corpus(parquet, path, '--skill-field', 'meta.source')
    assert (found.texts, found.skills, found.faults) == (TEXTS, SKILLS, [])
    assert found.progress == [path.stat().st_size]


def test_parquet_text_and_skill_from_elsewhere(tmp_path):
    write(tmp_path / 'prose' / 'a.parquet', [{'body': {'raw': 'a'}, 'meta': '{"k": 7}'}])
    text = ['--text-field', 'body.raw']
    assert read_corpus(parquet, tmp_path, '--skill-from', 'folder', *text).skills == ['prose']
    assert read_corpus(parquet, tmp_path, '--skill-pattern', '^(.)', *text).skills == ['p']
    assert read_corpus(parquet, tmp_path, '--skill', 'x', *text).texts == ['a']
    assert read_corpus(parquet, tmp_path, '--skill-field', 'meta.k', *text).skills == ['7']
    corpus = make_corpus(parquet, tmp_path, '--skill', 'x', *text)
    assert corpus.options() == {'text_field': 'body.raw', 'skill': 'x'}


def test_only_the_columns_needed_are_read(tmp_path, monkeypatch):
    path = write(tmp_path / 'a.parquet', ROWS)
    asked = []
    read = pq.ParquetFile.iter_batches

    def iter_batches(self, size, **options):
        asked.append(options['columns'])
        return read(self, size, **options)

    monkeypatch.setattr(pq.ParquetFile, 'iter_batches', iter_batches)
    read_corpus(parquet, path, '--skill-field', 'n')
    assert asked == [['text', 'n']]


def test_a_date_that_python_has_not_costs_no_row(tmp_path):
    when = pa.array([5, 2**62, None, -(2**62)], pa.int64()).cast(pa.timestamp('us'))
    lists = pa.ListArray.from_arrays([0, 1, 2, 3, 4], when)
    kinds = pa.array(['a', 'b', 'a', 'b'])
    meta = pa.StructArray.from_arrays([kinds, when, lists], ['kind', 'when', 'all'])
    path = tmp_path / 'a.parquet'
    pq.write_table(pa.table({'text': ['one', 'two', 'three', 'four'], 'meta': meta, 'date': when}), path)
    found = read_corpus(parquet, path, '--skill-field', 'meta.kind')
    assert (found.texts, found.skills) == (['one', 'two', 'three', 'four'], ['a', 'b', 'a', 'b'])
    assert found.faults == []
    found = read_corpus(parquet, path, '--skill-field', 'date')
    assert found.reasons == ['mistyped_skill'] * 4


def test_bad_rows_of_parquet_are_named_and_the_others_kept(tmp_path):
    good = pa.array([b'a', b'b\xff', b'c', b'', None]).cast(pa.binary())
    broken = pa.Array.from_buffers(
        pa.string(), len(good), good.buffers()
    )  # not UTF-8, whatever its type says
    table = pa.table({'text': broken, 'k': ['x', 'x', None, 'y', 'z']})
    pq.write_table(table, tmp_path / 'a.parquet')
    found = read_corpus(parquet, tmp_path / 'a.parquet', '--skill-field', 'k')
    assert found.texts == ['a']
    assert [(fault.reason, fault.skill) for fault in found.faults] == [
        ('broken_encoding', None),
        ('mistyped_skill', None),
        ('empty_text', 'y'),
        ('mistyped_text', 'z'),
    ]
    for number, fault in zip((2, 3, 4, 5), found.faults, strict=True):
        assert str(fault).startswith(f'{tmp_path}/a.parquet: row {number}: ')


def test_every_row_of_a_file_without_the_column_is_a_fault(tmp_path):
    path = write(tmp_path / 'a.parquet', ROWS)
    found = read_corpus(parquet, path, '--skill', 'x', '--text-field', 'body.raw')
    assert found.reasons == ['missing_text'] * len(ROWS)
    assert (
        "row 1: no column for 'body.raw' (the columns: text, meta, n, other); name the right --text-field"
    ) in str(found.faults[0])
    found = read_corpus(parquet, path, '--skill-field', 'kind')
    assert found.reasons == ['missing_skill'] * len(ROWS)


def test_broken_parquet_is_a_fault(tmp_path):
    path = write(tmp_path / 'a.parquet', ROWS, row_group_size=30, compression='none', use_dictionary=False)
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    (tmp_path / 'b.parquet').write_text('{"text": "a"}\n' * 40)
    (tmp_path / 'c.parquet').symlink_to(tmp_path / 'nowhere')
    found = read_corpus(parquet, tmp_path, '--skill', 'x')
    assert found.reasons == ['broken_archive', 'broken_archive', 'unreadable_file']
    for fault in found.faults:
        assert '\n' not in str(fault)
    assert f'{path}: not a valid Parquet file (' in str(found.faults[0])


def test_damage_inside_parquet_keeps_the_rows_before_it(tmp_path):
    path = write(tmp_path / 'a.parquet', ROWS, row_group_size=64, compression='zstd')
    data = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    found = read_corpus(parquet, path, '--skill', 'x')
    assert found.texts == TEXTS[:64]
    assert found.reasons == ['broken_archive']
    assert f'{path}: row 65: not a valid' in str(found.faults[0])


def saved(path: Path) -> Path:
    from datasets import ClassLabel, Dataset

    data = Dataset.from_list(ROWS).cast_column('n', ClassLabel(names=['no', 'yes', 'maybe']))
    data.save_to_disk(str(path))
    return path


def lines(path: Path, rows: list[dict] = ROWS) -> Path:
    path.write_text('\n'.join(json.dumps(row) for row in rows))
    return path


def test_a_saved_data_set(tmp_path, monkeypatch):
    monkeypatch.setattr(hf, 'SHARD_ROWS', 64)
    path = saved(tmp_path / 'mine')
    found = read_corpus(hf, path, '--skill-field', 'meta.source')
    assert (found.texts, found.skills, found.faults) == (TEXTS, SKILLS, [])
    files = make_corpus(hf, path, '--skill', 'x').inputs()
    assert [file.name for file in files] == ['mine[0:64]', 'mine[64:128]', 'mine[128:150]']
    assert found.progress == [file.size for file in files] == [tap.bytes for tap in found.taps]
    assert all(file.stamp for file in files)
    assert len({tap.hash for tap in found.taps}) == 3
    # The same again for whoever makes the corpus anew.
    again = read_corpus(hf, path, '--skill-field', 'meta.source')
    assert [tap.hash for tap in again.taps] == [tap.hash for tap in found.taps]


def test_class_labels_are_skills_by_name(tmp_path):
    found = read_corpus(hf, saved(tmp_path / 'mine'), '--skill-field', 'n')
    assert found.skills == [['no', 'yes', 'maybe'][i % 3] for i in range(150)]


def test_a_split_of_a_saved_data_set(tmp_path):
    from datasets import Dataset, DatasetDict

    path = tmp_path / 'mine'
    DatasetDict({'train': Dataset.from_list(ROWS), 'test': Dataset.from_list(ROWS[:3])}).save_to_disk(
        str(path)
    )
    assert len(read_corpus(hf, path, '--skill', 'x').texts) == 150
    assert read_corpus(hf, path, '--skill', 'x', '--split', 'test').texts == TEXTS[:3]
    with pytest.raises(InputError, match=r'--split dev: .* has only train, test; name one of them'):
        make_corpus(hf, path, '--skill', 'x', '--split', 'dev').inputs()


@pytest.mark.parametrize('streaming', [[], ['--streaming']])
def test_files_by_a_builder_of_datasets(tmp_path, streaming):
    paths = [lines(tmp_path / f'{i}.jsonl', ROWS[i * 50 :][:50]) for i in range(3)]
    arguments = ['json', '--data-files', *paths, '--skill-field', 'meta.source', *streaming]
    found = read_corpus(hf, *arguments)
    assert (found.texts, found.skills, found.faults) == (TEXTS, SKILLS, [])
    assert len(found.taps) == (3 if streaming else 1)
    assert all(tap.hash for tap in found.taps)
    if streaming:
        assert sum(tap.bytes for tap in found.taps) == sum(found.progress) == sum(map(len, TEXTS))
    else:
        assert read_corpus(hf, *arguments, '--split', 'train[:7]').texts == TEXTS[:7]


def test_bad_rows_of_a_data_set_are_named(tmp_path):
    rows = [{'text': text, 'k': 'x'} for text in ('a', None, '', 'b')]
    path = lines(tmp_path / 'a.jsonl', rows)
    found = read_corpus(hf, 'json', '--data-files', path, '--skill-field', 'k')
    assert (found.texts, found.reasons) == (['a', 'b'], ['mistyped_text', 'empty_text'])
    assert str(found.faults[0]).startswith("hf:json[1]: 'text' must be a string, but got: NoneType")
    found = read_corpus(hf, 'json', '--data-files', path, '--skill-field', 'k', '--streaming')
    assert (found.texts, found.reasons) == (['a', 'b'], ['mistyped_text', 'empty_text'])
    assert str(found.faults[0]).startswith('hf:json[0/1]: row 2: ')


def test_a_shard_that_breaks_off_is_a_fault(tmp_path):
    path = lines(tmp_path / 'a.jsonl', ROWS)
    corpus = make_corpus(hf, 'json', '--data-files', path, '--skill', 'x', '--streaming')
    path.write_text(path.read_text() + '\n{"text": ')
    *documents, fault = corpus.read(corpus.inputs()[0], Tap(lambda _: None))
    assert getattr(fault, 'reason', fault) == 'unreadable_file'
    assert len(documents) <= len(ROWS)


def test_a_streamed_set_whose_files_were_changed_is_another_one(tmp_path):
    paths = [lines(tmp_path / f'{i}.jsonl', ROWS[i * 50 :][:50]) for i in range(3)]
    arguments = ['json', '--data-files', *paths, '--skill', 'x', '--streaming']
    stamps = [file.stamp for file in make_corpus(hf, *arguments).inputs()]
    assert stamps == [file.stamp for file in make_corpus(hf, *arguments).inputs()] != ['', '', '']
    corpus = make_corpus(hf, *arguments)
    file = corpus.inputs()[0]
    lines(paths[0], ROWS[100:])
    assert stamps != [file.stamp for file in make_corpus(hf, *arguments).inputs()]
    with pytest.raises(InputError, match='the data has changed since the command began; run it again'):
        list(make_corpus(hf, *arguments).read(file, Tap(lambda _: None)))


def test_work_on_a_set_of_no_known_version_is_not_gone_on_with(tmp_path, monkeypatch):
    paths = [lines(tmp_path / f'{i}.jsonl', ROWS[i * 50 :][:50]) for i in range(2)]
    arguments = ['json', '--data-files', *paths, '--skill', 'x', '--streaming']
    monkeypatch.setattr(hf, '_version_of', lambda builder: '')
    first, second = ([file.stamp for file in make_corpus(hf, *arguments).inputs()] for _ in range(2))
    assert not set(first) & set(second)
    assert read_corpus(hf, *arguments).texts == TEXTS[:100]
    with pytest.raises(InputError, match='--task: json does not say which version of the data it reads'):
        make_corpus(hf, *arguments, '--task', '0/2').inputs()


def test_parts_of_a_streamed_set_that_was_changed_are_done_again(tmp_path, tokenizer, skillit):
    paths = [lines(tmp_path / f'{i}.jsonl', ROWS[i * 50 :][:50]) for i in range(3)]
    command = ['convert', 'hf', 'json', '--data-files', *paths, '--skill', 'x', '--streaming', '--workers', 1]
    options = ['--tokenizer', tokenizer, '--seq-len', 16, '--part-size', 1]
    skillit(*command, *options, '--out', tmp_path / 'S', '--task', '0/1')
    lines(paths[0], [{**row, 'text': row['text'].upper()} for row in ROWS[:50]])
    for out in ('S', 'anew'):
        skillit(*command, *options, '--out', tmp_path / out)
    assert digests(tmp_path / 'S') == digests(tmp_path / 'anew')


BAD = {
    'nowhere/at-all': (['nowhere/at-all'], r'nowhere/at-all: cannot be loaded; check the name, --config'),
    'no such column': (
        ['SAVED', '--text-field', 'body'],
        '--text-field body: .* has only the columns text, m',
    ),
    'split of one': (['SAVED', '--split', 'train'], '--split train: .* is one split by itself; leave it out'),
    'streamed from disk': (['SAVED', '--streaming'], '--streaming: has no meaning for .*; leave it out'),
    'revision of a folder': (['SAVED', '--revision', 'x'], '--revision: has no meaning for .*; leave it out'),
}


@pytest.mark.parametrize('case', BAD)
def test_data_sets_that_cannot_be_are_refused(tmp_path, case):
    arguments, message = BAD[case]
    path = saved(tmp_path / 'mine')
    with pytest.raises(InputError, match=message) as caught:
        make_corpus(hf, *(path if a == 'SAVED' else a for a in arguments), '--skill', 'x').inputs()
    assert '\n' not in str(caught.value)
