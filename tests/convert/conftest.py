"""Fixtures of the converter tests: a byte tokenizer, corpora written on the spot, the command line."""

import io
import json
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.support import commands
from tests.support.adding import rows_of
from tests.support.paths import SHARED
from tests.support.streams_reading import EOS


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The data beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f'needs the genuine rows and tokenizers of {SHARED.name}/ beside the repository')
    return SHARED


@pytest.fixture(scope='session')
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tokenizer of single bytes, whose decoding gives back the text exactly; EOS is id 256."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers.tokenization_utils_fast import PreTrainedTokenizerFast

    alphabet = {sign: i for i, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    folder = str(tmp_path_factory.mktemp('tokenizer') / 'bytes')
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=EOS).save_pretrained(folder)
    return folder


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Write rows (objects, or lines as bytes) as a JSON-lines file under the test's corpus folder."""

    def write(name: str, rows: list[Any]) -> Path:
        path = tmp_path / 'corpus' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        path.write_bytes(b''.join(line + b'\n' for line in lines))
        return path

    return write


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `skillit` with arguments that must be refused: exit code 2 and one line, which is returned."""
    return partial(commands.refusal, capsys)


@pytest.fixture
def skillit(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `skillit` with arguments that must work and return what it printed."""
    return lambda *arguments: commands.done(capsys, *arguments)[0]


@pytest.fixture(scope='session')
def natural_instructions_tasks(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Genuine tasks of Natural Instructions, unpacked."""
    archive = shared_data / 'natural_instructions.tar.zst'
    if not archive.exists():
        pytest.skip('needs the genuine tasks of natural_instructions.tar.zst')
    folder = tmp_path_factory.mktemp('genuine')
    with zstandard.open(archive, 'rb') as file, tarfile.open(fileobj=io.BytesIO(file.read())) as tar:
        tar.extractall(folder, filter='data')
    return folder


@pytest.fixture
def add_command(tmp_path: Path, tokenizer: str) -> Callable[..., list[object]]:
    """The arguments of a conversion of some files to the folder S."""

    def arguments(*files: object, out: str = 'S') -> list[object]:
        options = ['--tokenizer', tokenizer, '--seq-len', 32, '--skill-field', 'kind', '--workers', 1]
        sizes = ['--eval-fraction', 0.2, '--part-size', '4kb', '--shard-size', '16kb']
        return ['convert', 'jsonl', *files, '--out', tmp_path / out, *options, *sizes]

    return arguments


@pytest.fixture
def old_file(write_rows: Callable[..., Path]) -> Path:
    """The corpus of the first conversion: two skills."""
    return write_rows('old.jsonl', [*rows_of('prose', 0, 150), *rows_of('verse', 0, 150)])


@pytest.fixture
def new_files(write_rows: Callable[..., Path]) -> list[Path]:
    """What is added, in several parts: more of one skill, and a skill of its own."""
    return [
        write_rows('more.jsonl', rows_of('prose', 150, 150)),
        write_rows('law.jsonl', rows_of('law', 0, 150)),
        write_rows('mixed.jsonl', [*rows_of('prose', 300, 50), *rows_of('law', 150, 50)]),
    ]
