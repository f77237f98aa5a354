"""What a GPU gives at most: matrix products of a model's own shapes, attention by each backend, memory."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = ('FLASH_ATTENTION', 'CUDNN_ATTENTION', 'EFFICIENT_ATTENTION')
LARGE = 8_192


def limits(model: Mapping[str, Any], *, seq_len: int, microbatch: int, device: str) -> dict[str, Any]:
    """Rates measured here, and the time of a training step's work at them.

    Args:
        model: transformers' configuration of a Llama.
        seq_len: Tokens of a sample.
        microbatch: Samples of a forward pass.
        device: ``cuda`` or ``cpu``.

    Returns:
        ``large``, operations a second of a product of 8,192^3 in bfloat16 (of 256^3 on a CPU); ``copy``, bytes read and
        written a second; ``products``, seconds a token of all matrix products, forward and backward, each timed by
        itself; ``attention``, backend -> seconds a token, forward and backward, of all layers.
    """
    tokens = seq_len * microbatch
    side = LARGE if device == 'cuda' else 256
    square = _random(side, side, device=device)
    buffer = torch.empty(2**28 if device == 'cuda' else 2**20, dtype=torch.float32, device=device)
    return {
        'large': 2 * side**3 / seconds(lambda: square @ square, device),
        'copy': 2 * buffer.numel() * 4 / seconds(buffer.clone, device),
        'products': _products(model, tokens, device) / tokens,
        'attention': {
            name: took / tokens
            for name in (BACKENDS if device == 'cuda' else ('default',))
            if (took := _attention(model, seq_len, microbatch, device, name)) is not None
        },
    }


def seconds(call: Callable[[], Any], device: str, *, calls: int = 10, repeats: int = 5) -> float:
    """Median seconds of a call, several in a row at a time."""
    measured = []
    for repeat in range(repeats + 1):
        if device == 'cuda':
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            stream = torch.cuda.current_stream()
            begin.record(stream)
            for _ in range(calls):
                call()
            end.record(stream)
            torch.cuda.synchronize()
            took = begin.elapsed_time(end) / 1e3
        else:
            began = time.perf_counter()
            for _ in range(calls):
                call()
            took = time.perf_counter() - began
        if repeat:  # the first one warms up
            measured.append(took / calls)
    return statistics.median(measured)


def _random(*size: int, device: str) -> torch.Tensor:
    return torch.randn(*size, device=device, dtype=torch.float32).to(torch.bfloat16)


def _products(model: Mapping[str, Any], tokens: int, device: str) -> float:
    """Seconds of all products of the layers and the head with `tokens` rows: forward, of the inputs, of the weights."""
    width, inner = model['hidden_size'], model['intermediate_size']
    narrow = width * model['num_key_value_heads'] // model['num_attention_heads']
    layer = {(width, width): 2, (width, narrow): 2, (width, inner): 2, (inner, width): 1}
    counts = {shape: count * model['num_hidden_layers'] for shape, count in layer.items()}
    counts[width, model['vocab_size']] = 1
    total = 0.0
    for (inputs, outputs), count in counts.items():
        hidden, weight = (_random(n, inputs, device=device) for n in (tokens, outputs))
        given = _random(tokens, outputs, device=device)
        each = (lambda h=hidden, w=weight: h @ w.T), (lambda g=given, w=weight: g @ w)
        total += count * sum(seconds(call, device) for call in (*each, lambda g=given, h=hidden: g.T @ h))
    return total


def _attention(
    model: Mapping[str, Any], seq_len: int, microbatch: int, device: str, backend: str
) -> float | None:
    """Seconds of all layers' attention, forward and backward; None where this backend has none."""
    heads, shared = model['num_attention_heads'], model['num_key_value_heads']
    width = model['hidden_size'] // heads
    query, key, value = (
        _random(microbatch, number, seq_len, width, device=device).requires_grad_()
        for number in (heads, shared, shared)
    )
    given = _random(microbatch, heads, seq_len, width, device=device)

    def both() -> None:
        functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=heads != shared
        ).backward(given)

    try:
        if backend == 'default':
            return model['num_hidden_layers'] * seconds(both, device)
        with sdpa_kernel(getattr(SDPBackend, backend)):
            return model['num_hidden_layers'] * seconds(both, device)
    except RuntimeError:
        return None
