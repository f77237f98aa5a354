"""Training losses by skill, from the logits or token losses that a step has computed anyway."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from composer.models import HuggingFaceModel
from composer.utils import dist
from torch.nn import functional

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import IGNORE_INDEX
from skillit_stream.training.flops import TrainingFlops
from skillit_stream.training.kernels import Kernels
from skillit_stream.training.token_losses import LOSS_BY_TOKEN, TokenLosses

# Relative difference below which the model's own loss is its cross-entropy alone.
_SAME_LOSS = 1e-5


class SkillLossModel(HuggingFaceModel):
    """A causal language model that can keep the loss of each skill apart while it trains.

    The model is then asked for logits alone, and their cross-entropy, taken token by token, gives both the loss
    of the step and the sums by skill: nothing is computed twice. A model that takes its loss by token itself
    (``token_losses.py``) is asked for that. One whose own loss has more terms (the router's of a mixture of
    experts), as its first step shows, is trained on its own loss. Until :meth:`count_skills` is called the loss is
    as in a ``HuggingFaceModel``.

    A batch without a target token has a loss of 0, whatever the model says of it.

    ``flops_per_batch`` is there for Composer's SpeedMonitor, where the model's configuration says enough.
    """

    kernels: Kernels | None = None
    """What it runs on, where that was chosen for it."""
    _sums: torch.Tensor | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        flops = TrainingFlops.of(self.model)
        if flops:
            # SpeedMonitor asks whether there is one.
            self.flops_per_batch = flops
        self._by_token = bool(getattr(self.model, LOSS_BY_TOKEN, False))
        # None: no step has shown it yet.
        self._has_more_terms: bool | None = False if self._by_token else None

    def count_skills(self, skills: int) -> None:
        """Keep sums for this many skills from now on, none for 0; a batch's ``skill`` column numbers them."""
        self._sums = torch.zeros(2, skills, dtype=torch.float64) if skills else None

    def take_skill_losses(self) -> torch.Tensor:
        """Sums since the last call, float64 [2, skills]: nats, and tokens that they are of."""
        if self._sums is None:
            raise RuntimeError('Internal error: skills are not counted.')
        taken, self._sums = self._sums, torch.zeros_like(self._sums)
        return taken

    def forward(self, batch: Mapping[str, Any]) -> Any:
        """The model's outputs, without its own loss where that is not needed."""
        if self.training and 'labels' in batch:
            if self._counts() and self._has_more_terms is False and not self._by_token:
                batch = {name: value for name, value in batch.items() if name != 'labels'}
            elif not self._by_token:
                batch = {**batch, 'labels': _with_a_target(batch['labels'])}
        return super().forward(batch)

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Mean cross-entropy over the batch's target tokens, in nats, and the model's further terms."""
        targets = batch['labels'][:, 1:]
        if not self._counts():
            return super().loss(outputs, batch) * (targets != IGNORE_INDEX).any()
        if isinstance(outputs, TokenLosses):
            self._count(outputs.token_losses[:, :-1], targets, batch['skill'])
            return outputs.loss
        logits = outputs.logits[:, :-1].float()
        losses = functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction='none'
        ).view_as(targets)
        counts = self._count(losses, targets, batch['skill'])
        mean = losses.sum() / counts.clamp(min=1)
        if self._has_more_terms is not False:
            whole = super().loss(outputs, batch)
            if self._has_more_terms is None and counts:
                self._has_more_terms = bool((whole - mean).abs() > _SAME_LOSS * mean.abs())
            if self._has_more_terms:
                return whole * (counts > 0)
        return mean

    @torch.no_grad()
    def _count(self, losses: torch.Tensor, targets: torch.Tensor, skills: torch.Tensor) -> torch.Tensor:
        """Add losses [batch, sequence - 1] to the sums; returns the number of target tokens."""
        sums = self._sums
        if sums is None:
            raise RuntimeError('Internal error: skills are not counted.')
        counts = (targets != IGNORE_INDEX).sum(dim=1)
        if sums.device != losses.device:
            self._sums = sums = sums.to(losses.device)
        by_sample = torch.stack([losses.double().sum(dim=1), counts.double()])
        sums.index_add_(1, skills.to(torch.int64), by_sample)
        return counts.sum()

    def _counts(self) -> bool:
        return self._sums is not None and self.training


def _with_a_target(labels: torch.Tensor) -> torch.Tensor:
    """Labels [batch, sequence], of which the last is token 0 where there is no target: a mean of none is no number."""
    is_empty = (labels[:, 1:] == IGNORE_INDEX).all()
    labels = labels.clone()
    labels[0, -1] = torch.where(is_empty, 0, labels[0, -1])
    return labels


def check_keeps_skills(model: Any, policy: str) -> None:
    """Refuse a model that cannot keep the skills' losses apart, for a policy of this name; raises InputError."""
    inner = getattr(model, 'module', model)
    if not hasattr(inner, 'count_skills'):
        raise InputError(
            f'The policy {policy} needs training losses by skill, which the model ({type(inner).__name__}) does not '
            f'keep: make it a skillit_stream.SkillLossModel instead of a HuggingFaceModel.'
        )


class TrainLosses:
    """The losses of a round by skill, over all ranks.

    Args:
        model: The model that is trained (`check_keeps_skills`); a wrapper's ``module`` is looked through.
        skills: Names, in the order of the dataset.
    """

    def __init__(self, model: Any, skills: Sequence[str]) -> None:
        self._model: Any = getattr(model, 'module', model)
        self._skills = tuple(skills)
        self._sums = torch.zeros(2, len(skills), dtype=torch.float64)
        self._model.count_skills(len(skills))

    def add_step(self) -> None:
        """Add what a step has counted on all ranks; call it after each, on every rank."""
        step = self._model.take_skill_losses()
        dist.all_reduce(step)
        self._sums = self._sums.to(step.device) + step

    def means(self) -> dict[str, float]:
        """Skill -> mean loss in nats per token; skills that were not drawn are left out."""
        nats, tokens = self._sums.tolist()
        return {
            skill: nats[number] / tokens[number]
            for number, skill in enumerate(self._skills)
            if tokens[number]
        }

    def end(self) -> None:
        """Keep them no longer."""
        self._model.count_skills(0)

    def reset(self) -> None:
        """Begin a new round."""
        self._sums = torch.zeros_like(self._sums)

    def state_dict(self) -> dict[str, list[float]]:
        """Skill -> [nats, tokens] so far in the round, in plain Python."""
        return {skill: self._sums[:, number].tolist() for number, skill in enumerate(self._skills)}

    def load_state_dict(self, state: Mapping[str, Sequence[float]]) -> None:
        """Go on within a round; skills that the state does not name have nothing yet."""
        self._sums = torch.tensor(
            [[state.get(skill, (0.0, 0.0))[row] for skill in self._skills] for row in (0, 1)],
            dtype=torch.float64,
        )
