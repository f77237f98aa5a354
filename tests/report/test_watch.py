"""`skillit report --watch`: the page follows the log, and the command ends with the run."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.report.methods import group_runs, notes
from skillit_stream.report.run_folder import read_runs
from skillit_stream.report.watch import watch_runs

COMMAND = [sys.executable, '-m', 'skillit_stream.cli', 'report', '--watch']


@pytest.fixture
def growing(make_run):
    """A run of three rounds that has only begun, and its lines, still to be written."""
    folder = make_run('x', rounds=3, skills=['a', 'b'])
    facts = json.loads((folder / 'run.json').read_text())
    (folder / 'run.json').write_text(json.dumps({**facts, 'rounds': 3}))
    lines = (folder / 'mixture.jsonl').read_text().splitlines(keepends=True)
    (folder / 'mixture.jsonl').write_text(lines[0])
    return folder, lines[1:]


def append(folder: Path, text: str) -> None:
    with open(folder / 'mixture.jsonl', 'a') as file:
        file.write(text)


def wait_for(found, seconds: float = 90):
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, 'nothing came'
        time.sleep(0.05)
    return value


def test_every_round_is_written_and_the_end_of_the_run_ends_it(growing):
    folder, lines = growing
    written, printed = [], []

    def write(runs, reloads):
        written.append((len(runs[0].rounds), reloads))
        return folder / 'report.html'

    thread = threading.Thread(
        target=watch_runs, args=([folder], write), kwargs={'say': printed.append, 'poll': 0.01}
    )
    thread.start()
    wait_for(lambda: printed)
    assert printed == [f'waiting for the first round of {folder}']
    for number, line in enumerate(lines, start=1):
        append(folder, line[:20])  # half a line is no round
        time.sleep(0.05)
        assert (number, True) not in written
        append(folder, line[20:])
        wait_for(lambda number=number: (number, True) in written)
    thread.join(30)
    assert not thread.is_alive()
    assert written[-1] == (3, False)
    assert printed[-1].endswith(f'  round 3 of 3  {folder / "report.html"}')
    # Never written without something new.
    assert len([one for one in written if one[1]]) <= 2 * len(lines)


def test_a_folder_that_is_no_run_is_refused_at_once(tmp_path):
    with pytest.raises(InputError, match=r'has no run\.json'):
        watch_runs([tmp_path], lambda *_: tmp_path)


def test_a_run_that_has_not_ended_is_noted(growing):
    folder, lines = growing
    append(folder, ''.join(lines[:2]))
    assert f'{folder}: the run has not ended: 2 of 3 rounds.' in notes(group_runs(read_runs([folder])))
    append(folder, lines[2])
    assert not any('has not ended' in note for note in notes(group_runs(read_runs([folder]))))


def test_the_command_keeps_the_page_current_and_ends_with_the_run_or_ctrl_c(growing):
    folder, lines = growing
    page = folder / 'report' / 'report.html'
    append(folder, lines[0])

    def start() -> subprocess.Popen:
        return subprocess.Popen(
            [*COMMAND, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, 'PYTHONUNBUFFERED': '1'},
        )

    def shows(text: str) -> bool:
        return page.exists() and text in page.read_text()

    watching = start()
    try:
        wait_for(lambda: shows('the run has not ended: 1 of 3 rounds'))
        assert shows('<body data-reload="5">')
        append(folder, lines[1])
        wait_for(lambda: shows('the run has not ended: 2 of 3 rounds'))
        assert watching.stdout is not None
        printed = watching.stdout.readline()
        # The line of a round comes after its page.
        while '  round 2 of 3  ' not in printed:
            printed += watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=90)
        assert watching.returncode == 0
        assert 'python -m http.server --bind 127.0.0.1 --directory ' in printed
        assert not shows('data-reload=')
        # The rest of the run.
        append(folder, lines[2])
        watching = start()
        printed, _ = watching.communicate(timeout=90)
        assert watching.returncode == 0
        assert printed.endswith(f'report: {page}\n')
        assert not shows('has not ended')
        assert (page.parent / 'mixture.png').exists()
    finally:
        watching.kill()
        watching.wait()
