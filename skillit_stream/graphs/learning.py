"""Learning a graph: the runs that are missing, one after the other, then the graph from all of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from skillit_stream.base.errors import InputError
from skillit_stream.base.tasks import Task
from skillit_stream.graphs.progress import duration, progress, say
from skillit_stream.graphs.records import BEFORE_TRAINING, Record, Records, sign, write_table
from skillit_stream.mixture import SkillsGraph
from skillit_stream.mixture.graph_formulas import (
    MeasuredLosses,
    Mix,
    format_mix,
    graph_of,
    mean_losses,
    needed_mixes,
)
from skillit_stream.training.config import TrainConfig

if TYPE_CHECKING:
    from skillit_stream.graphs.short_runs import ShortRuns

TABLE = 'losses.csv'

Item = tuple[int, Mix]
"""A run: the number of its repeat, and what it is trained on."""


@dataclass(frozen=True)
class Repeat:
    """All runs once, with an order of the samples of their own."""

    shuffle_seed: int
    records: Records


@dataclass(frozen=True)
class Plan:
    """The runs of a graph and where their records are."""

    config: TrainConfig
    method: str
    steps: int
    train_skills: tuple[str, ...]
    eval_skills: tuple[str, ...]
    mixes: list[Mix]
    repeats: list[Repeat]

    @property
    def records(self) -> Records:
        """Of the first repeat, whose folder also has the losses before training, which are those of all."""
        return self.repeats[0].records

    @property
    def items(self) -> list[Item]:
        """All runs, a repeat after the other: one that is stopped early has whole repeats."""
        return [(number, mix) for number in range(len(self.repeats)) for mix in self.mixes]

    def missing(self, items: Iterable[Item]) -> list[Item]:
        """The runs of these that are not done."""
        return [(number, mix) for number, mix in items if self.repeats[number].records.missing([mix])]


def plan_learning(config: TrainConfig, method: str, steps: int, work: Path, *, repeats: int = 1) -> Plan:
    """Decide on the runs; nothing is trained and no model is built.

    Args:
        config: Of a training run.
        method: `approximate` or `brute-force`.
        steps: H, the steps of each run.
        work: Folder for the records of finished runs.
        repeats: How often each run is done, each time with another order of the samples.

    Raises:
        InputError: Configuration, streams, method and steps do not fit together.
    """
    from skillit_stream.training.run_policy import chosen_skills, stream_groups
    from skillit_stream.training.streams_folder import load_manifest, written_manifests

    if steps < 1:
        raise InputError(f'`--steps` must be at least 1, but got: {steps}.')
    if repeats < 1:
        raise InputError(f'`--repeats` must be at least 1, but got: {repeats}.')
    if repeats > 1 and config.train_loader.dataset.get('shuffle') is False:
        raise InputError(
            '`--repeats` repeats with other orders of the samples, but train_loader.dataset.shuffle is false.'
        )
    if config.fsdp_config:
        raise InputError('`fsdp_config`: a short run is trained on one device; pass fsdp_config=null.')
    if config.load_path and '://' not in config.load_path and not Path(config.load_path).exists():
        raise InputError(f'`load_path`: there is no checkpoint at {config.load_path}.')
    streams, eval_skills = chosen_skills(config, load_manifest(config))
    train_skills = list(stream_groups(config, streams))
    mixes = needed_mixes(method, train_skills, eval_skills)
    manifest = written_manifests(config)
    return Plan(
        config,
        method,
        steps,
        tuple(train_skills),
        tuple(eval_skills),
        mixes,
        [_repeat(config, manifest, steps, work, number) for number in range(repeats)],
    )


def _repeat(config: TrainConfig, manifest: bytes, steps: int, work: Path, number: int) -> Repeat:
    """The first repeat has the order of the configuration and the work folder itself, the others a folder in it."""
    first = config.train_loader.dataset.get('shuffle_seed', config.seed)
    seed = (int(first) + number) % 2**32
    loader = config.train_loader
    if number:
        loader = replace(loader, dataset={**loader.dataset, 'shuffle_seed': seed})
        work = work / f'repeat-{number + 1}'
    return Repeat(seed, Records(work, sign(replace(config, train_loader=loader), manifest, steps)))


def do_runs(plan: Plan, task: Task) -> None:
    """Train what is missing of a task's share, one record a run; say before how long it will take."""
    mine = task.share(plan.items)
    missing = plan.missing(mine)
    # Who has no runs to do leaves the evaluation before training to those who have.
    start_missing = plan.records.load(BEFORE_TRAINING) is None and (bool(missing) or task.number == 0)
    share = f' of {len(plan.items)} (task {task.number}/{task.count})' if task.count > 1 else ''
    orders = (
        f' ({len(plan.mixes)} in {len(plan.repeats)} sample orders each)' if len(plan.repeats) > 1 else ''
    )
    say(
        f'{plan.method}: {len(mine)} runs{share}{orders} of {plan.steps} steps, {len(mine) - len(missing)} done before.'
    )
    if not missing and not start_missing:
        return
    from skillit_stream.graphs.short_runs import ShortRuns

    runs = ShortRuns(plan.config)
    weights = runs.weights_hash()
    # Steps are timed first: they warm up what the evaluation, which is timed too, has in common with them.
    step = runs.seconds_per_step(missing[0][1], plan.steps) if missing else 0.0
    evaluation = _evaluate_start(plan, runs, weights)
    if not missing:
        return
    total = len(missing) * (plan.steps * step + evaluation)
    say(
        f'About {duration(total)}: {len(missing)} runs of {plan.steps} steps at {1 / step:.3g} steps/s and an '
        f'evaluation of {evaluation:.3g} s each.'
    )
    with progress(len(missing), plan.steps) as shown:
        for item in missing:
            shown.begin(f'on {_name(item)}')
            plan.repeats[item[0]].records.save(_run(plan, runs, weights, item, shown.step))
            shown.end()


