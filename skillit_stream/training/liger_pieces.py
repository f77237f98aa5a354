"""Kernels of liger-kernel in one model of transformers. Importing this needs a GPU's driver (Triton asks for it).

Liger's own `apply_liger_kernel_to_...` functions also change the classes, for every model of the process, have none for
GPT-NeoX and refuse the transformers that Composer takes (4.x): here its functions are put into the
modules of one instance.
"""

from collections.abc import Callable, Sequence
from types import FunctionType, MethodType
from typing import Any, cast

import torch
from liger_kernel.ops.fused_linear_cross_entropy import (  # pyright: ignore[reportMissingImports]
    fused_linear_cross_entropy_forward,
)
from liger_kernel.transformers.functional import (  # pyright: ignore[reportMissingImports]
    liger_layer_norm,
    liger_rms_norm,
    liger_rope,
    liger_swiglu,
)
from torch import nn

from skillit_stream.loader.batches import IGNORE_INDEX

# Logits that exist at a time, as a multiple of the hidden states. Every chunk of them passes once over the float32
# gradient of the head, so that few are better than many.
CHUNK_FACTOR = 4


def put_into(model: nn.Module, pieces: Sequence[str]) -> None:
    """Put these pieces into every module of the model that they fit.

    Raises:
        RuntimeError: The model has no module for one of them.
    """
    for piece in pieces:
        fits, put = _PIECES[piece]
        modules = [module for module in model.modules() if fits(module)]
        if not modules:
            raise RuntimeError(f'Internal error: {type(model).__name__} has no module for {piece}.')
        for module in modules:
            put(module)


def fused_linear_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum and losses by token as :data:`LinearCrossEntropy` has them, logits in chunks, nothing computed twice."""
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    return _SumAndLosses.apply(hidden.to(dtype), weight.to(dtype), targets)  # pyright: ignore[reportReturnType]


class _SumAndLosses(torch.autograd.Function):
    """Liger's forward pass with ``reduction='none'`` finds gradients as well: those of the sum of the losses.

    Its own autograd function drops them, because the losses might be weighed, and computes all logits again in
    the backward pass. Here it is the sum that has a gradient, so they are right.
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> Any:
        losses, *_, of_hidden, of_weight, _ = fused_linear_cross_entropy_forward(
            hidden,
            weight,
            targets,
            ignore_index=IGNORE_INDEX,
            reduction='none',
            accum_dtype=torch.float32,
            chunk_mem_const=CHUNK_FACTOR,
            compute_gradients=True,
        )
        ctx.save_for_backward(of_hidden, of_weight)
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        # In place: the head's gradient is as large as the head. A second backward pass is an error of autograd.
        of_hidden, of_weight = ctx.saved_tensors
        return of_hidden.mul_(grads[0]), None if of_weight is None else of_weight.mul_(grads[0]), None


def _rms_norm(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    return cast('torch.Tensor', liger_rms_norm(hidden_states, self.weight, self.variance_epsilon))


def _layer_norm(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    return cast('torch.Tensor', liger_layer_norm(hidden_states, self.weight, self.bias, self.eps))


def _swiglu(self: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    return self.down_proj(liger_swiglu(self.gate_proj(hidden_states), self.up_proj(hidden_states)))


def _put_rotary(module: Any) -> None:
    """Attention calls a function of its file: give this module a forward in which the name means Liger's."""
    forward = type(module).forward
    name = 'apply_rotary_pos_emb'
    if name not in forward.__code__.co_names:
        raise RuntimeError(f'Internal error: {type(module).__name__} does not call {name}.')
    names = {**forward.__globals__, name: liger_rope}
    copy = FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
    copy.__kwdefaults__ = forward.__kwdefaults__
    module.forward = MethodType(copy, module)


def _forward(function: Callable[..., torch.Tensor]) -> Callable[[Any], None]:
    def put(module: Any) -> None:
        module.forward = MethodType(function, module)

    return put


def _named(ending: str) -> Callable[[nn.Module], bool]:
    return lambda module: type(module).__name__.endswith(ending)


# Piece -> which modules it is for, and how it is put into one.
_PIECES: dict[str, tuple[Callable[[nn.Module], bool], Callable[[Any], None]]] = {
    'rms_norm': (_named('RMSNorm'), _forward(_rms_norm)),
    'layer_norm': (lambda module: isinstance(module, nn.LayerNorm), _forward(_layer_norm)),
    'rotary': (_named('Attention'), _put_rotary),
    'swiglu': (_named('MLP'), _forward(_swiglu)),
}
