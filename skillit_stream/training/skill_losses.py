"""Training losses by skill, from the logits that a step has computed anyway."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from composer.models import HuggingFaceModel
from composer.utils import dist
from torch.nn import functional

from skillit_stream.streams.batches import IGNORE_INDEX


class SkillLossModel(HuggingFaceModel):
    """A causal language model that can keep the loss of each skill apart while it trains.

    The model is then asked for logits alone, and their cross-entropy, taken token by token, gives both the loss
    of the step and the sums by skill: nothing is computed twice. Until :meth:`count_skills` is called it is
    a ``HuggingFaceModel`` as it was.
    """

    _sums: torch.Tensor | None = None

    def count_skills(self, skills: int) -> None:
        """Keep sums for this many skills from now on; a batch's ``skill`` column numbers them."""
        self._sums = torch.zeros(2, skills, dtype=torch.float64)

    def take_skill_losses(self) -> torch.Tensor:
        """Sums since the last call, float64 [2, skills]: nats, and tokens that they are of."""
        if self._sums is None:
            raise RuntimeError('Internal error: skills are not counted.')
        taken, self._sums = self._sums, torch.zeros_like(self._sums)
        return taken

    def forward(self, batch: Mapping[str, Any]) -> Any:
        """The model's outputs, without its own loss where that is taken by token."""
        if self._counts():
            batch = {name: value for name, value in batch.items() if name != 'labels'}
        return super().forward(batch)

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Mean cross-entropy over the batch's target tokens, in nats."""
        sums = self._sums
        if sums is None or not self._counts():
            return super().loss(outputs, batch)
        targets = batch['labels'][:, 1:]
        logits = outputs.logits[:, :-1].float()
        losses = functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction='none'
        ).view_as(targets)
        counts = (targets != IGNORE_INDEX).sum(dim=1)
        with torch.no_grad():
            if sums.device != losses.device:
                self._sums = sums = sums.to(losses.device)
            by_sample = torch.stack([losses.double().sum(dim=1), counts.double()])
            sums.index_add_(1, batch['skill'].to(torch.int64), by_sample)
        return losses.sum() / counts.sum()

    def _counts(self) -> bool:
        return self._sums is not None and self.training


class TrainLosses:
    """The losses of a round by skill, over all ranks.

    Args:
        model: The model that is trained; a wrapper's ``module`` is looked through.
        skills: Names, in the order of the dataset.

    Raises:
        TypeError: The model cannot keep skills apart.
    """

    def __init__(self, model: Any, skills: Sequence[str]) -> None:
        inner = getattr(model, 'module', model)
        if not hasattr(inner, 'count_skills'):
            raise TypeError(type(inner).__name__)
        self._model = inner
        self._skills = tuple(skills)
        self._sums = torch.zeros(2, len(skills), dtype=torch.float64)
        inner.count_skills(len(skills))

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
