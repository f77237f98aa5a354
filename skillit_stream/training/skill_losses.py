"""Training losses by skill, from the logits or token losses that a step has computed anyway."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from composer.models import HuggingFaceModel
from composer.utils import dist
from torch.nn import functional

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import IGNORE_INDEX
from skillit_stream.training.flops import TrainingFlops
from skillit_stream.training.kernels import Kernels
from skillit_stream.training.token_losses import LOSS_BY_TOKEN, SAMPLE_WEIGHTS, TokenLosses

# Relative difference below which the model's own loss is its cross-entropy alone.
_SAME_LOSS = 1e-5


class SkillLossModel(HuggingFaceModel):
    """A causal language model that can keep the loss of each skill apart while it trains, and weigh it.

    The model is then asked for logits alone, and their cross-entropy, taken token by token, gives both the loss
    of the step and the sums by skill: nothing is computed twice. A model that takes its loss by token itself
    (``token_losses.py``) is asked for that. One whose own loss has more terms (the router's of a mixture of
    experts), as its first step shows, is trained on its own loss, which cannot be weighed. Until
    :meth:`count_skills` or :meth:`weigh_skills` is called the loss is as in a ``HuggingFaceModel``.

    A batch without a target token has a loss of 0, whatever the model says of it.

    ``flops_per_batch`` is there for Composer's SpeedMonitor, where the model's configuration says enough.
    """

    kernels: Kernels | None = None
    """What it runs on, where that was chosen for it."""
    _sums: torch.Tensor | None = None
    # Of each skill; None: all are 1.
    _weights: torch.Tensor | None = None
    _may_weigh = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        flops = TrainingFlops.of(self.model)
        if flops:
            # SpeedMonitor asks whether there is one.
            self.flops_per_batch = flops
        self._by_token = bool(getattr(self.model, LOSS_BY_TOKEN, False))
        # None: no step has shown it yet.
        self._has_more_terms: bool | None = False if self._by_token else None
        if self._by_token:
            self.model_forward_args = {*self.model_forward_args, SAMPLE_WEIGHTS}

    def count_skills(self, skills: int) -> None:
        """Keep sums for this many skills from now on, none for 0; a batch's ``skill`` column numbers them."""
        self._sums = torch.zeros(2, skills, dtype=torch.float64) if skills else None

    def weigh_skills(self, weights: Sequence[float] | None) -> None:
        """From now on, in training, multiply the loss of each token by its skill's weight; None: leave it as it is.

        The mean is over the tokens as before, so that a sample weighs the same in whatever batch it is. What
        :meth:`take_skill_losses` sums is not weighed.
        """
        self._weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)
        self._may_weigh = True

    @contextmanager
    def unweighed(self) -> Iterator[None]:
        """Within this context nothing is counted or weighed; afterwards all goes on as before."""
        kept = self._sums, self._weights, self._may_weigh, self._has_more_terms
        self._sums, self._weights, self._may_weigh = None, None, False
        try:
            yield
        finally:
            self._sums, self._weights, self._may_weigh, self._has_more_terms = kept

    def take_skill_losses(self) -> torch.Tensor:
        """Sums since the last call, float64 [2, skills]: nats, and tokens that they are of."""
        if self._sums is None:
            raise RuntimeError('Internal error: skills are not counted.')
        taken, self._sums = self._sums, torch.zeros_like(self._sums)
        return taken

    def forward(self, batch: Mapping[str, Any]) -> Any:
        """The model's outputs, without its own loss where that is not needed."""
        if self.training and 'labels' in batch:
            if self._by_token:
                weights = self._sample_weights(batch)
                batch = batch if weights is None else {**batch, SAMPLE_WEIGHTS: weights}
            elif self._takes_tokens() and self._has_more_terms is False:
                batch = {name: value for name, value in batch.items() if name != 'labels'}
            else:
                batch = {**batch, 'labels': _with_a_target(batch['labels'])}
        return super().forward(batch)

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Mean (weighed) cross-entropy over the batch's target tokens, in nats, and the model's further terms.

        Raises:
            InputError: Tokens are to be weighed, but the model's own loss has further terms.
        """
        targets = batch['labels'][:, 1:]
        counts = (targets != IGNORE_INDEX).sum()
        if not self._takes_tokens():
            return super().loss(outputs, batch) * (counts > 0)
        if isinstance(outputs, TokenLosses):
            self._count(outputs.token_losses[:, :-1], targets, batch['skill'])
            return outputs.loss
        logits = outputs.logits[:, :-1].float()
        losses = functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction='none'
        ).view_as(targets)
        self._count(losses, targets, batch['skill'])
        mean = losses.sum() / counts.clamp(min=1)
        if self._has_more_terms is not False:
            whole = super().loss(outputs, batch)
            if self._has_more_terms is None and counts:
                self._has_more_terms = bool((whole - mean).abs() > _SAME_LOSS * mean.abs())
            if self._has_more_terms and self._may_weigh:
                raise InputError(
                    f'`token_weights` weigh the cross-entropy of tokens, but the loss of {type(self.model).__name__} '
                    f"has further terms (such as a router's): leave them out of its configuration, or `token_weights`."
                )
            if self._has_more_terms or (self._sums is None and self._weights is None):
                return whole * (counts > 0)
        weights = self._sample_weights(batch)
        return mean if weights is None else (losses * weights[:, None]).sum() / counts.clamp(min=1)

    @torch.no_grad()
    def _count(self, losses: torch.Tensor, targets: torch.Tensor, skills: torch.Tensor) -> None:
        """Add losses [batch, sequence - 1] to the sums, if there are any."""
        sums = self._sums
        if sums is None:
            return
        if sums.device != losses.device:
            self._sums = sums = sums.to(losses.device)
        counts = (targets != IGNORE_INDEX).sum(dim=1)
        by_sample = torch.stack([losses.double().sum(dim=1), counts.double()])
        sums.index_add_(1, skills.to(torch.int64), by_sample)

    def _sample_weights(self, batch: Mapping[str, Any]) -> torch.Tensor | None:
        """Weight of each sample's tokens, float32 [batch]; None: all are 1."""
        if self._weights is None:
            return None
        self._weights = self._weights.to(batch['skill'].device)
        return self._weights[batch['skill'].to(torch.int64)]

    def _takes_tokens(self) -> bool:
        """Whether the loss of a step is taken token by token here, or is to show whether it can be."""
        is_to_show = self._may_weigh and self._has_more_terms is None
        return self.training and (self._sums is not None or self._weights is not None or is_to_show)


