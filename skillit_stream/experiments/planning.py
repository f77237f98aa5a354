"""The runs of an experiment: one configuration per method and seed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from skillit_stream.base.errors import InputError
from skillit_stream.experiments.config import ExperimentConfig, MethodConfig
from skillit_stream.formats.run_log import read_rounds
from skillit_stream.mixture import SkillsGraph
from skillit_stream.training.config import TrainConfig, dump_config, load_config

FINISHED = 'finished.json'
# Added to a seed: the seed of an order that no other run of the experiment has.
_OTHER_ORDER = 1_000_000


@dataclass(frozen=True)
class PlannedRun:
    """One method with one seed."""

    name: str
    method: str
    folder: Path
    config: TrainConfig
    losses: str | None = None
    """Name of the losses of samples that must be taken before."""

    def is_finished(self) -> bool:
        """Whether this very configuration has been trained to its end, with the graph that it names as it is now."""
        resolved, mark = self.folder / 'config.yaml', self.folder / FINISHED
        if not (mark.exists() and resolved.exists() and resolved.read_text() == dump_config(self.config)):
            return False
        graph = self.graph_hash()
        return json.loads(mark.read_bytes()).get('graph', graph) == graph

    def graph_hash(self) -> str | None:
        """Hash of the graph; None where the run names no file."""
        named = self.config.data_mixing.get('graph')
        # Written out in the YAML it is part of the configuration, and may be longer than a path can be.
        if not isinstance(named, str) or not Path(named).is_file():
            return None
        return graph_hash(Path(named))


def graph_hash(path: Path) -> str:
    """Hash of a graph's names and weights: what it was learned from moves no mixture."""
    data = path.read_bytes()
    if path.suffix == '.json':
        with suppress(InputError):
            graph = SkillsGraph.load(path)
            if graph.measured:
                plain = SkillsGraph(graph.train_skills, graph.eval_skills, graph.weights)
                # As a graph is saved without: runs that were finished with such a one are kept.
                data = json.dumps(plain.to_dict(), indent=1).encode() + b'\n'
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def plan_runs(
    experiment: ExperimentConfig, home: Path, drawn: Mapping[str, Mapping[str, float]] | None = None
) -> list[PlannedRun]:
    """The runs that can be planned, seed by seed.

    Args:
        experiment: What is wanted.
        home: Folder of its YAML.
        drawn: Method -> the mixture that its runs drew (:func:`mixture_drawn`); methods that are controls
            for one that is missing here are left out.

    Raises:
        InputError: A configuration is not one that can be trained.
    """
    known = drawn or {}
    return [
        _plan(experiment, home, method, seed, known)
        for seed in experiment.seeds
        for method, settings in experiment.methods.items()
        if settings.mixture_of is None or settings.mixture_of in known
    ]


def check_methods(runs: Sequence[PlannedRun], to_be_learned: Path | None = None) -> None:
    """Refuse a method that training would refuse, before others are trained for nothing.

    Args:
        runs: The first of each method that is not finished is looked at.
        to_be_learned: A graph file; methods that name it are passed over while it is not there.

    Raises:
        InputError: The run's times, skills, graph or policy do not fit it or the streams.
    """
    from skillit_stream.training.checked_run import check_run

    firsts: dict[str, PlannedRun] = {}
    for planned in runs:
        if not planned.is_finished():
            firsts.setdefault(planned.method, planned)
    for planned in firsts.values():
        graph = planned.config.data_mixing.get('graph')
        is_missing = to_be_learned is not None and not to_be_learned.exists() and graph == str(to_be_learned)
        # The losses of samples are taken when their run's turn comes.
        if planned.losses is None and not is_missing:
            try:
                check_run(planned.config)
            except InputError as error:
                raise InputError(f'Method {planned.method}: {error}') from error


def _plan(
    experiment: ExperimentConfig,
    home: Path,
    method: str,
    seed: int,
    drawn: Mapping[str, Mapping[str, float]],
) -> PlannedRun:
    settings = experiment.methods[method]
    name = f'{method}-s{seed}'
    overrides = [*overrides_of(experiment, name, method, seed), *settings.overrides]
    if settings.other_order_of is not None:
        settings = experiment.methods[settings.other_order_of]
        overrides += [*settings.overrides, f'train_loader.dataset.shuffle_seed={_OTHER_ORDER + seed}']
    if settings.data_mixing is not None or settings.mixture_of is not None:
        # What stands there is replaced below; its graph may be left open, as `graph: ???`.
        overrides.append('algorithms.data_mixing.graph=null')
    config = load_config(home / experiment.yaml, overrides)
    # The initial model, whose losses these are, is another one for every seed.
    losses = f'{experiment.name}-{name}' if settings.losses_of_samples else None
    mixing = _mixing(settings, losses, drawn)
    if mixing is not None:
        config.algorithms = {**config.algorithms, 'data_mixing': mixing}
    return PlannedRun(name, method, Path(experiment.out) / name, config, losses)


def overrides_of(experiment: ExperimentConfig, name: str, method: str, seed: int) -> list[str]:
    """Overrides of the training YAML for a run of this name, as `key=value`."""
    return [
        f'streams={experiment.streams}',
        f'seed={seed}',
        f'method={method}',
        f'run_name={experiment.name}-{name}',
        f'save_folder={Path(experiment.out) / name}',
        'progress_bar=false',
        *experiment.overrides,
    ]


def _mixing(
    settings: MethodConfig, losses: str | None, drawn: Mapping[str, Mapping[str, float]]
) -> dict | None:
    if settings.mixture_of is not None:
        return {'policy': 'static', 'weights': dict(drawn[settings.mixture_of])}
    if settings.data_mixing is None:
        return None
    return {**settings.data_mixing, **({'losses': losses} if losses else {})}


def mixture_drawn(folders: Sequence[Path]) -> dict[str, float]:
    """The proportion of each skill among all samples that some runs drew, to four decimals."""
    totals: dict[str, float] = {}
    for folder in folders:
        for line in read_rounds(folder / 'mixture.jsonl').records:
            for skill, samples in line.samples.items():
                totals[skill] = totals.get(skill, 0.0) + samples
    # Rounded, so that a run of it is known again whatever the sums' last bits.
    return {skill: round(samples / sum(totals.values()), 4) for skill, samples in totals.items()}
