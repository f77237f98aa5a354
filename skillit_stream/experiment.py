"""`skillit experiment`: methods x seeds, each a run of the normal training entry, then table and report.

An experiment's YAML names a training YAML and, per method, the mixture policy to put into it. Runs are
processes of their own, several at a time; finished ones are kept and not trained again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from skillit_stream.errors import InputError
from skillit_stream.training.config import TrainConfig, dump_config, load_config, load_yaml

FINISHED = 'finished.json'


@dataclass
class MethodConfig:
    """One method of an experiment."""

    data_mixing: dict[str, Any] | None = None
    """Replaces the training YAML's `algorithms.data_mixing`; null: as it stands there."""
    overrides: list[str] = field(default_factory=list)
    """More `key=value` overrides for this method."""


@dataclass
class ExperimentConfig:
    """Methods x seeds."""

    name: str = MISSING
    """Name of the experiment."""
    yaml: str = MISSING
    """The training YAML, relative to the experiment's."""
    out: str = MISSING
    """Folder of the runs and the report."""
    streams: str = MISSING
    """Streams folder."""
    convert: list[str] | None = None
    """Arguments of `skillit convert` that make the streams folder if it is not there."""
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    """Every method is trained once with each."""
    overrides: list[str] = field(default_factory=list)
    """`key=value` overrides for all methods."""
    jobs: int | None = None
    """Runs at a time; null: one a core. Every run computes with one thread."""
    methods: dict[str, MethodConfig] = field(default_factory=dict)
    """Method -> what distinguishes it."""


@dataclass(frozen=True)
class PlannedRun:
    """One method with one seed."""

    name: str
    folder: Path
    config: TrainConfig

    def is_finished(self) -> bool:
        """Whether this very configuration has been trained to its end."""
        resolved, mark = self.folder / 'config.yaml', self.folder / FINISHED
        return mark.exists() and resolved.exists() and resolved.read_text() == dump_config(self.config)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `skillit experiment`."""
    parser.add_argument('yaml', help='an experiment YAML, e.g. yamls/experiments/addition-demo.yaml')
    parser.add_argument(
        'overrides', nargs='*', metavar='key=value', help="e.g. seeds='[1,2,3]' out=elsewhere"
    )


def run(args: argparse.Namespace) -> int:
    """Convert if needed, train what is not trained yet, print the table, write the report."""
    from skillit_stream.report import print_summary, write_report

    experiment = load_yaml(args.yaml, ExperimentConfig, args.overrides)
    if not experiment.methods or not experiment.seeds:
        raise InputError(f'{args.yaml} must name at least one method and one seed.')
    _make_streams(experiment)
    runs = plan_runs(experiment, Path(args.yaml).parent)
    train_all(runs, experiment.jobs or os.cpu_count() or 1)
    folders = [planned.folder for planned in runs]
    print_summary(folders)
    print(f'Report: {write_report(folders, Path(experiment.out) / "report")}')
    return 0


def plan_runs(experiment: ExperimentConfig, home: Path) -> list[PlannedRun]:
    """Every method with every seed, seed by seed."""
    runs = []
    for seed in experiment.seeds:
        for method, settings in experiment.methods.items():
            name = f'{method}-s{seed}'
            folder = Path(experiment.out) / name
            overrides = [
                f'streams={experiment.streams}',
                f'seed={seed}',
                f'method={method}',
                f'run_name={experiment.name}-{name}',
                f'save_folder={folder}',
                'progress_bar=false',
                *experiment.overrides,
                *settings.overrides,
            ]
            config = load_config(home / experiment.yaml, overrides)
            if settings.data_mixing is not None:
                config.algorithms = {**config.algorithms, 'data_mixing': dict(settings.data_mixing)}
            runs.append(PlannedRun(name, folder, config))
    return runs


def train_all(runs: Sequence[PlannedRun], jobs: int) -> None:
    """Train the runs that are not finished, `jobs` at a time, and show how far they are.

    Raises:
        RuntimeError: A run failed; the message names its log.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    waiting = [planned for planned in runs if not planned.is_finished()]
    running: dict[str, subprocess.Popen] = {}
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, disable=not sys.stderr.isatty()) as bars:
            bar = bars.add_task('Training', total=len(runs), completed=len(runs) - len(waiting))
            while waiting or running:
                while waiting and len(running) < jobs:
                    planned = waiting.pop(0)
                    running[planned.name] = _start(planned)
                time.sleep(0.2)
                for name in [name for name, process in running.items() if process.poll() is not None]:
                    _check(name, running.pop(name), runs)
                    bars.advance(bar)
                    if bars.disable:
                        print(
                            f'Trained {name} ({len(runs) - len(waiting) - len(running)} of {len(runs)})',
                            flush=True,
                        )
                bars.update(bar, description=f'Training {", ".join(running)}')
    finally:
        for process in running.values():
            process.terminate()
            process.wait()


def _start(planned: PlannedRun) -> subprocess.Popen:
    planned.folder.mkdir(parents=True, exist_ok=True)
    (planned.folder / FINISHED).unlink(missing_ok=True)
    yaml = planned.folder / 'planned.yaml'
    yaml.write_text(dump_config(planned.config), encoding='utf-8')
    with open(planned.folder / 'log.txt', 'w', encoding='utf-8') as log:
        return subprocess.Popen(
            [sys.executable, '-m', 'skillit_stream.train', str(yaml), 'save_overwrite=true'],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_ONE_THREAD},
        )


_ONE_THREAD: Mapping[str, str] = {
    'OMP_NUM_THREADS': '1',
    'MKL_NUM_THREADS': '1',
    'TOKENIZERS_PARALLELISM': 'false',
}


def _check(name: str, process: subprocess.Popen, runs: Sequence[PlannedRun]) -> None:
    planned = next(planned for planned in runs if planned.name == name)
    if process.returncode:
        log = planned.folder / 'log.txt'
        last = (log.read_text(encoding='utf-8', errors='replace').strip().splitlines() or ['no output'])[-1]
        raise RuntimeError(f'Run {name} failed with exit code {process.returncode} ({log}): {last}')
    # The run wrote its configuration with save_overwrite; what was planned is what is compared next time.
    (planned.folder / 'config.yaml').write_text(dump_config(planned.config), encoding='utf-8')
    (planned.folder / FINISHED).write_text(json.dumps({'exit_code': 0}), encoding='utf-8')


def _make_streams(experiment: ExperimentConfig) -> None:
    if (Path(experiment.streams) / 'skills.json').exists():
        return
    if not experiment.convert:
        raise InputError(f'There are no streams in {experiment.streams}: convert them, or give `convert`.')
    from skillit_stream.cli import main

    if main(['convert', *experiment.convert]):
        raise InputError(f'The streams {experiment.streams} could not be made; see above.')
