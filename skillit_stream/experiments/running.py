"""Runs as processes of their own, several at a time."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from skillit_stream.base.errors import InputError
from skillit_stream.experiments.machine import ran_on
from skillit_stream.experiments.planning import FINISHED, PlannedRun
from skillit_stream.training.config import dump_config

# What every command says first when it ends with an error, and the exit code of one that was given something wrong.
SAID, REFUSED = 'skillit: ', 2
ONE_THREAD: Mapping[str, str] = {
    'OMP_NUM_THREADS': '1',
    'MKL_NUM_THREADS': '1',
    'TOKENIZERS_PARALLELISM': 'false',
}


def command_of(ranks: int, *arguments: str) -> list[str]:
    """`skillit ARGUMENTS` as a process, or as several of the `composer` launcher.

    Args:
        ranks: Processes.
        arguments: As they would be typed after `skillit`.
    """
    launcher = ['composer', '-n', str(ranks), '-m'] if ranks > 1 else []
    return [sys.executable, '-m', *launcher, 'skillit_stream.cli', *arguments]


def with_us() -> Callable[[], None] | None:
    """For a command's ``preexec_fn``: it ends when this process does, however that ends.

    A run that outlived its experiment would write into the folder in which the same command, typed again, begins it
    anew. None where the system has no way to ask for it.
    """
    if sys.platform != 'linux':
        return None
    prctl, death_signal = ctypes.CDLL(None).prctl, 1  # PR_SET_PDEATHSIG, prctl(2)

    def ask() -> None:
        prctl(death_signal, signal.SIGTERM)

    return ask


def train_all(runs: Sequence[PlannedRun], total: int, *, jobs: int, ranks: int) -> None:
    """Train the runs that are not finished, `jobs` at a time, and show how far they are.

    Args:
        runs: In the order in which they are begun.
        total: Runs of the whole experiment.
        jobs: Runs at a time.
        ranks: Processes of each.

    Raises:
        InputError: A run was refused.
        RuntimeError: A run failed; the message names its log.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    waiting = [planned for planned in runs if not planned.is_finished()]
    running: list[_Job] = []
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    done = len(runs) - len(waiting)
    try:
        with Progress(*columns, disable=not sys.stderr.isatty()) as bars:
            bar = bars.add_task('Training', total=total, completed=done)
            while waiting or running:
                while waiting and len(running) < jobs:
                    running.append(_Job(waiting.pop(0), ranks))
                time.sleep(0.2)
                for job in [job for job in running if job.has_ended()]:
                    running.remove(job)
                    done += 1
                    bars.advance(bar)
                    if bars.disable:
                        print(f'Trained {job.planned.name} ({done} of {total})', flush=True)
                names = ', '.join(job.planned.name for job in running)
                bars.update(bar, description=f'Training {names}')
    finally:
        for job in running:
            job.stop()


class _Job:
    """The commands of a run, one after the other."""

    def __init__(self, planned: PlannedRun, ranks: int) -> None:
        self.planned = planned
        self._ranks = ranks
        self._mark = {'exit_code': 0, 'graph': planned.graph_hash(), 'ran_on': ran_on()}
        folder = planned.folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FINISHED).unlink(missing_ok=True)
        yaml = folder / 'planned.yaml'
        yaml.write_text(dump_config(planned.config), encoding='utf-8')
        self._log = folder / 'log.txt'
        self._log.unlink(missing_ok=True)
        self._waiting = [['train', str(yaml), 'save_overwrite=true']]
        if planned.losses:
            self._waiting.insert(0, ['score', str(yaml), '--name', planned.losses])
        self._process = self._next()

    def _next(self) -> subprocess.Popen:
        with open(self._log, 'a', encoding='utf-8') as log:
            return subprocess.Popen(
                command_of(self._ranks, *self._waiting.pop(0)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **ONE_THREAD},
                # One call of the C library, which waits for no lock that another thread may hold.
                preexec_fn=with_us(),  # noqa: PLW1509
            )

    def has_ended(self) -> bool:
        """Go on with the next command; True after the last.

        Raises:
            InputError: A command refused what it was given.
            RuntimeError: A command failed.
        """
        code = self._process.poll()
        if code is None:
            return False
        if code:
            text = self._log.read_text(encoding='utf-8', errors='replace').strip()
            lines = text.splitlines() or ['no output']
            # What a launcher says of its processes comes after what they said.
            last = next((one for one in reversed(lines) if one.startswith(SAID)), lines[-1])
            if code == REFUSED:
                raise InputError(f'Run {self.planned.name}: {last.removeprefix(SAID)} (its log: {self._log})')
            raise RuntimeError(f'Run {self.planned.name} failed with exit code {code} ({self._log}): {last}')
        if self._waiting:
            self._process = self._next()
            return False
        # The run wrote its configuration with save_overwrite; what was planned is what is compared next time.
        folder, config = self.planned.folder, dump_config(self.planned.config)
        (folder / 'config.yaml').write_text(config, encoding='utf-8')
        scratch = folder / f'{FINISHED}.tmp'
        scratch.write_text(json.dumps(self._mark), encoding='utf-8')
        os.replace(scratch, folder / FINISHED)
        return True

    def stop(self) -> None:
        """End the command that is running."""
        self._process.terminate()
        self._process.wait()
