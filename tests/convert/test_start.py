"""A conversion begins without torch: a process of its own loads the tokenizer, to the same files."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.convert.test_parts import digests

SCRIPT = """
import sys
from skillit_stream.cli import main
code = main(sys.argv[1:])
print([name for name in ('torch', 'streaming', 'transformers') if name in sys.modules])
sys.exit(code)
"""


def in_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, '-c', SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize('workers', [1, 2])
def test_neither_torch_nor_transformers_is_imported(
    tmp_path: Path,
    tokenizer: str,
    write_rows: Callable[..., Path],
    skillit: Callable[..., str],
    workers: int,
):
    rows = [{'text': f'{row} ' * 30} for row in range(200)]
    path = write_rows('a.jsonl', rows)
    command = ['convert', 'jsonl', path, '--skill', 'prose', '--tokenizer', tokenizer, '--seq-len', 16]
    done = in_process(*command, '--workers', workers, '--out', tmp_path / 'S')
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    assert done.stdout.splitlines()[-1] == '[]'
    skillit(*command, '--out', tmp_path / 'here')
    assert digests(tmp_path / 'S') == digests(tmp_path / 'here')


def test_a_tokenizer_that_cannot_be_loaded_is_the_same_line(
    tmp_path: Path, write_rows: Callable[..., Path], refused: Callable[..., str]
):
    path = write_rows('a.jsonl', [{'text': 'one'}])
    (tmp_path / 'broken').mkdir()
    (tmp_path / 'broken' / 'tokenizer.json').write_text('{}')
    for name in ('broken', 'missing'):
        command = ['convert', 'jsonl', path, '--skill', 'prose', '--tokenizer', tmp_path / name]
        command += ['--seq-len', 16, '--out', tmp_path / 'S']
        done = in_process(*command)
        assert done.returncode == 2
        assert done.stderr == refused(*command)
        assert sorted(one.name for one in tmp_path.iterdir()) == ['broken', 'corpus']
