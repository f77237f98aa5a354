"""`skillit convert jsonl` end to end: what is written decodes to the text, and bad input is one line."""

import json
import os
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import zstandard
from huggingface_hub import constants

from skillit_stream.convert import tokens
from skillit_stream.formats.manifest import Manifest
from tests.support.streams_reading import EOS, left_in, read_split, read_tokens

# The numbers keep any two samples apart, so that none is left out of eval.
ROWS = [
    {'text': f'{kind}: ' + f'line {i} of it, ' * (1 + i % 5), 'meta': {'kind': kind}}
    for i in range(80)
    for kind in ('prose', 'verse')
]
GOOD = [{'text': f'a good row, the {i}th of its kind'} for i in range(40)]


@pytest.fixture
def options(tmp_path: Path, tokenizer: str) -> list[object]:
    return ['--out', tmp_path / 'S', '--tokenizer', tokenizer, '--seq-len', 32]


def test_packed_tokens_decode_to_the_documents(tmp_path, skillit, write_rows, options, tokenizer):
    from transformers import AutoTokenizer

    path = write_rows('a.jsonl', ROWS)
    skillit('convert', 'jsonl', path, '--skill-field', 'meta.kind', *options)
    decoder = AutoTokenizer.from_pretrained(str(tmp_path / 'S' / 'tokenizer'))
    manifest = Manifest.load(str(tmp_path / 'S'))
    assert list(manifest.skills) == ['prose', 'verse']
    for skill, info in manifest.skills.items():
        expected = {row['text'] for row in ROWS if row['meta']['kind'] == skill}
        found: dict[str, set[str]] = {}
        tokens = 0
        for split in ('train', 'eval'):
            stream = read_tokens(tmp_path / 'S', skill, split)
            tokens += len(stream)
            *whole, cut = decoder.decode(stream).split(EOS)
            found[split] = set(whole)
            assert not cut or any(text.startswith(cut) for text in expected)
            assert info.splits[split].documents in (len(whole), len(whole) + 1, len(whole) + 2)
        assert not found['train'] & found['eval']
        assert found['train'] | found['eval'] <= expected
        # Nothing vanishes uncounted: one token a byte, one for the end of each document.
        total = sum(len(text.encode()) + 1 for text in expected)
        assert tokens + info.dropped['tail_tokens'] == total
        assert sum(split.bytes for split in info.splits.values()) == total - len(expected)
        for split in info.splits.values():
            assert split.text_tokens == split.bytes + split.documents
        assert sum(split.documents for split in info.splits.values()) == len(expected)


def test_the_manifest_describes_the_folder(tmp_path, skillit, write_rows, options):
    path = write_rows('deep/a.jsonl', GOOD)
    printed = skillit('convert', 'jsonl', path.parent.parent, '--skill', 'prose', *options)
    assert 'prose' in printed
    assert 'tail_tokens' in printed
    assert left_in(tmp_path) == ['S', 'corpus']
    assert left_in(tmp_path / 'S') == ['prose', 'skills.json', 'tokenizer']
    manifest = Manifest.load(str(tmp_path / 'S'))
    assert (manifest.vocab_size, manifest.seq_len, manifest.dtype) == (257, 32, 'uint16')
    assert manifest.columns == {'tokens': 'ndarray:uint16:32'}
    assert manifest.tokenizer_name == 'bytes'
    [source] = manifest.skills['prose'].sources
    assert (source.file, source.bytes) == ('deep/a.jsonl', path.stat().st_size)
    for split, info in manifest.skills['prose'].splits.items():
        assert info.samples == len(read_split(tmp_path / 'S', 'prose', split))
        assert info.tokens == info.target_tokens == 32 * info.samples


def test_the_same_input_gives_the_same_bytes(tmp_path, skillit, write_rows, options):
    path = write_rows('a.jsonl', ROWS)
    skillit('convert', 'jsonl', path, '--skill-field', 'meta.kind', *options)
    first = tree(tmp_path / 'S')
    skillit('convert', 'jsonl', path, '--skill-field', 'meta.kind', *options, '--overwrite')
    assert tree(tmp_path / 'S') == first
    assert left_in(tmp_path) == ['S', 'corpus']


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob('*')) if path.is_file()
    }


