"""Branches of a live run: a few steps of its own Trainer between two rounds, after which nothing of them is left.

    at the end of a round ─→ kept: weights, optimizer, schedule, time, random numbers (in the host's memory)
                              ├→ branch: steps, an evaluation ─┐
                              └←───────── all put back ←───────┘  (as often as there are branches)

A branch trains as the run does: with its ranks, its batches, its precision and its gradient clipping, by Composer's own
step. Its samples are looked up, not drawn (`SkillStreamingDataset.batches_ahead`): the place in the data, the loader
and its workers stay where they are. Callbacks, loggers and the mixture see nothing of it.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import timedelta
from itertools import chain
from typing import Any, cast

import torch
from composer import Trainer
from composer.algorithms import GradientClipping, LowPrecisionLayerNorm
from composer.core import Evaluator, TimeUnit
from composer.utils import dist, reproducibility
from torch.utils.data import DataLoader

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.trials import Branch, Losses
from skillit_stream.training.evaluation import ALL_SKILLS
from skillit_stream.training.skill_losses import model_by_skill
from skillit_stream.training.skill_metrics import LOSSES, MeanSkillLoss
from skillit_stream.training.whole_rounds import dataset_of

_WITHOUT_MEMORY = (GradientClipping, LowPrecisionLayerNorm)
"""Algorithms that a step takes along; others keep something from step to step."""


class LiveBranches:
    """Trains branches from where a Trainer is.

    Args:
        trainer: Of the run.
        halves: Makes the evaluators of the first and of the second half of the eval samples.
    """

    def __init__(self, trainer: Trainer, halves: Callable[[], Sequence[Evaluator]]) -> None:
        self._trainer, self._make_halves = trainer, halves
        self._halves: Sequence[Evaluator] = ()

    def check(self) -> None:
        """Refuse a run that cannot have branches; raises InputError."""
        state = self._trainer.state
        if state.fsdp_enabled:
            raise InputError(
                'A policy that trains branches needs all weights on every rank, but `fsdp_config` shards them: take '
                '`skillit fork` on a checkpoint, or another policy.'
            )
        if not dataset_of(state).shuffle:
            raise InputError(
                'A policy that trains branches needs other orders of the samples, but train_loader.dataset.shuffle is '
                'false.'
            )
        for algorithm in self._others():
            raise InputError(
                f'A policy that trains branches cannot take {type(algorithm).__name__} along, which would remember '
                f'their steps: leave one of them out of `algorithms`.'
            )
        model_by_skill(state.model, 'A policy that trains branches needs a loss that nothing weighs')
        self._halves = self._halves or self._make_halves()

    def train(self, branches: Sequence[Branch]) -> list[Losses]:
        """The losses after each branch, nats per token by eval skill; all ranks call it.

        Raises:
            InputError: A stream has too few samples left for a branch.
        """
        if dist.get_global_rank() == 0:
            steps = sum(branch.steps for branch in branches)
            step = int(self._trainer.state.timestamp.batch)
            print(
                f'step {step:,}: {len(branches)} branches, {steps:,} steps in all, before the run goes on',
                file=sys.stderr,
                flush=True,
            )
        losses: list[Losses] = []
        with self._alone():
            start = _Kept(self._trainer)
            try:
                for branch in branches:
                    self._step_through(branch)
                    losses.append(self._evaluate(branch.half))
                    start.put_back()
            finally:
                start.put_back()
        return losses

    def _step_through(self, branch: Branch) -> None:
        """As Composer's loop does, without its events."""
        trainer, state = self._trainer, self._trainer.state
        dataset = dataset_of(state)
        seed = (int(dataset.shuffle_seed) + branch.shuffle_seed) % 2**32
        spec, collate = trainer._train_data_spec, cast(DataLoader, state.train_dataloader).collate_fn
        if spec is None or state.scaler is None:
            raise RuntimeError('Internal error: branches before the fit.')
        scales = trainer._use_grad_scaling(state.precision, state.scaler)
        a_round = dataset.round_size // dataset.global_batch_size
        state.model.train()
        batches = dataset.batches_ahead(branch.steps, proportions=branch.mixture, shuffle_seed=seed)
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

    def _evaluate(self, half: int) -> Losses:
        self._trainer.eval(self._halves[half])
        metric = self._trainer.state.eval_metrics[ALL_SKILLS][MeanSkillLoss.__name__]
        return cast(MeanSkillLoss, metric).by_skill()[LOSSES]

    def _others(self) -> list[Any]:
        """Algorithms that a branch cannot take along."""
        from skillit_stream.training.data_mixing import DataMixing

        known = (*_WITHOUT_MEMORY, DataMixing)
        return [one for one in self._trainer.state.algorithms if not isinstance(one, known)]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Within this context nobody sees what the Trainer does, and nothing weighs its losses."""
        state, logger = self._trainer.state, self._trainer.logger
        kept = list(state.algorithms), list(state.callbacks), logger.destinations
        metrics = state.train_metrics, state.eval_metrics
        state.algorithms = [one for one in state.algorithms if isinstance(one, _WITHOUT_MEMORY)]
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
