"""Causal attention over samples that are all text: PyTorch's SDPA, without a mask and without repeated heads.

transformers' own ``sdpa`` looks through the attention mask of every forward pass for padding, for which the host waits
until the GPU has done all that it was given, and repeats keys and values for the query heads that share them. What
stands here is registered beside it, under a name of its own, at the places that transformers has for it. Where there
is a mask with padding, a cache or a window, transformers' own is called.
"""

from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from skillit_stream.loader.batches import is_whole

CAUSAL_SDPA = 'causal_sdpa'


def causal_sdpa(  # noqa: PLR0917 -- transformers calls it with these in place
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers calls an attention: query [batch, heads, sequence, size], keys and values of maybe fewer heads.

    Returns:
        [batch, sequence, heads, size], and no weights.
    """
    if attention_mask is not None or is_causal is not None or query.shape[2] == 1:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **options
        )
    output = functional.scaled_dot_product_attention(
        query,
        key,
        value,
        dropout_p=dropout,
        scale=scaling,
        is_causal=True,
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return output.transpose(1, 2).contiguous(), None


def mask_unless_whole(
    *,
    attention_mask: torch.Tensor | None = None,
    kv_length: int,
    allow_is_causal_skip: bool = True,
    local_size: int | None = None,
    **options: Any,
) -> torch.Tensor | None:
    """As transformers asks for a mask; None where the samples are text from end to end, without looking at it."""
    # transformers 5 names the number of queries, before it their positions.
    queries = options['q_length'] if 'q_length' in options else len(options['cache_position'])
    fits = kv_length == queries and (local_size is None or kv_length < local_size)
    if allow_is_causal_skip and fits and attention_mask is not None and is_whole(attention_mask):
        return None
    return sdpa_mask(
        attention_mask=attention_mask,
        kv_length=kv_length,
        allow_is_causal_skip=allow_is_causal_skip,
        local_size=local_size,
        **options,
    )


AttentionInterface.register(CAUSAL_SDPA, causal_sdpa)
AttentionMaskInterface.register(CAUSAL_SDPA, mask_unless_whole)
