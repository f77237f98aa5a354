"""However the work is divided, stopped and begun again: the streams are the same to the byte."""

import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from skillit_stream.convert import pipeline
from skillit_stream.convert.inputs import VirtualFile
from skillit_stream.convert.parts import plan_parts, suitable_part_bytes
from skillit_stream.convert.verify import verify
from tests.support.streams_reading import left_in

SKILLS = ('prose', 'verse', 'law')


@pytest.fixture
def corpus(tmp_path: Path, write_rows: Callable[..., Path]) -> Path:
    """Nine files of about 19 KB, three skills in each."""
    for file in range(9):
        rows = [
            {'text': f'{file} {row} ' + 'lorem ipsum '[row % 12 :] * (1 + row % 17), 'kind': SKILLS[row % 3]}
            for row in range(200)
        ]
        write_rows(f'{file}.jsonl', rows)
    return tmp_path / 'corpus'


@pytest.fixture
def command(corpus: Path, tokenizer: str) -> Callable[[Path], list[str]]:
    """The arguments of a conversion in five parts."""

    def arguments(out: Path) -> list[str]:
        options = ['--out', out, '--tokenizer', tokenizer, '--seq-len', 32, '--part-size', '30kb']
        more = ['--skill-field', 'kind', '--shard-size', '16kb', '--workers', 1]
        return [str(one) for one in ('convert', 'jsonl', corpus, *options, *more)]

    return arguments


def digests(root: Path) -> dict[str, str]:
    """Hash of every file of a streams folder."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }


def test_the_parts_make_streams_that_can_be_verified(tmp_path: Path, command, skillit):
    skillit(*command(tmp_path / 'S'))
    manifest = verify(str(tmp_path / 'S'))
    assert (
        sum(split.documents for skill in manifest.skills.values() for split in skill.splits.values()) == 1800
    )
    index = json.loads((tmp_path / 'S' / 'law' / 'train' / 'index.json').read_text())
    assert len({shard['raw_data']['basename'].split('.')[1] for shard in index['shards']}) == 6
    assert left_in(tmp_path) == ['S', 'corpus']


@pytest.mark.parametrize('workers', [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_make_the_same_streams(tmp_path: Path, command, skillit, workers: int):
    skillit(*command(tmp_path / 'one'))
    skillit(*command(tmp_path / 'several'), '--workers', workers)
    assert digests(tmp_path / 'one') == digests(tmp_path / 'several')


def test_tasks_and_a_last_command_make_the_same_streams(tmp_path: Path, command, skillit):
    skillit(*command(tmp_path / 'one'))
    arguments = command(tmp_path / 'tasks')
    for task, done in (('2/3', 1), ('0/3', 3), ('1/3', 5)):
        assert f'task {task}: {done} of 5 parts are done' in skillit(*arguments, '--task', task)
        assert not (tmp_path / 'tasks').exists()
    skillit(*arguments)
    assert digests(tmp_path / 'one') == digests(tmp_path / 'tasks')


def test_the_last_command_does_what_tasks_have_left(tmp_path: Path, command, skillit, counted):
    skillit(*command(tmp_path / 'one'))
    skillit(*command(tmp_path / 'tasks'), '--task', '1/3')
    counted.clear()
    skillit(*command(tmp_path / 'tasks'))
    assert sorted(counted) == [0, 2, 3]
    assert digests(tmp_path / 'one') == digests(tmp_path / 'tasks')


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the parts that are converted from now on."""
    numbers: list[int] = []
    run = pipeline.run_in_process

    def count(job, parts, report, tokenizer) -> None:
        numbers.extend(part.number for part in parts)
        run(job, parts, report, tokenizer)

    monkeypatch.setattr(pipeline, 'run_in_process', count)
    return numbers


