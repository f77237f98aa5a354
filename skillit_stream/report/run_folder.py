"""A run folder (run.json, mixture.jsonl) as one checked object."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.formats.run_log import Evaluation, RecordedRounds, RoundRecord
from skillit_stream.report.mixture_log import read_mixture_log

RUN_VERSION = 1
WHAT_A_RUN_IS = (
    'a run folder holds run.json and mixture.jsonl and is written during training, '
    'by `skillit train YAML` for example'
)


@dataclass(frozen=True, eq=False)
class Graph:
    """A skills graph: weights[i, j] says how much training on skill i helps eval skill j."""

    train_skills: tuple[str, ...]
    eval_skills: tuple[str, ...]
    weights: np.ndarray
    """float64, train skills x eval skills."""

    def same_as(self, other: 'Graph') -> bool:
        """Whether names and weights are equal."""
        names = (self.train_skills, self.eval_skills) == (other.train_skills, other.eval_skills)
        return names and np.array_equal(self.weights, other.weights)


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
    graph: Graph | None
    log: RecordedRounds

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
    name = str(facts.get('name') or path.resolve().name)
    return RecordedRun(
        folder=path,
        name=name,
        method=str(facts.get('method') or name),
        seed=_seed(facts, path / 'run.json'),
        policy=_mapping(facts, 'policy', path / 'run.json'),
        dataset=_mapping(facts, 'dataset', path / 'run.json'),
        graph=_graph(facts.get('graph'), path / 'run.json'),
        log=read_mixture_log(path / 'mixture.jsonl'),
    )


def _remedy(path: Path) -> str:
    inner = sorted(found.parent for found in path.glob('*/run.json'))
    if inner:
        return f'run folders lie inside it: name them, for example {str(inner[0])!r} or {str(path)!r}/*'
    return WHAT_A_RUN_IS


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f'{path} is not JSON ({error}): restore it or leave this run out') from None
    if not isinstance(facts, dict):
        raise InputError(f'{path} must be a JSON object, but got a {type(facts).__name__}: restore it')
    if facts.get('version') != RUN_VERSION:
        raise InputError(
            f'{path}: version {facts.get("version")!r} cannot be read, only {RUN_VERSION}: '
            'use the skillit_stream that wrote the run'
        )
    return facts


def _seed(facts: dict[str, Any], path: Path) -> int:
    seed = facts.get('seed')
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"{path}: 'seed' must be an integer, but got {seed!r}: restore the file")
    return seed


def _mapping(facts: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = facts.get(key) or {}
    if not isinstance(value, dict):
        raise InputError(f'{path}: {key!r} must be a JSON object, but got {value!r}: restore the file')
    return value


def _graph(value: Any, path: Path) -> Graph | None:
    if value is None:
        return None
    try:
        rows, columns = tuple(map(str, value['train_skills'])), tuple(map(str, value['eval_skills']))
        weights = np.array(value['weights'], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        problem = f'{type(error).__name__}: {error}'
        raise InputError(f"{path}: 'graph' cannot be read ({problem}): restore the file") from None
    if weights.shape != (len(rows), len(columns)):
        raise InputError(
            f"{path}: 'graph' has weights of shape {weights.shape} for {len(rows)} train skills and "
            f'{len(columns)} eval skills: restore the file'
        )
    return Graph(rows, columns, weights)
