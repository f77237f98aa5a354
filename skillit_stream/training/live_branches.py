"""Branches of a live run: a few steps of its own Trainer between two rounds, after which nothing of them is left.

    between two rounds ──────→ kept: weights, optimizer, schedule, time, random numbers (in the host's memory)
                              ├→ branch: steps, an evaluation ─┐
                              └←───────── all put back ←───────┘  (as often as there are branches)

A branch trains as the run does: with its ranks, its batches, its precision and its gradient clipping, by Composer's own
step. Its samples are looked up, not drawn (`SkillStreamingDataset.batches_ahead`): the place in the data, the loader
and its workers stay where they are. Callbacks, loggers and the mixture see nothing of it. A short run of a skills graph
begins with these weights as a run of its own would, and so gives what `skillit graph learn` does from a checkpoint.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import timedelta
from itertools import chain
from typing import Any, cast

import numpy as np
import torch
from composer import Trainer
from composer.algorithms import GradientClipping, LowPrecisionLayerNorm
from composer.core import Evaluator, Timestamp, TimeUnit
from composer.optim.scheduler import compile_composer_scheduler
from composer.utils import dist, reproducibility
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import MixturePolicy
from skillit_stream.mixture.trials import Branch, Losses, ShortRun
from skillit_stream.training.config import TrainConfig
from skillit_stream.training.data_mixing import DataMixing
from skillit_stream.training.evaluation import ALL_SKILLS, half_evaluators
from skillit_stream.training.parts import build_optimizer, build_scheduler
from skillit_stream.training.skill_losses import model_by_skill
from skillit_stream.training.skill_metrics import LOSSES, MeanSkillLoss
from skillit_stream.training.whole_rounds import dataset_of

_WITHOUT_MEMORY = (GradientClipping, LowPrecisionLayerNorm)
"""Algorithms that a step takes along; others keep something from step to step."""


class LiveBranches:
    """Trains branches, and short runs, from where a Trainer is.

    Args:
        trainer: Of the run.
        config: Of the run.
        document_end: As the evaluators'.
    """

    def __init__(self, trainer: Trainer, config: TrainConfig, document_end: int | None) -> None:
        self._trainer, self._config, self._document_end = trainer, config, document_end
        self._halves: list[Evaluator] = []

    def check(self, policy: MixturePolicy) -> None:
        """Refuse a run that cannot have the branches of a policy; raises InputError."""
        state, needs = (
            self._trainer.state,
            f'The policy {policy.describe()["name"]} has branches of the run trained',
        )
        if state.fsdp_enabled:
            raise InputError(
                f'{needs}, for which every rank needs all weights, but `fsdp_config` shards them: take `skillit fork` '
                f'or `skillit graph learn` on a checkpoint.'
            )
        if not dataset_of(state).shuffle:
            raise InputError(
                f'{needs} in other orders of the samples, but train_loader.dataset.shuffle is false.'
            )
        known = (*_WITHOUT_MEMORY, DataMixing)
        for algorithm in state.algorithms:
            if not isinstance(algorithm, known):
                raise InputError(
                    f'{needs} and cannot take {type(algorithm).__name__} along, which would remember their steps: '
                    f'leave one of them out of `algorithms`.'
                )
        model_by_skill(state.model, f'{needs} on a loss that nothing weighs')
        if policy.needs_branches:
            self._halves = self._halves or half_evaluators(
                self._whole(),
                samples_per_skill=self._config.eval_loader.samples_per_skill,
                document_end=self._document_end,
            )

    def train(self, branches: Sequence[Branch] | Sequence[ShortRun]) -> list[Losses]:
        """The losses after each, nats per token by eval skill; all ranks call it.

        Raises:
            InputError: A stream has too few samples left for a branch.
        """
        self._say(branches)
        losses: list[Losses] = []
        with self._alone():
            start = _Kept(self._trainer)
            try:
                for branch in branches:
                    losses.append(self._losses_after(branch))
                    start.put_back()
            finally:
                start.put_back()
        return losses

    def _say(self, branches: Sequence[Branch] | Sequence[ShortRun]) -> None:
        steps = sum(branch.steps for branch in branches)
        if dist.get_global_rank() == 0 and steps:
            kind = 'short runs' if isinstance(branches[0], ShortRun) else 'branches'
            print(
                f'step {int(self._trainer.state.timestamp.batch):,}: {len(branches)} {kind}, {steps:,} steps in all, '
                f'before the run goes on',
                file=sys.stderr,
                flush=True,
            )

    def _losses_after(self, branch: Branch | ShortRun) -> Losses:
        dataset = dataset_of(self._trainer.state)
        seed, mixture = int(dataset.shuffle_seed), branch.mixture
        if isinstance(branch, Branch):
            seed = (seed + branch.shuffle_seed) % 2**32
            self._step_through(dataset.batches_ahead(branch.steps, proportions=mixture, shuffle_seed=seed))
            return self._evaluate(self._halves[branch.half])
        if branch.steps:
            self._begin_anew(branch.steps, branch.lr)
            seed = (seed + branch.repeat) % 2**32
            self._step_through(
                dataset.batches_ahead(branch.steps, proportions=mixture, shuffle_seed=seed, from_start=True)
            )
        return self._evaluate(self._whole())

    def _whole(self) -> Evaluator:
        """Of all eval samples."""
        return next(one for one in self._trainer.state.evaluators if one.label == ALL_SKILLS)

    def _begin_anew(self, steps: int, lr: float | None) -> None:
        """As a Trainer of these weights that has so many steps to go."""
        state = self._trainer.state
        for optimizer in state.optimizers:
            # Its memory is kept elsewhere: two optimizers' would not fit where one does.
            optimizer.state = defaultdict(dict)
        state.algorithms, state.timestamp, state.max_duration = [], Timestamp(), f'{steps}ba'
        parameters = cast(torch.nn.Module, getattr(state.model, 'module', state.model)).parameters()
        own = {} if lr is None else {'lr': lr}
        state.optimizers = build_optimizer({**self._config.optimizer, **own}, parameters)
        state.schedulers = compile_composer_scheduler(build_scheduler(self._config.scheduler), state)
        reproducibility.seed_all(state.rank_zero_seed + dist.get_global_rank())

    def _step_through(self, batches: Iterator[NDArray[np.int64]]) -> None:
        """As Composer's loop does, without its events."""
        trainer, state = self._trainer, self._trainer.state
        dataset = dataset_of(state)
        spec, collate = trainer._train_data_spec, cast(DataLoader, state.train_dataloader).collate_fn
        if spec is None or state.scaler is None:
            raise RuntimeError('Internal error: branches before the fit.')
        scales = trainer._use_grad_scaling(state.precision, state.scaler)
        a_round = dataset.round_size // dataset.global_batch_size
        state.model.train()
        for number, ids in enumerate(batches, start=1):
            state.batch = spec.batch_transforms(collate(list(dataset.samples_by_id(ids))))
            counts = spec.get_num_samples_in_batch(state.batch), spec.get_num_tokens_in_batch(state.batch)
            trainer._train_batch(scales)
            if scales:
                state.scaler.update()
            samples, tokens, _ = trainer._accumulate_time_across_ranks(*counts, timedelta())
            self._schedule(TimeUnit.BATCH)
            state.timestamp = state.timestamp.to_next_batch(samples, tokens)
            if number % a_round == 0:
                self._schedule(TimeUnit.EPOCH)
                state.timestamp = state.timestamp.to_next_epoch()

    def _schedule(self, unit: TimeUnit) -> None:
        if self._trainer._scheduler_step_frequency == unit:
            for scheduler in self._trainer.state.schedulers:
                scheduler.step()

    def _evaluate(self, evaluator: Evaluator) -> Losses:
        self._trainer.eval(evaluator)
        metric = self._trainer.state.eval_metrics[ALL_SKILLS][MeanSkillLoss.__name__]
        return cast(MeanSkillLoss, metric).by_skill()[LOSSES]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Within this context nobody sees what the Trainer does, and nothing weighs its losses."""
        state, logger = self._trainer.state, self._trainer.logger
        kept = list(state.algorithms), list(state.callbacks), logger.destinations
        metrics = state.train_metrics, state.eval_metrics
        state.algorithms = [one for one in kept[0] if isinstance(one, _WITHOUT_MEMORY)]
        state.callbacks, logger.destinations = [], ()
        state.train_metrics, state.eval_metrics = {}, {}
        model = model_by_skill(state.model, 'Branches need a loss that nothing weighs')
        try:
            with model.unweighed():
                yield
        finally:
            state.algorithms, state.callbacks, logger.destinations = kept
            state.train_metrics, state.eval_metrics = metrics


_OF_STATE = (
    'timestamp',
    'max_duration',
    'device_train_microbatch_size',
    'previous_timestamp',
    'eval_timestamp',
    'batch',
    'outputs',
    'loss',
    'total_loss_dict',
)


class _Kept:
    """Where a Trainer is, in the host's memory."""

    def __init__(self, trainer: Trainer) -> None:
        self._state = state = trainer.state
        self._fields = {name: getattr(state, name) for name in _OF_STATE}
        self._algorithms = list(state.algorithms)
        self._own = list(state.optimizers), list(state.schedulers)
        self._tensors = [tensor.detach().to('cpu', copy=True) for tensor in self._live_tensors()]
        self._optimizers = [
            (
                [
                    {key: deepcopy(value) for key, value in group.items() if key != 'params'}
                    for group in one.param_groups
                ],
                {parameter: _on_host(values) for parameter, values in one.state.items()},
            )
            for one in state.optimizers
        ]
        self._schedulers = [deepcopy(one.state_dict()) for one in state.schedulers]
        self._scaler = state.scaler and deepcopy(state.scaler.state_dict())
        self._is_training = state.model.training
        self._random_numbers = reproducibility.get_rng_state()

    def put_back(self) -> None:
        """Have the Trainer be there again, bit for bit."""
        state = self._state
        for name, value in self._fields.items():
            setattr(state, name, value)
        state.algorithms = self._algorithms
        state.optimizers, state.schedulers = self._own
        with torch.no_grad():
            for tensor, kept in zip(self._live_tensors(), self._tensors, strict=True):
                tensor.copy_(kept)
        for optimizer, (groups, memory) in zip(state.optimizers, self._optimizers, strict=True):
            for group, kept in zip(optimizer.param_groups, groups, strict=True):
                group.update(deepcopy(kept))
            optimizer.state = defaultdict(
                dict, {parameter: _where_it_was(values) for parameter, values in memory.items()}
            )
            optimizer.zero_grad(set_to_none=True)
        for scheduler, kept in zip(state.schedulers, self._schedulers, strict=True):
            scheduler.load_state_dict(deepcopy(kept))
        if state.scaler and self._scaler:
            state.scaler.load_state_dict(self._scaler)
        state.model.train(self._is_training)
        reproducibility.load_rng_state(self._random_numbers)

    def _live_tensors(self) -> Iterator[torch.Tensor]:
        return chain(self._state.model.parameters(), self._state.model.buffers())


def _on_host(values: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """An optimizer's memory of a parameter: copies, and the device that each was on."""
    return {
        name: (value.detach().to('cpu', copy=True), value.device)
        if torch.is_tensor(value)
        else (deepcopy(value), None)
        for name, value in values.items()
    }


def _where_it_was(values: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Inverse of `_on_host`."""
    return {
        name: value.to(device, copy=True) if device is not None else deepcopy(value)
        for name, (value, device) in values.items()
    }