@pytest.mark.parametrize('workers', [1, 2])
def test_a_killed_command_goes_on_with_the_parts_that_are_missing(
    tmp_path: Path, corpus: Path, command, skillit, counted, workers: int
):
    skillit(*command(tmp_path / 'straight'))
    # The last file is a pipe for now: whoever comes to its part waits there until the kill.
    last = corpus / '8.jsonl'
    content = last.read_bytes()
    last.unlink()
    os.mkfifo(last)
    arguments = [*command(tmp_path / 'S'), '--workers', str(workers)]
    process = subprocess.Popen(
        [sys.executable, '-m', 'skillit_stream.cli', *arguments], start_new_session=True
    )
    parts = tmp_path / '.S.skillit-partial' / '.work' / 'parts'
    try:
        wait_until(lambda: len(list(parts.glob('*/part.json'))) == 4, process)
    finally:
        # The command alone: its workers must see by themselves that it is gone.
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    last.unlink()
    last.write_bytes(content)
    wait_until(lambda: not is_locked(parts.parent / '.skillit-lock'))
    wait_until(lambda: not of_session(process.pid))
    counted.clear()
    skillit(*command(tmp_path / 'S'))
    assert counted == [4]
    assert digests(tmp_path / 'S') == digests(tmp_path / 'straight')
    assert left_in(tmp_path) == ['S', 'corpus', 'straight']


