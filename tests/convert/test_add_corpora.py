"""`--add` of every kind of corpus, and what names the new documents may have."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skillit_stream.cli import main
from skillit_stream.convert.command import CORPORA
from skillit_stream.convert.verify import verify
from skillit_stream.formats.manifest import Manifest
from tests.support.adding import digests, documents_of, rows_of
from tests.support.paths import SUPPORT
from tests.support.streams_reading import left_in


def texts_of(kind: str, first: int) -> list[str]:
    return [row['text'] for row in rows_of(kind, first, 60)]


def write_lines(folder: Path, row_of: Callable[[str, str], dict[str, Any]], first: int) -> list[object]:
    rows = [row_of(kind, text) for kind in ('arxiv', 'github') for text in texts_of(kind, first)]
    (folder / 'rows.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return [folder]


def text_files(folder: Path, first: int) -> list[object]:
    for kind in ('arxiv', 'github'):
        (folder / kind).mkdir()
        for number, text in enumerate(texts_of(kind, first)):
            (folder / kind / f'{first + number}.txt').write_text(text)
    return [folder, '--skill-from', 'folder']


def parquet(folder: Path, first: int) -> list[object]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{'text': text, 'kind': kind} for kind in ('arxiv', 'github') for text in texts_of(kind, first)]
    pq.write_table(pa.Table.from_pylist(rows), folder / 'rows.parquet')
    return [folder, '--skill-field', 'kind']


def stored_set(folder: Path, first: int) -> list[object]:
    from datasets import Dataset

    rows = [{'text': text, 'kind': kind} for kind in ('arxiv', 'github') for text in texts_of(kind, first)]
    Dataset.from_list(rows).save_to_disk(str(folder / 'set'))
    return [folder / 'set', '--skill-field', 'kind']


def streamed_set(folder: Path, first: int) -> list[object]:
    write_lines(folder, lambda kind, text: {'text': text, 'kind': kind}, first)
    return ['json', '--data-files', folder / 'rows.jsonl', '--streaming', '--skill-field', 'kind']


def alpaca(folder: Path, first: int) -> list[object]:
    verbs = {'arxiv': 'Write', 'github': 'Sort'}
    rows = [
        {'instruction': f'{verb} {text}', 'input': '', 'output': text}
        for kind, verb in verbs.items()
        for text in texts_of(kind, first)
    ]
    (folder / 'rows.json').write_text(json.dumps(rows))
    return [folder, '--skill-from', 'verb']


def questions(folder: Path, first: int) -> list[object]:
    lines = [f'{kind}\t{text}\tyes\t\n' for kind in ('arxiv', 'github') for text in texts_of(kind, first)]
    (folder / 'rows.tsv').write_text(''.join(lines))
    return [folder]


def law(folder: Path, first: int) -> list[object]:
    for kind in ('eurlex', 'edgar'):
        (folder / kind).mkdir()
        rows = ''.join(json.dumps({'text': text}) + '\n' for text in texts_of(kind, first))
        (folder / kind / f'train.{kind}.jsonl').write_text(rows)
    return [folder]


def lines_with(row_of: Callable[[str, str], dict[str, Any]], *options: object) -> Callable[[Path, int], list]:
    return lambda folder, first: [*write_lines(folder, row_of, first), *options]


PILE = {'arxiv': 'ArXiv', 'github': 'Github'}
MAKERS: dict[str, Callable[[Path, int], list[object]]] = {
    'jsonl': lines_with(lambda kind, text: {'text': text, 'kind': kind}, '--skill-field', 'kind'),
    'redpajama': lines_with(lambda kind, text: {'text': text, 'meta': {'source': kind}}),
    'slimpajama': lines_with(
        lambda kind, text: {
            'text': text,
            'meta': {'redpajama_set_name': {'arxiv': 'RedPajamaArXiv'}.get(kind, 'RedPajamaGithub')},
        }
    ),
    'pile': lines_with(lambda kind, text: {'text': text, 'meta': {'pile_set_name': PILE[kind]}}),
    'redpajama-v2': lines_with(
        lambda kind, text: {'raw_content': text, 'source_domain': f'{kind}.org'},
        '--skill-from',
        'domain',
        '--domains',
        'arxiv.org,github.org',
    ),
    'text': text_files,
    'parquet': parquet,
    'hf': stored_set,
    'hf --streaming': streamed_set,
    'alpaca': alpaca,
    'law': law,
    'custom': questions,
}


@pytest.fixture
def offline(tmp_path, monkeypatch):
    datasets = pytest.importorskip('datasets')
    monkeypatch.setattr(datasets.config, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(datasets.config, 'HF_DATASETS_CACHE', tmp_path / 'cache')


def test_every_corpus_is_here():
    computed = {'addition', 'lego'}
    assert {*MAKERS} - {'custom', 'hf --streaming'} == {*CORPORA} - computed - {'natural-instructions'}


@pytest.mark.usefixtures('offline')
@pytest.mark.parametrize('name', MAKERS)
def test_every_corpus_is_added_to(tmp_path: Path, tokenizer: str, skillit, refused, name: str):
    def command(first: int, out: str, *more: object) -> list[object]:
        folder = tmp_path / f'{first}'
        if not folder.exists():
            folder.mkdir()
        made[first] = made.get(first) or MAKERS[name](folder, first)
        options = ['--out', tmp_path / out, '--tokenizer', tokenizer, '--seq-len', 16, '--workers', 1]
        words = name.split()[:1] if name != 'custom' else ['custom', SUPPORT / 'my_corpus.py']
        return ['convert', *words, *made[first], *options, '--eval-fraction', 0.2, *more]

    made: dict[int, list[object]] = {}
    skillit(*command(0, 'S'))
    skillit(*command(100, 'T'))
    before = {one: verify(str(tmp_path / one)) for one in ('S', 'T')}
    skillit(*command(100, 'S', '--add'))
    after = verify(str(tmp_path / 'S'))
    assert list(after.skills) == list(before['S'].skills)
    assert len(after.skills) == 2
    for skill, info in after.skills.items():
        assert sum(split.documents for split in info.splits.values()) == 120
        for split, there in info.splits.items():
            brought = before['T'].skills[skill].splits[split].documents
            assert there.documents == before['S'].skills[skill].splits[split].documents + brought
    found = digests(tmp_path / 'S')
    refused(*command(100, 'S', '--add'))
    assert digests(tmp_path / 'S') == found


@pytest.mark.parametrize('name', ['addition', 'lego'])
def test_to_computed_streams_nothing_is_added(tmp_path: Path, skillit, refused, name: str):
    command = ['convert', name, '--train-samples', 30, '--eval-samples', 9, '--out', tmp_path / 'S']
    skillit(*command)
    before = digests(tmp_path / 'S')
    assert f'--add: {name} is computed, and more of it may be what is there already' in refused(
        *command, '--add'
    )
    assert digests(tmp_path / 'S') == before


def write_task(path: Path, category: str, numbers: range) -> Path:
    instances = [{'id': f'{n}', 'input': f'question {n}', 'output': [f'answer {n}']} for n in numbers]
    path.write_text(
        json.dumps(
            {
                'Categories': [category],
                'Definition': ['Answer.'],
                'Input_language': ['English'],
                'Output_language': ['English'],
                'Instances': instances,
            }
        )
    )
    return path


def test_tasks_are_added_where_those_of_eval_can_be_told(tmp_path: Path, tokenizer: str, skillit, refused):
    """The corpus decides on the splits; the new task has five instances in train that the old one has in eval."""
    old = write_task(tmp_path / 'task1_a.json', 'Sums', range(20))
    new = write_task(tmp_path / 'task2_b.json', 'Sums', range(-15, 5))
    other = write_task(tmp_path / 'task3_c.json', 'Code', range(20))

    def command(*paths: object, out: str, alone: bool) -> list[object]:
        options = ['--out', tmp_path / out, '--tokenizer', tokenizer, '--seq-len', 64, '--workers', 1]
        options += ['--loss', 'answer', '--dev-instances', 10, *(['--one-per-sample'] if alone else [])]
        return ['convert', 'natural-instructions', *paths, *options]

    skillit(*command(old, out='packed', alone=False))
    error = refused(*command(new, out='packed', alone=False), '--add')
    assert "skill 'sums': its corpus decides which documents are for eval, and in samples of several" in error
    skillit(*command(other, out='packed', alone=False), '--add')
    skillit(*command(old, out='S', alone=True))
    held = documents_of(tmp_path / 'S', 'sums', 'eval')
    skillit(*command(new, other, out='S', alone=True), '--add')
    after = verify(str(tmp_path / 'S'))
    assert list(after.skills) == ['code', 'sums']
    assert after.skills['sums'].splits['train'].samples == 10 + 5
    assert after.skills['sums'].dropped['train_samples_in_eval'] == 5
    assert documents_of(tmp_path / 'S', 'sums', 'eval') >= held


def test_a_split_that_a_skill_did_not_have_is_added(tmp_path: Path, tokenizer: str, skillit):
    path = tmp_path / 'a.tsv'
    path.write_text(''.join(f'sums\t{a}+1=\t{a + 1}\teval\n' for a in range(30)))
    more = tmp_path / 'b.tsv'
    more.write_text(''.join(f'sums\t{a}+2=\t{a + 2}\ttrain\n' for a in range(40)))
    options = ['--out', tmp_path / 'S', '--tokenizer', tokenizer, '--seq-len', 16]
    options += ['--one-per-sample', '--loss', 'answer']
    skillit('convert', 'custom', SUPPORT / 'my_corpus.py', path, *options)
    skillit('convert', 'custom', SUPPORT / 'my_corpus.py', more, *options, '--add')
    splits = verify(str(tmp_path / 'S')).skills['sums'].splits
    assert {split: info.samples for split, info in splits.items()} == {'eval': 30, 'train': 40}


@pytest.mark.parametrize(('old', 'new'), [('a b', 'a/b'), ('a_b', 'a b'), ('a b', 'a_b'), ('x', ' x')])
def test_a_new_name_does_not_join_the_skill_of_another(
    tmp_path: Path, add_command, write_rows, skillit, refused, old: str, new: str
):
    skillit(*add_command(write_rows('old.jsonl', rows_of(old, 0, 90))))
    before = digests(tmp_path / 'S')
    path = write_rows('new.jsonl', [*rows_of('other', 0, 90), *rows_of(new, 0, 90)])
    error = refused(*add_command(path), '--add')
    safe = old.replace(' ', '_')
    assert f'new.jsonl: document 91: skills {old!r} and {new!r} would both be stored as {safe!r}' in error
    assert 'the first is in the streams that are added to' in error
    assert digests(tmp_path / 'S') == before
    # What was converted before it was met is kept.
    assert left_in(tmp_path) == ['.S.skillit-partial', 'S', 'corpus']
    skillit(*add_command(write_rows('more.jsonl', rows_of(old, 90, 90))), '--add')
    skills = Manifest.load(str(tmp_path / 'S')).skills
    assert {name: info.names for name, info in skills.items()} == {safe: (old,) if old != safe else ()}


def test_parts_of_an_addition_that_was_stopped_do_not_serve_after_a_rename(
    tmp_path: Path, add_command, write_rows, skillit
):
    skillit(*add_command(write_rows('old.jsonl', [*rows_of('law', 0, 90), *rows_of('verse', 0, 90)])))
    add = [*add_command(write_rows('new.jsonl', rows_of('law', 90, 90))), '--add']
    assert main([str(one) for one in (*add, '--task', '0/1')]) == 0
    skillit('streams', 'rename', tmp_path / 'S', 'law', 'statutes')
    skillit(*add)
    skills = verify(str(tmp_path / 'S')).skills
    assert list(skills) == ['statutes', 'verse']
    assert sum(split.documents for split in skills['statutes'].splits.values()) == 180
