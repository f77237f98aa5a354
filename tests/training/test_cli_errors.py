"""`skillit train` with wrong input: one line that names what is wrong, exit code 2, and a second try that works."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skillit_stream.cli import main
from skillit_stream.mixture import SkillsGraph
from tests.support.run_folders import mixture_lines
from tests.support.training_runs import settings, write_yaml

Refused = Callable[..., str]
Trained = Callable[..., None]

# Overrides -> what the line must say.
FAULTS = {
    'streams=/nowhere/streams': ['/nowhere/streams/skills.json', 'skillit convert'],
    'train_loader.skills=[digit_0,digit_7]': ['`train_loader.skills`', "'digit_7'", 'did you mean'],
    'eval_loader.skills=[units]': ['`eval_loader.skills`', "'units'", 'digit_0, digit_1, digit_2'],
    'eval_loader.skills=[digit_0,digit_2]': ['columns of the graph that are not evaluated', "'digit_1'"],
    'train_loader.skills=[digit_0]': ['rows of the graph that are not trained on', "'digit_1', 'digit_2'"],
    'algorithms.data_mixing.policy=skilit': ["'skilit'", "did you mean 'skill_it'?"],
    'algorithms.data_mixing.etta=1': ["'etta'", "did you mean 'eta'?"],
    'algorithms.data_mixing.eta=-1': ['eta must be', '-1'],
    'algorithms.data_mixing.graph=/nowhere/graph.json': ['/nowhere/graph.json'],
    'algorithms.data_mixing.graph=null': ['needs a skills graph', 'graph=identity'],
    'algorithms.label_smoothing.smoothing=0.1': [
        '`algorithms.label_smoothing`',
        'is not offered',
        'nats per token',
    ],
    'callbacks.speed_monitr.window_size=1': ['`callbacks.speed_monitr`', "did you mean 'speed_monitor'?"],
    'callbacks.sample_log.file=x': ['`callbacks.sample_log`', "'file'"],
    'loggers.tensorbord.log_dir=x': ['`loggers.tensorbord`', "did you mean 'tensorboard'?"],
    'optimizer.name=adamv': ['`optimizer.name`', "did you mean 'adamw'?"],
    'optimizer.lrr=1': ['`optimizer` has no option', "'lrr'", "did you mean 'lr'?"],
    'scheduler.t_warm=1ba': ['`scheduler` has no option', "'t_warm'"],
    'scheduler.name=constnt': ['`scheduler.name`', "did you mean 'constant'?"],
    'tokenizer=/nowhere/tokenizer': ['`tokenizer`: there is no folder /nowhere/tokenizer;', 'on the hub'],
    'tokenizer=tokenizers/x': ['`tokenizer`: there is no folder tokenizers/x;'],
    'model.config.model_type=lamma': ['`model.config.model_type`', "'lamma'"],
    'model.config.hidden_size=wide': ['`model.config`'],
    'model.config.vocab_size=10': ['vocabulary of 10', 'up to 19'],
    'model.init=fan_out': ['`model.init`', 'default, fan_in', "'fan_out'"],
    'model.name=mpt_causal_lm': ['`model.name`', 'hf_causal_lm'],
    'model.pretrained_model_name_or_path=/nowhere/model': ['either', 'both'],
    'train_loader.round_size=41': ['`round_size`', 'multiple', '41', 'nearest is 40'],
    'global_train_batch_size=5': ['`round_size`', 'global batch of 5', '24'],
    'global_train_batch_size=0': ['`global_train_batch_size` must be at least 1', '0'],
    'max_duration=xyz': ['`max_duration`', 'xyz'],
    'eval_interval=1x': ['1x'],
    'eval_interval=0': ['`eval_interval` must be', '0'],
    'eval_interval=0ep': ['`eval_interval` must be more than nothing', '0ep'],
    'eval_interval=2ep': ['`eval_interval` must meet the end of every round (6 steps)', 'skill_it', '2ep'],
    'eval_interval=4ba': ['`eval_interval` must meet the end of every round', '4ba', '1ep'],
    'eval_interval=0.6dur': ['`eval_interval` must meet the end of every round', '0.6dur'],
    'save_interval=0ba': ['`save_interval` must be more than nothing', '0ba'],
    'save_num_checkpoints_to_keep=0': ['`save_num_checkpoints_to_keep` must be at least 1, or -1', '0'],
    'scheduler={name: constant_with_warmup, t_warmup: 4}': [
        '`scheduler.t_warmup` must be a time string',
        '4',
    ],
    'callbacks={early_stopper: {monitor: loss, dataloader_label: all}}': [
        "`monitor` 'loss' of all",
        'MeanSkillLoss',
    ],
    'callbacks={early_stopper: {monitor: x, dataloader_label: digit}}': ["`dataloader_label` 'digit'", 'all'],
    'save_interval=q': ['q'],
    # Options of other packages, which look at them late or never.
    'callbacks.early_stopper={dataloader_label: all, monitor: 3}': [
        '`callbacks.early_stopper.monitor`',
        'text',
        '3',
    ],
    'callbacks.early_stopper={dataloader_label: all}': ['`callbacks.early_stopper.monitor` must be given'],
    'callbacks.speed_monitor.window_size=-1': [
        '`callbacks.speed_monitor.window_size` must be at least 1',
        '-1',
    ],
    'callbacks.activation_monitor.interval=0': ['`callbacks.activation_monitor.interval` must be at least 1'],
    'eval_loader.skills=[{digit_0: 1}]': ['`eval_loader.skills` must be non-empty names'],
    'train_loader.skills=[digit_0,digit_0]': ['`train_loader.skills` must be unique', "'digit_0' twice"],
    'callbacks.nan_monitor.x=1': ['`callbacks.nan_monitor` has no options', "'x'"],
    'callbacks.sample_log.folder=/dev/null': ['`callbacks.sample_log.folder`', '/dev/null cannot be made'],
    'loggers.file.flush_interval=1ba': ['`loggers.file.flush_interval` must be a whole number', "'1ba'"],
    'optimizer.maximize=[1]': ['`optimizer.maximize` must be true or false', '[1]'],
    'optimizer.betas=[0.9]': ['`optimizer.betas` must be a list of 2', '[0.9]'],
    'optimizer.differentiable=true': ['`optimizer` takes no step with these options'],
    'scheduler={name: multistep_with_warmup, t_warmup: 1ba, milestones: null}': ['`scheduler.milestones`'],
    'compile_config.fulgraph=true': ['`compile_config` has no option', "did you mean 'fullgraph'?"],
    'train_loader.dataset.keep_zip=48': ['`train_loader.dataset.keep_zip` must be true or false', '48'],
    'algorithms.data_mixing.targets=0.5': ['targets must be a list of names', '0.5'],
    'model.config.attention_dropout=4': ['attention_dropout` must be a finite number, 0 to 1', '4'],
    'model.config.initializer_range=-1.0': ['`model.config`', '-1'],
    'model.config.is_encoder_decoder=true': ['must be a decoder alone'],
    'precision=fp31': ['fp31'],
    'device=tpu': ['tpu'],
    'device_train_microbatch_size=0': ['`device_train_microbatch_size`', '0'],
    'device_train_microbatch_size=x': ['`device_train_microbatch_size`', "'x'"],
    'train_loader.num_workers=-1': ['`train_loader.num_workers`', '-1'],
    'train_loader.prefetch_factor=0': ['`train_loader.prefetch_factor`', '0'],
    'train_loader.dataset.cache_limit=x': ['`train_loader.dataset`'],
    'train_loader.skills=[]': ['`train_loader.skills`'],
    'train_loader=3': ['`train_loader`'],
    'eval_loader.batch_size=0': ['`eval_loader.batch_size`', '0'],
    'eval_loader.samples_per_skill=0': ['`eval_loader.samples_per_skill`', '0', 'null for all'],
    'eval_loader.subset_num_batches=-5': ['`eval_loader.subset_num_batches`', '-5'],
    'seed=-1': ['`seed`', '-1'],
    'load_path=/nowhere.pt': ['/nowhere.pt'],
    'algorithms.data_mixing=skill_it': ['`algorithms.data_mixing`', "'skill_it'"],
    'model.config.hiden_size=99': ["'hiden_size'", "did you mean 'hidden_size'?"],
    'train_loader.batching=strat': ['`batching`', 'random, stratified', "'strat'"],
    'train_loader.on_exhausted=stop': ['`on_exhausted`', 'repeat, error', "'stop'"],
    'train_loader.dataset.shufle=false': ['`train_loader.dataset`', "'shufle'"],
    'train_loader.dataset.epoch_size=8': ['`epoch_size`', 'round_size'],
    'device_eval_batch_size=4': ['unknown key `device_eval_batch_size`: here it is `eval_loader.batch_size`'],
    'eval_loader.device_eval_batch_size=4': ['here it is `eval_loader.batch_size`'],
    'eval_subset_num_batches=2': ['here it is `eval_loader.subset_num_batches`'],
    'eval_loader.eval_subset_num_batches=2': ['here it is `eval_loader.subset_num_batches`'],
    'eval_first=true': ['here it is `eval_loader.before_training`'],
    'eval_loader.eval_first=true': ['here it is `eval_loader.before_training`'],
    'console_log_interval=10ba': ['here it is `log_to_console`'],
    'eval_loader.eval_interval=1ep': ['here it is `eval_interval`'],
    'train_loader.batch_size=4': ['here it is `global_train_batch_size`'],
    'train_loader.dataset.batch_size=4': ['follows from `global_train_batch_size`'],
    'train_loader.shuffle_seed=4': ['here it is `train_loader.dataset.shuffle_seed`'],
    'lr=1': ['here it is `optimizer.lr`'],
    'max_seq_len=16': ['--seq-len'],
    'trainloader.round_size=8': ['`trainloader`', "did you mean 'train_loader'?"],
}


@pytest.mark.parametrize('override', FAULTS)
def test_a_fault_is_one_line_that_names_it_and_leaves_no_run_behind(
    refused: Refused, run_folder: Path, override: str
):
    message = refused(override)
    for part in FAULTS[override]:
        assert part in message
    # Neither would make the corrected command believe that a run is there.
    assert not (run_folder / 'mixture.jsonl').exists()
    assert not (run_folder / 'checkpoints').exists()


def test_after_any_faults_the_corrected_command_works(refused: Refused, trained: Trained, run_folder: Path):
    for override in ('streams=/nowhere', 'callbacks.sample_log.file=x', 'optimizer.lrr=1', 'loggers.x={}'):
        refused(override)
    trained('max_duration=1ep')
    assert [line['round'] for line in mixture_lines(run_folder)] == [-1, 0]
    assert json.loads((run_folder / 'run.json').read_text())['name'] == 'tiny'
    assert not list(run_folder.rglob('*.tmp'))


@pytest.fixture
def own_streams(streams: Path, tmp_path: Path) -> Path:
    """A copy of the streams that a test may damage."""
    return Path(shutil.copytree(streams, tmp_path / 'own'))


@pytest.mark.parametrize('split', ['train', 'eval'])
def test_a_stream_whose_folder_is_gone_is_named_with_its_path(
    refused: Refused, trained: Trained, own_streams: Path, split: str
):
    (own_streams / 'digit_1' / split).rename(own_streams / 'aside')
    message = refused(f'streams={own_streams}')
    assert f'Stream digit_1 has no index at {own_streams}/digit_1/{split}/index.json' in message
    (own_streams / 'aside').rename(own_streams / 'digit_1' / split)
    trained(f'streams={own_streams}', 'max_duration=1ba')


def test_a_streams_folder_without_a_tokenizer_is_named(refused: Refused, own_streams: Path):
    shutil.rmtree(own_streams / 'tokenizer')
    message = refused(f'streams={own_streams}')
    assert '`tokenizer`' in message
    assert str(own_streams / 'tokenizer') in message


def test_a_broken_manifest_is_named(refused: Refused, own_streams: Path):
    (own_streams / 'skills.json').write_text('{"version": 1')
    assert f'{own_streams}/skills.json: broken manifest' in refused(f'streams={own_streams}')


def test_a_graph_whose_names_are_not_the_streams_is_refused_with_both_sides(refused: Refused, tmp_path: Path):
    path = tmp_path / 'graph.json'
    SkillsGraph.identity(['digit_0', 'digit_1', 'digit_two']).save(path)
    message = refused(f'algorithms.data_mixing.graph={path}')
    assert "rows of the graph that are not trained on: 'digit_two'" in message
    assert "no row for 'digit_2'" in message


def test_a_graph_of_the_wrong_shape_is_refused(refused: Refused, tmp_path: Path):
    path = tmp_path / 'graph.npy'
    np.save(path, np.eye(4))
    message = refused(f'algorithms.data_mixing.graph={path}')
    assert str(path) in message
    assert '(4, 4)' in message


def test_an_eval_skill_that_the_policy_needs_is_asked_for(refused: Refused):
    message = refused('algorithms.data_mixing.graph=identity', 'eval_loader.skills=[digit_0,digit_1]')
    assert '`graph=identity` needs every skill that is trained on to be evaluated' in message
    assert '`eval_loader.skills` leaves out digit_2: evaluate it too, or learn a graph' in message
    message = refused('algorithms.data_mixing.graph=streams', 'eval_loader.skills=[digit_0,digit_1]')
    assert "columns of the graph that are not evaluated: 'digit_2'" in message


def test_a_policy_that_needs_the_first_losses_says_so(refused: Refused):
    message = refused('algorithms.data_mixing.lag=1', 'eval_loader.before_training=false')
    assert 'none was measured before training' in message


@pytest.mark.parametrize('wrong', ['optimizer.lrr=1', 'precision=amp_fp17', 'model.config.vocab_size=10'])
def test_a_refused_command_leaves_the_run_that_it_was_to_write_over(
    refused: Refused, trained: Trained, run_folder: Path, wrong: str
):
    trained('max_duration=1ep')
    before = {path: path.read_bytes() for path in run_folder.glob('*.*')}
    refused('save_overwrite=true', wrong)
    assert {path: path.read_bytes() for path in run_folder.glob('*.*')} == before
    trained('max_duration=1ep', 'save_overwrite=true')


def test_a_wrong_key_is_named_before_the_run_that_is_there(refused: Refused, trained: Trained):
    trained('max_duration=1ep')
    assert "`optimizer` has no option 'lrr'" in refused('optimizer.lrr=1')


def test_a_folder_that_holds_a_run_is_not_written_over(refused: Refused, trained: Trained, run_folder: Path):
    trained('max_duration=1ep')
    before = {path: path.read_bytes() for path in sorted(run_folder.rglob('*')) if path.is_file()}
    message = refused('max_duration=1ep')
    for part in (str(run_folder), 'autoresume=true', 'save_overwrite=true', 'another save_folder'):
        assert part in message
    assert {path: path.read_bytes() for path in sorted(run_folder.rglob('*')) if path.is_file()} == before


def test_a_run_starts_over_where_that_is_asked_for(trained: Trained, run_folder: Path):
    trained('max_duration=2ep')
    trained('max_duration=1ep', 'save_overwrite=true')
    assert [line['round'] for line in mixture_lines(run_folder)] == [-1, 0]


def test_autoresume_goes_on_with_a_longer_run(trained: Trained, run_folder: Path):
    trained('max_duration=1ep', 'autoresume=true')
    first = mixture_lines(run_folder)
    trained('max_duration=2ep', 'autoresume=true')
    lines = mixture_lines(run_folder)
    assert [line['round'] for line in lines] == [-1, 0, 1]
    assert lines[:2] == first


def test_the_run_folder_of_a_resumed_run_says_what_its_checkpoint_brought(trained: Trained, run_folder: Path):
    trained('max_duration=8ba', 'save_interval=4ba', 'train_loader.dataset.num_canonical_nodes=2')
    begun = json.loads((run_folder / 'run.json').read_text())['dataset']
    trained('max_duration=2ep', 'autoresume=true', 'train_loader.dataset.num_canonical_nodes=4')
    assert begun['num_canonical_nodes'] == 2
    assert json.loads((run_folder / 'run.json').read_text())['dataset'] == begun


def test_debug_shows_the_traceback(tiny_yaml: Path):
    with pytest.raises(ValueError, match=r'/nowhere/skills\.json'):
        main(['train', str(tiny_yaml), 'streams=/nowhere', '--debug'])


def test_a_run_folder_says_what_the_run_was(trained: Trained, run_folder: Path, streams: Path):
    trained('max_duration=1ba', 'method=ours')
    run = json.loads((run_folder / 'run.json').read_text())
    assert run['method'] == 'ours'
    assert run['seed'] == 3
    assert run['policy']['name'] == 'skill_it'
    assert run['policy']['eta'] == 0.5
    samples = {skill: stream['samples'] for skill, stream in run['dataset']['streams'].items()}
    assert samples == {f'digit_{i}': 300 for i in range(3)}
    assert run['dataset']['round_size'] == 24
    assert run['dataset']['global_batch_size'] == 4
    graph = json.loads((streams / 'graph.json').read_text())
    assert run['graph'] == graph


def test_the_configuration_of_a_run_starts_it_again(trained: Trained, run_folder: Path, tmp_path: Path):
    trained('max_duration=1ep')
    again = ['train', str(run_folder / 'config.yaml'), f'save_folder={tmp_path / "again"}']
    assert main(again) == 0
    lines, repeated = mixture_lines(run_folder), mixture_lines(tmp_path / 'again')
    assert [line['losses'] for line in repeated] == [line['losses'] for line in lines]


def test_a_skill_may_be_trained_on_and_not_evaluated(tmp_path: Path, streams: Path, run_folder: Path):
    keys = settings(streams, run_folder)
    keys['algorithms'] = {'data_mixing': {'policy': 'static', 'weights': {'digit_0': 1, 'digit_2': 3}}}
    keys['train_loader'] = {'round_size': 24, 'skills': ['digit_0', 'digit_2']}
    keys['eval_loader'] = {'skills': ['digit_1'], 'batch_size': 7}
    assert main(['train', str(write_yaml(tmp_path / 'other.yaml', keys)), 'max_duration=1ep']) == 0
    line = mixture_lines(run_folder)[-1]
    assert line['samples'] == {'digit_0': 6, 'digit_2': 18}


def test_a_model_that_fails_when_it_is_called_is_refused(
    refused: Refused, run_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(self: object, *arguments: object, **options: object) -> None:
        raise AttributeError('no such part')

    monkeypatch.setattr('transformers.models.llama.modeling_llama.LlamaModel.forward', fail)
    message = refused()
    assert 'The model cannot be called as `model` has it: AttributeError' in message
    assert not (run_folder / 'run.json').exists()


BERT = {'model_type': 'bert', 'hidden_size': 16, 'intermediate_size': 32, 'num_hidden_layers': 1}


@pytest.mark.parametrize('is_decoder', [False, True])
def test_a_model_that_sees_the_future_is_refused(
    streams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_decoder: bool
):
    keys = settings(streams, tmp_path / 'run')
    keys['model'] = {'config': {**BERT, 'num_attention_heads': 2, 'is_decoder': is_decoder}}
    keys['max_duration'] = '1ep'
    keys['callbacks'] = {}
    code = main(['train', str(write_yaml(tmp_path / 'bert.yaml', keys))])
    told = capsys.readouterr().err.strip().splitlines()
    if is_decoder:
        assert code == 0
    else:
        assert code == 2
        assert 'BertLMHeadModel) is not causal' in told[-1]
        assert not (tmp_path / 'run' / 'run.json').exists()
        keys['model'] = settings(streams, tmp_path / 'run')['model']
        assert main(['train', str(write_yaml(tmp_path / 'llama.yaml', keys))]) == 0
