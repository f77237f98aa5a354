"""A fork from start to verdict: the branches that are missing, the choice, the pairs that are missing."""

from dataclasses import dataclass, replace
from pathlib import Path

from skillit_stream.base.errors import InputError
from skillit_stream.base.tasks import Task
from skillit_stream.forks.branches import Branches
from skillit_stream.forks.deciding import Finding, deciding, losses_of
from skillit_stream.forks.plan import ForkOptions, ForkPlace, ForkPlan, plan_fork, steps_of_run
from skillit_stream.forks.records import BranchRecords
from skillit_stream.forks.start import Origin, Start, remove_unfinished
from skillit_stream.formats.fork_result import BRANCHES, ForkCost
from skillit_stream.graphs.progress import duration, progress, say
from skillit_stream.mixture.trials import Branch
from skillit_stream.report.comparison import percent
from skillit_stream.training.checkpoints import fingerprint
from skillit_stream.training.run_policy import chosen_skills
from skillit_stream.training.streams_folder import load_manifest, written_manifests


@dataclass(frozen=True, kw_only=True)
class Result(Finding):
    """What a fork has found, and where."""

    origin: Origin
    plan: ForkPlan

    @property
    def spread(self) -> float:
        """How many times the branches differ by what the order alone does."""
        return self.measured.spread(self.plan.targets)

    @property
    def cost(self) -> ForkCost:
        """Of all lengths that were tried, and of the pairs."""
        plan, pairs = self.plan, 0 if self.gains is None else 2 * len(self.gains)
        lengths = [steps for steps in plan.lengths if steps <= self.steps]
        each = len(plan.skills) + plan.options.repeats
        return ForkCost(branches=each * len(lengths) + pairs, steps=each * sum(lengths) + pairs * self.steps)


class Fork:
    """The branches of a fork, by one of the tasks that share them.

    Args:
        start: What is forked.
        options: What is asked for.
        out: Gets the records.
        task: This process's share.

    Raises:
        InputError: Run and options do not fit together.
    """

    def __init__(self, start: Start, options: ForkOptions, out: Path, task: Task) -> None:
        config = start.config
        _check(start)
        manifest = load_manifest(config)
        options = replace(options, max_passes=options.max_passes or _passes(start))
        self._start, self._out, self._task = start, out, task
        self._runs = runs = Branches(config, start.checkpoint)
        place = ForkPlace(
            step=runs.step,
            of_steps=steps_of_run(config, manifest.seq_len),
            present=runs.present,
            drawn=runs.drawn,
            sizes=runs.sizes,
            shuffle_seed=runs.shuffle_seed,
        )
        self.plan = plan_fork(options, place, chosen_skills(config, manifest)[1])
        parts = [start.text.encode(), repr(fingerprint(start.checkpoint)).encode(), written_manifests(config)]
        self._records = BranchRecords(out / BRANCHES, b'\0'.join(parts))

    def result(self) -> Result | None:
        """Do this task's share of what is missing; None where others have still to do theirs."""
        self._say_cost()
        asking = deciding(self.plan, self._start.config.global_train_batch_size, say=say)
        try:
            branches = next(asking)
            while self._do(branches):
                losses = losses_of([self._records.done(branch) for branch in branches], self.plan.eval_skills)
                branches = asking.send(losses)
        except StopIteration as ended:
            remove_unfinished(self._out)
            return Result(origin=self._start.origin, plan=self.plan, **vars(ended.value))
        return None

    def _do(self, branches: list[Branch]) -> bool:
        """Train this task's share of the missing ones; whether none of all is missing afterwards."""
        missing = self._records.missing(self._task.share(branches))
        if missing:
            self._train(missing)
        left = self._records.missing(branches)
        if left:
            names = ', '.join(branch.name for branch in left[:4])
            more = f' and {len(left) - 4} more' if len(left) > 4 else ''
            say(f'Not done yet, by other tasks: {names}{more}. When they are, type the command again.')
        return not left

    def _train(self, missing: list[Branch]) -> None:
        steps, seconds = missing[0].steps, self._runs.seconds(missing[0])
        say(
            f'About {duration(len(missing) * (steps * seconds.step + seconds.rest))}: {len(missing)} branches of '
            f'{steps} steps at {1 / seconds.step:.3g} steps/s, and {seconds.rest:.3g} s to load and evaluate each.'
        )
        with progress(len(missing), steps) as shown:
            for branch in missing:
                shown.begin(f'branch {branch.name}')
                self._records.save(branch, self._runs.losses(branch, after_step=shown.step))
                shown.end()

    def _say_cost(self) -> None:
        """What part of the run the branches are."""
        plan, whole = self.plan, self.plan.place.of_steps
        line = f'{plan.count} branches of {plan.lengths[0]} steps'
        if whole is None:
            say(f"{line}; the run's length is not known beforehand.")
            return
        last, pairs = plan.lengths[-1], 2 * plan.options.confirm
        most = (plan.count - pairs) * sum(plan.lengths) + pairs * last
        longer = f'; where they differ too little they get longer, up to {last} steps: {percent(most / whole)} at most'
        say(
            f"{line} are {percent(plan.count * plan.lengths[0] / whole)} of the run's {whole:,} steps"
            f'{longer if len(plan.lengths) > 1 else ""}.'
        )


def _check(start: Start) -> None:
    """Refuse runs whose branches cannot be trained, or not in other orders; raises InputError."""
    config = start.config
    if config.fsdp_config:
        raise InputError(
            '`fsdp_config`: a branch is trained on one device, but the run is sharded over several.'
        )
    if config.train_loader.dataset.get('shuffle') is False:
        raise InputError(
            'The run does not shuffle (train_loader.dataset.shuffle is false): there are no other orders of its '
            'samples to tell noise by.'
        )


def _passes(start: Start) -> float:
    """How often the run may walk a stream, unless told otherwise."""
    loader = start.config.train_loader
    return 1.0 if loader.on_exhausted == 'error' else loader.warn_passes
