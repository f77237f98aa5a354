"""Composer's whole list of algorithms and callbacks: each is offered by its name, or refused by it with the reason."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import composer.algorithms
import composer.callbacks
import pytest
import torch
from composer.core import Algorithm, Callback, State
from composer.loggers import InMemoryLogger, Logger

from skillit_stream.base.errors import InputError
from skillit_stream.cli import main
from skillit_stream.training import parts
from skillit_stream.training.averaging import EMA
from skillit_stream.training.builders import build_run
from skillit_stream.training.config import load_config
from skillit_stream.training.parts import ALGORITHMS, CALLBACKS, build_algorithms
from skillit_stream.training.parts_not_offered import NOT_OFFERED
from skillit_stream.training.session import fit
from tests.support.marks import slowly
from tests.support.run_folders import drawn_samples, rounds_of, weights_of

Refused = Callable[..., str]
# Where llm-foundry's names, or those of before, are not the classes' own.
OTHER_NAMES = {
    'Generate': 'generate_callback',
    'LowPrecisionGroupNorm': 'low_precision_groupnorm',
    'LowPrecisionLayerNorm': 'low_precision_layernorm',
    'MLPerfCallback': 'mlperf_callback',
    'NaNMonitor': 'nan_monitor',
    'OOMObserver': 'oom_observer',
    'LRMonitor': 'lr_monitor',
    'EMA': 'ema',
    'SAM': 'sam',
    'SWA': 'swa',
}


def name_of(kind: type) -> str:
    name = kind.__name__
    return OTHER_NAMES.get(name) or re.sub(r'(?<=[a-z])(?=[A-Z])', '_', name).lower()


def classes_of(module: Any, base: type) -> list[type]:
    found = [getattr(module, name) for name in module.__all__]
    return [one for one in found if inspect.isclass(one) and issubclass(one, base)]


@pytest.mark.parametrize(
    ('section', 'known', 'kinds'),
    [
        ('algorithms', ALGORITHMS, classes_of(composer.algorithms, Algorithm)),
        ('callbacks', CALLBACKS, classes_of(composer.callbacks, Callback)),
    ],
    ids=['algorithms', 'callbacks'],
)
def test_all_of_composers_are_offered_or_refused_by_name(
    section: str, known: dict[str, Any], kinds: list[type]
):
    assert len(kinds) > 15
    offered = {name_of(one) for one in kinds if name_of(one) in known}
    refused = {name.split('.')[1] for name in NOT_OFFERED if name.startswith(f'{section}.')}
    assert {name_of(one) for one in kinds} == offered | refused
    assert not offered & refused
    for kind in kinds:
        if name_of(kind) in known:
            assert known[name_of(kind)] in (kind, EMA)


@pytest.mark.parametrize('place', sorted(NOT_OFFERED))
def test_what_is_not_offered_says_why(refused: Refused, place: str):
    assert refused(f'{place}={{}}') == f'skillit: `{place}` is not offered: {NOT_OFFERED[place]}.\n'


@pytest.mark.parametrize(
    ('override', 'said'),
    [
        ('algorithms.emma={}', "there is no 'emma': did you mean 'ema'?"),
        ('algorithms.swa={start: 1ep}', "`algorithms.swa` has no option 'start': did you mean 'swa_start'?"),
        ('algorithms.swa=[1]', '`algorithms.swa` must be a mapping of options, but got: [1].'),
        ('algorithms.swa={swa_start: 2dur}', '`algorithms.swa` has an option that SWA does not take'),
        ('callbacks.generate={}', "there is no 'generate': did you mean 'generate_callback'?"),
        (
            'callbacks.activation_monitor={intervall: 1ba}',
            "has no option 'intervall': did you mean 'interval'?",
        ),
        (
            'callbacks.generate_callback={prompts: [a]}',
            '`callbacks.generate_callback.interval` must be given: add it.',
        ),
    ],
)
def test_mistakes(refused: Refused, override: str, said: str):
    assert said in refused(override)


def trained(yaml: Path, *overrides: str) -> tuple[Any, InMemoryLogger]:
    """Train with overrides; the trainer, and what was logged."""
    run, logger = build_run(load_config(yaml, overrides)), InMemoryLogger()
    run.trainer.logger.destinations += (logger,)
    logger.state = run.trainer.state
    run.trainer.eval()
    run.trainer.fit()
    run.trainer.close()
    return run.trainer, logger


def test_activations_are_logged(tiny_yaml: Path):
    _, logger = trained(tiny_yaml, 'callbacks.activation_monitor={interval: 10ba}')
    assert any(name.startswith('activations/l2_norm/model.model.layers.0') for name in logger.data)


def test_prompts_are_continued_at_the_end_of_each_round(tiny_yaml: Path):
    prompts = (
        'callbacks.generate_callback={prompts: ["1 2"], interval: 1ep, max_new_tokens: 3, do_sample: false}'
    )
    _, logger = trained(tiny_yaml, prompts)
    assert '1 2' in str(logger.tables['generations'])


def test_a_threshold_ends_the_run(tiny_yaml: Path, run_folder: Path):
    stopper = '{monitor: MeanSkillLoss, dataloader_label: all, threshold: 100.0}'
    overrides = [f'callbacks.threshold_stopper={stopper}', 'eval_loader.before_training=false']
    assert main(['train', str(tiny_yaml), *overrides, 'max_duration=3ep']) == 0
    assert [line['round'] for line in rounds_of(run_folder)] == [0]


def test_a_threshold_that_is_reached_before_training(
    tiny_yaml: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
):
    stopper = '{monitor: MeanSkillLoss, dataloader_label: all, threshold: 100.0}'
    assert main(['train', str(tiny_yaml), f'callbacks.threshold_stopper={stopper}']) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(
        'skillit: A stopper of `callbacks` ended the run in the evaluation before its first step'
    )
    assert not (run_folder / 'mixture.jsonl').exists()


@pytest.mark.parametrize('policy', ['skill_it, graph: streams', 'odm'])
def test_freed_outputs_change_nothing(tiny_yaml: Path, run_folder: Path, tmp_path: Path, policy: str):
    same = f'algorithms.data_mixing={{policy: {policy}}}'
    trained(tiny_yaml, same, f'save_folder={tmp_path / "plain"}')
    trained(tiny_yaml, same, 'callbacks.free_outputs={}')
    lines = [[line['losses'] for line in rounds_of(run)] for run in (run_folder, tmp_path / 'plain')]
    assert lines[0] == lines[1]


@pytest.mark.filterwarnings('ignore')
def test_the_system_is_logged(tiny_yaml: Path):
    _, logger = trained(tiny_yaml, 'callbacks.system_metrics_monitor={log_all_data: true}')
    assert any('cpu' in name for name in logger.data)


@pytest.mark.filterwarnings('ignore')
def test_other_parts_are_built(tiny_yaml: Path, tmp_path: Path):
    observer = f'callbacks.oom_observer={{folder: {tmp_path / "oom"}}}'
    trainer, _ = trained(tiny_yaml, observer, 'algorithms.low_precision_layernorm={}')
    names = [type(one).__name__ for one in (*trainer.state.algorithms, *trainer.state.callbacks)]
    assert {'OOMObserver', 'LowPrecisionLayerNorm', 'DataMixing'} <= set(names)


class _Weights(Callback):
    def __init__(self) -> None:
        self.ends: list[dict[str, torch.Tensor]] = []

    def batch_end(self, state: State, logger: Logger) -> None:
        self.ends.append({name: one.detach().clone() for name, one in state.model.named_parameters()})


SWA = 'algorithms.swa={swa_start: 1ep, swa_end: 4ep, update_interval: 1ep}'


@pytest.mark.filterwarnings('ignore')
def test_swa_ends_with_the_mean_of_the_ends_of_rounds(tiny_yaml: Path, run_folder: Path):
    run, seen = build_run(load_config(tiny_yaml, [SWA, 'max_duration=4ep'])), _Weights()
    run.trainer.state.callbacks.append(seen)
    run.trainer.eval()
    run.trainer.fit()
    run.trainer.close()
    saved = weights_of(run_folder)
    for name in seen.ends[0]:
        mean = torch.stack([seen.ends[step - 1][name].double() for step in (6, 12, 18, 24)]).mean(0)
        assert torch.allclose(saved[name].double(), mean, atol=1e-6)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('stop', ['8ba', *slowly('2ep', '15ba')])
def test_a_run_with_swa_goes_on_as_if_it_had_not_stopped(
    tiny_yaml: Path, run_folder: Path, tmp_path: Path, stop: str
):
    straight = tmp_path / 'straight'
    whole = [f'save_folder={straight}', f'callbacks.sample_log.folder={straight}/samples']
    swa = [SWA, 'max_duration=4ep']
    fit(load_config(tiny_yaml, [*swa, *whole]))
    fit(load_config(tiny_yaml, [*swa, f'max_duration={stop}', f'save_interval={stop}']))
    fit(load_config(tiny_yaml, [*swa, 'autoresume=true']))
    assert drawn_samples(run_folder) == drawn_samples(straight)
    assert [line['losses'] for line in rounds_of(run_folder)] == [
        line['losses'] for line in rounds_of(straight)
    ]
    final = weights_of(run_folder)
    assert all(torch.equal(one, final[name]) for name, one in weights_of(straight).items())


def test_what_needs_the_whole_model_on_one_rank_is_refused_elsewhere(monkeypatch: pytest.MonkeyPatch):
    for name in ('ema', 'swa'):
        with pytest.raises(
            InputError, match=f'`algorithms.{name}` keeps a copy of all weights on every rank'
        ):
            build_algorithms({name: {}}, sharded=True)
    monkeypatch.setattr(parts.dist, 'get_world_size', lambda: 2)
    with pytest.raises(InputError, match=r'`algorithms.swa` is for one rank: .* take ema'):
        build_algorithms({'swa': {}}, sharded=False)
    assert isinstance(build_algorithms({'ema': None}, sharded=False)[0], EMA)
