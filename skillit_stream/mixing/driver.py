"""MixtureDriver: the mixture of every round from the losses of the last, whatever the trainer."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import from_plain
from skillit_stream.formats.run_log import BEFORE_TRAINING, Evaluation, RoundRecord, RunLog, Trained
from skillit_stream.loader.dataset import SkillStreamingDataset
from skillit_stream.mixing.applying import Applying, builder_for
from skillit_stream.mixing.checks import (
    STATE_VERSION,
    check_batch_size,
    check_policy,
    check_version,
    require_losses,
    warn_of_changed_streams,
    warn_of_late_start,
    warn_of_notes,
    warn_of_passes,
)
from skillit_stream.mixing.decisions import BranchTrainer, Decisions
from skillit_stream.mixing.ranks import on_rank_zero
from skillit_stream.mixing.round_summary import RoundSummary, check_whole, place_after
from skillit_stream.mixing.seen_losses import Figures, plain_figures
from skillit_stream.mixing.stopwatch import Clocks
from skillit_stream.mixture import MixturePolicy, RoundObservation
from skillit_stream.mixture.from_options import PolicyBuilder

Batch = TypeVar('Batch')


class MixtureDriver:
    """Drives a dataset by a policy, and writes down what happens; call it on every rank alike.

    Args:
        dataset: That is trained on.
        policy: Turns observed losses into the next round's proportions. Its train skills must be the dataset's.
        log_path: Where rank 0 writes ``mixture.jsonl``, a line a round; None writes none.
        warn_passes: Warn, once a skill, before a round in which a skill's stream will have been walked more
            often than this. (Up to about 4 passes, repeated data is nearly as good as new: Muennighoff et
            al. 2023, arXiv 2305.16264.)
        begin_anew: Whether a loaded state of another policy is passed over, and this one begins with its first
            mixture at the next round; otherwise it is refused.
        weighs_tokens: Whether the caller weighs losses by :attr:`token_weights`, as some policies ask.
        build: Makes the policies that `skillit apply` gives the run, which are looked for beside the log; None:
            from what the dataset knows.
        admit: Refuses those that need what the trainer does not measure; None: what `policy` does not need.

    Raises:
        InputError: The policy names other skills than the dataset has, or asks for weights that are not given.
    """

    def __init__(
        self,
        dataset: SkillStreamingDataset,
        policy: MixturePolicy,
        log_path: str | Path | None = None,
        *,
        warn_passes: float = 4.0,
        begin_anew: bool = False,
        weighs_tokens: bool = False,
        build: PolicyBuilder | None = None,
        admit: Callable[[MixturePolicy], None] | None = None,
    ) -> None:
        check_policy(policy, dataset, weighs_tokens=weighs_tokens)
        self.dataset = dataset
        self.warn_passes, self.begin_anew = warn_passes, begin_anew
        self.last_record: RoundRecord | None = None
        """What was last written down, or would be with a log: a round, or the evaluation before training."""
        self._log = RunLog(log_path) if log_path is not None else None
        folder = None if log_path is None else Path(log_path).parent
        self._applying = Applying(folder, policy, build or builder_for(dataset), admit)
        self._decisions = Decisions(policy, dataset, self._applying)
        self._started = False
        # What a loaded state holds against the policy; whether that matters is known when training starts.
        self._misfit: InputError | None = None
        self._within: list[Evaluation] = []
        self._just_loaded = False
        self._warned: set[str] = set()
        # Batches of the round under way that were handed out; None where somebody else counts them.
        self._steps: int | None = None
        # The last round that was ended here, and one whose end was still to come when the state was taken.
        self._ended: int | None = None
        self._unended: RoundSummary | None = None

    @property
    def policy(self) -> MixturePolicy:
        """That decides: the run's own, or one that it was given."""
        return self._decisions.policy

    def train_branches_by(self, branches: BranchTrainer | None) -> None:
        """Say who trains the branches that a policy may ask for."""
        self._decisions.branches = branches

    def check_branches(self, policy: MixturePolicy) -> None:
        """Refuse a policy that asks for branches where nobody trains them; raises InputError."""
        self._decisions.check_branches(policy)

    @property
    def started(self) -> bool:
        """Whether the mixture is set: :meth:`start` was called, here or before the state that was loaded."""
        return self._started

    @property
    def round(self) -> int:
        """The round that :meth:`end_round` ends."""
        return self._unended.number if self._unended else self.dataset.round

    @property
    def token_weights(self) -> dict[str, float] | None:
        """Skill -> weight of the losses of its tokens, whose sum is divided by their number; None: all are 1.

        Of the round under way or about to begin: ask after :meth:`start` and each :meth:`end_round`."""
        number = self.dataset.round + (self._ended == self.dataset.round)
        mixture = self._decisions.mixture
        return mixture and mixture.token_weights(self.dataset.skills, number)

    @property
    def applied_from(self) -> int | None:
        """The round from which a policy decides that the run was given (`skillit apply`); None: it has its own."""
        return self._applying.taken.from_round if self._applying.taken else None

    def batches(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """The batches of the next round, or of what is left of one, counted for :meth:`state_dict`.

        None are left where the state that was loaded is of after the last batch: then :meth:`end_round` is next.

        Args:
            loader: Of the dataset, and of its `batch_size`.

        Raises:
            InputError: It is a DataLoader of another batch size.
        """
        check_batch_size(loader, self.dataset)
        if self._unended:
            return
        self._steps = self.dataset.first_batch or 0
        yield from self._counted(loader)
        if self.dataset.first_batch is not None:
            # A loader that keeps a state of its own has ended the round that it was stopped at the end of.
            yield from self._counted(loader)

    def _counted(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        for batch in loader:
            self._steps = (self._steps or 0) + 1
            yield batch

    def start(
        self,
        losses: Mapping[str, float] | None = None,
        *,
        step: int = 0,
        figures: Figures | None = None,
        eval_seconds: float = 0.0,
    ) -> None:
        """Set the first mixture in a fresh run; go on in one whose state was loaded.

        Args:
            losses: Nats per token per eval skill before the first step; needed by a policy that
                ``needs_initial_losses``.
            step: Batches trained so far.
            figures: What else was measured.
            eval_seconds: That the evaluation took.

        Raises:
            InputError: The state was of other skills though the streams have not changed, a loss is missing, or
                the log is broken.
        """
        resumed = self._started
        if self._misfit:
            self._forget()
        elif self._just_loaded and self._decisions.decide_again():
            warn_of_notes(self.policy)
        self._just_loaded = False
        self._decisions.check_branches(self.policy)
        if self._log:
            log, first = self._log, self.round if resumed else BEFORE_TRAINING
            on_rank_zero(lambda: log.start(first))
            self._applying.start(resumed=resumed)
        if not self._started:
            warn_of_late_start(self.dataset)
            before = RoundRecord(
                round=BEFORE_TRAINING,
                step=step,
                losses=dict(losses or {}),
                eval_seconds=eval_seconds,
                **plain_figures(figures),
            )
            before = replace(before, trial=self._decisions.learn_before_training(before.losses))
            self._observe_before_training(before, write=not resumed)
            self._decisions.begin()
            warn_of_notes(self.policy)
            self._started = True
        warn_of_passes(self.dataset, self.warn_passes, self._warned)

    def observe(
        self, losses: Mapping[str, float], *, step: int | None = None, figures: Figures | None = None
    ) -> None:
        """Show the policy an evaluation inside a round; the mixture moves at the round's end.

        Args:
            losses: Nats per token per eval skill.
            step: Batches trained before it; None: it is not written down, for nobody could say where it belongs.
            figures: What else was measured.
        """
        if step is not None:
            self._within.append(Evaluation(step=step, losses=dict(losses), **plain_figures(figures)))
        if all(skill in losses for skill in self.policy.eval_skills):
            self.policy.observe(RoundObservation(round=self.round, eval_losses=dict(losses)))

    def end_round(
        self,
        losses: Mapping[str, float],
        train_losses: Mapping[str, float] | None = None,
        *,
        step: int | None = None,
        figures: Figures | None = None,
        gradients: Mapping[str, Mapping[str, float]] | None = None,
        clocks: Clocks | None = None,
        trained: Trained | None = None,
    ) -> dict[str, float]:
        """Show the policy the losses at the end of a round, set the next mixture, write down what happened.

        Args:
            losses: Nats per token per eval skill.
            train_losses: Nats per token per train skill over the round, for policies that ``need_train_losses``.
            step: Batches trained by now; None: as many as the rounds so far have at the present global batch.
            figures: What else was measured.
            gradients: Products of gradients by skill and skill (:func:`gradient_products`), for policies that
                ``need_gradients``.
            clocks: Seconds of the round.
            trained: How its steps went, for the log.

        Returns:
            Skill -> proportion of the next round.

        Raises:
            InputError: The policy needs a loss that is missing, or batches of the round are left.
        """
        if not self._unended and self._steps is not None:
            check_whole(self.dataset, self._steps)
        dataset, played = self.dataset, self._unended or RoundSummary.of(self.dataset)
        require_losses(
            self.policy,
            losses,
            f"at the end of round {played.number}: evaluate every round (in Composer: eval_interval='1ep')",
        )
        observation = played.observation(losses, train_losses, gradients)
        record = played.record(
            self._decisions.mixture,
            step=sum(played.samples_seen.values()) // dataset.global_batch_size if step is None else step,
            losses=observation.eval_losses,
            train_losses=observation.train_losses,
            within=tuple(self._within),
            trained=trained,
            **plain_figures(figures),
            **asdict(clocks or Clocks()),
        )
        self._within = []
        self._decisions.decide(observation)
        self._ended, self._unended = played.number, None
        self._steps = None if self._steps is None else 0
        record = replace(
            record,
            next_proportions=dataset.next_proportions,
            applied=self._applying.about(self.policy),
            trial=self._decisions.trial,
        )
        self._append(record, [*self._applying.notes(), *warn_of_notes(self.policy)])
        warn_of_passes(self.dataset, self.warn_passes, self._warned)
        return dataset.next_proportions

    def end_within_round(
        self,
        losses: Mapping[str, float],
        *,
        step: int,
        steps: int,
        figures: Figures | None = None,
        clocks: Clocks | None = None,
        trained: Trained | None = None,
    ) -> None:
        """Write down the part of a round that was trained, where training ends inside it.

        The mixture and the policy stay as they are: whoever goes on finishes the round, whose line then takes this
        one's place.

        Args:
            losses: Nats per token per eval skill, at the last step; empty where no evaluation ran.
            step: Batches trained by now.
            steps: Of them, those of the round.
            figures: As :meth:`end_round`'s, and so are `clocks` and `trained`.
        """
        record = RoundSummary.beginning_of(self.dataset, steps).record(
            self._decisions.mixture,
            step=step,
            ended_after=steps,
            losses=dict(losses),
            within=tuple(one for one in self._within if one.step < step),
            trained=trained,
            **plain_figures(figures),
            **asdict(clocks or Clocks()),
        )
        self._append(record, [])

    def state_dict(self, steps: int | None = None) -> dict[str, Any]:
        """Policy, last decision, evaluations inside the round, and the dataset's state, in plain Python.

        It is the same on every rank, and is loaded by any number of ranks and workers.

        Args:
            steps: Batches of the round under way that were trained, counted from its beginning; None: as many as
                :meth:`batches` has handed out. Where it has handed out none, because a trainer iterates its loader
                by itself, the dataset's state is left out, and is to be kept beside this one.
        """
        state = {
            'version': STATE_VERSION,
            'policy': self.policy.state_dict(),
            'within': [one.to_plain() for one in self._within],
            **self._decisions.to_plain(),
            'applied': self._applying.state_dict(),
        }
        # A trainer that iterates by itself counts by itself; before it begins, the dataset knows.
        counted = (one for one in (steps, self._steps, self.dataset.first_batch) if one is not None)
        if (steps := next(counted, None)) is None:
            return state
        was_ended = self._ended == self.dataset.round
        return {**state, **place_after(self.dataset, steps, was_ended=was_ended, unended=self._unended)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the state was taken, with the dataset if its state is in it; call it before :meth:`start`.

        A state of other skills is refused there, unless the dataset has been allowed to go on with changed streams
        or the policy to begin anew: then it does. Where a round is about to begin, and the policy's options are not
        those that decided its mixture, they decide it over again.
        """
        check_version(state)
        try:
            self._decisions.policy = self._applying.restored(state.get('applied'), begin_anew=self.begin_anew)
            self.policy.load_state_dict(state['policy'])
        except InputError as error:
            self._misfit = error
        self._within = [from_plain(Evaluation, one) for one in state.get('within', [])]
        self._decisions.load(state)
        self._started = self._just_loaded = True
        if 'dataset' in state:
            self.dataset.load_state_dict(state['dataset'])
            self._unended = RoundSummary(**state['unended']) if state['unended'] else None
            self._steps = self._ended = None

    def _forget(self) -> None:
        """The policy's memory is of other skills or of another policy: give it none."""
        misfit, self._misfit, self._decisions.last = self._misfit, None, None
        changes = self.dataset.changes
        if {'added', 'removed'} & set(changes.values()):
            warn_of_changed_streams(changes, self.dataset.round)
        elif misfit and not self.begin_anew:
            raise misfit
        self._started = False

    def _observe_before_training(self, record: RoundRecord, *, write: bool) -> None:
        losses = record.losses
        if (losses or record.trial) and write:
            self._append(record, [])
        if self.policy.needs_initial_losses:
            # Only then: shown unasked, they would count in the window of a policy that sums what there is.
            require_losses(
                self.policy, losses, 'before training: call start(losses) (in Composer: trainer.eval() first)'
            )
            self.policy.observe(RoundObservation(round=BEFORE_TRAINING, eval_losses=losses))

    def _append(self, record: RoundRecord, notes: Sequence[str]) -> None:
        self.last_record = replace(record, notes=tuple(notes), decided=dict(self.policy.decided()))
        if self._log:
            on_rank_zero(partial(self._log.append, self.last_record))
