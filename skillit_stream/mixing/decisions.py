"""What decides the mixture of a run: its policy, or one that the run was given, after the branches that it asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any, Protocol

from skillit_stream.base.errors import InputError
from skillit_stream.formats.run_log import BEFORE_TRAINING
from skillit_stream.loader.dataset import SkillStreamingDataset
from skillit_stream.mixing.applying import Applying
from skillit_stream.mixing.last_decision import LastDecision
from skillit_stream.mixing.ranks import from_rank_zero, global_rank, on_rank_zero
from skillit_stream.mixing.round_mixture import RoundMixture
from skillit_stream.mixture import MixturePolicy, RoundObservation
from skillit_stream.mixture.trials import Branch, Found, Losses, ShortRun, Trial

Asked = Sequence[Branch] | Sequence[ShortRun]


class BranchTrainer(Protocol):
    """Trains a few steps from where a run is, as if they had never been trained; all ranks call it alike."""

    def check(self, policy: MixturePolicy) -> None:
        """Refuse a run that cannot have the branches of a policy; raises InputError."""
        ...

    def train(self, branches: Asked) -> list[Losses]:
        """The losses after each branch; raises InputError where one cannot be trained, on all ranks."""
        ...


class Decisions:
    """The policy that decides, what it decided last, and the mixture that is on; every rank has them alike.

    Args:
        policy: That the run begins with.
        dataset: That is trained on.
        applying: Policies that the run is given.
    """

    def __init__(self, policy: MixturePolicy, dataset: SkillStreamingDataset, applying: Applying) -> None:
        self.policy = policy
        self.branches: BranchTrainer | None = None
        self.trial: Found | None = None
        """What the policy's branches have shown after the last round; None where it asked for none."""
        self.last: LastDecision | None = None
        # Of the round under way or, once that has ended, of the next.
        self.mixture: RoundMixture | None = None
        self._dataset, self._applying = dataset, applying

    def learn_before_training(self, losses: Mapping[str, float]) -> Found | None:
        """Have the policy learn what it needs for its first mixture; returns what it has, if it has.

        Args:
            losses: Before training, nats per token by eval skill.
        """
        if not self.policy.needs_short_runs:
            return None
        observation = RoundObservation(BEFORE_TRAINING, dict(losses))
        if found := self._tried(self.policy, observation):
            self.policy.observe(replace(observation, trial=found))
        return found

    def begin(self) -> None:
        """Set the policy's first mixture."""
        self._play(RoundMixture.agreed(self.policy, self._dataset, self.policy.initial))

    def decide(self, observation: RoundObservation) -> None:
        """Set the next mixture: by the policy, or by one that the run is given now."""
        self.trial = None
        if due := self._applying.due(observation):
            taken, policy = due
            try:
                self._play_by(policy, observation)
            except InputError as error:  # of all ranks: there is too little data for this mixture
                self._applying.refuse(error)
            else:
                self.policy = policy
                self._applying.take(taken)
                return
        self._play_by(self.policy, observation)

    def decide_again(self) -> bool:
        """Have the policy's present options decide the round that is about to begin; whether they decide otherwise."""
        last, dataset, policy = self.last, self._dataset, self.policy
        if last is None or dataset.changes or dataset.next_round != last.observation.round + 1:
            return False
        memory = policy.state_dict()
        mixture = RoundMixture.agreed(policy, dataset, lambda: last.again(policy))
        if mixture.is_as(dataset.next_proportions, self.mixture.objective if self.mixture else None):
            policy.load_state_dict(memory)
            return False
        self._play(mixture)
        return True

    def to_plain(self) -> dict[str, Any]:
        """What was decided last, and the mixture, in plain Python; the policy has a state of its own."""
        return {
            'decided': self.last.to_plain() if self.last else None,
            'mixture': self.mixture.to_plain() if self.mixture else None,
        }

    def load(self, plain: Mapping[str, Any]) -> None:
        """Inverse of `to_plain`; states of before the mixture was kept have none."""
        self.last = LastDecision.from_plain(plain.get('decided'))
        self.mixture = RoundMixture.from_plain(plain.get('mixture'))

    def check_branches(self, policy: MixturePolicy) -> None:
        """Refuse a policy that asks for branches where nobody trains them; raises InputError."""
        if not (policy.needs_branches or policy.needs_short_runs):
            return
        if self.branches is None:
            raise InputError(
                f'The policy {policy.describe()["name"]} has branches of the run trained, which a loop or a Trainer of '
                f'your own does not know of: train from a YAML (`skillit train`), or take `skillit fork` or `skillit '
                f'graph learn` on a checkpoint.'
            )
        self.branches.check(policy)

    def _play_by(self, policy: MixturePolicy, observation: RoundObservation) -> None:
        found = self._tried(policy, observation)
        observation = replace(observation, trial=found)
        last = LastDecision.of(policy, observation)
        self._play(RoundMixture.agreed(policy, self._dataset, partial(policy.update, observation)))
        self.last, self.trial = last, found

    def _play(self, mixture: RoundMixture) -> None:
        self._dataset.set_proportions(mixture.proportions)
        self.mixture = mixture

    def _tried(self, policy: MixturePolicy, observation: RoundObservation) -> Found | None:
        """Train the branches that a policy asks for, and return what it has found in them; None: it asks for none.

        Rank 0's policy asks, so that float noise does not split the ranks; all of them train.
        """
        if not (policy.needs_branches or policy.needs_short_runs):
            return None
        began, trial = monotonic(), policy.trial(observation) if global_rank() == 0 else None
        answers: list[Losses] | InputError | None = None
        while True:
            branches, found = _next_of(trial, answers)
            if branches is None:
                return found and {**found, 'seconds': round(from_rank_zero(monotonic() - began), 3)}
            if self.branches is None:
                raise RuntimeError('Internal error: nobody trains branches.')
            try:
                answers = self.branches.train(branches)
            except InputError as error:
                answers = error


def _next_of(
    trial: Trial | None, answers: list[Losses] | InputError | None
) -> tuple[Asked | None, Found | None]:
    """What rank 0's trial asks for next, or what it has found, on every rank.

    Args:
        trial: None: there is none, or this is another rank.
        answers: What it is sent; None: it has not begun.
    """
    said: tuple[Asked | None, Found | None] = (None, None)

    def ask() -> None:
        nonlocal said
        if trial is None:
            return
        try:
            if isinstance(answers, InputError):
                said = trial.throw(answers), None
            else:
                said = (next(trial) if answers is None else trial.send(answers)), None
        except StopIteration as ended:
            said = None, ended.value

    on_rank_zero(ask)
    return from_rank_zero(said)
