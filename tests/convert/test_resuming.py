"""Parts that were done under other settings are done again: one conversion, one set of settings in all its bytes."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import skillit_stream
from skillit_stream.convert.runners import load_module
from skillit_stream.convert.verify import verify
from tests.support.adding import documents_of
from tests.support.streams_reading import EOS, read_tokens

OTHER = '<|other|>'
MODULE = """
import argparse
from mark_of_corpus import END
from tests.support.my_corpus import Questions, add_arguments as add
from skillit_stream.convert.corpus import Document

def add_arguments(parser):
    add(parser)
    parser.add_argument('--mark', default='a')
    parser.add_argument('--marks', default='')

class Marked(Questions):
    name = 'marked'

    def __init__(self, args):
        super().__init__(args.paths)
        self.mark = args.mark + (open(args.marks).read() if args.marks else '')

    def read(self, file, tap):
        for one in super().read(file, tap):
            yield Document(one.skill, f'CODE {self.mark} {END} {one.text} {one.answer}')

corpus = Marked
"""


@pytest.fixture
def two_ends(tmp_path: Path, tokenizer: str) -> Path:
    """A copy of the tokenizer that knows two tokens which may end a text."""
    from transformers import AutoTokenizer

    folder = tmp_path / 'tokenizer'
    known = AutoTokenizer.from_pretrained(tokenizer)
    known.add_special_tokens({'additional_special_tokens': [OTHER]})
    known.save_pretrained(str(folder))
    return folder


def set_end(folder: Path, end: str) -> None:
    """Change which token ends a text; tokenizer.json stays as it is."""
    # transformers 4 writes it into the map as well.
    for path in (folder / 'tokenizer_config.json', *folder.glob('special_tokens_map.json')):
        path.write_text(json.dumps({**json.loads(path.read_text()), 'eos_token': end}))


def test_a_tokenizer_that_ends_texts_otherwise_is_another_one(tmp_path, two_ends, write_rows, skillit):
    files = [write_rows(f'{n}.jsonl', [{'text': f'{n} row {row}'} for row in range(60)]) for n in range(2)]
    arguments = ['convert', 'jsonl', *files, '--out', tmp_path / 'S', '--tokenizer', two_ends, '--skill', 'x']
    arguments += ['--seq-len', 32, '--part-size', 1, '--workers', 1]
    skillit(*arguments, '--task', '0/2')
    before = (two_ends / 'tokenizer.json').read_bytes()
    set_end(two_ends, OTHER)
    assert (two_ends / 'tokenizer.json').read_bytes() == before
    skillit(*arguments, '--task', '1/2')
    skillit(*arguments)
    verify(str(tmp_path / 'S'))
    tokens = np.concatenate([read_tokens(tmp_path / 'S', 'x', split) for split in ('train', 'eval')])
    ends = json.loads(before)['added_tokens']
    [first], [second] = ([one['id'] for one in ends if one['content'] == end] for end in (EOS, OTHER))
    assert (tokens == first).sum() == 0
    assert (tokens == second).sum() > 100


@pytest.fixture
def marked(tmp_path: Path, tokenizer: str, skillit, monkeypatch) -> Callable[..., str]:
    """Convert a first part, let something change, and convert the rest; returns all text of the streams."""
    code, helper = tmp_path / 'marked.py', tmp_path / 'mark_of_corpus.py'
    code.write_text(MODULE)
    helper.write_text('END = "end"\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    for number in range(2):
        rows = [f'x\t{number} row {row}\tyes\t\n' for row in range(60)]
        (tmp_path / f'{number}.tsv').write_text(''.join(rows))

    def run(change: Callable[[], object], *more: object, first: tuple[object, ...] = ()) -> str:
        arguments = [
            'convert',
            'custom',
            code,
            tmp_path / '0.tsv',
            tmp_path / '1.tsv',
            '--out',
            tmp_path / 'S',
        ]
        arguments += ['--tokenizer', tokenizer, '--seq-len', 32, '--part-size', 1, '--workers', 1]
        for task, options in (('0/2', first), ('1/2', more), (None, more)):
            load_module.cache_clear()
            sys.modules.pop('mark_of_corpus', None)
            skillit(*arguments, *options, *(['--task', task] if task else []))
            if task == '0/2':
                change()
        sys.modules.pop('mark_of_corpus', None)
        verify(str(tmp_path / 'S'))
        texts = documents_of(tmp_path / 'S', 'x', 'train') | documents_of(tmp_path / 'S', 'x', 'eval')
        return ' '.join(texts)

    return run


def nothing() -> None:
    """Change nothing."""


def check_marks(text: str, new: str, old: str) -> None:
    assert text.count(new) > 100
    assert old not in text


def test_the_code_of_a_corpus_is_a_setting(tmp_path: Path, marked):
    code = tmp_path / 'marked.py'
    check_marks(marked(lambda: code.write_text(MODULE.replace('CODE', 'EDITED'))), 'EDITED a', 'CODE')


def test_the_code_that_a_corpus_imports_is_a_setting(tmp_path: Path, marked):
    def change() -> None:
        (tmp_path / 'mark_of_corpus.py').write_text('END = "otherwise"\n')
        shutil.rmtree(tmp_path / '__pycache__', ignore_errors=True)

    check_marks(marked(change), 'CODE a otherwise', 'a end')


def test_the_arguments_of_a_corpus_are_settings(marked):
    check_marks(marked(nothing, '--mark', 'b', first=('--mark', 'c')), 'CODE b end', 'CODE c')


def test_a_file_that_an_argument_names_is_a_setting(tmp_path: Path, marked):
    (tmp_path / 'marks').write_text('old')
    options = ('--marks', tmp_path / 'marks')
    text = marked(lambda: (tmp_path / 'marks').write_text('newer'), *options, first=options)
    check_marks(text, 'CODE anewer', 'aold')


def test_parts_of_another_release_are_done_again_and_those_of_the_same_are_not(
    tmp_path: Path, tokenizer: str, write_rows, skillit, monkeypatch
):
    path = write_rows('a.jsonl', [{'text': f'row {row}'} for row in range(60)])
    arguments = ['convert', 'jsonl', path, '--out', tmp_path / 'S', '--tokenizer', tokenizer, '--skill', 'x']
    arguments += ['--seq-len', 32, '--workers', 1, '--task', '0/1']
    record = tmp_path / '.S.skillit-partial' / '.work' / 'parts' / '00000' / 'part.json'
    written = []
    for release in ('1.0', '1.0', '1.1'):
        monkeypatch.setattr(skillit_stream, '__version__', release)
        skillit(*arguments)
        written.append(record.stat().st_mtime_ns)
    assert written[0] == written[1] != written[2]


def test_code_that_is_edited_while_it_is_at_work_is_refused(tmp_path: Path, marked, refused, tokenizer):
    arguments = ['convert', 'custom', tmp_path / 'marked.py', tmp_path / '0.tsv', tmp_path / '1.tsv']
    arguments += ['--out', tmp_path / 'S', '--tokenizer', tokenizer, '--seq-len', 32, '--part-size', 1]

    def edit(*_: object) -> None:
        (tmp_path / 'marked.py').write_text(MODULE.replace('CODE', 'EDITED'))

    load_module.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('skillit_stream.convert.pipeline.prepare_processes', edit)
        error = refused(*arguments, '--workers', 2)
    assert 'marked.py: was edited while it was at work; run the same command again' in error
