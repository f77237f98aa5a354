"""Which kernels a model runs on: the choice that `kernels: auto|fused|compiled|eager` of a YAML asks for.

- ``eager``: transformers' own modules and its eager attention, on any device.
- ``compiled``: every layer through torch.compile by itself, so that all layers share what is compiled, on any device.
  For the model types of :data:`FAMILIES` with flash attention (flash-attn where it is installed and the precision
  is a half one, else PyTorch's SDPA) and the fused linear cross-entropy of liger-kernel; without that, the
  cross-entropy is taken in chunks by PyTorch, so that the logits of a batch never exist as a whole.
- ``fused``: the same attention and loss, and liger-kernel's norms, rotary embedding and SwiGLU in place of compiled
  layers: nothing to compile at the start. An error where something of it is missing.
- ``auto``: on a CPU whatever transformers takes by itself. On a GPU, for the model types of :data:`FAMILIES`, what was
  measured to be fastest there (benchmarks/results): ``compiled``, and ``fused`` where layers cannot be compiled.

The choice (:func:`choose`) is a function of plain values; :func:`put_into` changes one model, and no other
instance of its class.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from shutil import which
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import is_flash_attn_2_available

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.training.attention import CAUSAL_SDPA
from skillit_stream.training.layers import layers_of
from skillit_stream.training.token_losses import chunked_linear_cross_entropy, take_loss_by_token

LLAMA_LIKE = ('rms_norm', 'rotary', 'swiglu')
# Liger has nothing for GPT-NeoX's MLP; torch.compile fuses its GELU with the biases about it.
COMPILED_MLP = 'compiled_mlp'
COMPILED_LAYERS = 'compiled_layers'
# transformers' model type -> the pieces that fit its modules.
FAMILIES = {
    'llama': LLAMA_LIKE,
    'mistral': LLAMA_LIKE,
    'qwen2': LLAMA_LIKE,
    'qwen3': LLAMA_LIKE,
    'gpt_neox': ('layer_norm', 'rotary', COMPILED_MLP),
}
HALF_PRECISIONS = ('amp_bf16', 'amp_fp16')
INSTALL = "pip install 'skillit-stream[kernels]'"


@dataclass(frozen=True)
class Machine:
    """What a choice of kernels depends on, other than the model.

    Attributes:
        gpu: Whether the model trains on a GPU.
        half: Whether matrix products are taken in half precision; flash-attn knows no other.
        packages: Which of ``liger_kernel`` and ``flash_attn`` can be used.
        cannot_compile: Why `auto` does not compile layers; empty where it does.
    """

    gpu: bool = False
    half: bool = False
    packages: frozenset[str] = frozenset()
    cannot_compile: str = ''

    @classmethod
    def here(cls, device: str | None, precision: str, *, sharded: bool = False) -> 'Machine':
        """This machine, for a run with the YAML's `device` and `precision`, and with FSDP if it is `sharded`."""
        found = {'liger_kernel': find_spec('liger_kernel'), 'flash_attn': is_flash_attn_2_available()}
        packages = frozenset(name for name, there in found.items() if there)
        return cls(on_gpu(device), precision in HALF_PRECISIONS, packages, _cannot_compile(sharded))


def _cannot_compile(sharded: bool) -> str:
    if sharded:
        return 'compiled layers have not been tried with FSDP; kernels=compiled asks for them'
    if not find_spec('triton'):
        return 'layers are not compiled: Triton is not installed'
    if not any(which(name) for name in (os.environ.get('CC') or 'cc', 'gcc', 'clang')):
        return 'layers are not compiled: there is no C compiler, which Triton needs; apt install gcc'
    return ''


@dataclass(frozen=True)
class Kernels:
    """A choice.

    Attributes:
        asked: The YAML's `kernels`.
        attention: transformers' `attn_implementation`; None: its default for the model.
        loss: Cross-entropy without the logits of a whole batch: ``liger`` or ``chunked``; None: from logits.
        pieces: Other fused modules.
        note: Why it is not more; empty where there is nothing to say.
    """

    asked: str
    attention: str | None = None
    loss: str | None = None
    pieces: tuple[str, ...] = ()
    note: str = ''

    def describe(self) -> dict[str, Any]:
        """For ``run.json``."""
        return {**asdict(self), 'pieces': list(self.pieces)}

    def line(self) -> str:
        """For the log."""
        loss = {'liger': 'fused linear cross-entropy', 'chunked': 'linear cross-entropy in chunks'}
        parts = [f'attention {self.attention}', *([loss[self.loss]] if self.loss else []), *self.pieces]
        note = f' ({self.note})' if self.note else ''
        return f'kernels {self.asked}: {", ".join(parts)}{note}'


def on_gpu(device: str | None) -> bool:
    """Whether a run with the YAML's `device` trains on a GPU."""
    return device == 'gpu' or (device is None and torch.cuda.is_available())


