"""Thousands of skills: in memory and open files that do not grow with them, to the same bytes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from skillit_stream.convert import conversion, sinks
from skillit_stream.convert.verify import verify
from skillit_stream.formats.manifest import Manifest
from tests.convert.test_parts import digests

MEGABYTE = 1 << 20


def rows_of(skills: int, rows: int) -> list[dict[str, str]]:
    return [
        {'text': f'{row} ' + 'lorem ipsum ' * (row % 40), 'kind': f's{row % skills}'} for row in range(rows)
    ]


@pytest.mark.parametrize('options', [[], ['--one-per-sample'], ['--eval-tokens', '2000']])
def test_what_waits_may_be_put_on_disk_at_any_time(
    tmp_path: Path,
    tokenizer: str,
    write_rows: Callable[..., Path],
    skillit: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
):
    path = write_rows('a.jsonl', rows_of(12, 3000))
    rest = ['--skill-field', 'kind', '--tokenizer', tokenizer, '--seq-len', 16, '--shard-size', '8kb']
    command = ['convert', 'jsonl', path, *rest, '--workers', 1]
    if '--one-per-sample' in options:
        answers = [
            {'instruction': row['text'], 'output': f'{number:05}', 'kind': row['kind']}
            for number, row in enumerate(rows_of(12, 900))
        ]
        path = write_rows('b.jsonl', answers)
        command = ['convert', 'alpaca', path, *rest, '--workers', 1]
    skillit(*command, *options, '--out', tmp_path / 'at_the_end')
    monkeypatch.setattr(conversion, 'BATCH_DOCUMENTS', 7)
    monkeypatch.setattr(sinks, 'PACKED_TOKENS', 1)
    for waiting in (0, 3000):
        monkeypatch.setattr(conversion, 'WAITING_BYTES', waiting)
        skillit(*command, *options, '--out', tmp_path / str(waiting))
        assert digests(tmp_path / 'at_the_end') == digests(tmp_path / str(waiting))


def test_no_more_waits_in_memory_than_is_allowed(
    tmp_path: Path,
    tokenizer: str,
    write_rows: Callable[..., Path],
    skillit: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
):
    path = write_rows('a.jsonl', rows_of(50, 6000))
    monkeypatch.setattr(conversion, 'WAITING_BYTES', 1 << 16)
    monkeypatch.setattr(conversion, 'BATCH_DOCUMENTS', 50)
    waited: list[int] = []
    check = conversion._PartWork._check

    def look(self, file, batch, first) -> None:
        waited.append(sum(sink.waiting_bytes for sink in self.sinks.values()))
        check(self, file, batch, first)

    monkeypatch.setattr(conversion._PartWork, '_check', look)
    options = ['--skill-field', 'kind', '--tokenizer', tokenizer, '--seq-len', 16, '--workers', 1]
    skillit('convert', 'jsonl', path, *options, '--out', tmp_path / 'S')
    assert len(waited) == 120
    assert 0 < max(waited) <= 1 << 16


def converted(command: list[str]) -> int:
    """Run a conversion with 256 open files at the most; returns the most memory that it had, in bytes."""

    limited = [
        'sh',
        '-c',
        'ulimit -n 256; exec "$@"',
        'sh',
        sys.executable,
        '-m',
        'skillit_stream.cli',
        *command,
    ]
    with subprocess.Popen(limited, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        error = process.stderr.read() if process.stderr else b''
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, error.decode()
    return usage.ru_maxrss * 1024


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_three_thousand_skills_take_little_more_memory_than_one(
    tmp_path: Path, tokenizer: str, write_rows: Callable[..., Path]
):
    peaks = {}
    for skills in (1, 3000):
        rows = [{'text': f'{row:06} dolor ' * 20, 'kind': f's{row % skills}'} for row in range(30_000)]
        path = write_rows(f'{skills}.jsonl', rows)
        options = ['--skill-field', 'kind', '--tokenizer', tokenizer, '--seq-len', '64', '--workers', '1']
        out = tmp_path / f'S{skills}'
        peaks[skills] = converted(['convert', 'jsonl', str(path), *options, '--out', str(out)])
        assert len(Manifest.load(str(out)).skills) == skills
        assert verify(str(out)) == Manifest.load(str(out))
    assert peaks[3000] < peaks[1] + 150 * MEGABYTE, json.dumps(peaks)