def test_a_large_vocabulary_is_uint32(tmp_path, skillit, write_rows, tokenizer, options):
    folder = tmp_path / 'large'
    shutil.copytree(tokenizer, folder)
    data = json.loads((folder / 'tokenizer.json').read_text())
    data['model']['vocab'] |= {f'word{i}': i for i in range(300, 70_000)}
    (folder / 'tokenizer.json').write_text(json.dumps(data))
    options[options.index(tokenizer)] = folder
    skillit('convert', 'jsonl', write_rows('a.jsonl', GOOD), '--skill', 'prose', *options)
    manifest = Manifest.load(str(tmp_path / 'S'))
    assert (manifest.dtype, manifest.vocab_size) == ('uint32', 70_000)
    assert read_tokens(tmp_path / 'S', 'prose', 'train').dtype == np.uint32


def test_skills_from_folders_and_made_safe(tmp_path, skillit, write_rows, options):
    write_rows('old verse/a.jsonl', GOOD)
    write_rows('prose/b.jsonl', GOOD)
    skillit('convert', 'jsonl', tmp_path / 'corpus', '--skill-from', 'folder', *options)
    assert list(Manifest.load(str(tmp_path / 'S')).skills) == ['old_verse', 'prose']


def test_skills_from_the_names_of_files(tmp_path, skillit, write_rows, options):
    write_rows('verse/old.ballads.jsonl', GOOD)
    write_rows('prose.jsonl', GOOD)
    skillit('convert', 'jsonl', tmp_path / 'corpus', '--skill-from', 'file', *options)
    assert list(Manifest.load(str(tmp_path / 'S')).skills) == ['old', 'prose']


def test_nested_text_and_json_string_fields(tmp_path, skillit, write_rows, options):
    rows = [{'body': {'raw': row['text']}, 'meta': json.dumps({'kind': 7})} for row in GOOD]
    path = write_rows('a.jsonl', rows)
    skillit('convert', 'jsonl', path, '--skill-field', 'meta.kind', '--text-field', 'body.raw', *options)
    assert list(Manifest.load(str(tmp_path / 'S')).skills) == ['7']


BAD_ROWS = {
    'broken_json': (b'{"text": "a', r'a\.jsonl:3: broken JSON at column \d+ \(.*\); mend or remove the line'),
    'wrong_encoding': (b'{"text": "\xff"}', r'a\.jsonl:3: broken JSON .*UTF-8'),
    'lone_surrogate': (b'{"text": "\\ud800"}', r'a\.jsonl:3: broken JSON .*surrogate'),
    'not_an_object': (b'[1]', r'a\.jsonl:3: a row must be one JSON object, but got: list'),
    'missing_text': (
        b'{"txt": "a"}',
        r"a\.jsonl:3: a row without 'text' \(its keys: txt\); name the right --text",
    ),
    'mistyped_text': (b'{"text": 7}', r"a\.jsonl:3: 'text' must be a string, but got: int"),
    'empty_text': (b'{"text": ""}', r"a\.jsonl:3: 'text' is an empty string"),
}


@pytest.mark.parametrize('case', BAD_ROWS)
def test_a_bad_row_stops_the_command_with_file_and_line(tmp_path, refused, write_rows, options, case):
    line, message = BAD_ROWS[case]
    path = write_rows('a.jsonl', [*GOOD[:2], line, *GOOD[2:]])
    error = refused('convert', 'jsonl', path, '--skill', 'prose', *options)
    assert_matches(message + '.*--bad-records skip', error)
    assert left_in(tmp_path) == ['corpus']


def assert_matches(pattern: str, text: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)