def choose(asked: str, model_type: str, machine: Machine) -> Kernels:
    """The kernels for a model.

    Args:
        asked: ``auto``, ``fused``, ``compiled`` or ``eager``.
        model_type: As transformers calls it, e.g. ``llama``.
        machine: Where it trains.

    Raises:
        InputError: ``fused`` is asked for where there is no GPU or no liger-kernel, or of a model that it does not fit.
    """
    if asked == 'fused':
        _check_fused(model_type, machine)
    if asked == 'eager':
        return Kernels(asked, attention='eager')
    if asked == 'compiled':
        return _compiled(asked, model_type, machine)
    if not machine.gpu:
        return Kernels(asked, note='no GPU')
    if model_type not in FAMILIES:
        return Kernels(asked, note=f'no fused kernels are known for a model of type {model_type}')
    if asked == 'auto' and not machine.cannot_compile:
        return _compiled(asked, model_type, machine)
    pieces, loss = FAMILIES[model_type], _loss(machine)
    notes = [machine.cannot_compile] if asked == 'auto' else []
    if loss != 'liger':
        notes.append(f'liger-kernel is not installed; for the fused ones: {INSTALL}')
        pieces = tuple(piece for piece in pieces if piece == COMPILED_MLP and not machine.cannot_compile)
    return Kernels(asked, _attention(machine), loss, pieces, '; '.join(notes))


def _attention(machine: Machine) -> str:
    return 'flash_attention_2' if machine.half and 'flash_attn' in machine.packages else CAUSAL_SDPA


def _loss(machine: Machine) -> str:
    return 'liger' if machine.gpu and 'liger_kernel' in machine.packages else 'chunked'


def _compiled(asked: str, model_type: str, machine: Machine) -> Kernels:
    if model_type not in FAMILIES:
        note = f'no loss without logits is known for a model of type {model_type}'
        return Kernels(asked, pieces=(COMPILED_LAYERS,), note=note)
    loss = _loss(machine)
    note = (
        f'liger-kernel is not installed; for its loss: {INSTALL}' if machine.gpu and loss != 'liger' else ''
    )
    return Kernels(asked, _attention(machine), loss, (COMPILED_LAYERS,), note)


def _check_fused(model_type: str, machine: Machine) -> None:
    if not machine.gpu:
        raise InputError('`kernels: fused` needs a GPU, but the run is on a CPU: take kernels=auto.')
    if 'liger_kernel' not in machine.packages:
        raise InputError(
            f'`kernels: fused` needs the package liger-kernel, which is not installed: {INSTALL}, or take '
            f'kernels=auto.'
        )
    if model_type not in FAMILIES:
        raise InputError(
            f'`kernels: fused` is for models of type {", ".join(FAMILIES)}, but got: {model_type!r}; take '
            f'kernels=auto.'
        )


def attention_options(kernels: Kernels) -> dict[str, str]:
    """What transformers is given when it builds the model."""
    return {'attn_implementation': kernels.attention} if kernels.attention else {}


def put_into(model: PreTrainedModel, kernels: Kernels) -> Kernels:
    """Put the chosen loss and pieces into this model.

    Returns:
        What the model runs on now: the choice, without pieces that do not fit this model, with its attention.

    Raises:
        InputError: liger-kernel is installed, but cannot be imported; or layers are to be compiled, but the model
            names none.
    """
    pieces = fitting(kernels.pieces, str(getattr(model.config, 'hidden_act', '')))
    if kernels.loss == 'chunked':
        take_loss_by_token(model, chunked_linear_cross_entropy)
    elif kernels.loss == 'liger':
        with as_input_error(
            'liger-kernel cannot be used here (kernels=eager does without)', ImportError, RuntimeError
        ):
            from skillit_stream.training import liger_pieces
        take_loss_by_token(model, liger_pieces.fused_linear_cross_entropy)
        liger_pieces.put_into(
            model, [piece for piece in pieces if piece not in (COMPILED_MLP, COMPILED_LAYERS)]
        )
    if COMPILED_MLP in pieces:
        for module in model.modules():
            if type(module).__name__.endswith('MLP'):
                module.compile()
    if COMPILED_LAYERS in pieces:
        _compile_layers(model)
    return replace(kernels, pieces=pieces, attention=model.config._attn_implementation)


def _compile_layers(model: PreTrainedModel) -> None:
    """Compile every layer by itself, and the norms outside of them: the layers share what is compiled.

    For shapes as they are: with sizes that may change, attention and matrix products are slower.
    """
    layers = layers_of(model)
    if not layers:
        raise InputError(
            f'`kernels: compiled` needs a model with layers, but {type(model).__name__} names none: take kernels=auto.'
        )
    inside = {module for layer in layers for module in layer.modules()}
    norms = [one for one in model.modules() if 'Norm' in type(one).__name__ and one not in inside]
    for module in (*layers, *norms):
        module.compile(dynamic=False)


def fitting(pieces: Sequence[str], activation: str) -> tuple[str, ...]:
    """The pieces without SwiGLU where the model's activation is another."""
    return tuple(piece for piece in pieces if piece != 'swiglu' or activation in ('silu', 'swish'))
