"""Runs the ranks of a start as processes, and kills them.

The process that asks imports the packages once and forks every rank: a rank differs from one that a launcher started in
nothing but that it need not import. Each has its own environment (RANK, WORLD_SIZE, ...) and, with several ranks, is
in a process group over gloo at 127.0.0.1.
"""

import json
import os
import pickle
import re
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resume_loaders import LOADERS, Stage

# Seconds after which a start that does nothing more is given up.
PATIENCE = 60.0
# Seconds for the other ranks to end by themselves when one has failed.
GRACE = 2.0


@dataclass(frozen=True)
class Played:
    """What a start drew.

    Attributes:
        batches: Rank -> its batches of sample numbers, in order.
        states: The checkpoint, a file a rank; empty if none was written.
        failure: Why it ended early, in one line; None if it did not.
    """

    batches: list[list[list[int]]]
    states: list[Path]
    failure: str | None

    def steps(self, first: int | None = None) -> list[list[int]]:
        """Sample numbers step by step, and in a step rank by rank; of the `first` steps, or all."""
        longest = max(len(batches) for batches in self.batches)
        return [
            [number for batches in self.batches if step < len(batches) for number in batches[step]]
            for step in range(longest if first is None else first)
        ]


def play(stage: Stage, folder: Path) -> Played:
    """Run all ranks of a start to its end or its death; `folder` is new and takes what they write."""
    folder.mkdir(parents=True)
    port = _free_port()
    ranks = {
        _forked(lambda rank=rank: _run_rank(stage, rank, folder, port), folder / f'log.{rank}'): rank
        for rank in range(stage.ranks)
    }
    failure = _wait({rank: process for process, rank in ranks.items()}, folder)
    return Played(
        batches=[_lines(folder / f'drawn.{rank}') for rank in range(stage.ranks)],
        states=sorted(folder.glob('state.*'), key=lambda path: int(path.suffix[1:])),
        failure=failure,
    )


def run_forked(work: Callable[[], None], log: Path) -> None:
    """Run something in a process of its own, so that its threads do not stay here.

    Raises:
        SystemExit: It failed.
    """
    _, status = os.waitpid(_forked(work, log), 0)
    if status:
        raise SystemExit(log.read_text(encoding='utf-8'))


def _wait(processes: dict[int, int], folder: Path) -> str | None:
    """Wait until all ranks have ended or wait to be killed; returns why if they did not come so far.

    Args:
        processes: Rank -> number of its process.
        folder: Where they write.
    """
    alive = set(processes)
    deadline = time.monotonic() + PATIENCE
    while True:
        alive = {rank for rank in alive if not os.waitpid(processes[rank], os.WNOHANG)[0]}
        failures = sorted(folder.glob('failure.*'))
        if not failures and all((folder / f'waits.{rank}').exists() for rank in alive):
            _kill([processes[rank] for rank in alive])
            return None
        if failures:
            deadline = min(deadline, time.monotonic() + GRACE)
        if (failures and not alive) or time.monotonic() > deadline:
            _kill([processes[rank] for rank in alive])
            return failures[0].read_text(encoding='utf-8') if failures else f'hung for {PATIENCE:.0f} s'
        time.sleep(0.02)


def _kill(processes: Sequence[int]) -> None:
    """SIGKILL ranks and their workers; what tracks their shared memory lives on, as when a job is killed."""
    for process in processes:
        workers = _workers_of(process)
        for one in (process, *workers):
            try:
                os.kill(one, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(process, 0)
        except ChildProcessError:
            continue


def _workers_of(process: int) -> list[int]:
    found = []
    for children in Path(f'/proc/{process}/task').glob('*/children'):
        for child in map(int, children.read_text().split()):
            command = Path(f'/proc/{child}/cmdline')
            if command.exists() and b'resource_tracker' not in command.read_bytes():
                found.append(child)
    return found


def _forked(work: Callable[[], None], log: Path) -> int:
    """The number of a process that does `work`; it does not return there."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run_rank(stage: Stage, rank: int, folder: Path, port: int) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(stage.ranks),
        LOCAL_WORLD_SIZE=str(stage.ranks),
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port),
        OMP_NUM_THREADS='1',
    )
    try:
        from torch import distributed

        if stage.ranks > 1:
            distributed.init_process_group('gloo')
        _draw(stage, rank, folder)
    except Exception as error:
        (folder / f'failure.{rank}').write_text(_in_a_line(error), encoding='utf-8')
        raise


def _in_a_line(error: Exception) -> str:
    """An error's type and message; of one that was caught in a worker, those that it had there."""
    text = str(error)
    if 'Original Traceback' in text:
        named = [line for line in text.splitlines() if re.match(r'\w+: ', line)]
        return ' '.join(named[-1].split())
    return f'{type(error).__name__}: {" ".join(text.split()) or "no message"}'


def _draw(stage: Stage, rank: int, folder: Path) -> None:
    """Draw from `begin` to `end`, a line of numbers a step; checkpoint, mixture and death in between."""
    run = LOADERS[stage.loader](stage, rank)
    if stage.states:
        # A rank that had no counterpart has no state of its own: it begins as a new one.
        mine = [path for path in stage.states if path.suffix == f'.{rank}']
        if mine or not run.one_state_a_rank:
            run.load(pickle.loads((mine or stage.states)[0].read_bytes()))
    if stage.mixture_changes and run.state_has_mixture:
        run.mix(stage.mixtures[stage.begin])
    step = stage.begin
    with open(folder / f'drawn.{rank}', 'w', encoding='utf-8') as drawn:
        while step < stage.end:
            before, is_begun_again = step, False
            for numbers in run.epoch():
                print(json.dumps(numbers), file=drawn, flush=True)
                step += 1
                if step == stage.save_at:
                    (folder / f'state.{rank}').write_bytes(pickle.dumps(run.state()))
                if step == stage.kill_at:
                    (folder / f'waits.{rank}').touch()
                    time.sleep(PATIENCE)
                if step in stage.mixtures:
                    is_begun_again = run.mix(stage.mixtures[step])
                if is_begun_again or (step >= stage.end and not run.ends_with_epoch):
                    break
            if step == before or (run.ends_with_epoch and not is_begun_again):
                break


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def _lines(path: Path) -> list[list[int]]:
    if not path.exists():
        return []
    # A line that was being written at death is none.
    return [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines() if line.endswith(']')]
