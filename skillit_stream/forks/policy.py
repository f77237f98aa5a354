"""Policy `forks`: inside a run what `skillit fork` does beside one, and it moves where a gain is confirmed, alone."""

from collections.abc import Generator, Mapping, Sequence
from math import ceil
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import nearest, unique_names
from skillit_stream.forks.deciding import Asking, Finding, deciding, losses_of
from skillit_stream.forks.plan import ForkOptions, ForkPlace, ForkPlan
from skillit_stream.forks.verdict import confirmed
from skillit_stream.formats.fork_result import CANNOT_TELL, TAKE
from skillit_stream.mixture.checks import number_within, whole_number
from skillit_stream.mixture.context import required
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation, array
from skillit_stream.mixture.simplex import by_name
from skillit_stream.mixture.trials import Branch, Found, Losses, Trial


class Forks(MixturePolicy):
    """Keeps a mixture, and every so many rounds looks on branches whether another is better.

    The branches, the choice and the verdict are those of a fork (:mod:`skillit_stream.forks`); what is chosen is played
    from the next round on where its pairs have confirmed a gain, and otherwise nothing changes. The first mixture is
    the stratified one or, with `start`, the one before it: then the first branches are trained where it begins.
    """

    name = 'forks'
    needs_branches = True
    remembers: ClassVar = {'mixture': array, 'spent': int}

    def __init__(
        self,
        skills: Sequence[str],
        eval_skills: Sequence[str],
        *,
        sizes: Mapping[str, int] | None = None,
        rounds: int | None = None,
        run_steps: int | None = None,
        round_size: int | None = None,
        round_steps: int | None = None,
        every: int,
        steps: int,
        repeats: int = 3,
        confirm: int = 3,
        min_gain: float = 0.0,
        targets: Sequence[str] | None = None,
        max_passes: float = 4.0,
        max_cost: float = 0.05,
    ) -> None:
        """Check that one set of branches is paid for.

        Args:
            skills: Train skills.
            eval_skills: That are evaluated.
            sizes: Samples in a pass over each train stream.
            rounds: Of the run, from where the policy begins.
            run_steps: Steps of the whole run.
            round_size: Samples of a round.
            round_steps: Steps of a round.
            every: Rounds from one set of branches to the next.
            steps: Of each branch.
            repeats: Branches of the present mixture that the noise is told by.
            confirm: Pairs of the chosen and the present mixture that decide.
            min_gain: Nats per token that a gain must be clearly above.
            targets: Eval skills whose mean loss shall fall; None: all.
            max_passes: No skill is raised beyond so many passes by the end of the run.
            max_cost: Steps of all branches together, as a part of those of the run.

        Raises:
            InputError: One is out of range, or a set of branches costs more than `max_cost`.
        """
        super().__init__(skills)
        if len(self.skills) < 2:
            raise InputError(f'policy {self.name!r} needs two train skills: there is no mixture of one')
        self.every = whole_number('every', every, 1)
        self._options = ForkOptions(
            steps=whole_number('steps', steps, 1),
            repeats=whole_number('repeats', repeats, 2),
            confirm=whole_number('confirm', confirm, 2),
            min_gain=number_within('min_gain', min_gain),
            targets=_targets(targets, eval_skills),
            max_passes=_above_zero('max_passes', max_passes),
        )
        self.max_cost = _above_zero('max_cost', max_cost)
        self._measures = unique_names('eval_skills', eval_skills)
        self._sizes = required(self.name, 'the sizes of the streams', sizes)
        length = ': give max_duration in ep, ba, sp or tok'
        self._rounds = required(self.name, 'the length of the run', rounds, length)
        self._run_steps = required(self.name, 'the length of the run', run_steps, length)
        self._round_steps = round_steps or 1
        self._batch_size = required(self.name, 'the size of a round', round_size) // self._round_steps
        # Not a step less for what a product of floats lacks.
        self.most_steps = int(self.max_cost * self._run_steps + 1e-9)
        """Of all branches together."""
        even = np.full(len(self.skills), 1 / len(self.skills))
        self._mixture, self._spent = even, 0
        self.steps_a_set = self._plan(even, dict.fromkeys(self.skills, 0), 0).count * steps
        """Of the branches of one look, the pairs among them."""
        self._check_cost()

    def initial(self) -> NDArray[np.float64]:
        """Return the stratified mixture, float64 ``[k]``; raises InputError if the run ends before any branch."""
        left = max(0, self._run_steps - self.every * self._round_steps)
        if self.every >= self._rounds or left < self._options.steps:
            raise InputError(
                f'every must be less than the {self._rounds} rounds of the run, but got: {self.every}: the first '
                f'branches would come where {left} steps are left, and take {self._options.steps}; `start` has them '
                f'trained where it begins'
            )
        return self._mixture.copy()

    def begin(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the mixture of before, or the one that the first branches have confirmed, float64 ``[k]``."""
        self._mixture = self._present(observation)
        return self.update(observation)

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the present mixture, or what the branches after the round have confirmed, float64 ``[k]``."""
        self._notes = []
        if found := observation.trial:
            self._spent += int(found['steps'])
            if found['mixture'] is not None:
                self._mixture = np.array([found['mixture'][skill] for skill in self.skills])
            self._notes = [f'forks: {found["verdict"]}: {found["reason"]}; {self._spent_text()}']
        elif self._is_due(observation) and (why := self._why_no_branches(observation)):
            self._notes = [f'forks: no branches after round {observation.round}: {why}']
        return self._mixture.copy()

    def trial(self, observation: RoundObservation) -> Trial | None:
        """Return the branches to train where some are due, and paid for."""
        if not self._is_due(observation) or self._why_no_branches(observation):
            return None
        drawn = dict(observation.samples_seen or {})
        return self._tried(self._plan(self._present(observation), drawn, self._step(observation)))

    def describe(self) -> dict[str, Any]:
        """Return the name and parameters."""
        options = self._options
        return {
            'name': self.name,
            'every': self.every,
            'steps': options.steps,
            'repeats': options.repeats,
            'confirm': options.confirm,
            'min_gain': options.min_gain,
            'targets': list(options.targets) or None,
            'max_passes': options.max_passes,
            'max_cost': self.max_cost,
        }

    def _present(self, observation: RoundObservation) -> NDArray[np.float64]:
        """The mixture of the round that has ended."""
        mixed = observation.proportions
        return self._mixture if mixed is None else np.array([mixed[skill] for skill in self.skills])

    def _is_due(self, observation: RoundObservation) -> bool:
        """Whether branches are to be trained before the coming round; there is none after the last."""
        upcoming = observation.round + 1
        return upcoming % self.every == 0 and upcoming < self._rounds

    def _step(self, observation: RoundObservation) -> int:
        return sum((observation.samples_seen or {}).values()) // self._batch_size

    def _why_no_branches(self, observation: RoundObservation) -> str | None:
        """Why no branches are trained that are due; None: they are."""
        left = self._run_steps - self._step(observation)
        if left < self._options.steps:
            return f'a branch takes {self._options.steps} steps, and {left} are left'
        return None if self._is_paid() else self._spent_text()

    def _is_paid(self) -> bool:
        return self._spent + self.steps_a_set <= self.most_steps

    def _spent_text(self) -> str:
        return f'{self._spent:,} of at most {self.most_steps:,} steps of branches'

    def _plan(self, present: NDArray[np.float64], drawn: Mapping[str, int], step: int) -> ForkPlan:
        place = ForkPlace(
            step=step,
            of_steps=self._run_steps,
            present=by_name(self.skills, present),
            drawn=drawn,
            sizes=self._sizes,
            shuffle_seed=0,
        )
        return ForkPlan(
            options=self._options, place=place, eval_skills=self._measures, lengths=(self._options.steps,)
        )

    def _tried(self, plan: ForkPlan) -> Trial:
        """Train the branches of a plan; one that cannot be trained, or diverges, ends it."""
        trained: list[Branch] = []
        try:
            finding = yield from _found(deciding(plan, self._batch_size), plan, trained)
        except InputError as error:
            return self._said(trained, CANNOT_TELL, str(error))
        kind, choice, gains = finding.verdict.kind, finding.choice, finding.gains
        return {
            **self._said(trained, kind, finding.verdict.reason),
            'mixture': by_name(self.skills, choice.mixture) if kind == TAKE else None,
            'predicted': choice.gain,
            'confirmed': None if gains is None else confirmed(gains).mean,
        }

    def _said(self, trained: Sequence[Branch], kind: str, reason: str) -> Found:
        steps = sum(branch.steps for branch in trained)
        return {
            'verdict': kind,
            'reason': reason,
            'mixture': None,
            'branches': len(trained),
            'steps': steps,
            'steps_so_far': self._spent + steps,
            'most_steps': self.most_steps,
        }

    def _check_cost(self) -> None:
        if not self._is_paid():
            options = self._options
            raise InputError(
                f'max_cost={self.max_cost:g} of {self._run_steps:,} steps is {self.most_steps:,} steps, but one set of '
                f'branches takes {self.steps_a_set:,} ({len(self.skills)} skills, {options.repeats} repeats and '
                f'{options.confirm} pairs of {options.steps} steps each): raise it to '
                f'{ceil(1000 * self.steps_a_set / self._run_steps) / 1000:g}, lower steps, or train longer'
            )


def _found(
    asking: Asking, plan: ForkPlan, trained: list[Branch]
) -> Generator[Sequence[Branch], Sequence[Losses], Finding]:
    """Have branches trained until they say something; raises InputError where a loss is no finite number."""
    try:
        branches = next(asking)
        while True:
            answers = yield branches
            trained += branches
            losses = losses_of(answers, plan.eval_skills)
            for branch, row in zip(branches, losses, strict=True):
                if not np.isfinite(row).all():
                    bad = plan.eval_skills[int(np.argmin(np.isfinite(row)))]
                    raise InputError(
                        f'the loss of {bad!r} is no finite number after the branch {branch.name!r}'
                    )
            branches = asking.send(losses)
    except StopIteration as ended:
        return ended.value


def _targets(targets: Sequence[str] | None, eval_skills: Sequence[str]) -> tuple[str, ...]:
    named = unique_names('targets', targets) if targets is not None else ()
    for target in named:
        if target not in eval_skills:
            raise InputError(
                f'targets names {target!r}, which is not evaluated: {nearest(target, eval_skills)}'
            )
    return named


def _above_zero(what: str, value: object) -> float:
    number = number_within(what, value)
    if not number:
        raise InputError(f'{what} must be above 0, but got: {value!r}')
    return number
