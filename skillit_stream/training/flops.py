"""Floating-point operations of a training step, for the MFU that Composer's SpeedMonitor logs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel


@dataclass(frozen=True)
class TrainingFlops:
    """Operations of the forward and backward pass, as PaLM counts them (Chowdhery et al. 2022, appendix B).

    A token takes ``6 N + 12 L H Q T``: N parameters, L layers, H query heads of size Q, sequences of T tokens. Causal
    attention counts as the whole square, recomputed activations count nothing. N leaves out the table of
    input embeddings, which is looked up and not multiplied; a table that the head shares counts once, as the head.

    Attributes:
        parameters: N.
        attention: L H Q.
    """

    parameters: int
    attention: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> 'TrainingFlops | None':
        """Of a causal language model that is not sharded yet; None where its configuration says too little."""
        config: Any = model.config
        inputs: Any = model.get_input_embeddings()
        head: Any = model.get_output_embeddings()
        try:
            layers, heads, width = config.num_hidden_layers, config.num_attention_heads, config.hidden_size
        except AttributeError:
            return None
        size = getattr(config, 'head_dim', None) or width // heads
        parameters = sum(parameter.numel() for parameter in model.parameters())
        if inputs is not None and head is not None and inputs.weight is not head.weight:
            parameters -= int(inputs.weight.numel())
        return cls(parameters, layers * heads * size)

    def __call__(self, batch: Mapping[str, torch.Tensor]) -> int:
        """Operations for a batch: its ``tokens`` or ``input_ids`` [batch, sequence], padding counted in."""
        tokens = batch['tokens'] if 'tokens' in batch else batch['input_ids']
        return tokens.numel() * (6 * self.parameters + 12 * self.attention * tokens.shape[1])
