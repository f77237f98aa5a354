"""`skillit export`: what comes out is the trained model, and its tokenizer, to anyone who has transformers alone."""

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
