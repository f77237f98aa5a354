"""`mask_documents`: documents that are packed into a sample are to the model what they are by themselves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from convert.generated import make_tokenizer
from skillit_stream.cli import main
from skillit_stream.loader.batches import IGNORE_INDEX, causal_lm_inputs, count_targets
from skillit_stream.training.attention import CAUSAL_SDPA
from skillit_stream.training.skill_losses import SkillLossModel
from tests.support.run_folders import rounds_of
from tests.support.training_runs import settings, write_yaml

END = 0
STRATIFIED = {'algorithms': {'data_mixing': {'policy': 'stratified'}}}
Refused = Callable[..., str]
FAMILIES = ('llama', 'mistral', 'qwen2', 'qwen3', 'gpt_neox')
PACKED = st.lists(st.lists(st.integers(1, 19), max_size=6), min_size=1, max_size=5)


def tokens_of(documents: list[list[int]]) -> list[int]:
    """Documents one after another, each with its end."""
    return [token for document in documents for token in (*document, END)]


@given(documents=PACKED, mask=st.integers(0, 2**30))
def test_positions_and_targets_are_those_of_each_document(documents: list[list[int]], mask: int):
    tokens = torch.tensor([tokens_of(documents)])
    counted = torch.tensor([[mask >> place & 1 for place in range(tokens.shape[1])]])
    inputs = causal_lm_inputs({'tokens': tokens, 'loss_mask': counted}, document_end=END)
    assert 'attention_mask' not in inputs
    places = [place for document in documents for place in range(len(document) + 1)]
    assert inputs['position_ids'].tolist() == [places]
    wanted = [
        # The very first place is no target in any case: the labels are shifted.
        token if kept and (place or not number) else IGNORE_INDEX
        for number, (token, place, kept) in enumerate(
            zip(tokens[0].tolist(), places, counted[0].tolist(), strict=True)
        )
    ]
    assert inputs['labels'].tolist() == [wanted]
    assert count_targets({'tokens': tokens, 'loss_mask': counted}, END) == sum(
        label != IGNORE_INDEX for label in wanted[1:]
    )
    without = causal_lm_inputs({'tokens': tokens}, document_end=END)
    assert count_targets({'tokens': tokens}, END) == int((without['labels'][:, 1:] != IGNORE_INDEX).sum())


def model_of(kind: str, attention: str) -> Any:
    torch.manual_seed(3)
    heads = {} if kind == 'gpt_neox' else {'num_key_value_heads': 2}
    size: Any = dict(vocab_size=20, hidden_size=32, intermediate_size=48, num_hidden_layers=2)
    config = AutoConfig.for_model(kind, num_attention_heads=4, use_cache=False, **size, **heads)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)


@pytest.mark.parametrize('attention', ['eager', 'sdpa', CAUSAL_SDPA])
@pytest.mark.parametrize('kind', FAMILIES)
def test_packed_documents_are_to_the_model_what_they_are_alone(kind: str, attention: str):
    model = model_of(kind, attention)
    documents = [[3, 4, 5, 6], [7], [], [8, 9, 10, 11, 12]]
    inputs = causal_lm_inputs({'tokens': torch.tensor([tokens_of(documents)])}, document_end=END)
    packed = model(input_ids=inputs['input_ids'], position_ids=inputs['position_ids']).logits[0]
    alone = [model(input_ids=torch.tensor([[*one, END]])).logits[0] for one in documents]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-5, atol=1e-5)
    # And so are the loss and its gradients, wherever the cut between two samples is.
    wanted: Any = sum(
        functional.cross_entropy(logits[:-1], torch.tensor([*one[1:], END]), reduction='sum')
        for one, logits in zip(documents, alone, strict=True)
        if one
    )
    wrapped = SkillLossModel(model, use_logits=True)
    targets = int((inputs['labels'][:, 1:] != IGNORE_INDEX).sum())
    found = wrapped.loss(wrapped.train()(dict(inputs)), inputs) * targets
    gradients = [torch.autograd.grad(one, list(model.parameters())) for one in (wanted, found)]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_without_it_documents_see_each_other():
    model = model_of('llama', 'sdpa')
    logits = [
        model(**causal_lm_inputs({'tokens': torch.tensor([[first, END, 5, 6]])})).logits[0, -1]
        for first in (3, 4)
    ]
    assert not torch.allclose(*logits)


@pytest.fixture(scope='module')
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Streams of short documents, several to a sample."""
    folder = tmp_path_factory.mktemp('packed')
    make_tokenizer('abcdefgh').save_pretrained(folder / 'tokenizer')
    (folder / 'text').mkdir()
    for skill, first in (('one', 'a'), ('two', 'b')):
        # Each document once: a number in base 8.
        documents = [
            ' '.join(first + ''.join('abcdefgh'[int(digit)] for digit in f'{n:o}')) for n in range(400)
        ]
        (folder / 'text' / f'{skill}.txt').write_text('\n-\n'.join(documents))
    options = ['--separator', '-', '--tokenizer', str(folder / 'tokenizer'), '--seq-len', '16']
    given = [str(folder / 'text'), '--skill-from', 'file', *options, '--out', str(folder / 'streams')]
    assert main(['convert', 'text', *given]) == 0
    return folder / 'streams'


def test_a_run_with_it_is_another_and_goes_on_as_it_was(packed: Path, tmp_path: Path):
    losses = {}
    masked = ['mask_documents=true']
    for name, overrides in {'plain': [], 'masked': masked, 'resumed': masked}.items():
        yaml = write_yaml(tmp_path / f'{name}.yaml', settings(packed, tmp_path / name) | STRATIFIED)
        if name == 'resumed':
            assert main(['train', str(yaml), *overrides, 'max_duration=9ba']) == 0
        assert main(['train', str(yaml), *overrides, 'autoresume=true']) == 0
        losses[name] = rounds_of(tmp_path / name)[-1]['losses']
    assert losses['masked'] == losses['resumed'] != losses['plain']


def test_a_model_that_does_not_keep_them_apart_is_refused(packed: Path, tmp_path: Path, refused: Refused):
    model = {'config': {'model_type': 'bloom', 'hidden_size': 16, 'n_head': 2, 'n_layer': 1}}
    yaml = write_yaml(
        tmp_path / 'bloom.yaml', settings(packed, tmp_path / 'bloom') | STRATIFIED | {'model': model}
    )
    said = refused('mask_documents=true', path=yaml)
    assert 'BloomForCausalLM) does not keep documents apart' in said


def test_a_tokenizer_without_an_end_is_refused(packed: Path, tmp_path: Path, refused: Refused):
    without = make_tokenizer('abcdefgh')
    without.eos_token = None
    without.save_pretrained(tmp_path / 'without')
    yaml = write_yaml(tmp_path / 'own.yaml', settings(packed, tmp_path / 'own') | STRATIFIED)
    said = refused('mask_documents=true', f'tokenizer={tmp_path / "without"}', path=yaml)
    assert '`mask_documents` needs a tokenizer with an EOS token' in said
