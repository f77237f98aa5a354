"""examples/torchrun_ddp.py: stopped inside a round, it goes on with another number of ranks and workers."""

import subprocess
import sys
from pathlib import Path

import pytest

from skillit_stream.formats.run_log import read_rounds
from tests.support.example_run import read_batches
from tests.support.jobs import free_port
from tests.support.launching import NEEDS, Launch, Launcher, finish
from tests.support.paths import ROOT, SUPPORT

EXAMPLE = ROOT / 'examples' / 'torchrun_ddp.py'
STEPS_OF_ROUND = 20


def started(
    launcher: Launcher,
    streams: Path,
    folder: Path,
    name: str,
    ranks: int,
    *,
    run: str,
    steps: int,
    workers: int,
) -> Launch:
    """A run of the example that writes its samples to `folder / name`."""
    example = [str(folder / name), str(streams), str(folder / run), '--steps', str(steps)]
    return launcher.ranks(
        EXAMPLE,
        streams,
        ranks,
        overrides=[*example, '--workers', str(workers)],
        script=SUPPORT / 'example_run.py',
    )


@pytest.mark.parametrize('stop', [pytest.param(25, marks=NEEDS)])
def test_the_samples_are_those_of_a_run_that_was_not_stopped(
    launcher: Launcher, streams: Path, tmp_path: Path, stop: int
):
    finish(
        started(launcher, streams, tmp_path, 'all', 1, run='whole', steps=45, workers=0),
        started(launcher, streams, tmp_path, 'first', 2, run='parts', steps=stop, workers=1),
    )
    finish(started(launcher, streams, tmp_path, 'second', 1, run='parts', steps=45, workers=2))
    whole, first, second = (read_batches(tmp_path / name) for name in ('all', 'first', 'second'))
    assert [len(whole), len(first), len(second)] == [45, stop, 45 - stop]
    assert first + second == whole
    records = [read_rounds(tmp_path / name / 'mixture.jsonl').records for name in ('whole', 'parts')]
    assert [len(one) for one in records] == [2, 2]
    for one, other in zip(*records, strict=True):
        assert one.samples == other.samples
        assert one.losses == pytest.approx(other.losses, rel=1e-3)
    assert records[0][0].proportions != records[0][1].proportions


def test_it_is_short():
    assert len(EXAMPLE.read_text(encoding='utf-8').splitlines()) <= 120


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_torchrun_runs_it_as_it_stands(streams: Path, tmp_path: Path):
    printed = []
    for ranks, steps in ((2, 25), (1, 40)):
        torchrun = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', str(ranks)]
        command = [
            *torchrun,
            '--master-port',
            str(free_port()),
            str(EXAMPLE),
            str(streams),
            str(tmp_path / 'run'),
        ]
        done = subprocess.run(
            [*command, '--steps', str(steps), '--workers', str(ranks - 1)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        printed.append([line.split(':')[0] for line in done.stdout.splitlines() if line.startswith('step')])
    assert printed == [['step 20'], ['step 40']]
