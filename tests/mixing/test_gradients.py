"""Products of gradients by skill: those of a plain loop, on the last layer, and what measuring them leaves alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from skillit_stream import EvalStreams, InputError
from skillit_stream.mixing.gradients import gradient_products, last_layer
from tests.support.mds import SIZES, open_streams
from tests.support.streams_reading import samples_in

VOCABULARY = 1100


@pytest.fixture
def evals(streams_root: Path) -> EvalStreams:
    return EvalStreams(open_streams(streams_root, SIZES))


def network(**options: Any) -> LlamaForCausalLM:
    """A Llama of two layers."""
    torch.manual_seed(3)
    config = {
        'hidden_size': 16,
        'intermediate_size': 24,
        'num_hidden_layers': 2,
        'num_attention_heads': 2,
        **options,
    }
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **config))


def by_hand(model: LlamaForCausalLM, root: Path, samples: int) -> np.ndarray:
    """<g_i, g_j> of the mean losses of the first samples of each skill, a sample at a time."""
    layer = [*model.model.layers[-1].parameters(), *model.model.norm.parameters()]
    gradients = []
    for skill in SIZES:
        total, targets = torch.zeros(()), 0
        for sample in samples_in(root / skill)[:samples]:
            tokens = torch.from_numpy(np.asarray(sample['tokens']).astype(np.int64))[None]
            logits = model(input_ids=tokens).logits[0, :-1]
            total = total + functional.cross_entropy(logits, tokens[0, 1:], reduction='sum')
            targets += tokens.shape[1] - 1
        found = torch.autograd.grad(total / targets, layer)
        gradients.append(torch.cat([one.flatten() for one in found]))
    stacked = torch.stack(gradients).double()
    return (stacked @ stacked.T).numpy()


def as_array(products: dict[str, dict[str, float]]) -> np.ndarray:
    return np.array([[products[row][column] for column in SIZES] for row in SIZES])


@pytest.mark.parametrize('tied', [True, False])
def test_products_are_those_of_a_plain_loop(evals: EvalStreams, streams_root: Path, tied: bool):
    model = network(tie_word_embeddings=tied)
    found = gradient_products(model, evals, samples_per_skill=5)
    np.testing.assert_allclose(as_array(found), by_hand(model, streams_root, 5), rtol=1e-4)


def test_sketched_products_are_right_on_average(evals: EvalStreams):
    model = network()
    exact = as_array(gradient_products(model, evals, width=1000))
    found = [as_array(gradient_products(model, evals, width=8, seed=100 * seed)) for seed in range(60)]
    spread = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    assert (spread > 0).all()
    assert (np.abs(np.mean(found, axis=0) - exact) < 4 * spread).all()
    norms = np.sqrt(np.diag(exact))
    assert (np.std(found, axis=0) < 0.5 * np.outer(norms, norms)).all()


def test_nothing_of_the_model_or_of_chance_is_changed(evals: EvalStreams):
    model = network(attention_dropout=0.5)
    model.train()
    model.model.layers[0].eval()
    model(input_ids=torch.ones(1, 4, dtype=torch.int64)).logits.sum().backward()
    before = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    modes = [one.training for one in model.modules()]
    drawn = torch.get_rng_state()
    first = gradient_products(model, evals)
    assert gradient_products(model, evals) == first
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [one.training for one in model.modules()] == modes
    assert all(
        torch.equal(one.grad, before[name]) for name, one in model.named_parameters() if one.grad is not None
    )


def test_the_last_layer_is_the_last_block_and_the_norm_behind_it():
    model = network(tie_word_embeddings=False)
    blocks = {id(one): '.'.join(name.split('.')[:3]) for name, one in model.named_parameters()}
    found = {blocks[id(one)] for one in last_layer(model)}
    assert found == {'model.layers.1', 'model.norm.weight'}


def test_a_layer_that_is_not_trained_is_refused(evals: EvalStreams):
    model = network()
    model.requires_grad_(False)
    with pytest.raises(InputError, match='the last layer of the model is not trained'):
        gradient_products(model, evals)
