"""Each corpus through the command line to verified streams; every token is where an independent count has it."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from skillit_stream.convert.command import CORPORA
from skillit_stream.convert.runners import load_module
from skillit_stream.convert.tokens import load_tokenizer
from skillit_stream.convert.verify import verify
from tests.support.corpora_reading import read_corpus

WORDS = ('the sum of two numbers ', 'fn main() { } ', 'once upon a time ', 'naïve café ', '漢字 ')


def text_of(number: int) -> str:
    return f'{number}: ' + WORDS[number % 5] * (3 + number % 40)


def pile(folder: Path) -> list[object]:
    names = ('ArXiv', 'Pile-CC', 'Wikipedia (en)')
    rows = [{'text': text_of(n), 'meta': {'pile_set_name': names[n % 3]}} for n in range(300)]
    return [write_zst(folder / '00.jsonl.zst', rows)]


def slimpajama(folder: Path) -> list[object]:
    names = ('RedPajamaArXiv', 'RedPajamaC4')
    rows = [{'text': text_of(n), 'meta': {'redpajama_set_name': names[n % 2]}} for n in range(300)]
    write_zst(folder / 'train' / 'chunk1' / 'example_train_0.jsonl.zst', rows[:250])
    write_zst(folder / 'validation' / 'chunk1' / 'example_holdout_0.jsonl.zst', rows[250:])
    return [folder, '--own-splits']


def redpajama_v2(folder: Path) -> list[object]:
    import gzip

    for name in ('en_head', 'de_middle'):
        path = folder / 'documents' / '2023-06' / '0000' / f'{name}.json.gz'
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{'raw_content': text_of(n), 'url': f'https://example.org/{n}'} for n in range(200)]
        path.write_bytes(gzip.compress(''.join(json.dumps(row) + '\n' for row in rows).encode()))
    return [folder, '--skill-from', 'language-bucket']


def law(folder: Path) -> list[object]:
    import lzma

    for name in ('train.euro_parl', 'train.eurlex'):
        path = folder / f'{name}.jsonl.xz'
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{'text': text_of(n), 'url': '', 'created_timestamp': ''} for n in range(150)]
        path.write_bytes(lzma.compress(''.join(json.dumps(row) + '\n' for row in rows).encode()))
    return [folder]


def parquet(folder: Path) -> list[object]:
    import pyarrow as pa
    from pyarrow import parquet as pq

    folder.mkdir(parents=True)
    table = pa.table({'text': [text_of(n) for n in range(300)], 'kind': [f'k{n % 3}' for n in range(300)]})
    pq.write_table(table, folder / 'a.parquet', row_group_size=70)
    return [folder, '--skill-field', 'kind']


def hf(folder: Path) -> list[object]:
    from datasets import Dataset

    rows = [{'text': text_of(n), 'label': f'k{n % 2}'} for n in range(300)]
    Dataset.from_list(rows).save_to_disk(str(folder / 'saved'))
    return [folder / 'saved', '--skill-field', 'label']


def text(folder: Path) -> list[object]:
    for skill in ('prose', 'verse'):
        for number in range(120):
            path = folder / skill / f'{number}.txt'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text_of(number))
    return [folder, '--skill-from', 'folder']


def alpaca(folder: Path) -> list[object]:
    rows = [
        {'instruction': f'{verb} number {n}.', 'input': '', 'output': text_of(n)}
        for n in range(100)
        for verb in ('Describe', 'Count', 'Explain')
    ]
    folder.mkdir(parents=True)
    (folder / 'alpaca.json').write_text(json.dumps(rows))
    return [folder, '--skill-from', 'verb']


def write_zst(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zstandard.compress(''.join(json.dumps(row) + '\n' for row in rows).encode()))
    return path


MADE = {
    'pile': pile,
    'slimpajama': slimpajama,
    'redpajama-v2': redpajama_v2,
    'law': law,
    'parquet': parquet,
    'hf': hf,
    'text': text,
    'alpaca': alpaca,
}


def expect_every_token(name: str, arguments: list[object], out: Path, tokenizer: str, seq_len: int) -> None:
    """The streams hold as many tokens as the tokenizer makes of the corpus, less what the manifest counts."""
    encode = load_tokenizer(tokenizer, 'tokenizers')
    expected: Counter[str] = Counter()
    found = read_corpus(load_module(CORPORA[name]), *arguments)
    for document in found.documents:
        pieces = [document.text, document.answer] if document.answer else [document.text]
        expected[document.skill] += 1 + sum(len(encode.encode([piece], eos=False).flat) for piece in pieces)
    manifest = verify(str(out))
    safe = {skill: skill.replace(' ', '_').replace('(', '_').replace(')', '_') for skill in expected}
    for skill, tokens in expected.items():
        info = manifest.skills[next(one for one in manifest.skills if one.strip('_') == normal(safe[skill]))]
        kept = sum(split.tokens for split in info.splits.values())
        dropped = info.dropped['tail_tokens'] + seq_len * info.dropped.get('eval_samples_in_train', 0)
        assert kept + dropped == tokens, skill
        assert sum(split.text_tokens or 0 for split in info.splits.values()) == tokens
    assert len(manifest.skills) == len(expected)


def normal(skill: str) -> str:
    while '__' in skill:
        skill = skill.replace('__', '_')
    return skill.strip('_')


@pytest.mark.parametrize('name', MADE)
def test_a_corpus_in_its_true_schema(tmp_path: Path, tokenizer: str, skillit: Callable[..., str], name: str):
    arguments = MADE[name](tmp_path / 'corpus')
    out = tmp_path / 'S'
    skillit('convert', name, *arguments, '--out', out, '--tokenizer', tokenizer, '--seq-len', 64)
    expect_every_token(name, arguments, out, tokenizer, 64)


@pytest.mark.parametrize('name', ['redpajama', 'alpaca', 'jsonl'])
def test_the_genuine_data(tmp_path: Path, shared_data: Path, skillit: Callable[..., str], name: str):
    arguments: list[object] = {
        'redpajama': [shared_data / 'redpajama_sample'],
        'alpaca': [shared_data / 'alpaca' / 'alpaca_2000.json', '--skill-from', 'verb'],
        'jsonl': [
            shared_data / 'corpora' / 'c4.jsonl.zst',
            shared_data / 'corpora' / 'stackexchange.jsonl.zst',
            *('--skill-pattern', r'(\w+)\.jsonl'),
        ],
    }[name]
    tokenizer, out = str(shared_data / 'tokenizers' / 'gpt2'), tmp_path / 'S'
    skillit('convert', name, *arguments, '--out', out, '--tokenizer', tokenizer, '--seq-len', 256)
    expect_every_token(name, arguments, out, tokenizer, 256)


def test_genuine_natural_instructions(
    tmp_path: Path, shared_data: Path, natural_instructions_tasks: Path, skillit: Callable[..., str]
):
    tokenizer, out = str(shared_data / 'tokenizers' / 'gpt2'), tmp_path / 'S'
    arguments = [natural_instructions_tasks, '--max-instances', 60, '--dev-instances', 20]
    skillit(
        'convert',
        'natural-instructions',
        *arguments,
        '--out',
        out,
        '--tokenizer',
        tokenizer,
        '--seq-len',
        256,
    )
    expect_every_token('natural-instructions', arguments, out, tokenizer, 256)
