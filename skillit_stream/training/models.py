"""Causal language models: from a configuration, from a local folder or a hub, pre-trained or not."""

from pathlib import Path
from typing import Any

import torch
from composer.metrics.nlp import LanguageCrossEntropy
from composer.models import HuggingFaceModel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from skillit_stream.errors import InputError
from skillit_stream.training.config import ModelConfig

LOSS_METRIC = LanguageCrossEntropy.__name__
INITS = ('default', 'fan_in')


def build_model(config: ModelConfig, tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> HuggingFaceModel:
    """The model of a YAML, wrapped for Composer.

    Args:
        config: The YAML's `model`.
        tokenizer: Saved into checkpoints with the model.
        vocab_size: Token ids in the streams are below it; the size of a vocabulary from scratch.

    Raises:
        InputError: The model cannot be found or built, or its vocabulary is smaller than the streams'.
    """
    if config.name != 'hf_causal_lm':
        raise InputError(f'`model.name` must be hf_causal_lm, but got: {config.name!r}.')
    if config.init not in INITS:
        raise InputError(f'`model.init` must be one of {", ".join(INITS)}, but got: {config.init!r}.')
    if bool(config.pretrained_model_name_or_path) == bool(config.config):
        raise InputError(
            'The model must have either `model.pretrained_model_name_or_path` or `model.config`, but got: '
            f'{"both" if config.config else "neither"}.'
        )
    model = _from_scratch(config, vocab_size) if config.config else _loaded(config)
    embedded = int(model.config.vocab_size)
    if embedded < vocab_size:
        raise InputError(
            f'The model has a vocabulary of {embedded}, but the streams have token ids up to {vocab_size - 1}: '
            f'convert with the tokenizer of this model.'
        )
    model.config.use_cache = False
    return HuggingFaceModel(
        model,
        tokenizer=tokenizer,  # pyright: ignore[reportArgumentType]
        use_logits=True,
        eval_metrics=[LanguageCrossEntropy()],
    )


def _from_scratch(config: ModelConfig, vocab_size: int) -> PreTrainedModel:
    options = {'vocab_size': vocab_size, **config.config, **config.config_overrides}
    kind = options.pop('model_type', None)
    if not kind:
        raise InputError('`model.config` must name a `model_type` of transformers, e.g. llama or gpt_neox.')
    try:
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(str(kind), **options))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f'`model.config` is not one that transformers takes: {_first_line(error)}'
        ) from error
    if config.init == 'fan_in':
        _init_fan_in(model)
    return model


def _loaded(config: ModelConfig) -> PreTrainedModel:
    name = str(config.pretrained_model_name_or_path)
    extra: dict[str, Any] = {'gguf_file': config.gguf_file} if config.gguf_file else {}
    try:
        loaded = AutoConfig.from_pretrained(name, **extra)
        for key, value in config.config_overrides.items():
            setattr(loaded, key, value)
        if config.pretrained:
            return AutoModelForCausalLM.from_pretrained(name, config=loaded, **extra)
        model = AutoModelForCausalLM.from_config(loaded)
    except (OSError, ValueError) as error:
        where = 'folder' if Path(name).exists() else 'hub name or folder'
        raise InputError(
            f'`model.pretrained_model_name_or_path`: no model could be loaded from {where} {name}: '
            f'{_first_line(error)}'
        ) from error
    if config.init == 'fan_in':
        _init_fan_in(model)
    return model


def _init_fan_in(model: PreTrainedModel) -> None:
    """Draw every matrix with standard deviation 1/sqrt(fan-in); an embedding's fan-in is its width.

    Narrow models stay at chance with the usual constant of 0.02.
    """
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
