"""The streams against llm-foundry's way to the same end: documents, tokens and order of its ConcatTokensDataset."""

import argparse
import random
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers.processors import TemplateProcessing

from skillit_stream.convert.command import CORPORA
from skillit_stream.convert.runners import load_module
from skillit_stream.formats.manifest import Manifest
from tests.support.paths import ROOT
from tests.support.streams_reading import EOS, read_split

LENGTH = 64
# Of scripts/data_prep/convert_dataset_hf.py and convert_dataset_json.py, llm-foundry 0.22.
FOUNDRY_OPTIONS = """
bos_text compression concat_tokens data_subset dataset eos_text no_wrap num_workers out_root path split splits tokenizer
tokenizer_kwargs
"""
ROW = """
from skillit_stream.convert.corpus import Document

def row(row):
    return Document('x', row['text'], split=row['split'])
"""
Documents = list[dict[str, str]]


def texts(number: int, count: int) -> Documents:
    """Rows of text of many lengths, a fifth of them of eval."""
    rng = random.Random(number)
    words = ['stream', 'sample', 'na\u00efve', '\u4f60\u597d', 'x=f(y)', '1234', '\n\n', 'the', 'of']
    return [
        {
            'text': f'{number}.{n} ' + ' '.join(rng.choices(words, k=rng.randint(0, 120))),
            'split': 'eval' if rng.random() < 0.2 else 'train',
        }
        for n in range(count)
    ]


@pytest.fixture(params=['bytes', 'gpt2'])
def folder(request: pytest.FixtureRequest, tokenizer: str) -> str:
    """A tokenizer of bytes, and GPT-2's."""
    if request.param == 'bytes':
        return tokenizer
    return str(request.getfixturevalue('shared_data') / 'tokenizers' / 'gpt2')


@pytest.fixture
def convert(tmp_path: Path, write_rows: Callable[..., Path], folder: str, skillit) -> Callable[..., Manifest]:
    """Convert files of rows to the skill x, by the splits of the rows or by hash."""

    def run(files: Sequence[Documents], *more: object, own_splits: bool) -> Manifest:
        for number, rows in enumerate(files):
            write_rows(f'{number}.jsonl', rows)
        (tmp_path / 'mine.py').write_text(ROW)
        corpus = ['custom', tmp_path / 'mine.py'] if own_splits else ['jsonl', '--skill', 'x']
        options = ['--out', tmp_path / 'S', '--tokenizer', folder, '--seq-len', LENGTH, '--workers', 1]
        skillit('convert', *corpus, tmp_path / 'corpus', *options, *more)
        return Manifest.load(str(tmp_path / 'S'))

    return run


def loaded(folder: str) -> Any:
    from transformers import AutoTokenizer
    from transformers.models.gpt2 import GPT2TokenizerFast

    return (
        GPT2TokenizerFast.from_pretrained(folder)
        if folder.endswith('gpt2')
        else AutoTokenizer.from_pretrained(folder)
    )


def line_of(tokenizer: Any, rows: Iterable[dict[str, str]]) -> list[int]:
    """What ConcatTokensDataset with the tokenizer's EOS as ``eos_text`` cuts into samples: all documents end to end."""
    return [i for row in rows for i in [*tokenizer(row['text'])['input_ids'], tokenizer.eos_token_id]]


def cut(line: Sequence[int]) -> np.ndarray:
    """Its samples; what does not fill the last one it never yields. Shape [samples, LENGTH]."""
    whole = len(line) // LENGTH * LENGTH
    return np.array(line[:whole]).reshape(-1, LENGTH)


def in_order(numbers: Sequence[int]) -> int:
    """How many of some numbers can stay where they are if the others are taken out and the rest is to ascend."""
    last: list[int] = []  # of an ascent of each length, the least that it can end in
    for number in numbers:
        place = bisect_left(last, number)
        last[place : place + 1] = [number]
    return len(last)


def samples(root: Path, split: str) -> np.ndarray:
    return np.stack([one['tokens'] for one in read_split(root, 'x', split)])


def test_samples_of_one_part_are_those_of_concat_tokens(tmp_path: Path, folder: str, convert):
    files = [texts(number, 150) for number in range(3)]
    manifest = convert(files, own_splits=True)
    tail = 0
    for split in ('train', 'eval'):
        line = line_of(loaded(folder), (row for rows in files for row in rows if row['split'] == split))
        assert np.array_equal(samples(tmp_path / 'S', split), cut(line))
        tail += len(line) % LENGTH
    assert manifest.skills['x'].dropped['tail_tokens'] == tail


