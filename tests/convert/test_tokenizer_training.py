"""`skillit tokenizer`: a byte-level BPE from text files and the text of JSON rows."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.support.streams_reading import left_in

WORDS = ['the rose', 'a moon', 'le café', '"quoted"', 'tab\there', 'line\nbreak', 'sea', 'naïve']


def texts(count: int = 200) -> list[str]:
    return [
        ' '.join(WORDS[(3 * number + place) % 8] for place in range(9)) + f' {number}'
        for number in range(count)
    ]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / 'corpus' / 'rows.jsonl'
    path.parent.mkdir()
    path.write_text(''.join(json.dumps({'id': 'key', 'text': text}) + '\n' for text in texts()))
    return path


def load(folder: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder))


def test_it_gives_back_any_text_and_ends_documents(tmp_path: Path, rows: Path, skillit):
    printed = skillit('tokenizer', rows, '--out', tmp_path / 'T', '--vocab-size', 300)
    assert f'{tmp_path / "T"}: 300 tokens, from 0.0' in printed
    assert ' bytes of that text; <|endoftext|> ends a document' in printed
    assert f'next: skillit convert ... --tokenizer {tmp_path / "T"}' in printed
    tokenizer = load(tmp_path / 'T')
    assert len(tokenizer) == 300
    text = 'the rose: ein Mönd, 海\t\x00  .  ,'
    assert tokenizer.decode(tokenizer(text)['input_ids']) == text
    assert (tokenizer.eos_token, tokenizer.pad_token) == ('<|endoftext|>', '<|pad|>')
    assert list(tokenizer(text)) == ['input_ids', 'attention_mask']
    assert left_in(tmp_path) == ['T', 'corpus']


def test_json_rows_are_read_as_text_and_not_with_their_escapes(tmp_path: Path, rows: Path, skillit):
    plain = tmp_path / 'plain.txt'
    plain.write_text(rows.read_text())
    skillit('tokenizer', rows, '--out', tmp_path / 'text', '--vocab-size', 320)
    skillit('tokenizer', plain, '--out', tmp_path / 'escapes', '--vocab-size', 320)
    found = {
        name: sum(len(load(tmp_path / name)(text)['input_ids']) for text in texts())
        for name in ('text', 'escapes')
    }
    assert found['text'] < 0.97 * found['escapes']
    vocabulary = load(tmp_path / 'text').get_vocab()
    assert not [token for token in vocabulary if 'u00' in token or '\\\\' in token or token == 'key']


def test_the_same_text_gives_the_same_tokenizer_however_it_is_stored(tmp_path: Path, rows: Path, skillit):
    data = rows.read_bytes()
    (tmp_path / 'rows.jsonl.zst').write_bytes(zstandard.compress(data))
    (tmp_path / 'rows.jsonl.gz').write_bytes(gzip.compress(data))
    (tmp_path / 'rows.json').write_text(
        json.dumps([json.loads(line) for line in data.splitlines()], indent=1)
    )
    found = set()
    for number, path in enumerate([rows, *tmp_path.glob('rows.*')]):
        skillit('tokenizer', path, '--out', tmp_path / f'T{number}', '--vocab-size', 300)
        found.add((tmp_path / f'T{number}' / 'tokenizer.json').read_bytes())
    # Once more in a process of its own, whose hashes of strings are others.
    command = ['tokenizer', str(rows), '--out', str(tmp_path / 'again'), '--vocab-size', '300']
    subprocess.run([sys.executable, '-m', 'skillit_stream.cli', *command], check=True, capture_output=True)
    found.add((tmp_path / 'again' / 'tokenizer.json').read_bytes())
    assert len(found) == 1


def test_every_file_gives_the_same_amount_of_its_beginning(tmp_path: Path, skillit):
    (tmp_path / 'corpus').mkdir()
    for name, letter in (('a', 'x'), ('b', 'y')):
        lines = [f'{letter * 9} ' * 7 + '\n' for _ in range(4000)]
        (tmp_path / 'corpus' / f'{name}.txt').write_text(''.join(lines) + 'zzzz ' * 500)
    options = ['--vocab-size', 400, '--sample-size', '128kb']
    printed = skillit('tokenizer', tmp_path / 'corpus', '--out', tmp_path / 'T', *options)
    assert 'from 0.13 MB of text in 2 files' in printed
    vocabulary = load(tmp_path / 'T').get_vocab()
    assert {'x' * 9, 'y' * 9} <= vocabulary.keys()
    assert 'zzzz' not in vocabulary
    assert '(the text gives no more; 400 were asked for)' in printed


def test_rows_without_one_text_give_every_string(tmp_path: Path, skillit, refused):
    path = tmp_path / 'task.json'
    path.write_text(json.dumps({'Definition': ['wonderful'] * 9, 'Instances': [{'input': 'marvellous'}] * 9}))
    command = ['tokenizer', path, '--out', tmp_path / 'T', '--vocab-size', 300]
    error = refused(*command)
    assert "a row without 'text' (its keys: Definition, Instances)" in error
    skillit(*command, '--every-string')
    assert {'wonderful', 'marvellous'} <= load(tmp_path / 'T').get_vocab().keys()


def test_streams_can_be_made_with_it(tmp_path: Path, rows: Path, skillit):
    skillit('tokenizer', rows, '--out', tmp_path / 'T', '--vocab-size', 300)
    options = ['--skill', 'prose', '--tokenizer', tmp_path / 'T', '--seq-len', 16, '--eval-fraction', 0.2]
    printed = skillit('convert', 'jsonl', rows, '--out', tmp_path / 'S', *options)
    assert 'encoded by gigatoken' in printed
    skillit('verify', tmp_path / 'S')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--vocab-size', 257], '--vocab-size must be at least 258, but got: 257'),
        (['--sample-size', 'much'], '--sample-size must be like 256mb or 268435456, but got: much'),
        (
            ['--text-field', 'body'],
            "rows.jsonl:1: a row without 'body' (its keys: id, text); name the right --text",
        ),
        (['--out', '{corpus}'], 'is not empty; choose another folder'),
        (['--out', '{corpus}/rows.jsonl'], 'is a file; choose another name'),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, rows: Path, refused: Callable[..., str], options: list[object], message: str
):
    command = ['tokenizer', rows, '--out', tmp_path / 'T', '--vocab-size', 300]
    more = [str(option).replace('{corpus}', str(rows.parent)) for option in options]
    assert message in refused(*command, *more)
    assert 'none: no such file or folder' in refused('tokenizer', rows.parent / 'none', *command[2:])
    assert left_in(tmp_path) == ['corpus']


def test_bad_records_are_refused_or_counted(tmp_path: Path, rows: Path, skillit, refused):
    rows.write_text(rows.read_text() + '{"text": \n')
    (tmp_path / 'corpus' / 'latin.txt').write_bytes(b'one\ncaf\xe9\n')
    command = ['tokenizer', rows.parent, '--out', tmp_path / 'T', '--vocab-size', 300]
    assert 'latin.txt:2: not UTF-8 (invalid continuation byte: 0xe9)' in refused(*command)
    printed = skillit(*command, '--bad-records', 'skip')
    assert 'left out: 1 broken_encoding' in printed
    assert 'left out: 1 broken_json' in printed
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty' / 'a.txt').touch()
    error = refused('tokenizer', tmp_path / 'empty', '--out', tmp_path / 'E', '--vocab-size', 300)
    assert 'no text in 1 file' in error
