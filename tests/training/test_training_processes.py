"""Real processes: `composer -n 2 -m skillit_stream.train` on a CPU, ended, killed and started again."""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from training_runs import drawn_samples, mixture_lines, settings, without_clocks, write_yaml

from skillit_stream.cli import main

COMPOSER = Path(sys.executable).with_name('composer')
MARK = 'SKILLIT_TEST_RUN'
# Rounds of 10 steps; a checkpoint every 4, so that a kill lies between two of them, and rounds between those.
STEPS, ROUNDS = 10, 6
SHARED_MEMORY = Path('/dev/shm')

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(not COMPOSER.exists(), reason='needs the `composer` launcher beside the interpreter'),
    pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason='needs /dev/shm and /proc'),
]


@dataclass
class Launch:
    """One `composer -n 2` and everything that it started."""

    process: subprocess.Popen
    mark: str
    output: Path
    streams: Path
    shared: set[tuple[Path, int]] = field(default_factory=set)
    """(path, inode) of the shared memory that its processes were seen to have."""

    def pids(self) -> list[int]:
        """Its processes, wherever they stand in the process tree."""
        found = []
        for folder in Path('/proc').glob('[0-9]*'):
            with suppress(OSError):  # it may just have ended
                if f'{MARK}={self.mark}'.encode() in (folder / 'environ').read_bytes():
                    found.append(int(folder.name))
        return found

    def note_shared_memory(self) -> None:
        """Remember the shared memory of datasets over its streams.

        Its processes open that of all other jobs on the machine too; Streaming writes into each which
        folders it is for.
        """
        for locals_ in SHARED_MEMORY.glob('*_locals'):
            with suppress(OSError):
                if str(self.streams).encode() in locals_.read_bytes():
                    prefix = locals_.name.removesuffix('locals')
                    self.shared |= {(one, one.stat().st_ino) for one in SHARED_MEMORY.glob(f'{prefix}*')}

    def left_in_shared_memory(self) -> list[Path]:
        """What of it is still there, by inode: another job may have taken the same names since."""
        return [path for path, inode in self.shared if path.exists() and path.stat().st_ino == inode]

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Wait while it runs; it must not end before that."""
        while not happened():
            assert self.process.poll() is None, self.output.read_text()[-3000:]
            time.sleep(0.005)

    def finish(self) -> int:
        """Wait for its end; returns the exit code."""
        return self.process.wait(timeout=200)

    def kill(self) -> None:
        """End all of its processes at once, without a chance to tidy up."""
        for pid in [self.process.pid, *self.pids()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=30)
        while self.pids():
            time.sleep(0.01)


@pytest.fixture
def own_streams(streams: Path, tmp_path: Path) -> Path:
    """A copy of the streams, in a folder that nothing else on the machine reads."""
    return Path(shutil.copytree(streams, tmp_path / 'own'))


@pytest.fixture
def launch(tmp_path: Path, own_streams: Path) -> Iterator[Callable[..., Launch]]:
    """Start `composer -n 2 -m skillit_stream.train`; whatever is left of it goes with the test."""
    launches: list[Launch] = []

    def start(*arguments: object) -> Launch:
        mark = uuid.uuid4().hex
        output = tmp_path / f'output-{len(launches)}.txt'
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', MARK: mark}
        command = [sys.executable, str(COMPOSER), '-n', '2', '-m', 'skillit_stream.train']
        with output.open('w') as file:
            process = subprocess.Popen(
                [*command, *map(str, arguments)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=tmp_path,
                start_new_session=True,
            )
        launches.append(Launch(process, mark, output, own_streams))
        return launches[-1]

    yield start
    for one in launches:
        one.kill()
        for path in one.left_in_shared_memory():
            path.unlink()


@pytest.fixture
def long_yaml(tmp_path: Path, own_streams: Path) -> Callable[[str], Path]:
    """The YAML of a run of 6 rounds in the folder of the given name, with workers."""

    def write(name: str) -> Path:
        keys = settings(own_streams, tmp_path / name)
        keys |= {'max_duration': f'{ROUNDS}ep', 'save_interval': '4ba', 'save_num_checkpoints_to_keep': 2}
        keys['train_loader'] = {'round_size': 4 * STEPS, 'num_workers': 1}
        keys['algorithms']['data_mixing'] |= {'window': 2}
        return write_yaml(tmp_path / f'{name}.yaml', keys)

    return write


def progress(run: Path) -> int:
    """The last step that rank 0 has drawn samples for."""
    file = run / 'samples' / 'samples-rank0.jsonl'
    return file.read_text().count('\n') - 1 if file.exists() else -1


def outcome(run: Path) -> dict[str, Any]:
    """What must not depend on a kill."""
    return {'samples': drawn_samples(run), 'lines': without_clocks(mixture_lines(run))}


def test_a_killed_run_goes_on_as_the_undisturbed_one(
    tmp_path: Path, launch: Callable[..., Launch], long_yaml: Callable[[str], Path]
):
    undisturbed = launch(long_yaml('undisturbed'))
    undisturbed.wait_until(lambda: progress(tmp_path / 'undisturbed') > 0)
    undisturbed.note_shared_memory()
    assert undisturbed.finish() == 0, undisturbed.output.read_text()[-3000:]
    assert undisturbed.pids() == []
    # A dataset to train on and one to evaluate on.
    assert sum(path.name.endswith('_locals') for path, _ in undisturbed.shared) == 2
    assert undisturbed.left_in_shared_memory() == []

    killed = launch(long_yaml('killed'), 'autoresume=true')
    run = tmp_path / 'killed'
    # In the middle of the second round or, on a machine that looks up late, of a later one.
    killed.wait_until(lambda: progress(run) >= STEPS + 4 and progress(run) % STEPS in range(3, 8))
    killed.note_shared_memory()
    killed.kill()
    reached = max(drawn_samples(run))
    assert STEPS < reached < STEPS * ROUNDS - 1
    assert len(mixture_lines(run)) <= ROUNDS

    again = launch(long_yaml('killed'), 'autoresume=true')
    assert again.finish() == 0, again.output.read_text()[-3000:]
    rank = (run / 'samples' / 'samples-rank1.jsonl').read_text().splitlines()
    # It went on, and not from the start.
    assert STEPS * ROUNDS <= len(rank) < STEPS * ROUNDS + 10
    assert outcome(run) == outcome(tmp_path / 'undisturbed')

    # Two ranks share an odd number of eval samples; each counts once, as in one process.
    assert main(['train', str(long_yaml('alone')), 'max_duration=1ba', 'train_loader.num_workers=0']) == 0
    assert mixture_lines(run)[0]['losses'] == pytest.approx(
        mixture_lines(tmp_path / 'alone')[0]['losses'], rel=1e-6
    )

    expected = outcome(run)
    assert list(expected['samples']) == list(range(STEPS * ROUNDS))
    assert all(len(samples) == 4 for samples in expected['samples'].values())
    mixtures = [tuple(line['proportions'].values()) for line in expected['lines'][1:]]
    assert len(set(mixtures)) == ROUNDS