def test_bad_rows_are_counted_when_skipped(tmp_path, skillit, write_rows, options):
    lines = [line for line, _ in BAD_ROWS.values()]
    path = write_rows('a.jsonl', [*GOOD[:2], *lines, *GOOD[2:]])
    printed = skillit('convert', 'jsonl', path, '--skill', 'prose', *options, '--bad-records', 'skip')
    info = Manifest.load(str(tmp_path / 'S')).skills['prose']
    counts = {reason: count for reason, count in info.dropped.items() if count and reason != 'tail_tokens'}
    assert counts == {
        'broken_json': 3,
        'empty_text': 1,
        'missing_text': 1,
        'mistyped_text': 1,
        'not_an_object': 1,
    }
    assert sum(split.documents for split in info.splits.values()) == len(GOOD)
    assert '3 broken_json' in printed


def test_bad_rows_of_no_known_skill_are_counted_apart(tmp_path, skillit, write_rows, options):
    path = write_rows('a.jsonl', [*ROWS, b'{', {'text': 'who am I?'}])
    printed = skillit(
        'convert', 'jsonl', path, '--skill-field', 'meta.kind', *options, '--bad-records', 'skip'
    )
    assert Manifest.load(str(tmp_path / 'S')).dropped == {'broken_json': 1, 'missing_skill': 1}
    assert 'of no known skill: 1 broken_json' in printed


def test_an_unknown_skill_field_is_refused(tmp_path, refused, write_rows, options):
    path = write_rows('a.jsonl', ROWS)
    error = refused('convert', 'jsonl', path, '--skill-field', 'meta.genre', *options)
    assert (
        "a.jsonl:1: a row without the skill field 'meta.genre' (keys of its meta: kind); name the right"
        in error
    )
    assert left_in(tmp_path) == ['corpus']


def test_a_truncated_archive_leaves_nothing_behind(tmp_path, refused, skillit, options):
    data = zstandard.compress(b''.join(json.dumps(row).encode() + b'\n' for row in ROWS))
    path = tmp_path / 'a.jsonl.zst'
    path.write_bytes(data[:-10])
    error = refused('convert', 'jsonl', path, '--skill', 'prose', *options)
    assert_matches(r'a\.jsonl\.zst:\d+: the archive is truncated here; fetch the file again', error)
    assert left_in(tmp_path) == ['a.jsonl.zst']
    path.write_bytes(data)
    skillit('convert', 'jsonl', path, '--skill', 'prose', *options)


def test_plain_text_named_zst_is_refused(refused, write_rows, options):
    path = write_rows('a.jsonl.zst', GOOD)
    error = refused('convert', 'jsonl', path, '--skill', 'prose', *options)
    assert_matches(r'a\.jsonl\.zst:1: not a valid \.zst archive .*take \.zst off the name', error)


def test_corpora_without_documents_are_refused(tmp_path, refused, write_rows, options):
    (tmp_path / 'corpus').mkdir()
    error = refused('convert', 'jsonl', tmp_path / 'corpus', '--skill', 'prose', *options)
    assert 'no input files; PATH must hold' in error
    write_rows('a.jsonl', [])
    error = refused('convert', 'jsonl', tmp_path / 'corpus', '--skill', 'prose', *options)
    assert 'no documents in 1 file; check the PATH' in error
    assert left_in(tmp_path) == ['corpus']
    # Whoever leaves out what is bad learns what it was.
    write_rows('a.jsonl', [{'txt': 'x'}, {'txt': 'y'}, b'{'])
    options = [*options, '--bad-records', 'skip']
    error = refused('convert', 'jsonl', tmp_path / 'corpus', '--skill', 'prose', *options)
    assert 'no documents in 1 file (1 broken_json, 2 missing_text); check the PATH' in error


def test_a_skill_without_enough_tokens_is_refused(tmp_path, refused, write_rows, options):
    path = write_rows('a.jsonl', GOOD[:1])
    error = refused('convert', 'jsonl', path, '--skill', 'prose', *options)
    assert_matches(r"skill 'prose': its \d+ tokens? in \d+ documents? give .* lower --seq-len", error)
    assert left_in(tmp_path) == ['.S.skillit-partial', 'corpus']


