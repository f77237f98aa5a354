"""DataMixing: a Composer algorithm that sets the mixture of every round from the losses of the last.

At the end of a round (an epoch) Composer runs the evaluators and then ``EPOCH_CHECKPOINT``. There, before
the checkpoint is written, the policy is shown the round's losses and its answer becomes the mixture of
the next round, so that the checkpoint already holds it.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from composer.core import Algorithm, Event, State
from composer.loggers import Logger
from composer.utils import dist
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.loader.dataset import SkillStreamingDataset
from skillit_stream.mixing.seen_losses import SeenLosses
from skillit_stream.mixture import MixturePolicy, RoundObservation
from skillit_stream.training.evaluation import evaluated_skills, one_pass_metric
from skillit_stream.training.mixture_log import MixtureLog
from skillit_stream.training.skill_losses import TrainLosses
from skillit_stream.training.skill_metrics import LOSSES, as_logged

STATE_VERSION = 2
BEFORE_TRAINING = -1


class DataMixing(Algorithm):
    """Drives a :class:`SkillStreamingDataset` by a mixture policy.

    Args:
        policy: Turns observed losses into the next round's proportions, e.g. ``SkillIt(graph)``. Its train
            skills must be the dataset's, its eval skills must each be evaluated: all together by an Evaluator
            with a ``MeanSkillLoss``, or each by an Evaluator of that label.
        metric: Name of the metric of a skill's own Evaluator that is its loss, in nats per token.
        warn_passes: Warn, once a skill, before a round in which a skill's stream will have been walked more
            often than this. (Up to about 4 passes, repeated data is nearly as good as new: Muennighoff et
            al. 2023, arXiv 2305.16264.)
        log_path: Where rank 0 writes ``mixture.jsonl``, a line per round; None writes none.

    Raises:
        InputError: At the start of the fit, when names do not match, one line that says which.
    """

    def __init__(
        self,
        policy: MixturePolicy,
        *,
        metric: str = 'LanguageCrossEntropy',
        warn_passes: float = 4.0,
        log_path: str | Path | None = None,
    ) -> None:
        self.policy = policy
        self.metric = metric
        self.warn_passes = warn_passes
        self._warned: set[str] = set()
        self._log = MixtureLog(log_path) if log_path is not None and dist.get_global_rank() == 0 else None
        # What a loaded state holds against the policy; whether that matters is known when the streams are.
        self._misfit: InputError | None = None
        self._seen = SeenLosses()
        self._train_losses: TrainLosses | None = None
        self._train_state: dict[str, list[float]] = {}
        self._started = False
        self._waiting = _Stopwatch()
        self._round = _Stopwatch()
        self._evaluation = _Stopwatch()

    def match(self, event: Event, state: State) -> bool:
        """Run where losses are seen, rounds begin and end, and where waiting for data is timed."""
        del state
        return event in _HANDLERS

    def apply(self, event: Event, state: State, logger: Logger) -> None:
        """Dispatch to the event's handler."""
        getattr(self, _HANDLERS[event])(state, logger)

    def state_dict(self) -> dict[str, Any]:
        """The policy's state and the losses seen since the last update, in plain Python."""
        train = self._train_losses.state_dict() if self._train_losses else {}
        return {
            'version': STATE_VERSION,
            'policy': self.policy.state_dict(),
            **self._seen.state_dict(),
            'train_losses': train,
        }

    def load_state_dict(self, state: dict[str, Any], strict: bool = False) -> None:
        """Resume the policy where the state was taken.

        A state of other skills is refused when the fit starts, unless the dataset has been allowed to go on
        with changed streams: then the policy begins anew.
        """
        del strict
        if state.get('version') != STATE_VERSION:
            raise InputError(
                f'The state of DataMixing must be of version {STATE_VERSION}, but got: {state.get("version")}.'
            )
        try:
            self.policy.load_state_dict(state['policy'])
        except InputError as error:
            self._misfit = error
        self._seen.load_state_dict(state)
        self._train_state = dict(state['train_losses'])
        self._started = True

    def _start(self, state: State, logger: Logger) -> None:
        """Check the names and, in a fresh run, set the first mixture."""
        dataset = dataset_of(state)
        evaluated = [
            self._skill_of(skill)
            for one in state.evaluators
            for skill in evaluated_skills(one, state.eval_metrics[one.label])
        ]
        _check_names(self.policy, dataset.skills, evaluated)
        if self.policy.sample_orders() and not dataset.sample_orders:
            raise InputError(
                f'The policy {self.policy.name} chooses the order of samples, but the dataset shuffles them: build it '
                f'with sample_orders=policy.sample_orders().'
            )
        # The dataset keeps its place by itself. In a second fit() Composer would spin it through a round
        # per past epoch, and go on in the middle of a round from the start of the next.
        state.dataset_resumption['train'] = True
        dataset.load_state_dict(dataset.state_dict(int(state.timestamp.sample_in_epoch), True))
        self._count_train_losses(state, dataset)
        resumed = self._started
        if self._misfit:
            self._begin_anew(dataset)
        if self._log:
            self._log.start(dataset.round if resumed else BEFORE_TRAINING, dataset.describe())
        if not self._started:
            self._observe_before_training(state, resumed)
            dataset.set_proportions(self._agreed(dataset.skills, self.policy.initial))
            self._warn_of_notes()
            self._started = True
        self._log_proportions(dataset, logger)
        if not self._round.runs:
            # Resumed within a round, which has begun in another process: what of it is trained here.
            self._round.start()

    def _count_train_losses(self, state: State, dataset: SkillStreamingDataset) -> None:
        """Have the model keep the skills' losses apart, if the policy asks for them."""
        if not self.policy.needs_train_losses:
            return
        try:
            self._train_losses = TrainLosses(state.model, dataset.skills)
        except TypeError as error:
            raise InputError(
                f'The policy {self.policy.name} needs training losses by skill, which the model ({error}) does not '
                f'keep: make it a skillit_stream.SkillLossModel instead of a HuggingFaceModel.'
            ) from None
        self._train_losses.load_state_dict(self._train_state)

    def _add_step(self, state: State, logger: Logger) -> None:
        del state, logger
        if self._train_losses:
            self._train_losses.add_step()

    def _begin_anew(self, dataset: SkillStreamingDataset) -> None:
        """The streams have changed and the policy's memory is of others: give it none."""
        misfit, self._misfit = self._misfit, None
        if misfit and not {'added', 'removed'} & set(dataset.changes.values()):
            raise misfit
        warnings.warn(
            f'The streams have changed ({_said(dataset.changes)}): the policy forgets the losses it has seen and '
            f'begins anew with its first mixture in round {dataset.round}.',
            stacklevel=2,
        )
        self._started = False

    def _observe_before_training(self, state: State, resumed: bool) -> None:
        losses = self._losses(state)
        if losses and self._log and not resumed:
            self._log.append({**_EMPTY_LINE, 'losses': losses, **self._cost_and_figures(losses)})
        if self.policy.needs_initial_losses:
            # Only then: shown unasked, they would count in the window of a policy that sums what there is.
            self._require(losses, 'before training: call trainer.eval() before trainer.fit()')
            self.policy.observe(RoundObservation(round=BEFORE_TRAINING, eval_losses=losses))

    def _see_losses(self, state: State, logger: Logger) -> None:
        """Note the losses of the evaluator that has just run."""
        self._evaluation.stop()
        label = state.dataloader_label or ''
        metrics, own = state.eval_metrics[label], self._skill_of(label)
        losses, figures = {}, None
        if one_pass := one_pass_metric(metrics):
            figures = one_pass.by_skill()
            logger.log_metrics(as_logged(figures))
            losses = figures.pop(LOSSES)
        elif self.metric in metrics:
            losses = {own: float(metrics[self.metric].compute())}
        elif own in self.policy.eval_skills:
            raise InputError(
                f'Evaluator {label} has no metric {self.metric!r} (it has: {", ".join(metrics) or "none"}): add it, '
                f'or tell DataMixing which metric is the loss (metric=...).'
            )
        self._seen.note(int(state.timestamp.batch), losses, figures)

    def _skill_of(self, label: str) -> str:
        """The eval skill of the evaluator of this label."""
        return label

    def _observe_within_round(self, state: State, logger: Logger) -> None:
        """Evaluations inside a round are shown to the policy too; its mixture moves at the end."""
        del logger
        within = int(state.timestamp.batch_in_epoch)
        if not self._started or not 0 < within < int(state.dataloader_len or 0):
            return
        losses = self._losses(state)
        self._seen.keep_within(int(state.timestamp.batch))
        if all(skill in losses for skill in self.policy.eval_skills):
            self.policy.observe(RoundObservation(round=dataset_of(state).round, eval_losses=losses))

    def _losses(self, state: State) -> dict[str, float]:
        """Losses measured at the present batch, by eval skill."""
        return self._seen.at(int(state.timestamp.batch))

    def _require(self, losses: Mapping[str, float], when: str) -> None:
        missing = [skill for skill in self.policy.eval_skills if skill not in losses]
        if missing and not self.policy.accepts_bad_losses:
            raise InputError(f'The policy needs the loss of {missing[0]}, but none was measured {when}.')

    def _begin_round(self, state: State, logger: Logger) -> None:
        del state, logger
        self._waiting.reset()
        self._evaluation.reset()
        self._round.reset()
        self._round.start()

    def _evaluate(self, state: State, logger: Logger) -> None:
        del state, logger
        if torch.cuda.is_available():
            # Steps that still run on the GPU are training.
            torch.cuda.synchronize()
        self._evaluation.start()

    def _wait(self, state: State, logger: Logger) -> None:
        del state, logger
        self._waiting.start()

    def _go_on(self, state: State, logger: Logger) -> None:
        del state, logger
        self._waiting.stop()

    def _end_round(self, state: State, logger: Logger) -> None:
        """Show the policy the round's losses, set the next mixture, write down what happened."""
        dataset = dataset_of(state)
        self._round.stop()
        losses = self._losses(state)
        self._require(
            losses, f"at the end of round {dataset.round}: evaluate it every round (eval_interval='1ep')"
        )
        observation = RoundObservation(
            round=dataset.round,
            eval_losses=losses,
            train_losses=self._train_losses.means() if self._train_losses else None,
            proportions=dataset.proportions,
            samples_seen=dataset.samples_seen,
        )
        line = self._line(state, dataset, observation)
        dataset.set_proportions(self._agreed(dataset.skills, lambda: self.policy.update(observation)))
        if self._train_losses:
            self._train_losses.reset()
        notes = self._warn_of_notes()
        if self._log:
            self._log.append({**line, 'notes': notes} if notes else line)
        self._log_proportions(dataset, logger)
        if self._round.seconds:
            logger.log_metrics({'mixture/eval_share': self._evaluation.seconds / self._round.seconds})

    def _agreed(self, skills: Sequence[str], decide: Callable[[], NDArray[np.float64]]) -> dict[str, float]:
        """Rank 0's proportions on every rank: float noise must not split the ranks."""
        # Every rank's policy decides, so that each holds the state; one decision is played.
        shares = [float(share) for share in decide()]
        decided = [dict(zip(self.policy.skills, shares, strict=True))]
        dist.broadcast_object_list(decided, src=0)
        return {skill: decided[0][skill] for skill in skills}

    def _line(
        self, state: State, dataset: SkillStreamingDataset, observation: RoundObservation
    ) -> dict[str, Any]:
        """The round's line; `seconds` include those stalled and those of evaluations."""
        samples, train = dataset.samples, observation.train_losses
        within = self._seen.take_within()
        return {
            'round': dataset.round,
            'step': int(state.timestamp.batch),
            'proportions': dataset.proportions,
            'realised': {skill: count / dataset.round_size for skill, count in samples.items()},
            'samples': samples,
            'passes': dataset.passes,
            'losses': dict(observation.eval_losses),
            **({'train_losses': dict(train)} if train is not None else {}),
            'stalled_seconds': round(self._waiting.seconds, 3),
            'seconds': round(self._round.seconds, 3),
            **self._cost_and_figures(observation.eval_losses),
            **({'within': within} if within else {}),
        }

    def _cost_and_figures(self, losses: Mapping[str, float]) -> dict[str, Any]:
        """Of a line: the seconds of its evaluations, and what was measured along with its losses."""
        return {'eval_seconds': round(self._evaluation.seconds, 3), **self._seen.figures_of(losses)}

    def _log_proportions(self, dataset: SkillStreamingDataset, logger: Logger) -> None:
        upcoming, seen, passes = dataset.next_proportions, dataset.samples_seen, dataset.passes
        metrics: dict[str, float] = {'mixture/round': dataset.next_round}
        for skill in dataset.skills:
            metrics[f'mixture/{skill}/proportion'] = upcoming[skill]
            metrics[f'mixture/{skill}/samples'] = seen[skill]
            metrics[f'mixture/{skill}/passes'] = passes[skill]
        logger.log_metrics(metrics)
        self._warn_of_passes(dataset)

    def _warn_of_notes(self) -> list[str]:
        """Warn of what the policy has to say of its last mixture; all of it is in mixture.jsonl."""
        notes = self.policy.notes()
        for note in notes:
            warnings.warn(note, stacklevel=2)
        return notes

    def _warn_of_passes(self, dataset: SkillStreamingDataset) -> None:
        for skill, passes in dataset.upcoming_passes.items():
            if passes > self.warn_passes and skill not in self._warned:
                self._warned.add(skill)
                warnings.warn(
                    f'Skill {skill} will have been walked {passes:.2f} times by the end of round '
                    f'{dataset.next_round}, more than `warn_passes`={self.warn_passes:g}: it has few samples for '
                    f'its share of {dataset.next_proportions[skill]:.3f}.',
                    stacklevel=2,
                )