def _with_a_target(labels: torch.Tensor) -> torch.Tensor:
    """Labels [batch, sequence], of which the last is token 0 where there is no target: a mean of none is no number."""
    is_empty = (labels[:, 1:] == IGNORE_INDEX).all()
    labels = labels.clone()
    labels[0, -1] = torch.where(is_empty, 0, labels[0, -1])
    return labels


def model_by_skill(model: Any, need: str) -> SkillLossModel:
    """The model that is trained, looked at through a wrapper's ``module``.

    Args:
        model: That is trained.
        need: The part of a sentence that says who needs its losses by skill.

    Raises:
        InputError: It cannot keep skills apart.
    """
    inner = getattr(model, 'module', model)
    if not hasattr(inner, 'count_skills'):
        raise InputError(
            f'{need}, which the model ({type(inner).__name__}) does not keep: make it a '
            f'skillit_stream.SkillLossModel instead of a HuggingFaceModel.'
        )
    return inner


def weigh_skills(model: Any, weights: Mapping[str, float] | None) -> None:
    """Have a model weigh the losses of tokens by skill from now on, in the order of `weights`; None: no more.

    Raises:
        InputError: It cannot keep skills apart.
    """
    inner = model_by_skill(model, '`token_weights` need the losses of tokens by skill')
    inner.weigh_skills(list(weights.values()) if weights else None)


class TrainLosses:
    """The losses of a round by skill, over all ranks.

    Args:
        model: The model that is trained (`model_by_skill`); a wrapper's ``module`` is looked through.
        skills: Names, in the order of the dataset.
        policy: That asks for them, by name.

    Raises:
        InputError: The model cannot keep skills apart.
    """

    def __init__(self, model: Any, skills: Sequence[str], policy: str) -> None:
        self._model = model_by_skill(model, f'The policy {policy} needs training losses by skill')
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
