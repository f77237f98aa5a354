"""DataMixing: a Composer algorithm that sets the mixture of every round from the losses of the last.

At the end of a round (an epoch) Composer runs the evaluators and then ``EPOCH_CHECKPOINT``. There, before
the checkpoint is written, the policy is shown the round's losses and its answer becomes the mixture of
the next round, so that the checkpoint already holds it.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from composer.core import Algorithm, Event, State
from composer.loggers import Logger

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import from_plain
from skillit_stream.formats.applied import Taken
from skillit_stream.mixing.applying import left_behind, policy_from
from skillit_stream.mixing.checks import check_named, check_version
from skillit_stream.mixing.decisions import BranchTrainer
from skillit_stream.mixing.driver import MixtureDriver
from skillit_stream.mixing.seen_losses import SeenLosses
from skillit_stream.mixing.stopwatch import RoundWatches
from skillit_stream.mixing.trained_steps import TrainedSteps
from skillit_stream.mixture import MixturePolicy
from skillit_stream.mixture.from_options import PolicyBuilder
from skillit_stream.training.evaluation import evaluated_skills, evaluates_at_end, one_pass_metric
from skillit_stream.training.skill_gradients import gradients_for
from skillit_stream.training.skill_losses import TrainLosses, model_by_skill, weigh_skills
from skillit_stream.training.skill_metrics import LOSSES, as_logged, mixture_metrics
from skillit_stream.training.whole_rounds import check_only_one, check_whole_rounds, dataset_of


class DataMixing(Algorithm):
    """Has a :class:`MixtureDriver` drive the Trainer's :class:`SkillStreamingDataset`.

    Args:
        policy: Turns observed losses into the next round's proportions, e.g. ``SkillIt(graph)``. Its train
            skills must be the dataset's, its eval skills must each be evaluated: all together by an Evaluator
            with a ``MeanSkillLoss``, or each by an Evaluator of that label. Or a function that makes the policy
            when the Trainer has been given its loader and evaluators.
        metric: Name of the metric of a skill's own Evaluator that is its loss, in nats per token.
        warn_passes: As :class:`MixtureDriver`'s, and so is `log_path`.
        log_path: Where ``mixture.jsonl`` is written.
        begin_anew: As :class:`MixtureDriver`'s.
        document_end: As the evaluators', for policies that ask for gradients.
        build: As :class:`MixtureDriver`'s.

    Raises:
        InputError: At the start of the fit, when names do not match, one line that says which.
    """

    def __init__(
        self,
        policy: MixturePolicy | Callable[[State], MixturePolicy],
        *,
        metric: str = 'LanguageCrossEntropy',
        warn_passes: float = 4.0,
        log_path: str | Path | None = None,
        begin_anew: bool = False,
        document_end: int | None = None,
        build: PolicyBuilder | None = None,
    ) -> None:
        self.policy = policy
        self._build = build
        self.document_end = document_end
        self.metric = metric
        self.warn_passes = warn_passes
        self.log_path = log_path
        self.begin_anew = begin_anew
        self.branches: BranchTrainer | None = None  # that a policy may ask for
        self._driver: MixtureDriver | None = None
        # Loaded before the streams are known.
        self._loaded: dict[str, Any] | None = None
        self._seen = SeenLosses()
        self._train_losses: TrainLosses | None = None
        self._ended = self._weighs = False
        # Steps by the end of the last fit, or that were loaded.
        self._reached = 0
        self._trained, self._learning_rate = TrainedSteps(), 0.0
        self._watches = RoundWatches()

    def __repr__(self) -> str:
        """Without addresses: checkpoints hold it."""
        policy = getattr(self.policy, 'name', 'made at the start')
        return f'DataMixing(policy={policy!r}, metric={self.metric!r}, warn_passes={self.warn_passes!r})'

    @property
    def driver(self) -> MixtureDriver:
        """What drives the mixture; there is one from the start of the fit on."""
        if self._driver is None:
            raise RuntimeError('Internal error: the fit has not started.')
        return self._driver

    def match(self, event: Event, state: State) -> bool:
        """Run where losses are seen, rounds begin and end, and where waiting for data is timed."""
        del state
        return event in _HANDLERS

    def apply(self, event: Event, state: State, logger: Logger) -> None:
        """Dispatch to the event's handler."""
        getattr(self, _HANDLERS[event])(state, logger)

    def state_dict(self) -> dict[str, Any]:
        """The driver's state and the losses seen since the last update, in plain Python; `repr` as Composer's have."""
        about = {'repr': repr(self)}
        if self._driver is None:
            return {**self._loaded, **self._seen.state_dict(), **about} if self._loaded else about
        train = self._train_losses.state_dict() if self._train_losses else {}
        trained = self._trained.state_dict()
        return {
            **about,
            **self._driver.state_dict(),
            **self._seen.state_dict(),
            'train_losses': train,
            'trained': trained,
        }

    def load_state_dict(self, state: dict[str, Any], strict: bool = False) -> None:
        """Resume where the state was taken; see :meth:`MixtureDriver.load_state_dict`."""
        del strict
        if not state.keys() - {'repr'}:
            return
        check_version(state)
        self._seen.load_state_dict(state)
        if 'trained' in state:  # not in one of before it was kept
            self._trained.load_state_dict(state['trained'])
        self._loaded = state
        if (applied := state.get('applied')) and self._build and not self.begin_anew:
            # The state is of the policy that the run was given; the configuration names the one it began with.
            with suppress(InputError):  # the driver says why, where that matters
                self.policy, _ = policy_from(self._build, from_plain(Taken, applied))
        if self._driver is not None:
            self._go_on()

    def misfit(self) -> InputError | None:
        """Why what was loaded is no memory of the policy; None where it is, or where nothing was loaded."""
        if self._loaded is None or not isinstance(self.policy, MixturePolicy):
            return None
        if self.applied_from is not None and self.begin_anew:
            return left_behind(self.applied_from)
        try:
            # Loaded once more when the fit starts.
            self.policy.load_state_dict(self._loaded['policy'])
        except InputError as error:
            return error
        return None

    @property
    def remembers(self) -> bool:
        """Whether there is a memory to go on with."""
        return self._loaded is not None and self.misfit() is None

    @property
    def applied_from(self) -> int | None:
        """The round from which the policy of the loaded state decides, where the run was given it; None: its own."""
        return ((self._loaded or {}).get('applied') or {}).get('from_round')

    @property
    def decides_again(self) -> bool:
        """Whether what was loaded lets the policy decide the last round over again, should its options be others."""
        return bool(self._loaded and self._loaded.get('decided'))

    def _make_policy(self, state: State, logger: Logger) -> None:
        """Have the policy made that was given as a function, before a checkpoint is loaded into the dataset."""
        del logger
        if not isinstance(self.policy, MixturePolicy):
            self.policy = self.policy(state)
            if orders := self.policy.sample_orders():
                dataset_of(state).set_sample_orders(orders)

    def _note_loaded(self, state: State, logger: Logger) -> None:  # noqa: ARG002
        self._reached = int(state.timestamp.batch)

    def _go_on(self, state: State | None = None) -> None:
        """Give what was loaded to those that it is of."""
        loaded, self._loaded = self._loaded, None
        if loaded:
            self.driver.load_state_dict(loaded)
            if state:
                self._count_train_losses(state)
            if self._train_losses:
                self._train_losses.load_state_dict(loaded['train_losses'])

    def _start(self, state: State, logger: Logger) -> None:
        """Check the names and, in a fresh run, set the first mixture."""
        self._ended = False
        if int(state.timestamp.batch) < self._reached:
            raise InputError(
                f'`reset_time`: the rounds of the mixture cannot go on where steps are counted from 0 again, after '
                f'{self._reached}: pass fit(duration=...) to train on, or begin another run with a new Trainer.'
            )
        check_only_one(state.algorithms, DataMixing)
        dataset = dataset_of(state)
        check_whole_rounds(state, dataset)
        if self._driver is None or self._driver.dataset is not dataset:
            if not isinstance(self.policy, MixturePolicy):
                raise RuntimeError('Internal error: no policy was made.')
            self._driver = MixtureDriver(
                dataset,
                self.policy,
                self.log_path,
                warn_passes=self.warn_passes,
                begin_anew=self.begin_anew,
                weighs_tokens=True,
                build=self._build,
                admit=partial(self._admit, state),
            )
            self._driver.train_branches_by(self.branches)
            self._count_train_losses(state)
            self._go_on(state)
        check_named(self.driver.policy.eval_skills, self._evaluated(state), 'evaluator')
        # The dataset keeps its place by itself. In a second fit() Composer would spin it through a round
        # per past epoch, and go on in the middle of a round from the start of the next.
        state.dataset_resumption['train'] = True
        dataset.load_state_dict(dataset.state_dict(int(state.timestamp.sample_in_epoch), True))
        batch = int(state.timestamp.batch)
        losses = self._seen.at(batch)
        self.driver.start(
            losses,
            step=batch,
            figures=self._seen.figures_of(losses),
            eval_seconds=round(self._watches.evaluation.seconds, 3),
        )
        self._weigh_tokens(state)
        logger.log_metrics(mixture_metrics(self.driver.dataset))
        if not self._watches.whole.runs:
            # Resumed within a round, which has begun in another process: what of it is trained here.
            self._watches.whole.start()

    def _evaluated(self, state: State) -> list[str]:
        return [
            self._skill_of(skill)
            for one in state.evaluators
            for skill in evaluated_skills(one, state.eval_metrics[one.label])
        ]

    def _count_train_losses(self, state: State) -> None:
        """Have the model keep the skills' losses apart while the policy that decides asks for them."""
        self.policy = self.driver.policy
        if self.policy.needs_train_losses and self._train_losses is None:
            check_named(self.policy.eval_skills, self._evaluated(state), 'evaluator')
            self._train_losses = TrainLosses(state.model, self.driver.dataset.skills, self.policy.name)
        elif self._train_losses and not self.policy.needs_train_losses:
            self._train_losses.end()
            self._train_losses = None

    def _weigh_tokens(self, state: State) -> None:
        """Have the model weigh the losses of the round to come, or of what is left of one."""
        # A policy that was applied may weigh no more.
        if self.driver.policy.weighs_tokens or self._weighs:
            weigh_skills(state.model, self.driver.token_weights)
            self._weighs = True

    def _admit(self, state: State, policy: MixturePolicy) -> None:
        """Refuse a policy that needs losses which are not measured; raises InputError."""
        check_named(policy.eval_skills, self._evaluated(state), 'evaluator')
        self.driver.check_branches(policy)
        if policy.needs_train_losses or policy.weighs_tokens:
            model_by_skill(state.model, f'The policy {policy.name} needs training losses by skill')

    def _add_step(self, state: State, logger: Logger) -> None:
        del logger
        if self._train_losses:
            self._train_losses.add_step()
        loss, before = state.total_loss_dict.get('loss/train/total'), state.previous_timestamp
        if loss is not None and before is not None:
            tokens = int(state.timestamp.token) - int(before.token)
            self._trained.add(float(loss), self._learning_rate, tokens)

    def _see_losses(self, state: State, logger: Logger) -> None:
        """Note the losses of the evaluator that has just run."""
        self._watches.evaluation.stop()
        label = state.dataloader_label or ''
        metrics, own = state.eval_metrics[label], self._skill_of(label)
        losses, figures = {}, None
        if one_pass := one_pass_metric(metrics):
            figures = one_pass.by_skill()
            logger.log_metrics(as_logged(figures))
            losses = figures.pop(LOSSES)
        elif not self._is_skill(own, state):
            return
        elif self.metric in metrics:
            losses = {own: float(metrics[self.metric].compute())}
        elif self._driver and own in self._driver.policy.eval_skills:
            raise InputError(
                f'Evaluator {label} has no metric {self.metric!r} (it has: {", ".join(metrics) or "none"}): add it, '
                f'or name the metric that is the loss: DataMixing(..., metric=...).'
            )
        self._seen.note(int(state.timestamp.batch), losses, figures)

    def _is_skill(self, name: str, state: State) -> bool:
        """Whether the evaluator that has just run is of a skill, and no benchmark beside them."""
        wanted = self.policy.eval_skills if isinstance(self.policy, MixturePolicy) else ()
        loaders = (state.train_dataloader, state.dataloader)
        known = [getattr(getattr(loader, 'dataset', None), 'skills', ()) for loader in loaders]
        return any(name in names for names in (wanted, *known))

    def _skill_of(self, label: str) -> str:
        """The eval skill of the evaluator of this label."""
        return label

    def _observe_within_round(self, state: State, logger: Logger) -> None:
        """Evaluations inside a round are shown to the policy too; its mixture moves at the end."""
        del logger
        within, batch = int(state.timestamp.batch_in_epoch), int(state.timestamp.batch)
        if self._ended:
            self._end_within_round(state)
            return
        if self._driver and self._driver.started and 0 < within < int(state.dataloader_len or 0):
            losses = self._seen.at(batch)
            if not losses:  # benchmarks alone
                return
            self._driver.observe(losses, step=batch, figures=self._seen.figures_of(losses))

    def _begin_round(self, state: State, logger: Logger) -> None:
        del state, logger
        self._watches.begin()

    def _evaluate(self, state: State, logger: Logger) -> None:
        del state, logger
        if torch.cuda.is_available():
            # Steps that still run on the GPU are training.
            torch.cuda.synchronize()
        self._watches.evaluation.start()

    def _wait(self, state: State, logger: Logger) -> None:
        del state, logger
        self._watches.waiting.start()

    def _go_on_training(self, state: State, logger: Logger) -> None:
        del logger
        self._watches.waiting.stop()
        # Of the step to come: after it the scheduler has set the next.
        self._learning_rate = float(state.optimizers[0].param_groups[0]['lr'])

    def _end_round(self, state: State, logger: Logger) -> None:
        """Show the policy the round's losses, set the next mixture, write down what happened."""
        self._watches.whole.stop()
        batch = int(state.timestamp.batch)
        losses = self._seen.at(batch)
        self.driver.end_round(
            losses,
            self._train_losses.means() if self._train_losses else None,
            step=batch,
            figures=self._seen.figures_of(losses),
            gradients=gradients_for(self.driver.policy, state, self.document_end, self._watches.evaluation),
            **self._how_it_went(),
        )
        self._trained.reset()
        self._count_train_losses(state)
        if self._train_losses:
            self._train_losses.reset()
        self._weigh_tokens(state)
        logger.log_metrics(mixture_metrics(self.driver.dataset))
        if self._watches.whole.seconds:
            logger.log_metrics(
                {'mixture/eval_share': self._watches.evaluation.seconds / self._watches.whole.seconds}
            )

    def _end(self, state: State, logger: Logger) -> None:
        """Write down the part of a round with which training ends, now or after the evaluation that follows."""
        del logger
        self._reached = int(state.timestamp.batch)
        self._ended = evaluates_at_end(state)
        if not self._ended:
            self._end_within_round(state)

    def _end_within_round(self, state: State) -> None:
        steps, batch = int(state.timestamp.batch_in_epoch), int(state.timestamp.batch)
        if not steps:
            return
        self._watches.whole.stop()
        losses = self._seen.at(batch)
        self.driver.end_within_round(
            losses, step=batch, steps=steps, figures=self._seen.figures_of(losses), **self._how_it_went()
        )
        self._watches.whole.start()

    def _how_it_went(self) -> dict[str, Any]:
        return {'clocks': self._watches.clocks(), 'trained': self._trained.trained()}


_HANDLERS = {
    Event.BEFORE_LOAD: '_make_policy',
    Event.AFTER_LOAD: '_note_loaded',
    Event.FIT_START: '_start',
    Event.EVAL_START: '_evaluate',
    Event.EVAL_END: '_see_losses',
    Event.EVAL_AFTER_ALL: '_observe_within_round',
    Event.EPOCH_START: '_begin_round',
    Event.BEFORE_DATALOADER: '_wait',
    Event.AFTER_DATALOADER: '_go_on_training',
    Event.BATCH_END: '_add_step',
    Event.EPOCH_CHECKPOINT: '_end_round',
    Event.FIT_END: '_end',
}