def test_tails_of_parts_are_put_together_at_the_end(tmp_path: Path, folder: str, convert):
    files = [texts(number, 150) for number in range(5)]
    manifest = convert(files, '--part-size', 1, own_splits=True)
    lines = [line_of(loaded(folder), (row for row in rows if row['split'] == 'train')) for rows in files]
    tails = [i for line in lines for i in line[len(line) // LENGTH * LENGTH :]]
    expected = np.concatenate([*map(cut, lines), cut(tails)])
    assert np.array_equal(samples(tmp_path / 'S', 'train'), expected)
    assert manifest.skills['x'].splits['train'].samples == sum(map(len, lines)) // LENGTH


def test_by_hash_the_documents_are_the_same_and_those_at_the_bound_of_eval_come_later(
    tmp_path: Path, folder: str, convert
):
    rows = texts(0, 400)
    manifest = convert([rows], '--eval-fraction', 0.2, own_splits=False)
    tokenizer = loaded(folder)
    number_of = {tuple(tokenizer(row['text'])['input_ids']): n for n, row in enumerate(rows)}
    found: dict[str, list[int]] = {}
    for split in ('train', 'eval'):
        line = samples(tmp_path / 'S', split).reshape(-1)
        ends = np.flatnonzero(line == tokenizer.eos_token_id)
        documents = [tuple(one[:-1].tolist()) for one in np.split(line, ends + 1)[:-1]]
        found[split] = [number_of[one] for one in documents]
        # Concatenated in this order they are the samples, but for the document that the tail cuts.
        again = line_of(tokenizer, (rows[n] for n in found[split]))
        assert np.array_equal(line[: len(again)], again)
    numbers = found['train'] + found['eval']
    assert len(numbers) == len(set(numbers)) >= len(rows) - 6
    assert sum(one.documents for one in manifest.skills['x'].splits.values()) == len(rows)
    # All but those next to the bound are in the order of the file.
    assert len(found['train']) - in_order(found['train']) < 12
    everything = len(line_of(tokenizer, rows))
    written = sum(one.tokens for one in manifest.skills['x'].splits.values())
    assert everything == written + manifest.skills['x'].dropped['tail_tokens']
    assert manifest.skills['x'].dropped['eval_samples_in_train'] == 0


@pytest.fixture(params=['gigatoken', 'tokenizers'])
def adds_bos(request: pytest.FixtureRequest, tmp_path: Path, tokenizer: str) -> tuple[str, Any]:
    """An encoder, and the folder of a tokenizer that puts <s> before a text by itself, as Llama's does."""
    found = loaded(tokenizer)
    found.add_special_tokens({'bos_token': '<s>'})
    bos = found.convert_tokens_to_ids('<s>')
    template = TemplateProcessing(single='<s> $A', pair='<s> $A $B', special_tokens=[('<s>', bos)])
    found.backend_tokenizer.post_processor = template
    found.save_pretrained(str(tmp_path / 'llama'))
    return request.param, found


@pytest.mark.parametrize('workers', [1, 2])
def test_a_tokenizer_that_adds_bos_is_used_without_it_and_this_is_said(
    tmp_path: Path, adds_bos: tuple[str, Any], write_rows, skillit, workers: int
):
    encoder, tokenizer = adds_bos
    rows = texts(0, 100)
    assert all(tokenizer(row['text'])['input_ids'][0] == tokenizer.bos_token_id for row in rows)
    path = write_rows('a.jsonl', [row for row in rows if row['split'] == 'train'])
    (tmp_path / 'mine.py').write_text(ROW)
    arguments = [
        'convert',
        'custom',
        tmp_path / 'mine.py',
        path,
        '--out',
        tmp_path / 'S',
        '--seq-len',
        LENGTH,
    ]
    arguments += ['--tokenizer', tmp_path / 'llama', '--encoder', encoder, '--workers', workers]
    said = f'each document ends in {EOS}; <s>, which the tokenizer adds to a text by itself, is left out\n'
    assert said in skillit(*arguments)
    line = line_of(tokenizer, (row for row in rows if row['split'] == 'train'))
    without = [i for i in line if i != tokenizer.bos_token_id]
    assert len(line) > len(without)
    assert np.array_equal(samples(tmp_path / 'S', 'train'), cut(without))


def test_nothing_is_said_of_a_tokenizer_that_adds_nothing(
    tmp_path: Path, tokenizer: str, write_rows, skillit
):
    path = write_rows('a.jsonl', texts(0, 100))
    arguments = ['convert', 'jsonl', path, '--out', tmp_path / 'S', '--seq-len', LENGTH, '--skill', 'x']
    assert 'left out' not in skillit(*arguments, '--tokenizer', tokenizer).replace('left out: ', '')


def test_the_table_has_every_option_of_the_two_converters_and_only_options_that_there_are():
    page = (ROOT / 'docs' / 'convert.md').read_text(encoding='utf-8').split('### What llm-foundry')[1]
    rows = [line.strip('| ').split(' | ') for line in page.splitlines() if line.startswith('| ')][1:]
    theirs = [name for row in rows for name in re.findall(r'`--(\w+)`', row[0])]
    assert sorted(theirs) == sorted(FOUNDRY_OPTIONS.split())
    ours = {name for row in rows for name in re.findall(r'`(--[\w-]+)', row[1])}
    known = set()
    for corpus in ('hf', 'slimpajama', 'alpaca'):
        parser = argparse.ArgumentParser()
        load_module(CORPORA[corpus]).add_arguments(parser)
        known |= {option for action in parser._actions for option in action.option_strings}
    assert ours <= known


def test_the_class_itself_gives_the_samples_that_these_tests_compute(folder: str):
    foundry = pytest.importorskip(
        'llmfoundry.data', reason='needs llm-foundry, which is not among the requirements'
    )
    rows, tokenizer = texts(0, 150), loaded(folder)
    theirs = foundry.ConcatTokensDataset(rows, tokenizer, LENGTH, '', tokenizer.eos_token, no_wrap=False)
    assert np.array_equal(np.stack([one['tokens'] for one in theirs]), cut(line_of(tokenizer, rows)))