@pytest.mark.parametrize(
    ('option', 'value', 'message'),
    [
        ('--seq-len', 1, '--seq-len must be at least 2'),
        ('--eval-fraction', 1.5, '--eval-fraction must lie between 0 and 1, but got: 1.5'),
        ('--shard-size', 'huge', '--shard-size must be like 64mb or 67108864, but got: huge'),
        ('--shard-size', '100b', '--shard-size must lie between'),
        ('--tokenizer', '/no/such/folder', '--tokenizer /no/such/folder: no such folder'),
        ('--out', 's3://b/S', '--out s3://b/S: needs a local folder for work in progress; pass one'),
        ('--part-size', 'small', '--part-size must be like 256mb or 268435456, but got: small'),
        ('--workers', 0, '--workers must be at least 1, but got: 0'),
        ('--skill', 'tokenizer', "skill 'tokenizer' is a reserved name"),
        ('--skill', '../up', "skill '../up' cannot name a folder"),
    ],
)
def test_bad_options_are_refused(tmp_path, refused, write_rows, options, option, value, message):
    path = write_rows('a.jsonl', GOOD)
    error = refused('convert', 'jsonl', path, '--skill', 'prose', *options, option, value)
    assert message in error
    assert left_in(tmp_path) == ['corpus']


def test_a_broken_tokenizer_is_refused(tmp_path, refused, write_rows, options, tokenizer):
    folder = tmp_path / 'broken'
    folder.mkdir()
    (folder / 'tokenizer.json').write_text('{"model": 1}')
    options[options.index(tokenizer)] = folder
    error = refused('convert', 'jsonl', write_rows('a.jsonl', GOOD), '--skill', 'prose', *options)
    assert_matches('--tokenizer .*broken: cannot be loaded .*name a folder with a tokenizer.json', error)


