"""`skillit export`: what comes out is the trained model, and its tokenizer, to anyone who has transformers alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from skillit_stream.cli import main
from skillit_stream.training.builders import build_run
from skillit_stream.training.config import load_config
from skillit_stream.training.session import fit
from tests.support.training_runs import settings, write_yaml

NEOX = {
    'model_type': 'gpt_neox',
    'hidden_size': 16,
    'intermediate_size': 32,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'max_position_embeddings': 32,
}


@pytest.fixture
def tokens() -> torch.Tensor:
    """Ids of the addition vocabulary, int64 [2, 9]."""
    return torch.arange(18).view(2, 9) % 13


def logits_of(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(tokens).logits


@pytest.mark.parametrize('kind', ['llama', 'gpt_neox'])
def test_the_exported_model_has_the_logits_of_the_trained_one(
    streams: Path, run_folder: Path, tmp_path: Path, tokens: torch.Tensor, kind: str
):
    keys = settings(streams, run_folder)
    if kind == 'gpt_neox':
        keys['model']['config'] = NEOX
    run = build_run(load_config(write_yaml(tmp_path / 'run.yaml', keys), ['max_duration=1ep']))
    untrained = logits_of(run.trainer.state.model.model, tokens)
    run.trainer.eval()
    run.trainer.fit()
    run.trainer.close()
    expected = logits_of(run.trainer.state.model.model, tokens)
    assert not torch.equal(expected, untrained)

    out = tmp_path / 'exported'
    assert main(['export', str(run_folder), '--out', str(out)]) == 0
    exported = AutoModelForCausalLM.from_pretrained(out)
    assert torch.equal(logits_of(exported, tokens), expected)
    assert exported.config.use_cache
    assert (
        AutoTokenizer.from_pretrained(out).get_vocab()
        == AutoTokenizer.from_pretrained(streams / 'tokenizer').get_vocab()
    )
    assert not list(tmp_path.glob('*.partial'))
    assert not list(Path.cwd().glob('tokenizer-save-dir-*'))

    # And it is what a run takes to go on from.
    again = settings(streams, tmp_path / 'again')
    again['model'] = {'pretrained_model_name_or_path': str(out)}
    goes_on = build_run(load_config(write_yaml(tmp_path / 'again.yaml', again)))
    assert torch.equal(logits_of(goes_on.trainer.state.model.model, tokens), expected)
    goes_on.trainer.close()


def test_a_checkpoint_may_be_exported_in_half_precision(tiny_yaml: Path, run_folder: Path, tmp_path: Path):
    overrides = ['max_duration=1ba', 'save_interval=1ba', f'checkpoint_folder={tmp_path / "elsewhere"}']
    fit(load_config(tiny_yaml, [*overrides, 'eval_loader.before_training=false']))
    assert not (run_folder / 'checkpoints').exists()
    assert main(['export', str(run_folder), '--out', str(tmp_path / 'half'), '--dtype', 'bfloat16']) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / 'half', torch_dtype='auto')
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.fixture(scope='module')
def sentences(streams: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Streams of documents that end with `, =` and that alone."""
    folder = tmp_path_factory.mktemp('sentences')
    texts = [' '.join(f'{number:03}') + ' , =' for number in range(1000)]
    rows = [{'text': text, 'skill': 'even' if text[0] in '02468' else 'odd'} for text in texts]
    (folder / 'rows.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    command = ['convert', 'jsonl', str(folder / 'rows.jsonl'), '--skill-field', 'skill', '--seq-len', '16']
    command += ['--tokenizer', str(streams / 'tokenizer'), '--eval-fraction', '0.1']
    assert main([*command, '--out', str(folder / 'streams')]) == 0
    return folder / 'streams'


@pytest.mark.parametrize('kind', ['llama', 'gpt_neox'])
@pytest.mark.parametrize('checkpoint', ['as it is written', 'of before special tokens were named'])
def test_generation_stops_at_the_end_of_a_document(
    sentences: Path, run_folder: Path, tmp_path: Path, kind: str, checkpoint: str
):
    keys = settings(sentences, run_folder)
    keys |= {'max_duration': '3ep', 'train_loader': {'round_size': 96}}
    keys['algorithms'] = {'data_mixing': {'policy': 'stratified'}}
    if kind == 'gpt_neox':
        keys['model']['config'] = NEOX
    fit(load_config(write_yaml(tmp_path / 'run.yaml', keys)))
    place = run_folder
    if checkpoint != 'as it is written':
        place = tmp_path / 'before.pt'
        saved = torch.load(run_folder / 'checkpoints' / 'latest-rank0.pt', weights_only=False)
        config = saved['state']['integrations']['huggingface']['model']['config']['content']
        assert (config['eos_token_id'], config['bos_token_id'], config['pad_token_id']) == (1, None, 0)
        config |= {'eos_token_id': 2, 'bos_token_id': 1, 'pad_token_id': None}
        torch.save(saved, place)
    out = tmp_path / 'exported'
    assert main(['export', str(place), '--out', str(out)]) == 0

    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    prompts = tokenizer(['3 7 1 ,', '1 5 0 ,'], return_tensors='pt')
    assert model(**prompts).logits.shape == (2, 4, model.config.vocab_size)
    generated = model.generate(**prompts, max_new_tokens=12, do_sample=False)
    assert tokenizer.batch_decode(generated[:, 4:]) == ['= <eos>'] * 2
    for named in (model.config, model.generation_config):
        assert (named.eos_token_id, named.bos_token_id, named.pad_token_id) == (1, None, 0)


@pytest.fixture
def not_exported(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Export what must be refused: exit code 2 and one line, which is returned."""

    def run(*arguments: object) -> str:
        assert main(['export', *map(str, arguments)]) == 2
        message = capsys.readouterr().err
        assert message.count('\n') == 1
        return message

    return run


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, not_exported: Callable[..., str]):
    out = tmp_path / 'out'
    assert f'There is no checkpoint at {tmp_path / "none.pt"}' in not_exported(
        tmp_path / 'none.pt', '--out', out
    )
    newest = tmp_path / 'checkpoints' / 'latest-rank0.pt'
    assert f'There is no checkpoint at {newest}: name a .pt' in not_exported(tmp_path, '--out', out)
    text = tmp_path / 'text.pt'
    text.write_text('not a checkpoint')
    assert f'{text} is no checkpoint of Composer: ' in not_exported(text, '--out', out)
    torch.save({'state': {'model': {}, 'integrations': {}}}, tmp_path / 'other.pt')
    assert 'holds no transformers model' in not_exported(tmp_path / 'other.pt', '--out', out)
    assert f'--out {tmp_path}: exists already' in not_exported(text, '--out', tmp_path)
    assert not out.exists()
