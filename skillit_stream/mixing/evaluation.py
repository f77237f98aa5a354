"""Evaluation by skill of a plain PyTorch model: each eval sample once, however many ranks share them."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed
from torch.nn import Module, functional

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import IGNORE_INDEX, causal_lm_inputs, collate
from skillit_stream.loader.eval_streams import EvalStreams
from skillit_stream.mixing.sample_sums import sums_by_sample


def evaluate_skills(
    model: Module,
    streams: EvalStreams,
    *,
    batch_size: int,
    samples_per_skill: int | None = 256,
    device: torch.device | str | None = None,
    document_end: int | None = None,
) -> dict[str, float]:
    """The loss of each eval skill, for ``MixtureDriver``; call it on every rank of a process group alike.

    A skill's loss is its nats divided by its target tokens over all samples, whatever the ranks and batches. Every
    rank takes its part of the samples and as many steps as the others, so that a sharded model's ranks meet. No
    gradients are kept, no random number is drawn, and every module ends in the mode that it was in. Precision is
    that of the model, or of the ``torch.autocast`` around the call.

    Args:
        model: A causal language model. It is called with tokens int64 [batch, sequence], and with those of
            ``attention_mask``, ``position_ids`` and ``use_cache`` that its ``forward`` names; it returns logits
            [batch, sequence, vocabulary], or what holds them as ``logits`` or in the first place.
        streams: The eval samples; with a ``loss_mask`` its targets alone count. Where several ranks hold one copy
            of the model and need the same samples, build them with ``replication=``.
        batch_size: Samples a rank and step.
        samples_per_skill: The first so many samples of each skill, the same every time; None: all.
        device: Where the batches go; None: where the model's first parameter is.
        document_end: As :func:`~skillit_stream.loader.batches.causal_lm_inputs`'s.

    Returns:
        Eval skill -> nats per token, the same on every rank; NaN for a skill without a target token.

    Raises:
        InputError: A number is not positive, or the model returns no logits of every token.
    """
    for name, value in (('batch_size', batch_size), ('samples_per_skill', samples_per_skill)):
        if value is not None and value < 1:
            raise InputError(f'`{name}` must be a positive whole number, but got: {value!r}.')
    if device is None:
        device = next((parameter.device for parameter in model.parameters()), torch.device('cpu'))
    samples = streams.all_skills(samples_per_skill)
    sums = torch.zeros(2, len(streams.skills), dtype=torch.float64, device=device)
    takes = parameters_of(model)
    with torch.no_grad(), in_eval_mode(model):
        for places in places_of_rank(len(samples), batch_size, streams.replication or 1):
            counted = torch.from_numpy(places < len(samples))
            batch = collate(samples.__getitems__(np.minimum(places, len(samples) - 1).tolist()))
            batch = {name: column.to(device) for name, column in batch.items()}
            inputs = causal_lm_inputs(batch, document_end=document_end)
            logits = logits_of(model, takes, inputs)
            # The label of a place is the token that comes next.
            labels = functional.pad(inputs['labels'][:, 1:], (0, 1), value=IGNORE_INDEX)
            labels[~counted.to(device)] = IGNORE_INDEX
            sums.index_add_(1, batch['skill'].to(torch.int64), sums_by_sample(logits, labels)[:2])
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(sums)
    nats, targets = sums.cpu()
    return dict(zip(streams.skills, (nats / targets).tolist(), strict=True))


def places_of_rank(samples: int, batch_size: int, replication: int) -> Iterator[NDArray[np.int64]]:
    """Places of samples, a batch at a time: as many for every rank, those from `samples` on to be left out."""
    rank, ranks = 0, 1
    if distributed.is_available() and distributed.is_initialized():
        rank, ranks = distributed.get_rank() // replication, distributed.get_world_size() // replication
    each = -(-samples // ranks)
    for begin in range(0, each, batch_size):
        yield rank * each + np.arange(begin, min(begin + batch_size, each), dtype=np.int64)


@contextmanager
def in_eval_mode(model: Module) -> Iterator[None]:
    """Within this context every module evaluates; after it each does what it did before."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def parameters_of(model: Module) -> set[str]:
    """What the model's ``forward`` names, behind a wrapper that passes on whatever it gets."""
    parameters = inspect.signature(model.forward).parameters
    passes_on = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    inner = getattr(model, '_orig_mod', None) or getattr(model, 'module', None)
    if passes_on and 'input_ids' not in parameters and isinstance(inner, Module):
        return parameters_of(inner)
    return set(parameters)


def logits_of(model: Module, takes: set[str], inputs: Mapping[str, Any]) -> torch.Tensor:
    """Logits [batch, sequence, vocabulary]; `takes` is what the model's ``forward`` names."""
    # A cache of keys and values would be kept until the end of the step, for nobody.
    offered = {**inputs, 'use_cache': False}
    named = {
        name: offered[name] for name in ('attention_mask', 'position_ids', 'use_cache') if name in offered
    }
    named = {name: value for name, value in named.items() if name in takes}
    tokens = inputs['input_ids']
    outputs = model(input_ids=tokens, **named) if 'input_ids' in takes else model(tokens, **named)
    if isinstance(outputs, Mapping):
        outputs = outputs.get('logits')
    elif hasattr(outputs, 'logits'):
        outputs = outputs.logits
    elif isinstance(outputs, tuple):
        outputs = outputs[0]
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 3 or outputs.shape[:2] != tokens.shape:
        got = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise InputError(
            f'The model must return logits of every token, [{len(tokens)}, {tokens.shape[1]}, vocabulary], but got: '
            f'{got}.'
        )
    return outputs