@pytest.mark.parametrize('name', ['tokenizers/mine', 'one/two/three', 'mine/', '../mine', 'my own'])
def test_a_tokenizer_folder_that_is_missing_is_said_to_be_missing_at_once(
    tmp_path, refused, write_rows, options, tokenizer, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tokenizers').mkdir()
    monkeypatch.setattr(tokens, '_load_automatically', lambda *_, **__: pytest.fail('asked the hub'))
    options[options.index(tokenizer)] = name
    error = refused('convert', 'jsonl', write_rows('a.jsonl', GOOD), '--skill', 'prose', *options)
    assert f'--tokenizer {name}: no such folder; name a folder with a tokenizer' in error


def test_a_hub_that_cannot_be_reached_is_said_at_once(refused, write_rows, options, tokenizer, monkeypatch):
    with socket.create_server(('127.0.0.1', 0)) as server:
        free = server.getsockname()[1]
    for proxy in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr(constants, 'ENDPOINT', f'http://127.0.0.1:{free}')
    options[options.index(tokenizer)] = 'nobody/nothing'
    began = time.monotonic()
    error = refused('convert', 'jsonl', write_rows('a.jsonl', GOOD), '--skill', 'prose', *options)
    assert (
        '--tokenizer nobody/nothing: no such folder, and the hub, where it might be, cannot be reached'
        in error
    )
    assert time.monotonic() - began < 10


def test_finished_streams_are_kept_unless_asked(tmp_path, refused, skillit, write_rows, options):
    path = write_rows('a.jsonl', GOOD)
    skillit('convert', 'jsonl', path, '--skill', 'prose', *options)
    before = tree(tmp_path / 'S')
    error = refused('convert', 'jsonl', path, '--skill', 'verse', *options)
    assert 'holds finished streams; pass --overwrite to replace them' in error
    assert tree(tmp_path / 'S') == before
    error = refused('convert', 'jsonl', path, '--skill', 'tokenizer', *options, '--overwrite')
    assert tree(tmp_path / 'S') == before
    skillit('convert', 'jsonl', path, '--skill', 'verse', *options, '--overwrite')
    assert list(Manifest.load(str(tmp_path / 'S')).skills) == ['verse']


def test_other_folders_are_never_replaced(tmp_path, refused, write_rows, options):
    path = write_rows('a.jsonl', GOOD)
    (tmp_path / 'S').mkdir()
    (tmp_path / 'S' / 'thesis.tex').touch()
    error = refused('convert', 'jsonl', path, '--skill', 'prose', *options, '--overwrite')
    assert 'is not empty and no streams folder; choose another folder' in error
    assert left_in(tmp_path / 'S') == ['thesis.tex']


def test_skills_that_would_share_a_folder_are_refused(tmp_path, refused, write_rows, options):
    path = write_rows('a.jsonl', [{'text': 'x', 'kind': 'a b'}, {'text': 'y', 'kind': 'a/b'}])
    error = refused('convert', 'jsonl', path, '--skill-field', 'kind', *options)
    assert "skills 'a b' and 'a/b' would both be stored as 'a_b'" in error


def test_duplicates_follow_their_twins(tmp_path, skillit, write_rows, options):
    from transformers import AutoTokenizer

    path = write_rows('a.jsonl', GOOD * 3)
    skillit('convert', 'jsonl', path, '--skill', 'prose', *options)
    decoder = AutoTokenizer.from_pretrained(str(tmp_path / 'S' / 'tokenizer'))
    texts = {
        split: set(decoder.decode(read_tokens(tmp_path / 'S', 'prose', split)).split(EOS)[:-1])
        for split in ('train', 'eval')
    }
    assert texts['train']
    assert texts['eval']
    assert not texts['train'] & texts['eval']


def test_samples_alike_in_both_splits_leave_eval(tmp_path, skillit, refused, write_rows, options):
    rows = [{'text': ' ' * 200 + f'the end of row {i}'} for i in range(60)]
    path = write_rows('a.jsonl', rows)
    printed = skillit('convert', 'jsonl', path, '--skill', 'prose', *options)
    assert 'eval_samples_in_train' in printed
    skillit('verify', tmp_path / 'S')
    info = Manifest.load(str(tmp_path / 'S')).skills['prose']
    kept = [sample['tokens'] for sample in read_split(tmp_path / 'S', 'prose', 'eval')]
    train = {sample['tokens'].tobytes() for sample in read_split(tmp_path / 'S', 'prose', 'train')}
    assert not {tokens.tobytes() for tokens in kept} & train
    assert info.splits['eval'].samples == len(kept)
    # All tokens are accounted for: written, in the tail, or in a sample left out of eval.
    written = sum(split.tokens for split in info.splits.values())
    assert info.dropped['eval_samples_in_train'] > 0
    # The text of a split is all of its documents, whatever became of their samples.
    assert [split.text_tokens for split in info.splits.values()] == [
        split.bytes + split.documents for split in info.splits.values()
    ]
    assert written + info.dropped['tail_tokens'] + 32 * info.dropped['eval_samples_in_train'] == sum(
        len(row['text']) + 1 for row in rows
    )
    assert left_in(tmp_path / 'S' / 'prose') == ['eval', 'train']


def test_an_eval_split_all_of_which_is_in_train_is_refused(tmp_path, refused, write_rows, options):
    path = write_rows('a.jsonl', [{'text': ' ' * (31 + 32 * i)} for i in range(1, 60)])
    error = refused('convert', 'jsonl', path, '--skill', 'prose', *options, '--eval-fraction', 0.2)
    assert_matches("skill 'prose': each of its .* eval samples? is in train too; raise --seq-len", error)
    assert left_in(tmp_path) == ['.S.skillit-partial', 'corpus']


def test_what_a_killed_replacement_left_is_put_right(tmp_path, refused, skillit, write_rows, options):
    path = write_rows('a.jsonl', GOOD)
    skillit('convert', 'jsonl', path, '--skill', 'prose', *options)
    before = tree(tmp_path / 'S')
    # A kill between the two renames: the old folder stands aside, the new one is not in place yet.
    os.rename(tmp_path / 'S', tmp_path / '.S.skillit-previous')
    (tmp_path / '.S.skillit-partial').mkdir()
    refused('convert', 'jsonl', path, '--skill', 'prose', *options)
    assert tree(tmp_path / 'S') == before
    skillit('convert', 'jsonl', path, '--skill', 'prose', *options, '--overwrite')
    assert left_in(tmp_path) == ['S', 'corpus']
