"""Causal language models: from a configuration, from a local folder or a hub, pre-trained or not."""

import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from composer.metrics.nlp import LanguageCrossEntropy
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.pytorch_utils import Conv1D

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.names import is_missing_folder, nearest
from skillit_stream.mixture.checks import number_within
from skillit_stream.training.config import ModelConfig
from skillit_stream.training.kernels import Kernels, Machine, attention_options, choose, put_into
from skillit_stream.training.skill_losses import SkillLossModel

LOSS_METRIC = LanguageCrossEntropy.__name__
POSITIONS = (
    'max_position_embeddings',
    'max_seq_len',
    'max_sequence_length',
    'n_positions',
    'seq_length',
    'max_target_positions',
    'max_positions',
)
"""What the configurations of model families call the tokens that a sample may have."""
# Each family knows one name of a row.
_SAME = (
    (*POSITIONS, 'n_ctx', 'context_length'),
    ('hidden_size', 'd_model', 'n_embd'),
    ('num_hidden_layers', 'n_layers', 'n_layer', 'num_layers'),
    ('num_attention_heads', 'n_heads', 'n_head', 'num_heads'),
    ('num_key_value_heads', 'kv_n_heads', 'n_kv_heads'),
    ('intermediate_size', 'ffn_dim', 'ffn_hidden_size', 'n_inner'),
)


def build_model(
    config: ModelConfig,
    tokenizer: PreTrainedTokenizerBase | None,
    vocab_size: int,
    *,
    kernels: str | Kernels = 'auto',
    machine: Machine | None = None,
) -> SkillLossModel:
    """The model of a YAML, wrapped for Composer.

    Args:
        config: The YAML's `model`.
        tokenizer: Saved into checkpoints with the model, which names its special tokens; None: no such.
        vocab_size: Token ids in the streams are below it; the size of a vocabulary from scratch.
        kernels: The YAML's `kernels`, or a choice that is made already.
        machine: Where the model will train; None: on a CPU.

    Raises:
        InputError: The model cannot be found or built, its vocabulary is smaller than the streams', or the
            kernels do not fit it or the machine.
    """
    if config.name != 'hf_causal_lm':
        raise InputError(f'`model.name` must be hf_causal_lm, but got: {config.name!r}.')
    if bool(config.pretrained_model_name_or_path) == bool(config.config):
        raise InputError(
            'The model must have either `model.pretrained_model_name_or_path` or `model.config`, but got: '
            f'{"both (model.config=null drops one)" if config.config else "neither"}.'
        )
    if config.init != 'default' and config.pretrained_model_name_or_path and config.pretrained:
        raise InputError(
            f'`model.init` has no effect on pre-trained weights, but got: {config.init!r}; leave it out.'
        )
    pick = _pick(kernels, machine or Machine())
    # A tokenizer may have got tokens that no stream holds, to pad with or for chats.
    needed = max(vocab_size, 0 if tokenizer is None else len(tokenizer))
    if config.config:
        model, picked = _from_scratch(config, tokenizer, needed, pick)
    else:
        model, picked = _loaded(config, pick)
    _fit_vocabulary(model, vocab_size, needed, resize=config.resize_embeddings)
    if getattr(model.config, 'is_encoder_decoder', False):
        raise InputError(
            'The model must be a decoder alone, but its configuration has is_encoder_decoder: leave it out.'
        )
    model.config.use_cache = False
    taken = put_into(model, picked)
    wrapped = SkillLossModel(
        model,
        tokenizer=tokenizer,  # pyright: ignore[reportArgumentType]
        use_logits=True,
        eval_metrics=[LanguageCrossEntropy()],
    )
    wrapped.kernels = taken
    return wrapped


def _fit_vocabulary(model: PreTrainedModel, in_streams: int, needed: int, *, resize: bool) -> None:
    """Add embeddings for tokens that a model lacks, if that is asked for, and refuse it if not."""
    embedded = int(model.config.vocab_size)
    if embedded >= needed:
        return
    if not resize:
        lacks = (
            f'the streams have token ids up to {in_streams - 1}'
            if embedded < in_streams
            else f'the tokenizer knows {needed} tokens'
        )
        raise InputError(
            f'The model has a vocabulary of {embedded}, but {lacks}: take the tokenizer of this model (convert with it '
            'too), or pass model.resize_embeddings=true to add embeddings.'
        )
    model.resize_token_embeddings(needed)


Pick = Callable[[str], Kernels]


def _pick(kernels: str | Kernels, machine: Machine) -> Pick:
    return (lambda _: kernels) if isinstance(kernels, Kernels) else partial(choose, kernels, machine=machine)


def name_special_tokens(
    config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, keep: Iterable[str] = ()
) -> None:
    """Have a configuration name the tokenizer's EOS, BOS and PAD, so that generation stops where a document ends.

    What a class of transformers has by default are ids of another vocabulary. An EOS that is the tokenizer's among
    others stays.

    Args:
        config: To change.
        tokenizer: Of the streams.
        keep: Options that stay as they are.
    """
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    named = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    if eos is not None and eos not in named and 'eos_token_id' not in keep:
        config.eos_token_id = eos
    if 'bos_token_id' not in keep:
        config.bos_token_id = tokenizer.bos_token_id
    if 'pad_token_id' not in keep:
        # A model does not train the embedding of PAD: it must not be that of EOS, which documents hold.
        config.pad_token_id = None if pad == eos else pad