def wait_until(
    condition: Callable[[], bool], process: subprocess.Popen | None = None, seconds: float = 90
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, 'ended early'
        assert time.monotonic() < deadline, 'took too long'
        time.sleep(0.05)


def of_session(leader: int) -> list[int]:
    """Processes that a command has left, itself not among them once it has been waited for."""
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        with suppress(OSError):  # it may just have ended
            state, _, _, session = (folder / 'stat').read_text().rpartition(')')[2].split()[:4]
            if int(session) == leader and state not in 'ZX':
                found.append(int(folder.name))
    return found


def is_locked(path: Path) -> bool:
    with path.open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def test_a_part_whose_files_have_changed_is_done_again(
    tmp_path: Path, corpus: Path, command, skillit, counted
):
    for task in ('0/2', '1/2'):
        skillit(*command(tmp_path / 'S'), '--task', task)
    path = corpus / '2.jsonl'
    # As many bytes as before.
    path.write_bytes(path.read_bytes().replace(b'lorem', b'merol'))
    counted.clear()
    skillit(*command(tmp_path / 'S'))
    assert counted == [1]
    skillit(*command(tmp_path / 'fresh'))
    assert digests(tmp_path / 'S') == digests(tmp_path / 'fresh')


def test_work_done_with_other_options_is_not_used(tmp_path: Path, command, skillit, counted):
    skillit(*command(tmp_path / 'S'), '--task', '0/2')
    counted.clear()
    skillit(*command(tmp_path / 'S'), '--seq-len', 16)
    assert counted == [0, 1, 2, 3, 4]
    skillit(*command(tmp_path / 'fresh'), '--seq-len', 16)
    assert digests(tmp_path / 'S') == digests(tmp_path / 'fresh')


def test_a_bad_record_keeps_the_parts_that_are_done(
    tmp_path: Path, corpus: Path, command, skillit, refused, counted
):
    path = corpus / '5.jsonl'
    good = path.read_bytes()
    path.write_bytes(good + b'{"text": \n')
    assert '5.jsonl:201: broken JSON' in refused(*command(tmp_path / 'S'))
    assert left_in(tmp_path) == ['.S.skillit-partial', 'corpus']
    path.write_bytes(good)
    counted.clear()
    skillit(*command(tmp_path / 'S'))
    assert counted == [2, 3, 4]


def test_a_bad_record_in_another_process_is_one_line(tmp_path: Path, corpus: Path, command, refused):
    path = corpus / '5.jsonl'
    path.write_bytes(path.read_bytes() + b'{"text": \n')
    error = refused(*command(tmp_path / 'S'), '--workers', 2)
    assert '5.jsonl:201: broken JSON' in error


def test_two_commands_do_not_work_on_the_same_streams(tmp_path: Path, command, refused, skillit):
    skillit(*command(tmp_path / 'S'), '--task', '0/2')
    work = tmp_path / '.S.skillit-partial' / '.work'
    with (work / '.skillit-lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert 'another command is at work there; wait for it to end' in refused(*command(tmp_path / 'S'))
    skillit(*command(tmp_path / 'S'))


def test_the_work_may_be_done_elsewhere_and_nothing_else_there_is_touched(tmp_path: Path, command, skillit):
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    (elsewhere / 'mine.txt').write_text('kept')
    skillit(*command(tmp_path / 'one'))
    skillit(*command(tmp_path / 'S'), '--work', elsewhere, '--task', '0/2')
    assert left_in(elsewhere) == ['S.skillit-work', 'mine.txt']
    skillit(*command(tmp_path / 'S'), '--work', elsewhere)
    assert left_in(elsewhere) == ['mine.txt']
    assert digests(tmp_path / 'S') == digests(tmp_path / 'one')


def test_bad_records_of_all_parts_are_counted(tmp_path: Path, corpus: Path, command, skillit):
    for file, line in ((1, b'{"text": 7, "kind": "law"}'), (6, b'[1]'), (7, b'{"text": "", "kind": "law"}')):
        path = corpus / f'{file}.jsonl'
        path.write_bytes(path.read_bytes() + line + b'\n')
    skillit(*command(tmp_path / 'S'), '--bad-records', 'skip')
    manifest = verify(str(tmp_path / 'S'))
    assert manifest.skills['law'].dropped['mistyped_text'] == 1
    assert manifest.skills['law'].dropped['empty_text'] == 1
    assert dict(manifest.dropped) == {'not_an_object': 1}


def test_a_full_disk_is_one_line_and_the_work_goes_on_after_it(
    tmp_path: Path, command, refused, skillit, counted
):
    small = tmp_path / 'small'
    small.mkdir()
    if subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=250k', 'tmpfs', small], capture_output=True, check=False
    ).returncode:
        pytest.skip('needs the right to mount a small file system')
    try:
        error = refused(*command(small / 'S'))
        assert 'cannot go on: No space left on device' in error
        subprocess.run(['mount', '-o', 'remount,size=50m', small], check=True)
        counted.clear()
        skillit(*command(small / 'S'))
        assert 0 < len(counted) < 5
        verify(str(small / 'S'))
    finally:
        subprocess.run(['umount', small], check=True)


@pytest.mark.parametrize(
    ('total', 'size'),
    [
        (0, 8),
        (8 << 20, 8),
        (278_000_000, 8),
        (1 << 30, 8),
        ((1 << 30) + 1, 16),
        (10 << 30, 128),
        (1 << 40, 256),
    ],
)
def test_parts_suit_the_corpus(total: int, size: int):
    assert suitable_part_bytes(total) == size << 20


def test_a_small_corpus_in_many_files_keeps_several_processes_at_work():
    files = [
        VirtualFile(f'{number}.jsonl', f'{number}.jsonl', ('c',), 10_000_000, '') for number in range(28)
    ]
    assert len(plan_parts(files, None, {})) == 28
    assert len(plan_parts(files, 256 << 20, {})) == 2


def feed(pipe: Path, content: bytes) -> bool:
    """Write to whoever reads a named pipe; False: nobody does."""
    try:
        end = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    os.set_blocking(end, True)
    with suppress(BrokenPipeError), os.fdopen(end, 'wb') as file:
        file.write(content)
    return True


@pytest.mark.parametrize('workers', [1, 2])
def test_ctrl_c_says_what_is_kept_and_how_to_go_on(
    tmp_path: Path, corpus: Path, command, skillit, counted, workers: int
):
    # Whoever comes to the last file waits until its other end is opened, and after that for its contents.
    last = corpus / '8.jsonl'
    content = last.read_bytes()
    last.unlink()
    os.mkfifo(last)
    process = subprocess.Popen(
        [sys.executable, '-m', 'skillit_stream.cli', *command(tmp_path / 'S'), '--workers', str(workers)],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    parts = tmp_path / '.S.skillit-partial' / '.work' / 'parts'
    try:
        wait_until(lambda: len(list(parts.glob('*/part.json'))) == 4, process)
        os.killpg(process.pid, signal.SIGINT)
        while process.poll() is None and not feed(last, content):
            time.sleep(0.05)
        _, error = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert re.fullmatch(
        r'skillit: stopped; [45] of 5 parts are done and kept; run the same command again to go on\n', error
    )
    last.unlink()
    last.write_bytes(content)
    counted.clear()
    skillit(*command(tmp_path / 'S'))
    assert counted in ([], [4])
