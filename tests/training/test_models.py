"""Models of a YAML: from a configuration, from a local folder, with its weights or without."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from composer.models import HuggingFaceModel
from composer.utils import reproducibility
from transformers import AutoConfig, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from skillit_stream import InputError
from skillit_stream.training.config import ModelConfig
from skillit_stream.training.models import (
    LOSS_METRIC,
    build_model,
    name_generation_tokens,
    name_special_tokens,
)
from tests.support.training_runs import LLAMA, VOCABULARY

WIDE = {**LLAMA, 'hidden_size': 64, 'intermediate_size': 256, 'num_hidden_layers': 2, 'vocab_size': 500}


@pytest.fixture
def tokenizer(streams: Path) -> Any:
    """The tokenizer that lies with the streams."""
    return AutoTokenizer.from_pretrained(str(streams / 'tokenizer'))


@pytest.fixture
def build(tokenizer: Any):
    """Build a model from the keys of a YAML's `model`."""

    def make(vocab_size: int = VOCABULARY, **keys: Any) -> HuggingFaceModel:
        reproducibility.seed_all(1)
        return build_model(ModelConfig(**keys), tokenizer, vocab_size)

    return make


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a small model, as `save_pretrained` writes it."""
    torch.manual_seed(99)
    options = {key: value for key, value in LLAMA.items() if key != 'model_type'}
    LlamaForCausalLM(LlamaConfig(**options, vocab_size=32)).save_pretrained(tmp_path / 'model')
    return tmp_path / 'model'


def matrices(model: HuggingFaceModel) -> dict[str, torch.Tensor]:
    """The parameters with two axes, by name."""
    return {name: one.detach() for name, one in model.model.named_parameters() if one.ndim == 2}


def same_weights(model: HuggingFaceModel, folder: Path) -> bool:
    """Whether a model has the weights of a saved one."""
    stored = LlamaForCausalLM.from_pretrained(str(folder)).state_dict()
    return all(torch.equal(value, stored[name]) for name, value in model.model.state_dict().items())


@pytest.mark.parametrize('tied', [True, False])
def test_fan_in_draws_every_matrix_with_one_over_the_root_of_its_fan_in(build, tied: bool):
    model = build(config={**WIDE, 'tie_word_embeddings': tied}, init='fan_in')
    drawn = matrices(model)
    assert len(drawn) == 1 + 2 * 7 + (not tied)
    for name, matrix in drawn.items():
        fan_in = matrix.shape[1]
        assert float(matrix.std()) == pytest.approx(fan_in**-0.5, rel=0.05), name
        assert abs(float(matrix.mean())) < 0.05 * fan_in**-0.5, name


def test_fan_in_knows_gpt2s_layers_which_are_in_by_out(build):
    config = {'model_type': 'gpt2', 'n_embd': 64, 'n_layer': 1, 'n_head': 2, 'vocab_size': 500}
    block = build(config=config, init='fan_in').model.transformer.h[0].mlp
    assert float(block.c_fc.weight.std()) == pytest.approx(64**-0.5, rel=0.05)
    assert float(block.c_proj.weight.std()) == pytest.approx(256**-0.5, rel=0.05)


def test_fan_in_leaves_what_is_no_weight_of_a_layer(build):
    config = {'model_type': 'mamba', 'hidden_size': 16, 'num_hidden_layers': 1, 'state_size': 4}
    drawn, default = (build(config=config, init=init).model for init in ('fan_in', 'default'))
    assert torch.equal(drawn.backbone.layers[0].mixer.A_log, default.backbone.layers[0].mixer.A_log)


def test_an_option_that_the_models_code_reads_is_an_option(build):
    config = {
        **LLAMA,
        'model_type': 'qwen3_moe',
        'head_dim': 24,
        'num_experts': 4,
        'moe_intermediate_size': 8,
    }
    attention = build(config=config).model.model.layers[0].self_attn
    assert attention.q_proj.weight.shape == (2 * 24, 16)


@pytest.mark.parametrize('kind', ['phi3', 'glm', 'smollm3'])
def test_a_vocabulary_below_the_pad_that_a_class_has_by_default(build, kind: str):
    model = build(config={**LLAMA, 'model_type': kind}).model
    assert model.config.pad_token_id == 0  # the tokenizer's
    with pytest.raises(InputError, match='Padding_idx must be within'):
        build(config={**LLAMA, 'model_type': kind, 'pad_token_id': VOCABULARY})


@pytest.mark.parametrize(
    ('name', 'meant'),
    [
        ('max_seq_len', 'max_position_embeddings'),
        ('d_model', 'hidden_size'),
        ('n_layers', 'num_hidden_layers'),
        ('n_heads', 'num_attention_heads'),
    ],
)
def test_what_another_family_calls_an_option_is_named(build, name: str, meant: str):
    with pytest.raises(InputError, match=f"has no option '{name}': this model calls it '{meant}'"):
        build(config={**LLAMA, name: 32})


def test_fan_in_leaves_the_norms_at_one(build):
    model = build(config=WIDE, init='fan_in').model
    norms = [one for one in model.parameters() if one.ndim == 1]
    assert norms
    assert all(torch.equal(one, torch.ones_like(one)) for one in norms)


def test_the_default_is_the_initialisation_of_the_model(build):
    for name, matrix in matrices(build(config=WIDE)).items():
        assert float(matrix.std()) == pytest.approx(0.02, rel=0.05), name


def test_the_vocabulary_of_a_model_from_scratch_is_that_of_the_streams(build):
    assert build(config=LLAMA).model.config.vocab_size == VOCABULARY
    assert build(config={**LLAMA, 'vocab_size': 64}).model.config.vocab_size == 64


def test_a_model_from_scratch_has_the_tokens_that_the_tokenizer_got_later(build, tokenizer: Any):
    tokenizer.add_special_tokens({'additional_special_tokens': ['<x>']})
    assert build(config=LLAMA).model.config.vocab_size == VOCABULARY + 1


def test_a_saved_model_gets_embeddings_for_more_tokens_if_that_is_asked_for(
    build, saved: Path, tokenizer: Any
):
    words = [f'<{number}>' for number in range(20)]
    tokenizer.add_special_tokens({'additional_special_tokens': words})
    options: dict[str, Any] = {'pretrained_model_name_or_path': str(saved)}
    with pytest.raises(
        InputError, match=r'of 32, but the tokenizer knows 40 tokens: .*resize_embeddings=true'
    ):
        build(**options)
    model = build(**options, resize_embeddings=True).model
    weights, stored = model.get_input_embeddings().weight, LlamaForCausalLM.from_pretrained(str(saved))
    assert weights.shape == (40, 16)
    assert model.config.vocab_size == 40
    assert torch.equal(weights[:32], stored.state_dict()['model.embed_tokens.weight'])


def test_overrides_change_a_configuration_from_scratch(build):
    model = build(config=LLAMA, config_overrides={'num_hidden_layers': 3}).model
    assert model.config.num_hidden_layers == 3


def test_other_architectures_are_built(build):
    config = {
        'model_type': 'gpt_neox',
        'hidden_size': 16,
        'intermediate_size': 32,
        'num_hidden_layers': 1,
        'num_attention_heads': 2,
    }
    assert type(build(config=config, init='fan_in').model).__name__ == 'GPTNeoXForCausalLM'


def special_tokens(named: Any) -> tuple[Any, ...]:
    return named.eos_token_id, named.bos_token_id, named.pad_token_id


def test_a_model_from_scratch_names_the_special_tokens_of_the_tokenizer(build):
    model = build(config=LLAMA).model
    assert special_tokens(model.config) == special_tokens(model.generation_config) == (1, None, 0)
    # The row of PAD is drawn as any other.
    assert float(model.get_input_embeddings().weight[0].detach().abs().max()) > 0
    given = build(config={**LLAMA, 'eos_token_id': 3, 'bos_token_id': 4}).model
    assert special_tokens(given.config) == special_tokens(given.generation_config) == (3, 4, 0)


def test_the_embedding_of_an_end_that_pads_too_is_trained():
    tokenizer: Any = SimpleNamespace(eos_token_id=7, bos_token_id=7, pad_token_id=7)
    config = AutoConfig.for_model('llama', eos_token_id=[2, 7])
    name_special_tokens(config, tokenizer)
    assert special_tokens(config) == ([2, 7], 7, None)
    generation: Any = SimpleNamespace(eos_token_id=2, bos_token_id=1, pad_token_id=None)
    model: Any = SimpleNamespace(config=config, generation_config=generation)
    name_generation_tokens(model, tokenizer)
    assert special_tokens(generation) == ([2, 7], 7, 7)


def test_a_local_folder_brings_its_weights(build, saved: Path):
    model = build(pretrained_model_name_or_path=str(saved))
    assert same_weights(model, saved)
    assert model.model.config.vocab_size == 32


def test_without_pretrained_the_folder_brings_its_configuration_alone(build, saved: Path):
    model = build(pretrained_model_name_or_path=str(saved), pretrained=False)
    assert model.model.config.hidden_size == LLAMA['hidden_size']
    assert model.model.config.vocab_size == 32
    assert not same_weights(model, saved)


def test_a_loaded_configuration_may_be_changed_and_drawn_anew(build, saved: Path):
    model = build(
        pretrained_model_name_or_path=str(saved),
        pretrained=False,
        config_overrides={'hidden_size': 64, 'intermediate_size': 256, 'num_hidden_layers': 2},
        init='fan_in',
    )
    assert model.model.config.num_hidden_layers == 2
    for name, matrix in matrices(model).items():
        assert float(matrix.std()) == pytest.approx(matrix.shape[1] ** -0.5, rel=0.08), name


def test_a_model_computes_the_loss_in_nats_per_token(build):
    model = build(config=LLAMA)
    assert list(model.get_metrics(is_train=False)) == [LOSS_METRIC]
    assert model.model.config.use_cache is False
    # Untrained, with weights near 0, every word is about as likely as any other.
    tokens = torch.arange(17)[None] % VOCABULARY
    output = model.forward({'input_ids': tokens, 'labels': tokens})
    assert float(output['loss']) == pytest.approx(torch.log(torch.tensor(VOCABULARY)).item(), abs=0.1)


@pytest.mark.parametrize(
    ('keys', 'parts'),
    [
        ({}, ['either', 'neither']),
        ({'config': LLAMA, 'pretrained_model_name_or_path': 'x'}, ['either', 'both']),
        (
            {'config': {'hidden_size': 16}},
            ['`model.config.model_type` must be a causal language model', "''"],
        ),
        ({'config': {**LLAMA, 'model_type': 'lamma'}}, ['`model.config.model_type`', "'lamma'"]),
        ({'config': {**LLAMA, 'vocab_size': 19}}, ['vocabulary of 19', 'up to 19', 'convert with']),
        ({'config': LLAMA, 'init': 'xavier'}, ['`model.init`', 'default, fan_in', "'xavier'"]),
        ({'config': {**LLAMA, 'hiden_size': 99}}, ["'hiden_size'", "did you mean 'hidden_size'?"]),
        ({'config': {**LLAMA, 'xyzzy': 1}}, ["'xyzzy'", ' and ', ' more']),
        ({'config': LLAMA, 'name': 'bert'}, ['`model.name` must be hf_causal_lm', "'bert'"]),
    ],
)
def test_a_model_that_cannot_be_built_is_refused_in_one_line(build, keys: dict[str, Any], parts: list[str]):
    with pytest.raises(InputError) as caught:
        build(**keys)
    message = str(caught.value)
    assert '\n' not in message
    for part in parts:
        assert part in message


def test_a_saved_model_with_too_small_a_vocabulary_is_refused(build, saved: Path):
    with pytest.raises(InputError, match=r'vocabulary of 32, but the streams have token ids up to 32'):
        build(vocab_size=33, pretrained_model_name_or_path=str(saved))
    build(vocab_size=32, pretrained_model_name_or_path=str(saved))


def test_a_folder_without_a_model_is_named(build, tmp_path: Path):
    with pytest.raises(InputError, match=rf'no model could be loaded from {tmp_path}'):
        build(pretrained_model_name_or_path=str(tmp_path))
    with pytest.raises(InputError, match=r'path`: there is no folder ./nowhere; name one with a model'):
        build(pretrained_model_name_or_path='./nowhere')