def assemble(plan: Plan) -> tuple[SkillsGraph, MeasuredLosses] | None:
    """The graph and its losses, the mean over repeats, which are also written as a table; None while runs are missing.

    Raises:
        InputError: The runs did not start from the same weights.
    """
    if plan.records.missing([BEFORE_TRAINING]) or plan.missing(plan.items):
        return None
    from skillit_stream.graphs.start import start_of

    start = plan.records.done(BEFORE_TRAINING)
    repeats = [one.records.losses(plan.mixes, start) for one in plan.repeats]
    graph = graph_of(
        plan.method,
        repeats,
        plan.train_skills,
        plan.eval_skills,
        steps=plan.steps,
        start=start_of(plan.config),
    )
    losses = mean_losses(repeats)
    write_table(plan.records.folder / TABLE, losses)
    return graph, losses


def _evaluate_start(plan: Plan, runs: 'ShortRuns', weights: str) -> float:
    """Seconds of an evaluation; that of the starting weights is done if nobody has."""
    kept = plan.records.load(BEFORE_TRAINING)
    if kept is None:
        began = monotonic()
        losses = runs.losses_before()
        seconds = {'training': 0.0, 'evaluation': monotonic() - began}
        kept = Record(
            signature=plan.records.signature,
            trained_on=BEFORE_TRAINING,
            steps=0,
            starting_weights=weights,
            losses=losses,
            seconds=seconds,
        )
        plan.records.save(kept)
    return kept.seconds.get('evaluation', 0.0)


def _run(plan: Plan, runs: 'ShortRuns', weights: str, item: Item, after_step: Callable[[], None]) -> Record:
    number, mix = item
    repeat = plan.repeats[number]
    times = [monotonic()]
    losses = runs.losses_after(
        mix,
        plan.steps,
        shuffle_seed=repeat.shuffle_seed,
        after_step=after_step,
        trained=lambda: times.append(monotonic()),
    )
    times.append(monotonic())
    return Record(
        signature=repeat.records.signature,
        trained_on=mix,
        steps=plan.steps,
        starting_weights=weights,
        losses=losses,
        seconds={'training': times[1] - times[0], 'evaluation': times[2] - times[1]},
    )


def names_of_missing(plan: Plan) -> str:
    """The runs that are not done, in words, the first few of many."""
    names = [] if plan.records.load(BEFORE_TRAINING) else ['the evaluation before training']
    names += [_name(item) for item in plan.missing(plan.items)]
    return ', '.join(names[:4]) + (f' and {len(names) - 4} more' if len(names) > 4 else '')


def _name(item: Item) -> str:
    number, mix = item
    return f'{format_mix(mix)}, repeat {number + 1}' if number else format_mix(mix)
