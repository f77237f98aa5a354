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
from streaming import Stream, StreamingDataset
from streaming.base.shared import get_shm_prefix
from streaming.base.world import World

from skillit_stream.base.errors import InputError
from skillit_stream.loader.host import shared_memory
from skillit_stream.loader.host.processes import is_running
from tests.support.jobs import fetched_streams
from tests.support.mds import ids_of, mixed_dataset
from tests.support.paths import FIND_HELPERS

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(180)]

SHM = Path('/dev/shm')

_JOB = """
from pathlib import Path
from tests.support.jobs import fetched_streams, loader_of
from tests.support.mds import ids_of, mixed_dataset
from tests.support.paths import FIND_HELPERS
root = Path({root!r})
dataset = mixed_dataset(root, streams=fetched_streams(root, Path({local!r})))
batches = iter(loader_of(dataset, 2, persistent_workers=True))
next(batches)
print(dataset._shm_prefix_int, flush=True)
sys.stdin.readline()
print(len(ids_of(batches)), flush=True)
"""


class Job:
    """A process that has drawn a batch with two workers, and waits."""

    def __init__(self, root: Path, local: Path) -> None:
        self.root, self.local = root, local
        code = FIND_HELPERS + _JOB.format(root=str(root), local=str(local))
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
        return fetched_streams(self.root, self.local)

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
    assert ids_of(dataset) == expected
    assert killed.left() == []

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
        return mixed_dataset(streams_root, streams=fetched_streams(streams_root, tmp_path))

    first = dataset()
    expected = ids_of(first)
    with pytest.raises(InputError, match=r'in use by another dataset of this process: close that one'):
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


def test_a_plain_dataset_in_the_same_folder_is_named_with_the_remedy(streams_root: Path, tmp_path: Path):
    def stream() -> Stream:
        return Stream(remote=str(streams_root / 'a'), local=str(tmp_path / 'a'))

    plain = StreamingDataset(streams=[stream()], batch_size=1)
    with pytest.raises(
        InputError, match=r'in use by another dataset on this .*clean_stale_shared_memory\(\)'
    ):
        mixed_dataset(tmp_path, streams={'a': stream()}, proportions=None)
    del plain
    gc.collect()
    mixed_dataset(tmp_path, streams={'a': stream()}, proportions=None)


def test_of_the_dead_only_our_own_are_cleared(
    streams_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shared_memory, 'gettempdir', lambda: str(tmp_path))
    monkeypatch.setattr(shared_memory, '_SHARED_MEMORY', tmp_path / 'shm')
    # As killed jobs leave them; of the second its resource tracker has removed the memory.
    ours, cleared, plain = (
        shared_memory.FIRST_PREFIX,
        shared_memory.FIRST_PREFIX + 1,
        shared_memory.FIRST_PREFIX - 1,
    )
    files = [Path('shm', f'{ours}_locals'), Path('shm', f'{ours}_shard_states')]
    files += [Path(f'{number:06}_cache_filelock') for number in (ours, cleared, plain)]
    kept = [Path(f'{plain}_cache_filelock'), Path('shm', f'{plain}_locals'), Path('1000000_of_mine')]
    (tmp_path / 'shm').mkdir()
    for file in {*files, *kept}:
        (tmp_path / file).write_bytes(b'')
    shared_memory._clear_dead()
    left = [path for path in tmp_path.rglob('*') if path.is_file()]
    assert sorted(left) == sorted(tmp_path / file for file in kept)


def test_a_process_that_has_ended_is_not_running():
    assert is_running(os.getpid())
    process = subprocess.Popen(['sleep', '60'])
    assert is_running(process.pid)
    process.kill()
    while is_running(process.pid):
        # Ended, and not yet reaped: that is not running.
        time.sleep(0.01)
    process.wait()
    assert not is_running(process.pid)


def test_the_constructor_looks_up_its_prefix_in_its_module():
    assert vars(streaming_dataset)['get_shm_prefix'] is get_shm_prefix
    with shared_memory.own_prefix():
        assert vars(streaming_dataset)['get_shm_prefix'] is shared_memory.claim_prefix
    assert vars(streaming_dataset)['get_shm_prefix'] is get_shm_prefix


def test_ranks_of_a_node_must_name_the_same_folders(monkeypatch: pytest.MonkeyPatch):
    def gather(reports: list, _: Any) -> None:
        reports[:] = [(0, 5, ['/x']), (0, None, ['/y'])]

    monkeypatch.setattr(shared_memory.dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(shared_memory.dist, 'get_world_size', lambda: 2)
    monkeypatch.setattr(shared_memory.dist, 'all_gather_object', gather)
    with pytest.raises(InputError, match=r'^`local` of the streams must be the same .* node 0 one has /x'):
        shared_memory._agree(None, ['/y'], World(1, 2, 1, 1))
