"""A run folder (run.json, mixture.jsonl) as one checked object."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import from_plain, read_json
from skillit_stream.formats.run_log import Evaluation, RecordedRounds, RoundRecord, read_rounds
from skillit_stream.mixture import SkillsGraph

RUN_VERSION = 1
WHAT_A_RUN_IS = (
    'a run folder holds run.json and mixture.jsonl and is written during training, '
    'by `skillit train YAML` for example'
)


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What run.json says."""

    seed: int
    name: str | None = None
    method: str | None = None
    policy: dict[str, Any] | None = None
    dataset: dict[str, Any] | None = None
    graph: dict[str, Any] | None = None
    rounds: int | None = None


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """One training run, as its folder describes it."""

    folder: Path
    name: str
    method: str
    """Runs of one method differ in their seed alone."""
    seed: int
    policy: dict[str, Any]
    dataset: dict[str, Any]
    graph: SkillsGraph | None
    log: RecordedRounds
    planned_rounds: int | None = None
    """Rounds that the run is to finish; None where the run folder does not say."""

    @property
    def is_finished(self) -> bool | None:
        """Whether all its rounds have ended; None where nobody says how many there are to be."""
        if self.planned_rounds is None:
            return None
        return self.rounds[-1].round + 1 >= self.planned_rounds

    @cached_property
    def rounds(self) -> tuple[RoundRecord, ...]:
        """Finished rounds, in order; never empty."""
        return tuple(record for record in self.log.records if record.round >= 0)

    @cached_property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """In order, those before training and inside of rounds included."""
        found = (one for record in self.log.records for one in record.evaluations)
        return tuple(one for one in found if one.losses)

    @property
    def final_losses(self) -> dict[str, float]:
        """Nats per token per eval skill at the last evaluation; empty where none ran."""
        return self.evaluations[-1].losses if self.evaluations else {}

    @property
    def final_figures(self) -> dict[str, dict[str, float]]:
        """What else the last evaluation measured: figure -> eval skill -> value."""
        return self.evaluations[-1].figures if self.evaluations else {}

    @property
    def final_accuracy(self) -> float | None:
        """Share of answer tokens predicted at the last evaluation, mean over the skills; None if not measured."""
        accuracy = self.final_figures.get('accuracy')
        return float(np.mean(list(accuracy.values()))) if accuracy else None

    @property
    def final_step(self) -> int | None:
        """Step of the last evaluation."""
        return self.evaluations[-1].step if self.evaluations else None

    @cached_property
    def train_skills(self) -> tuple[str, ...]:
        """Skills of the mixture, in the order of first appearance."""
        return tuple(dict.fromkeys(skill for record in self.rounds for skill in record.proportions))

    @property
    def samples(self) -> int:
        """Samples drawn over all rounds and skills."""
        return int(sum(sum(record.samples.values()) for record in self.rounds))

    @property
    def edges(self) -> np.ndarray:
        """Steps at which rounds begin and end: float64 of length rounds + 1."""
        first = self.rounds[0]
        # A log that begins late (a run resumed elsewhere): take its rounds as equally long.
        start = first.step * first.round / (first.round + 1)
        return np.array([start, *(record.step for record in self.rounds)], dtype=np.float64)

    def proportions(self) -> np.ndarray:
        """Asked-for proportions: float64, rounds x train skills."""
        rows = [[record.proportions.get(skill, 0.0) for skill in self.train_skills] for record in self.rounds]
        return np.array(rows, dtype=np.float64)

    def largest_miss(self) -> tuple[float, str, int] | None:
        """Largest |realised - asked| over rounds: (difference, skill, round); None if not logged."""
        misses = [
            (abs(record.realised.get(skill, 0.0) - asked), skill, record.round)
            for record in self.rounds
            if record.realised
            for skill, asked in record.proportions.items()
        ]
        return max(misses, key=lambda miss: miss[0], default=None)


def read_runs(folders: Sequence[str | Path]) -> list[RecordedRun]:
    """Read run folders, in the order given.

    Raises:
        InputError: No folder, a folder given twice, or one that is no run folder.
    """
    if isinstance(folders, (str, Path)):
        folders = [folders]
    if not folders:
        raise InputError(f'no run folder given: name at least one; {WHAT_A_RUN_IS}')
    paths = [Path(folder) for folder in folders]
    resolved = [path.resolve() for path in paths]
    for index, path in enumerate(resolved):
        if path in resolved[:index]:
            raise InputError(f'run folder {str(paths[index])!r} is given twice: name each run once')
    return [read_run(path) for path in paths]


def read_run(folder: str | Path) -> RecordedRun:
    """Read one run folder.

    Raises:
        InputError: The folder does not exist, lacks a file, or a file cannot be read.
    """
    path = Path(folder)
    if not path.is_dir():
        problem = 'is a file' if path.exists() else 'does not exist'
        raise InputError(
            f'run folder {str(path)!r} {problem}: give a folder that training wrote; {WHAT_A_RUN_IS}'
        )
    for name in ('run.json', 'mixture.jsonl'):
        if not (path / name).is_file():
            raise InputError(f'{str(path)!r} has no {name}: {_remedy(path)}')
    facts = _read_facts(path / 'run.json')
    name = facts.name or path.resolve().name
    where = f"{path / 'run.json'}: 'graph'"
    return RecordedRun(
        folder=path,
        name=name,
        method=facts.method or name,
        seed=facts.seed,
        policy=facts.policy or {},
        dataset=facts.dataset or {},
        graph=SkillsGraph.from_dict(facts.graph, where=where) if facts.graph else None,
        log=_read_log(path / 'mixture.jsonl'),
        planned_rounds=facts.rounds,
    )


def _remedy(path: Path) -> str:
    inner = sorted(found.parent for found in path.glob('*/run.json'))
    if inner:
        return f'run folders lie inside it: name them, for example {str(inner[0])!r} or {str(path)!r}/*'
    return WHAT_A_RUN_IS


def _read_facts(path: Path) -> _Facts:
    facts = read_json(path)
    if isinstance(facts, dict) and facts.get('version') != RUN_VERSION:
        raise InputError(
            f'{path}: version {facts.get("version")!r} cannot be read, only {RUN_VERSION}: '
            'use the skillit_stream that wrote the run'
        )
    try:
        return from_plain(_Facts, facts)
    except ValueError as error:
        raise InputError(f'{path}: {error}; restore the file, or leave this run out') from None


def _read_log(path: Path) -> RecordedRounds:
    """The rounds of a run, of which at least one has ended."""
    log = read_rounds(path)
    if not log.records and not log.half_written:
        raise InputError(f'{path} is empty: no round has ended yet; train on, or leave this run out')
    if not log.rounds:
        raise InputError(f'{path} holds no finished round: train on, or leave this run out')
    return log