def name_generation_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Have a model generate with the special tokens of its configuration; what pads may be EOS there."""
    generation, config = model.generation_config, model.config
    if generation is None:
        return
    generation.eos_token_id, generation.bos_token_id = config.eos_token_id, config.bos_token_id
    pads = (config.pad_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id)
    generation.pad_token_id = next((one for one in pads if one is not None), None)


def _from_scratch(
    config: ModelConfig, tokenizer: PreTrainedTokenizerBase | None, vocab_size: int, pick: Pick
) -> tuple[PreTrainedModel, Kernels]:
    options = {'vocab_size': vocab_size, **(config.config or {}), **config.config_overrides}
    kind = str(options.pop('model_type', ''))
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise InputError(
            f'`model.config.model_type` must be a causal language model of transformers, e.g. llama or gpt_neox, '
            f'but got: {kind!r}.'
        )
    kernels = pick(kind)
    with as_input_error('`model.config` is not one that transformers takes', Exception):
        _refuse_unknown(f'model.config ({kind})', options, AutoConfig.for_model(kind))
        built = AutoConfig.for_model(kind, **options)
        if 'pad_token_id' not in options and (built.pad_token_id or 0) >= built.vocab_size:
            # The class's own, of a larger vocabulary.
            built.pad_token_id = None
        model = AutoModelForCausalLM.from_config(built, **attention_options(kernels))
    if tokenizer is not None:
        # Only now: the weights from scratch do not depend on the special tokens.
        name_special_tokens(model.config, tokenizer, keep=options)
        name_generation_tokens(model, tokenizer)
    if config.init == 'fan_in':
        _init_fan_in(model)
    return model, kernels


def _loaded(config: ModelConfig, pick: Pick) -> tuple[PreTrainedModel, Kernels]:
    name = str(config.pretrained_model_name_or_path)
    if is_missing_folder(name):
        raise InputError(
            f'`model.pretrained_model_name_or_path`: there is no folder {name}; name one with a model, or a model '
            f'on the hub.'
        )
    extra: dict[str, Any] = {'gguf_file': config.gguf_file} if config.gguf_file else {}
    with as_input_error(
        f'`model.pretrained_model_name_or_path`: no model could be loaded from {name}', Exception
    ):
        loaded = AutoConfig.from_pretrained(name, **extra)
        _refuse_unknown('model.config_overrides', config.config_overrides, loaded)
        for key, value in config.config_overrides.items():
            setattr(loaded, key, value)
        kernels = pick(loaded.model_type)
        attention = attention_options(kernels)
        if config.pretrained:
            loader = AutoModelForCausalLM.from_pretrained
            return loader(name, config=loaded, **extra, **attention), kernels
        model = AutoModelForCausalLM.from_config(loaded, **attention)
    if config.init == 'fan_in':
        _init_fan_in(model)
    return model, kernels


def _refuse_unknown(where: str, options: Mapping[str, Any], reference: PretrainedConfig) -> None:
    """transformers takes any key; one that is neither of the configuration nor read by the model is a mistake."""
    known = [*reference.to_dict(), *reference.attribute_map]
    for name, value in options.items():
        if name not in known and not hasattr(reference, name) and not _is_read(name, reference):
            raise InputError(f'`{where}` has no option {name!r}: {_meant(name, known)}')
        if 'drop' in name and isinstance(getattr(reference, name, None), float):
            # Some are looked at in the first step alone.
            number_within(f'`{where}.{name}`', value, 0.0, 1.0)


def _meant(name: str, known: list[str]) -> str:
    """The name by which this family knows the same, or the nearest one."""
    same = next((row for row in _SAME if name in row), ())
    return next((f'this model calls it {one!r}' for one in same if one in known), nearest(name, known))


def _is_read(name: str, reference: PretrainedConfig) -> bool:
    """Whether an option is read that the configuration class does not declare: by its own code, or by the model's."""
    name = re.escape(name)
    own = ''.join(inspect.getsource(kind) for kind in type(reference).__mro__ if kind is not object)
    if re.search(rf'kwargs\.(pop|get)\(["\']{name}["\']', own):
        return True
    model = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(reference), None)
    if model is None:
        return False
    kind: Any = model[0] if isinstance(model, tuple) else model
    code = inspect.getsource(sys.modules[kind.__module__])
    return re.search(rf'config(\.{name}\b|, *["\']{name}["\'])', code) is not None


def check_length(model: SkillLossModel, seq_len: int) -> None:
    """Refuse samples with more tokens than the model has positions for."""
    for name in POSITIONS:
        positions = getattr(model.config, name, None)
        if isinstance(positions, int) and 0 < positions < seq_len:
            raise InputError(
                f'The streams have samples of {seq_len} tokens, but `{name}` of the model is {positions}: '
                f'convert with --seq-len {positions}, or take a model of more positions.'
            )


def weights_hash(weights: Mapping[str, torch.Tensor]) -> str:
    """A hash of a model's weights, by name; float, integer and bf16 alike."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _init_fan_in(model: PreTrainedModel) -> None:
    """Draw every weight matrix with standard deviation 1/sqrt(fan-in); an embedding's fan-in is its width.

    Narrow models stay at chance with the usual constant of 0.02. What is no weight of a linear layer or an embedding
    (a state-space model's decays, a norm) stays as the model draws it.
    """
    drawn: set[int] = set()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            fan_in = module.weight.shape[1]
        elif isinstance(module, Conv1D):  # GPT-2's linear layer, [in, out]
            fan_in = module.weight.shape[0]
        else:
            continue
        if id(module.weight) not in drawn:  # tied ones once
            drawn.add(id(module.weight))
            torch.nn.init.normal_(module.weight, std=fan_in**-0.5)