_HANDLERS = {
    Event.FIT_START: '_start',
    Event.EVAL_START: '_evaluate',
    Event.EVAL_END: '_see_losses',
    Event.EVAL_AFTER_ALL: '_observe_within_round',
    Event.EPOCH_START: '_begin_round',
    Event.BEFORE_DATALOADER: '_wait',
    Event.AFTER_DATALOADER: '_go_on',
    Event.BATCH_END: '_add_step',
    Event.EPOCH_CHECKPOINT: '_end_round',
}

_EMPTY_LINE = {
    'round': BEFORE_TRAINING,
    'step': 0,
    'proportions': {},
    'realised': {},
    'samples': {},
    'passes': {},
    'stalled_seconds': 0.0,
    'seconds': 0.0,
}


class _Stopwatch:
    """Adds up the seconds between starts and stops."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    @property
    def runs(self) -> bool:
        return self._since is not None

    def start(self) -> None:
        self._since = monotonic()

    def stop(self) -> None:
        if self._since is not None:
            self.seconds += monotonic() - self._since
        self._since = None


def _said(changes: Mapping[str, str]) -> str:
    return ', '.join(f'{skill} {change}' for skill, change in changes.items())


def dataset_of(state: State) -> SkillStreamingDataset:
    """The dataset that is trained on."""
    dataset = getattr(state.train_dataloader, 'dataset', None)
    if not isinstance(dataset, SkillStreamingDataset):
        raise InputError(
            f'DataMixing needs a train_dataloader over a SkillStreamingDataset, but got: {type(dataset).__name__}.'
        )
    return dataset


def _check_names(policy: MixturePolicy, skills: Sequence[str], labels: Sequence[str]) -> None:
    for name, where in [(skill, 'stream') for skill in policy.skills if skill not in skills] + [
        (skill, 'evaluator') for skill in policy.eval_skills if skill not in labels
    ]:
        known = labels if where == 'evaluator' else skills
        raise InputError(
            f'The policy names skill {name}, but there is no {where} of that name; there are: '
            f'{", ".join(known) or "none"}. Add it, or take it out of the graph.'
        )
    for skill in skills:
        if skill not in policy.skills:
            raise InputError(
                f'There is a stream {skill}, but the policy does not name it; it names: '
                f'{", ".join(policy.skills)}. Add it to the graph, or take the stream out.'
            )
