"""Which files are input: suffixes in any spelling, folders left out, patterns; whatever is passed over is counted."""

import gzip
import json
import os
from pathlib import Path

import pytest
import zstandard

from skillit_stream.convert.inputs import archive_of, form_of, has_suffix, is_match, suffix_of
from skillit_stream.formats.manifest import Manifest
from tests.support.streams_reading import EOS, read_tokens

COMPRESS = {'': bytes, '.gz': gzip.compress, '.GZIP': gzip.compress, '.zstd': zstandard.compress}
READ = ('a.jsonl', 'B.JSONL', 'c.ndjson', 'd.jsonl.zstd', 'sub/e.NDJSON.GZIP', '_f.jsonl')
LEFT_OUT = (
    '_temporary/0/a.jsonl',
    '.git/b.jsonl',
    '.c.jsonl',
    'readme.txt',
    'table.csv',
    'raw.csv.gz',
    'LICENSE',
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Ten documents a file, each of its own text, in files that are read and in others."""
    for name in (*READ, *LEFT_OUT):
        path = tmp_path / 'corpus' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = b''.join(json.dumps({'text': text}).encode() + b'\n' for text in texts_of(name))
        path.write_bytes(COMPRESS.get(path.suffix, bytes)(rows))
    return tmp_path / 'corpus'


def texts_of(name: str) -> list[str]:
    return [f'<{name}> has this text as its number {number}, which no other has' for number in range(10)]


@pytest.fixture
def converted(tmp_path: Path, tokenizer: str, skillit, corpus: Path):
    """Convert the corpus; returns what was printed and the names of the files whose whole text is in the streams."""

    def convert(*options: str) -> tuple[str, set[str]]:
        arguments = ['--out', tmp_path / 'S', '--tokenizer', tokenizer, '--seq-len', 16, '--skill', 'prose']
        # The texts are alike but for their beginnings: a larger eval has more samples that are in train, too.
        arguments += ['--eval-fraction', 0.05]
        printed = skillit('convert', 'jsonl', corpus, *arguments, '--workers', 1, '--overwrite', *options)
        documents = Manifest.load(str(tmp_path / 'S')).skills['prose'].splits.values()
        text = ''.join(
            bytes_of(read_tokens(tmp_path / 'S', 'prose', split), tokenizer) for split in ('train', 'eval')
        )
        found = {
            name
            for name in (*READ, *LEFT_OUT)
            # The last document of a split may be cut.
            if sum(one + EOS in text for one in texts_of(name)) >= 8
        }
        assert sum(split.documents for split in documents) == 10 * len(found)
        return printed, found

    return convert


def bytes_of(tokens, tokenizer: str) -> str:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer).decode(tokens)


def test_every_spelling_is_read_and_what_is_passed_over_is_counted(converted):
    printed, found = converted()
    assert found == set(READ)
    assert (
        '6 files read, 5 passed over (1 .csv, 1 .csv.gz, 1 .txt, 1 hidden, 1 without a suffix), '
        '2 folders not looked into (.git, _temporary)' in printed
    )


def test_patterns_choose_among_the_files_and_bring_folders_back(converted):
    printed, found = converted('--include', '*.jsonl', '--include', 'sub/*', '--exclude', '_f*')
    assert found == {'a.jsonl', 'sub/e.NDJSON.GZIP'}
    kinds = '3 not of --include, 1 .csv, 1 .csv.gz, 1 .txt, 1 hidden, 1 of --exclude, 1 others'
    assert f'2 files read, 9 passed over ({kinds}), 2 folders' in printed
    _, found = converted('--include', '_temporary', '--include', '.c.jsonl')
    assert found == {'_temporary/0/a.jsonl', '.c.jsonl'}


@pytest.mark.parametrize('option', ['--include', '--exclude'])
def test_a_pattern_that_matches_nothing_is_refused(tmp_path, refused, corpus, tokenizer, option):
    arguments = ['--out', tmp_path / 'S', '--tokenizer', tokenizer, '--seq-len', 16, '--skill', 'prose']
    error = refused('convert', 'jsonl', corpus, *arguments, option, 'subs/*')
    assert f'{option} subs/*: matches no file; give a name (*.jsonl), or a path below PATH' in error
    assert not (tmp_path / 'S').exists()


def test_a_folder_of_other_files_is_refused_with_what_is_in_it(tmp_path, refused, tokenizer):
    folder = tmp_path / 'tables'
    folder.mkdir()
    for name in ('a.csv', 'b.csv', 'c.tsv'):
        (folder / name).write_text('1\t2')
    arguments = ['--out', tmp_path / 'S', '--tokenizer', tokenizer, '--seq-len', 16, '--skill', 'prose']
    error = refused('convert', 'jsonl', folder, *arguments)
    assert '(3 passed over (2 .csv, 1 .tsv))' in error


@pytest.mark.parametrize('name', ['two\nlines.jsonl', 'caf\udce9.jsonl'])
def test_a_file_that_no_message_can_name_is_refused(tmp_path, refused, skillit, corpus, tokenizer, name):
    (corpus / name).write_text('{"text": "as good as any"}\n')
    command = ['convert', 'jsonl', corpus, '--skill', 'prose', '--out', tmp_path / 'S']
    command += ['--tokenizer', tokenizer, '--seq-len', 16]
    error = refused(*command)
    assert f"{ascii(name)[1:-1]}': its path has a line break, or is not UTF-8; rename the file" in error
    printed = skillit(*command, '--exclude', '*[!a-z.A-Z0-9]*')
    assert 'of --exclude' in printed


def test_a_corpus_of_ones_own_keeps_to_the_patterns(tmp_path, skillit, tokenizer):
    folder = tmp_path / 'questions'
    folder.mkdir()
    for name in ('a.tsv', 'b.TSV', 'c.csv'):
        rows = [f'prose\tquestion {i} of {name}\tan answer to it {i}\t' for i in range(30)]
        (folder / name).write_text('\n'.join(rows))
    module = Path(__file__).parent.parent / 'support' / 'my_corpus.py'
    arguments = ['--out', tmp_path / 'S', '--tokenizer', tokenizer, '--seq-len', 16, '--exclude', 'a.*']
    printed = skillit('convert', 'custom', module, folder, *arguments)
    assert '1 file read, 2 passed over (1 .csv, 1 of --exclude)' in printed
    splits = Manifest.load(str(tmp_path / 'S')).skills['prose'].splits.values()
    assert sum(split.documents for split in splits) == 30


def test_a_tokenizer_is_trained_on_the_same_files(tmp_path, skillit, corpus):
    arguments = ['--out', tmp_path / 'T', '--vocab-size', 300, '--exclude', '*.txt', '--exclude', 'sub']
    printed = skillit('tokenizer', corpus, *arguments)
    assert (
        '5 files read, 6 passed over (2 of --exclude, 1 .csv, 1 .csv.gz, 1 hidden, 1 without a suffix)'
        in printed
    )


def test_names_of_files_in_any_spelling():
    assert (form_of('A.NDJSON.ZSTD'), archive_of('A.NDJSON.ZSTD')) == ('.jsonl', '.zst')
    assert (suffix_of('x.PQ'), suffix_of('x.json.gzip'), suffix_of('x')) == ('.parquet', '.json.gz', '')
    assert has_suffix('dir.d/x.jsonl.lzma', ('.jsonl.xz',))
    assert not has_suffix('x.jsonl.gz', ('.jsonl',))
    assert has_suffix('en_head.signals.JSON.gz', ('.signals.json.gz',))
    assert has_suffix('jsonl', ('',))
    assert not has_suffix('jsonl', ('.jsonl',))


def test_patterns_are_of_names_or_of_ways():
    assert is_match('*.jsonl', os.path.join('a', 'b.jsonl'))
    assert is_match('a', 'x/a/b.jsonl')
    assert is_match('x/a', 'x/a/b.jsonl')
    assert is_match('x/*/b.jsonl', 'x/a/b.jsonl')
    assert not is_match('a/b.jsonl', 'x/a/b.jsonl')
