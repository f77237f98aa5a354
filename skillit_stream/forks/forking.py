"""A fork from start to verdict: the branches that are missing, the choice, the pairs that are missing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.base.tasks import Task
from skillit_stream.forks.branches import Branches
from skillit_stream.forks.choice import Array, Choice, Measured, choose
from skillit_stream.forks.plan import ForkOptions, ForkPlace, ForkPlan, plan_fork, steps_of_run
from skillit_stream.forks.records import Branch, BranchRecords
from skillit_stream.forks.start import Origin, Start, remove_unfinished
from skillit_stream.forks.verdict import Verdict, verdict_of
from skillit_stream.formats.fork_result import BRANCHES, CANNOT_TELL, STAY, ForkCost
from skillit_stream.graphs.progress import duration, progress, say
from skillit_stream.report.comparison import percent
from skillit_stream.training.checkpoints import fingerprint
from skillit_stream.training.run_policy import chosen_skills
from skillit_stream.training.streams_folder import load_manifest, written_manifests

ENOUGH = 10.0
"""The branches must differ by so many times what the order alone does."""
SAME = 1e-5
"""A mixture this near to the present one (total variation) is the present one."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a fork has found. Losses and gains are in nats per token."""

    origin: Origin
    plan: ForkPlan
    steps: int
    """Of the branches in the end."""
    measured: Measured
    choice: Choice | None
    """None where the branches differ too little for one."""
    gains: Array | None
    """Of the pairs, ``[n]``; None where there were none."""
    verdict: Verdict

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
        steps, *longer = self.plan.lengths
        measured = self._measured(steps)
        while measured and longer and (spread := measured.spread(self.plan.targets)) < ENOUGH:
            say(f'After {steps} steps the branches differ by {spread:.1f} times what the order alone does.')
            steps = longer.pop(0)
            measured = self._measured(steps)
        if measured is None:
            return None
        if (spread := measured.spread(self.plan.targets)) >= ENOUGH:
            return self._chosen(steps, measured)
        remedy = 'raise --max-steps' if self._may_be_longer() else 'fork an earlier checkpoint'
        reason = (
            f'the branches differ by {spread:.1f} times what the order alone does after {steps} steps, and must by '
            f'{ENOUGH:g}; {remedy}'
        )
        return self._ended(steps, measured, Verdict(kind=CANNOT_TELL, reason=reason))

    def _may_be_longer(self) -> bool:
        place = self.plan.place
        return place.of_steps is None or place.step + 2 * self.plan.lengths[-1] <= place.of_steps

    def _measured(self, steps: int) -> Measured | None:
        raised, repeats = self.plan.raised(steps), self.plan.repeats(steps)
        if not self._do([*raised, *repeats]):
            return None
        return Measured(present=self.plan.present, repeats=self._losses(repeats), raised=self._losses(raised))

    def _chosen(self, steps: int, measured: Measured) -> Result | None:
        """Choose a mixture, and see whether it helps."""
        plan = self.plan
        highest = plan.highest(self._start.config.global_train_batch_size)
        choice = choose(measured, plan.targets, highest)
        if choice.gain <= 0 or 0.5 * np.abs(choice.mixture - plan.present).sum() < SAME:
            reason = 'no gain above noise (no mixture is predicted to be better than the present one)'
            return self._ended(steps, measured, Verdict(kind=STAY, reason=reason), choice)
        pairs = plan.pairs(steps, choice.mixture)
        if not self._do([branch for pair in pairs for branch in pair]):
            return None
        present, chosen = (self._losses(side)[:, plan.targets] for side in zip(*pairs, strict=True))
        gains = (present - chosen).mean(axis=1)
        return self._ended(steps, measured, verdict_of(gains), choice, gains)

    def _ended(
        self,
        steps: int,
        measured: Measured,
        verdict: Verdict,
        choice: Choice | None = None,
        gains: Array | None = None,
    ) -> Result:
        remove_unfinished(self._out)
        return Result(
            origin=self._start.origin,
            plan=self.plan,
            steps=steps,
            measured=measured,
            choice=choice,
            gains=gains,
            verdict=verdict,
        )

    def _losses(self, branches: Sequence[Branch]) -> Array:
        """Of branches that are done, float64 ``[branches, eval skills]``."""
        return np.array(
            [
                [losses[skill] for skill in self.plan.eval_skills]
                for losses in map(self._records.done, branches)
            ]
        )

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
