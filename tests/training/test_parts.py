"""What a YAML names of Composer: schedulers, clipping, FSDP, loggers, callbacks; and what it is told if it errs."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from composer.utils import FSDPConfig
from torch.nn.utils import get_total_norm
from transformers import AutoConfig, AutoModelForCausalLM

from skillit_stream.base.errors import InputError
from skillit_stream.cli import main
from skillit_stream.training import fsdp
from skillit_stream.training.builders import build_run
from skillit_stream.training.config import load_config
from skillit_stream.training.fsdp import build_fsdp, mark_layers
from skillit_stream.training.parts import SCHEDULERS, build_clipping, build_loggers, build_scheduler
from tests.support.run_folders import rounds_of
from tests.support.training_runs import LLAMA, settings, write_yaml

Refused = Callable[..., str]
LOGGERS = {
    'tensorboard': lambda folder: {'log_dir': str(folder)},
    'mlflow': lambda folder: {'tracking_uri': str(folder), 'experiment_name': 'tiny'},
    'wandb': lambda folder: {'project': 'tiny', 'init_kwargs': {'mode': 'offline', 'dir': str(folder)}},
}
WARMUPS: dict[str, dict[str, Any]] = {
    'constant': {},
    'multistep_with_warmup': {'t_warmup': '1ba', 'milestones': ['0.5dur']},
}


def refusal(build: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as caught:
        build()
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize('name', SCHEDULERS)
def test_every_scheduler_is_built_by_its_name(name: str):
    options = WARMUPS.get(name, {'t_warmup': '1ba'})
    assert isinstance(build_scheduler({'name': name, **options}), SCHEDULERS[name])  # pyright: ignore


def test_gradients_are_clipped_to_the_norm_that_the_yaml_says(tiny_yaml: Path):
    clip = 'algorithms.gradient_clipping={clipping_type: norm, clipping_threshold: 1.0e-3}'
    run = build_run(load_config(tiny_yaml, [clip, 'max_duration=2ba', 'optimizer={name: adamw, lr: 0.0}']))
    norms = []
    parameters = list(run.trainer.state.model.parameters())
    run.trainer.state.optimizers[0].register_step_post_hook(
        lambda *_: norms.append(
            float(get_total_norm([one.grad for one in parameters if one.grad is not None]))
        )
    )
    run.trainer.eval()
    run.trainer.fit()
    run.trainer.close()
    assert norms == [pytest.approx(1e-3, rel=1e-3)] * 2


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (
            {'clipping_type': 'nrm', 'clipping_threshold': 1.0},
            'clipping_type` must be one of norm, value, adaptive',
        ),
        (
            {'clipping_type': 'norm', 'clipping_threshold': 0},
            'clipping_threshold` must be a number above 0, but got: 0',
        ),
        ({'clipping_type': 'norm'}, 'clipping_threshold` must be given'),
        (1.0, 'must be a mapping: {clipping_type: norm, clipping_threshold: 1.0}'),
    ],
)
def test_bad_clipping_is_refused(options: Any, said: str):
    assert said in refusal(lambda: build_clipping(options))


def test_an_unknown_algorithm_is_refused_with_the_nearest(refused: Refused):
    message = refused('algorithms.gradient_cliping={clipping_type: norm, clipping_threshold: 1.0}')
    assert (
        "`algorithms.gradient_cliping`: there is no 'gradient_cliping': did you mean 'gradient_clipping'?"
        in message
    )


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (
            {'shardingstrategy': 'FULL_SHARD'},
            "there is no 'shardingstrategy': did you mean 'sharding_strategy'?",
        ),
        (
            {'sharding_strategy': 'FULL'},
            '`fsdp_config.sharding_strategy` must be one of FULL_SHARD, SHARD_GRAD_OP',
        ),
        (
            {'mixed_precision': 'bf16'},
            '`fsdp_config.mixed_precision` must be one of DEFAULT, PURE, FULL, but got:',
        ),
        ({'state_dict_type': 'local'}, '`fsdp_config.state_dict_type` must be one of full, sharded'),
        ({'activation_checkpointing': 'yes'}, 'activation_checkpointing` must be true or false, but got: '),
        ({'forward_prefetch_limit': True}, 'forward_prefetch_limit` must be a whole number, but got: True'),
        ({'device_mesh': [2]}, "there is no 'device_mesh'"),
        ({'load_monolith_rank0_only': True}, 'load_monolith_rank0_only` needs sync_module_states: true'),
    ],
)
def test_fsdp_is_checked_key_by_key(options: dict[str, Any], said: str):
    assert said in refusal(lambda: build_fsdp(options, 'gpu'))


def test_fsdp_needs_a_gpu(refused: Refused):
    assert refused('fsdp_config={sharding_strategy: full_shard}') == (
        'skillit: `fsdp_config` needs a GPU, but there is none: pass fsdp_config=null to train with DDP.\n'
    )
    assert build_fsdp(None, 'cpu') is None


@pytest.mark.parametrize('known', [True, False])
def test_fsdp_looks_for_a_microbatch_where_composer_can(known: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(
        fsdp, '_patch_pytorch', SimpleNamespace(**({'unshard_with_sync': 1} if known else {}))
    )
    assert build_fsdp({}, 'gpu', 4)
    if known:
        assert build_fsdp({}, 'gpu', 'auto')
    else:
        said = refusal(lambda: build_fsdp({}, 'gpu', 'auto'))
        assert '`device_train_microbatch_size: auto` does not work with `fsdp_config` on torch' in said


def test_fsdp_comes_to_composer_as_it_is_given(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    options = {
        'sharding_strategy': 'SHARD_GRAD_OP',
        'activation_checkpointing': True,
        'mixed_precision': 'pure',
    }
    built = build_fsdp(options, None)
    assert built is not None
    assert isinstance(built.fsdp, FSDPConfig)
    assert {key: getattr(built.fsdp, key) for key in options} == options
    assert built.fsdp.limit_all_gathers is FSDPConfig.limit_all_gathers
    empty = build_fsdp({}, 'gpu')
    assert empty is not None
    assert empty.fsdp is not None


@pytest.mark.parametrize(
    'config',
    [
        {**LLAMA, 'num_hidden_layers': 3},
        {'model_type': 'gpt_neox', 'hidden_size': 8, 'num_hidden_layers': 3, 'num_attention_heads': 2},
        {
            'model_type': 'gpt_neo',
            'hidden_size': 8,
            'num_layers': 2,
            'num_heads': 2,
            'attention_types': [[['global'], 2]],
        },
    ],
    ids=lambda config: config['model_type'],
)
def test_the_layers_of_a_model_are_sharded_one_by_one(config: dict[str, Any]):
    options = {'vocab_size': 12, **config}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(options.pop('model_type'), **options))
    count = config.get('num_hidden_layers', config.get('num_layers'))
    assert mark_layers(model) == count
    marked = [module for module in model.modules() if getattr(module, '_fsdp_wrap', False)]
    assert len(marked) == count
    assert all(module._activation_checkpointing for module in marked)
    held = sum(parameter.numel() for layer in marked for parameter in layer.parameters())
    rest = {name for name, _ in model.named_parameters() if '.layers.' not in name and '.h.' not in name}
    left = sum(parameter.numel() for name, parameter in model.named_parameters() if name in rest)
    assert held + left == sum(parameter.numel() for parameter in model.parameters())


def test_samples_longer_than_the_model_are_refused(refused: Refused):
    message = refused('model.config.max_position_embeddings=7')
    assert (
        'samples of 17 tokens, but `max_position_embeddings` of the model is 7: convert with --seq-len 7'
        in message
    )


def test_a_timeout_of_nothing_is_refused(refused: Refused):
    assert '`dist_timeout` must be above 0, but got: 0.0.' in refused('dist_timeout=0')


@pytest.mark.parametrize('name', LOGGERS)
def test_a_logger_without_its_package_says_what_to_install(name: str, tmp_path: Path):
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f'{name} is installed')
    message = refusal(lambda: build_loggers({name: LOGGERS[name](tmp_path)}))
    assert f'`loggers.{name}` needs a package that is not installed: ' in message
    assert f"pip install 'mosaicml[{name}]'" in message


@pytest.mark.parametrize('name', LOGGERS)
def test_a_logger_writes_a_run_down_without_a_network(name: str, tiny_yaml: Path, tmp_path: Path):
    pytest.importorskip(name, reason=f'needs the package {name}')
    options = LOGGERS[name](tmp_path / 'logs')
    config = load_config(tiny_yaml, ['max_duration=1ep'])
    config.loggers = {name: options}
    (tmp_path / 'logs').mkdir()
    run = build_run(config)
    run.trainer.eval()
    run.trainer.fit()
    run.trainer.close()
    assert [path for path in (tmp_path / 'logs').rglob('*') if path.is_file()]


def test_the_callbacks_that_watch_a_run_work_together(trained: Callable[..., None]):
    names = ['lr_monitor', 'nan_monitor', 'optimizer_monitor', 'speed_monitor', 'runtime_estimator']
    trained('max_duration=1ep', *[f'callbacks.{name}={{}}' for name in names])


@pytest.mark.slow
def test_a_compiled_model_trains_the_same_and_is_exported(
    streams: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # The backend that needs no compiler: what torch.compile wraps is the same. ODM asks the model for its losses.
    lines, asked, compile_model = {}, [], torch.compile
    monkeypatch.setattr(
        torch, 'compile', lambda model, **rest: asked.append(rest) or compile_model(model, **rest)
    )
    for name, compiled in (('plain', 'null'), ('compiled', '{backend: eager}')):
        keys = settings(streams, tmp_path / name) | {'algorithms': {'data_mixing': {'policy': 'odm'}}}
        yaml = write_yaml(tmp_path / f'{name}.yaml', keys)
        assert main(['train', str(yaml), f'compile_config={compiled}']) == 0
        lines[name] = rounds_of(tmp_path / name)
        assert main(['export', str(tmp_path / name), '--out', str(tmp_path / name / 'exported')]) == 0
    assert asked == [{'backend': 'eager'}]
    for line, plain in zip(lines['compiled'], lines['plain'], strict=True):
        assert line['losses'] == pytest.approx(plain['losses'], rel=1e-6)
        assert line['train_losses'] == pytest.approx(plain['train_losses'], rel=1e-6)
