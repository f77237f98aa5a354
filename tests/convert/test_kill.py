"""A conversion killed at any moment leaves nothing that a second try trips over."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from skillit_stream.formats.manifest import Manifest
from tests.support.streams_reading import left_in


def test_a_killed_conversion_is_done_again_from_scratch(tmp_path: Path, tokenizer: str, skillit):
    rows = [json.dumps({'text': f'row {i} ' * 20}).encode() + b'\n' for i in range(400)]
    pipe = tmp_path / 'corpus.jsonl'
    os.mkfifo(pipe)
    arguments = ['convert', 'jsonl', str(pipe), '--skill', 'prose', '--out', str(tmp_path / 'S')]
    arguments += ['--tokenizer', tokenizer, '--seq-len', '32', '--shard-size', '8kb']
    process = subprocess.Popen(
        [sys.executable, '-m', 'skillit_stream.cli', *arguments],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    feeder = threading.Thread(target=feed, args=(pipe, rows), daemon=True)
    feeder.start()
    try:
        staging = tmp_path / '.S.skillit-partial'
        wait_for(lambda: any(staging.rglob('shard.*.mds')), process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    feeder.join(timeout=10)
    assert left_in(tmp_path) == ['.S.skillit-partial', 'corpus.jsonl']
    pipe.unlink()
    pipe.write_bytes(b''.join(rows))
    skillit(*arguments)
    assert left_in(tmp_path) == ['S', 'corpus.jsonl']
    assert sum(s.documents for s in Manifest.load(str(tmp_path / 'S')).skills['prose'].splits.values()) == 400


def feed(pipe: Path, rows: list[bytes]) -> None:
    """Write rows into the pipe without end, so that the converter is always in the middle."""
    try:
        with pipe.open('wb') as file:
            while True:
                file.writelines(rows)
    except BrokenPipeError:
        pass


def wait_for(condition, process: subprocess.Popen, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f'ended early: {process.stderr.read().decode()}')  # type: ignore[union-attr]
        if time.monotonic() > deadline:
            raise AssertionError('no shard was written in time')
        time.sleep(0.02)
