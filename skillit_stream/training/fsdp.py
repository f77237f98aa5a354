"""Composer's FSDP from a YAML: checked key by key, because Composer itself takes any key and forgets it."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from composer.trainer import _patch_pytorch
from composer.utils import FSDPConfig, ParallelismConfig
from transformers import PreTrainedModel

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import nearest
from skillit_stream.training.layers import layers_of

# These take Python objects, which a YAML cannot name.
_NOT_OF_A_YAML = ('_device_mesh', 'ignored_modules', 'load_planner', 'save_planner')
_CHOICES = {
    'sharding_strategy': ('FULL_SHARD', 'SHARD_GRAD_OP', 'HYBRID_SHARD', '_HYBRID_SHARD_ZERO2', 'NO_SHARD'),
    'mixed_precision': ('DEFAULT', 'PURE', 'FULL'),
    'backward_prefetch': ('BACKWARD_PRE', 'BACKWARD_POST', 'NONE'),
    'state_dict_type': ('full', 'sharded'),
}
_KEYS = {item.name: item for item in fields(FSDPConfig) if item.name not in _NOT_OF_A_YAML}


def build_fsdp(
    options: Mapping[str, Any] | None, device: str | None, microbatch: int | str = 1
) -> ParallelismConfig | None:
    """The YAML's `fsdp_config` as Composer takes it; None: DDP.

    Args:
        options: Keys of Composer's ``FSDPConfig``; an empty mapping stands for its defaults.
        device: The YAML's `device`.
        microbatch: The YAML's `device_train_microbatch_size`.

    Raises:
        InputError: A key is unknown, a value is not one that it takes, there is no GPU, or Composer cannot look for a
            microbatch with this torch.
    """
    if options is None:
        return None
    for key, value in options.items():
        _check(key, value)
    if options.get('load_monolith_rank0_only') and not options.get('sync_module_states'):
        raise InputError('`fsdp_config.load_monolith_rank0_only` needs sync_module_states: true beside it.')
    if device == 'cpu' or not torch.cuda.is_available():
        raise InputError(
            '`fsdp_config` needs a GPU, but there is none: pass fsdp_config=null to train with DDP.'
        )
    # Composer replaces a part of torch's FSDP while it looks for one, in the versions of torch that it knows.
    if microbatch == 'auto' and not hasattr(_patch_pytorch, 'unshard_with_sync'):
        raise InputError(
            f'`device_train_microbatch_size: auto` does not work with `fsdp_config` on torch {torch.__version__}, '
            f'which Composer does not know: name a number of samples.'
        )
    return ParallelismConfig(fsdp=FSDPConfig(**options))


def mark_layers(model: PreTrainedModel) -> int:
    """Have Composer shard, and if asked checkpoint, every layer of a transformers model by itself.

    Left unmarked, a model is a single unit, and each step gathers all of it on every GPU.

    Returns:
        How many layers were marked.
    """
    layers = layers_of(model)
    for layer in layers:
        layer._fsdp_wrap = True  # pyright: ignore[reportArgumentType]
        layer._activation_checkpointing = True  # pyright: ignore[reportArgumentType]
    return len(layers)


def _check(key: str, value: Any) -> None:
    if key not in _KEYS:
        raise InputError(f'`fsdp_config.{key}`: there is no {key!r}: {nearest(key, list(_KEYS))}')
    default = _KEYS[key].default
    if key == 'mixed_precision' and isinstance(value, Mapping):
        return  # dtypes one by one, which torch checks
    if isinstance(default, bool) and not isinstance(value, bool):
        raise InputError(f'`fsdp_config.{key}` must be true or false, but got: {value!r}.')
    whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(default, int) and not isinstance(default, bool) and not whole:
        raise InputError(f'`fsdp_config.{key}` must be a whole number, but got: {value!r}.')
    # Composer reads all but the type of the checkpoints in either case.
    given = value if key == 'state_dict_type' else str(value).upper()
    if key in _CHOICES and given not in _CHOICES[key]:
        raise InputError(
            f'`fsdp_config.{key}` must be one of {", ".join(_CHOICES[key])}, but got: {value!r}.'
        )
