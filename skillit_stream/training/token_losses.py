"""The loss of every token from hidden states, without the logits of a whole batch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from types import MethodType
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from skillit_stream.loader.batches import IGNORE_INDEX

# Hidden states [tokens, width], the head's weight [vocabulary, width], targets [tokens] -> the sum of the
# losses, which has a gradient, and the losses float32 [tokens], which have none; 0 where the target is ignored.
LinearCrossEntropy = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
# Logits that exist at a time: 256 MB of float32.
CHUNK_LOGITS = 2**26
# The attribute of a model whose loss is taken by token.
LOSS_BY_TOKEN = 'takes_loss_by_token'
# The input of such a model that weighs the losses: float [batch], of each sample's tokens.
SAMPLE_WEIGHTS = 'sample_weights'


@dataclass
class TokenLosses(ModelOutput):
    """What a model whose loss is taken by token gives in training, in place of logits.

    Attributes:
        loss: Mean over the target tokens of loss times weight, in nats.
        token_losses: float32 [batch, sequence], no gradient: the loss, in nats, of the token that follows each
            position, not weighed; 0 where that is not a target.
    """

    loss: Any = None
    token_losses: Any = None


def take_loss_by_token(model: PreTrainedModel, linear_cross_entropy: LinearCrossEntropy) -> None:
    """Have this model, in training and given labels, answer with :class:`TokenLosses`.

    Without labels, and in evaluation, it answers as before. The loss is taken inside the model's own forward, where
    FSDP has the head's weight gathered: the head must be of the same FSDP unit as the model.

    Raises:
        RuntimeError: The model's head has a bias.
    """
    head: Any = model.get_output_embeddings()
    if getattr(head, 'bias', None) is not None:
        raise RuntimeError('Internal error: the loss by token takes a head without bias.')
    whole = type(model).forward

    @wraps(whole)
    def forward(
        self: Any,
        *args: Any,
        labels: torch.Tensor | None = None,
        sample_weights: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        if labels is None or not self.training:
            return whole(self, *args, labels=labels, **kwargs)
        hidden = getattr(self, self.base_model_prefix)(*args, **kwargs).last_hidden_state
        targets = functional.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)
        weight = self.get_output_embeddings().weight
        total, losses = _weighed(linear_cross_entropy, hidden, weight, targets, sample_weights)
        # Without a target the losses' sum is 0, and so must be its gradient.
        count = (targets != IGNORE_INDEX).sum().clamp(min=1)
        return TokenLosses(loss=total / count, token_losses=losses)

    model.forward = MethodType(forward, model)
    setattr(model, LOSS_BY_TOKEN, True)


def _weighed(
    linear_cross_entropy: LinearCrossEntropy,
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    sample_weights: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of the losses, each times its sample's weight, and the losses [batch, sequence] as they are.

    Samples of one weight are taken together: kernels have the gradient of a plain sum alone.
    """
    if sample_weights is None:
        total, losses = linear_cross_entropy(hidden.flatten(0, 1), weight, targets.flatten())
        return total, losses.view_as(targets)
    total, losses = (
        hidden.new_zeros((), dtype=torch.float32),
        targets.new_zeros(targets.shape, dtype=torch.float32),
    )
    for one in sample_weights.unique():
        rows = sample_weights == one
        part, found = linear_cross_entropy(hidden[rows].flatten(0, 1), weight, targets[rows].flatten())
        total = total + one * part
        losses[rows] = found.view_as(targets[rows])
    return total, losses


def chunked_linear_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """PyTorch alone: the logits of a chunk of tokens are made, used, and made again in the backward pass.

    Args:
        hidden: [tokens, width].
        weight: [vocabulary, width].
        targets: int64 [tokens], -100 where ignored.

    Returns:
        Sum of the losses in nats, and the losses, float32 [tokens], without gradient.
    """
    rows = max(1, CHUNK_LOGITS // len(weight))
    parts: list[Any] = [
        checkpoint(_cross_entropy, part, weight, wanted, use_reentrant=False, preserve_rng_state=False)
        for part, wanted in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    losses = torch.cat(parts)
    return losses.sum(), losses.detach()


def _cross_entropy(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = functional.linear(hidden, weight).float()
    return functional.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, reduction='none')
