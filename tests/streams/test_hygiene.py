"""Shared memory and lock files: of the living nothing is touched, of the dead nothing stays."""

import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import streaming.base.dataset as streaming_dataset
from mds import SIZES, ids_of, mixed_dataset
from streaming import Stream, StreamingDataset
from streaming.base.shared import SharedMemory, get_shm_prefix
from streaming.base.world import World

from skillit_stream.errors import InputError
from skillit_stream.streams import held, hygiene
from skillit_stream.streams.processes import is_running, process_mark

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SHM = Path('/dev/shm')

_JOB = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from mds import SIZES, ids_of, mixed_dataset
from streaming import Stream
from torch.utils.data import DataLoader
root, local = Path({root!r}), Path({local!r})
streams = {{skill: Stream(remote=str(root / skill), local=str(local / skill)) for skill in SIZES}}
dataset = mixed_dataset(root, streams=streams)
loader = DataLoader(dataset, batch_size=4, num_workers=2, persistent_workers=True)
batches = iter(loader)
next(batches)
print(dataset._shm_prefix_int, flush=True)
sys.stdin.readline()
print(len(ids_of(batches)), flush=True)
"""


class Job:
    """A process that has drawn a batch with two workers, and waits."""

    def __init__(self, root: Path, local: Path) -> None:
        self.root, self.local = root, local
        code = _JOB.format(tests=str(Path(__file__).parents[1]), root=str(root), local=str(local))
        self.process = subprocess.Popen(
            [sys.executable, '-c', code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def prefix(self) -> int:
        """Its dataset's, once it has drawn a batch."""
        assert self.process.stdout
        self.number = int(self.process.stdout.readline())
        return self.number

    def left(self) -> list[Path]:
        """Files of its prefix that are still there, and its shared tensors."""
        own = f'{self.number:06}_*'
        return [
            *SHM.glob(own),
            *SHM.glob(f'torch_{self.process.pid}_*'),
            *Path(tempfile.gettempdir()).glob(own),
        ]

    def streams(self) -> dict[str, Stream]:
        """Streams over the same folders."""
        return {
            skill: Stream(remote=str(self.root / skill), local=str(self.local / skill)) for skill in SIZES
        }

    def finish(self) -> str:
        """Let it play its round and end; returns what it printed."""
        return self.process.communicate('go\n')[0]

    def kill_all(self) -> None:
        """End all of its processes, the ones that would clear up after it too."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def jobs(streams_root: Path, tmp_path: Path) -> Iterator[dict[str, Job]]:
    # Slow (about 10 s): three processes import everything anew, at the same time.
    made = {name: Job(streams_root, tmp_path / name) for name in ('killed', 'orphaned', 'ended')}
    yield made
    for job in made.values():
        try:
            os.killpg(job.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_jobs_do_not_meet_and_neither_the_killed_nor_the_ended_leave_anything(
    jobs: dict[str, Job], streams_root: Path
):
    prefixes = {job.prefix() for job in jobs.values()}
    assert len(prefixes) == 3
    expected = ids_of(mixed_dataset(streams_root))
    # Started beside each other, and one more: none has cleared up another that is alive.
    for job in jobs.values():
        assert len(list(SHM.glob(f'{job.number:06}_*'))) >= 5
        with pytest.raises(InputError, match=rf'^The local folder {job.local / "a"} is in use by another .*'):
            mixed_dataset(streams_root, streams=job.streams())

    killed = jobs['killed']
    killed.kill_all()
    assert len(list(SHM.glob(f'{killed.number:06}_*'))) >= 5
    dataset = mixed_dataset(streams_root, streams=killed.streams())
    # The number rests a while, for late clearing up by others.
    assert dataset._shm_prefix_int not in prefixes
    assert ids_of(dataset) == expected
    assert [path.name for path in killed.left()] == [f'{killed.number:06}_skillit_held']

    # Only the main process: its workers hold the folders until they notice.
    orphaned = jobs['orphaned']
    orphaned.process.kill()
    orphaned.process.wait()
    assert ids_of(mixed_dataset(streams_root, streams=orphaned.streams())) == expected

    ended = jobs['ended']
    assert ended.finish().split() == ['44']
    assert ended.process.returncode == 0
    assert ended.left() == []


def test_a_folder_is_free_again_when_its_dataset_is_deleted(streams_root: Path, tmp_path: Path):
    def dataset() -> Any:
        streams = {
            skill: Stream(remote=str(streams_root / skill), local=str(tmp_path / skill)) for skill in SIZES
        }
        return mixed_dataset(streams_root, streams=streams)

    first = dataset()
    expected = ids_of(first)
    with pytest.raises(InputError, match=r'in use by another dataset of this process: give each dataset a'):
        dataset()
    del first
    assert ids_of(dataset()) == expected


def test_local_streams_may_be_read_by_many_datasets(streams_root: Path):
    assert ids_of(mixed_dataset(streams_root)) == ids_of(mixed_dataset(streams_root))


def test_two_streams_in_one_folder_are_refused(streams_root: Path):
    streams = {name: Stream(local=str(streams_root / 'a')) for name in 'xy'}
    with pytest.raises(
        InputError, match=r'^Every stream must have a `local` folder of its own, but two have '
    ):
        mixed_dataset(streams_root, streams=streams, proportions=None)


def test_memory_of_someone_elses_dataset_is_left_alone(streams_root: Path):
    free = mixed_dataset(streams_root)._shm_prefix_int + 1
    while list(SHM.glob(f'{free:06}_*')):
        free += 1
    foreign = SharedMemory(f'{free:06}_barrier', True, 12)
    try:
        made = [mixed_dataset(streams_root)._shm_prefix_int for _ in range(3)]
        assert free not in made
        assert (SHM / f'{free:06}_barrier').exists()
    finally:
        foreign.cleanup()


def test_a_plain_dataset_in_the_same_folder_is_named_with_the_remedy(streams_root: Path, tmp_path: Path):
    def stream() -> Stream:
        return Stream(remote=str(streams_root / 'a'), local=str(tmp_path / 'a'))

    # Earlier tests' datasets are gone, and their numbers with them.
    held.clear_dead()
    plain = StreamingDataset(streams=[stream()], batch_size=1)
    with pytest.raises(
        InputError, match=r'in use by another dataset on this .*clean_stale_shared_memory\(\)'
    ):
        mixed_dataset(tmp_path, streams={'a': stream()}, proportions=None)
    del plain
    gc.collect()
    mixed_dataset(tmp_path, streams={'a': stream()}, proportions=None)


def test_a_plain_dataset_under_the_number_of_a_dead_job_is_left_alone(
    streams_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(held, 'gettempdir', lambda: str(tmp_path))
    plain = StreamingDataset(local=str(streams_root / 'a'), batch_size=1)
    prefix = plain._shm_prefix_int
    # The job that had the number before has died, and its tracker has cleared up all but this.
    file = tmp_path / f'{prefix:06}_skillit_held'
    file.write_text('{"process": "1 1", "token": "0123456789abcdef"}')
    lock = tmp_path / f'{prefix:06}_cache_filelock'
    lock.write_text('')
    assert mixed_dataset(streams_root)._shm_prefix_int != prefix
    assert (SHM / f'{prefix:06}_locals').exists()
    assert lock.exists()
    assert not file.exists()


def test_prefixes_do_not_climb_with_the_lock_files_of_the_dead(
    streams_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(held, 'gettempdir', lambda: str(tmp_path))
    # As a job leaves them that was killed long ago.
    prefix = 0
    while held.memory_names(prefix):
        prefix += 1
    for name in ('skillit_held', 'barrier_filelock', 'cache_filelock'):
        (tmp_path / f'{prefix:06}_{name}').write_text('{"process": "1 1"}')
    dataset = mixed_dataset(streams_root)
    assert dataset._shm_prefix_int == prefix
    assert not (tmp_path / f'{prefix:06}_cache_filelock').exists()


def test_a_prefix_that_was_cleared_rests_before_it_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(held, 'gettempdir', lambda: str(tmp_path))
    path = tmp_path / '000000_skillit_held'
    path.write_text('')
    assert held.is_resting(path)
    long_ago = time.time() - 61
    os.utime(path, (long_ago, long_ago))
    assert not held.is_resting(path)


def test_a_mark_tells_a_process_from_later_ones_of_its_number():
    assert is_running(process_mark())
    assert not is_running(f'{os.getpid()} 1')
    assert not is_running('')
    process = subprocess.Popen(['sleep', '60'])
    mark = process_mark(process.pid)
    assert is_running(mark)
    process.kill()
    while is_running(mark):
        # Ended, and not yet reaped: that is not running.
        time.sleep(0.01)
    process.wait()


def test_the_constructor_looks_up_its_prefix_in_its_module():
    assert vars(streaming_dataset)['get_shm_prefix'] is get_shm_prefix
    with hygiene.own_prefix():
        assert vars(streaming_dataset)['get_shm_prefix'] is hygiene.claim_prefix
    assert vars(streaming_dataset)['get_shm_prefix'] is get_shm_prefix


def test_ranks_of_a_node_must_name_the_same_folders(monkeypatch: pytest.MonkeyPatch):
    def gather(reports: list, _: Any) -> None:
        reports[:] = [(0, 5, ['/x']), (0, None, ['/y'])]

    monkeypatch.setattr(hygiene.dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(hygiene.dist, 'get_world_size', lambda: 2)
    monkeypatch.setattr(hygiene.dist, 'all_gather_object', gather)
    with pytest.raises(InputError, match=r'^`local` of the streams must be the same .* node 0 one has /x'):
        hygiene._agree(None, ['/y'], World(1, 2, 1, 1))
