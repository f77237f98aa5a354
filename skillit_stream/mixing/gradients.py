"""How far the gradients of skills point the same way: products of sketched gradients of the last layer.

A policy that ``needs_gradients`` gets <g_i, g_j> of every two eval skills at the end of a round, where g_i is the
gradient of the mean loss of skill i by the weights of the last layer: the last block of the network and the norm behind
it, without the output layer, which is often as large as all else. No gradient is kept: each matrix G of it is drawn
together to P G Q, P and Q with entries +-1/sqrt(width), the same for every skill. Products of these are expected to be
<G_i, G_j>.
"""

import math
from collections.abc import Sequence

import torch
from torch import distributed
from torch.nn import Embedding, Module, ModuleList, Parameter, functional

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import IGNORE_INDEX, causal_lm_inputs, collate
from skillit_stream.loader.eval_streams import EvalStreams
from skillit_stream.mixing.evaluation import in_eval_mode, logits_of, parameters_of, places_of_rank

Products = dict[str, dict[str, float]]
"""Skill -> skill -> product of their gradients, nats squared per token squared and unit of weight squared."""


def gradient_products(
    model: Module,
    streams: EvalStreams,
    *,
    samples_per_skill: int = 8,
    width: int = 128,
    document_end: int | None = None,
    seed: int = 0,
) -> Products:
    """Products of the skills' gradients; call it on every rank of a process group alike.

    Every rank takes its part of the samples, one at a time: so the products are the same to the bit however many ranks
    there are. The gradients that a step has left, the random numbers and the modes of the modules stay as they are. It
    takes 8 bytes of memory for each skill and number of a sketch, 16,384 a matrix.

    Args:
        model: As `evaluate_skills` takes it; DistributedDataParallel is looked through.
        streams: The eval samples.
        samples_per_skill: The first so many samples of each skill, the same every time.
        width: Columns and rows that a matrix is drawn together to; a smaller one is taken as it is. The error of a
            product is about the product of the norms times 2 / width for each matrix.
        document_end: As :func:`~skillit_stream.loader.batches.causal_lm_inputs`'s.
        seed: Of P and Q.

    Raises:
        InputError: The model is sharded, or its last layer is not trained.
    """
    if distributed.is_available() and isinstance(model, torch.nn.parallel.DistributedDataParallel):
        model = model.module
    weights = last_layer(model)
    sketches = [_Sketch(tuple(one.shape), width, seed + at, one.device) for at, one in enumerate(weights)]
    sizes = len(streams.skills), sum(one.size for one in sketches)
    # Sums of float32 are exact in float64, in whatever order.
    sums = torch.zeros(sizes, dtype=torch.float64, device=weights[0].device)
    targets = torch.zeros(len(streams.skills), dtype=torch.float64, device=sums.device)
    takes = parameters_of(model)
    with in_eval_mode(model), torch.enable_grad():
        for row, skill in enumerate(streams.skills):
            samples = streams.skill(skill, samples_per_skill)
            for places in places_of_rank(len(samples), 1, streams.replication or 1):
                if places[0] >= len(samples):
                    continue
                batch = collate(samples.__getitems__(places.tolist()))
                batch = {name: column.to(sums.device) for name, column in batch.items()}
                inputs = causal_lm_inputs(batch, document_end=document_end)
                labels = inputs['labels'][0, 1:]
                logits = logits_of(model, takes, inputs)[0, :-1].float()
                nats = functional.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction='sum')
                found = torch.autograd.grad(nats, weights, allow_unused=True)
                sums[row] += torch.cat([one.of(own) for one, own in zip(sketches, found, strict=True)])
                targets[row] += (labels != IGNORE_INDEX).sum()
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(sums)
        distributed.all_reduce(targets)
    means = (sums / targets.clamp(min=1)[:, None]).cpu()
    products = (means @ means.T).tolist()
    return {
        skill: dict(zip(streams.skills, row, strict=True))
        for skill, row in zip(streams.skills, products, strict=True)
    }


def last_layer(model: Module) -> list[Parameter]:
    """The trained weights of the last block, and of what comes after it but for the output layer.

    Blocks are the members of the longest ModuleList; a model without one is taken whole, but for its embeddings.

    Raises:
        InputError: The weights are sharded, or none of them is trained.
    """
    lists = [one for one in model.modules() if isinstance(one, ModuleList) and len(one)]
    embedded = {
        id(one) for part in model.modules() if isinstance(part, Embedding) for one in part.parameters()
    }
    output = model.get_output_embeddings() if hasattr(model, 'get_output_embeddings') else None  # pyright: ignore[reportCallIssue]
    if isinstance(output, Module):
        embedded |= {id(one) for one in output.parameters()}
    parameters: Sequence[Parameter] = list(model.parameters())
    if lists:
        first = next(iter(max(lists, key=len)[-1].parameters()), None)
        places = [at for at, one in enumerate(parameters) if one is first]
        parameters = parameters[places[0] if places else 0 :]
    found = [one for one in parameters if one.requires_grad and id(one) not in embedded]
    if any(
        hasattr(one, '_is_flat_param') or type(one.data).__name__ == 'DTensor' for one in model.parameters()
    ):
        raise InputError(
            'The policy needs gradients by skill, which a sharded model (FSDP) does not have whole: train with DDP, or '
            'choose a policy of losses.'
        )
    if not found:
        raise InputError(
            'The policy needs gradients by skill, but the last layer of the model is not trained.'
        )
    return found


class _Sketch:
    """How the gradient of one weight is drawn together."""

    def __init__(self, shape: tuple[int, ...], width: int, seed: int, device: torch.device) -> None:
        rows, columns = shape[0] if shape else 1, math.prod(shape[1:])
        draw = torch.Generator().manual_seed(seed)
        self._sides = [_signs(rows, width, draw, device), _signs(columns, width, draw, device)]
        self._shape, self._device = (rows, columns), device
        self.size = min(rows, width) * min(columns, width)

    def of(self, gradient: torch.Tensor | None) -> torch.Tensor:
        """P G Q, float32 [size]."""
        left, right = self._sides
        if gradient is None:
            return torch.zeros(self.size, device=self._device)
        drawn = gradient.detach().float().reshape(self._shape)
        drawn = drawn if left is None else left @ drawn
        return (drawn if right is None else drawn @ right.T).flatten()


def _signs(length: int, width: int, draw: torch.Generator, device: torch.device) -> torch.Tensor | None:
    """Random signs over sqrt(width), float32 [width, length]; None where there is nothing to draw together."""
    if length <= width:
        return None
    signs = torch.randint(0, 2, (width, length), generator=draw) * 2 - 1
    return (signs / math.sqrt(width)).to(device)
