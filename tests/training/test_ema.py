"""EMA: the average of the weights is the one by hand; losses, checkpoints and exports are of it; runs go on exactly."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from composer.core import Callback, State
from composer.loggers import Logger
from transformers import AutoModelForCausalLM

from skillit_stream.cli import main
from skillit_stream.training.averaging import EMA
from skillit_stream.training.builders import build_run
from skillit_stream.training.config import load_config
from skillit_stream.training.session import fit
from tests.support.launching import NEEDS, Launcher, finish
from tests.support.marks import slowly
from tests.support.run_folders import drawn_samples, mixture_lines, rounds_of, weights_of, without_clocks

Weights = dict[str, torch.Tensor]
Refused = Callable[..., str]
pytestmark = NEEDS
SMOOTHING = 'algorithms.ema={smoothing: 0.8}'


class Seen(Callback):
    """Keeps the weights after every step, and those of the model in each evaluation."""

    def __init__(self) -> None:
        self.trained: list[Weights] = []
        self.evaluated: list[tuple[int, Weights]] = []

    def before_forward(self, state: State, logger: Logger) -> None:
        """The step's batch is about to be trained: the weights must be those after the step before."""
        if self.trained:
            assert equal(copied(state.model), self.trained[-1])

    def batch_end(self, state: State, logger: Logger) -> None:
        """The step is done."""
        self.trained.append(copied(state.model))

    def eval_batch_start(self, state: State, logger: Logger) -> None:
        """An evaluation goes on."""
        step = int(state.timestamp.batch)
        if not self.evaluated or self.evaluated[-1][0] != step:
            self.evaluated.append((step, copied(state.model)))


def copied(model: torch.nn.Module) -> Weights:
    return {name: one.detach().clone() for name, one in model.named_parameters()}


def equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def averages(trained: list[Weights], smoothing: float, every: int = 1, begin: int = 1) -> dict[int, Weights]:
    """Step -> the average after it, by hand, in float64: it begins with the weights after step `begin`."""
    found: dict[int, Weights] = {}
    average: Weights | None = None
    for step, weights in enumerate(trained, start=1):
        wide = {name: one.double() for name, one in weights.items()}
        if step == begin:
            average = wide
        if average and step % every == 0:
            average = {name: smoothing * average[name] + (1 - smoothing) * one for name, one in wide.items()}
        if average:
            found[step] = average
    return found


def close(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.allclose(one[name].double(), other[name].double(), atol=1e-6, rtol=0) for name in other)


def watched(yaml: Path, *overrides: str) -> Seen:
    """Train with overrides and keep what was seen."""
    run, seen = build_run(load_config(yaml, overrides)), Seen()
    run.trainer.state.callbacks.append(seen)
    run.trainer.eval()
    run.trainer.fit()
    run.trainer.close()
    return seen


@pytest.mark.parametrize(
    ('option', 'smoothing', 'every'),
    [
        ('{smoothing: 0.8}', 0.8, 1),
        ('{half_life: 2ba}', 2**-0.5, 1),
        ('{half_life: 4ba, update_interval: 2ba}', 2**-0.5, 2),
        # An epoch is a round, of six steps.
        ('{half_life: 1ep}', 0.5, 6),
    ],
)
@pytest.mark.parametrize('interval', ['1ep', *slowly('3ba')])
def test_evaluations_are_of_the_average_by_hand(
    tiny_yaml: Path, option: str, smoothing: float, every: int, interval: str
):
    seen = watched(tiny_yaml, f'algorithms.ema={option}', 'max_duration=3ep', f'save_interval={interval}')
    by_hand = averages(seen.trained, smoothing, every, begin=6 if '1ep' in option else 1)
    assert [step for step, _ in seen.evaluated] == [0, 6, 12, 18]
    for step, weights in seen.evaluated[1:]:
        assert close(weights, by_hand[step])
        assert every > 1 or not close(weights, seen.trained[step - 1])


def test_the_losses_of_a_round_are_those_of_the_averaged_model(
    tiny_yaml: Path, run_folder: Path, tmp_path: Path
):
    assert main(['train', str(tiny_yaml), SMOOTHING]) == 0
    losses = rounds_of(run_folder)[-1]['losses']
    again = [
        'max_duration=1ba',
        f'load_path={run_folder}/checkpoints/latest-rank0.pt',
        'load_weights_only=true',
    ]
    assert main(['train', str(tiny_yaml), *again, f'save_folder={tmp_path / "again"}']) == 0
    assert mixture_lines(tmp_path / 'again')[0]['losses'] == losses
    plain = tmp_path / 'plain'
    assert main(['train', str(tiny_yaml), f'save_folder={plain}']) == 0
    assert rounds_of(plain)[-1]['losses'] != losses


def test_the_export_is_the_averaged_model(tiny_yaml: Path, run_folder: Path, tmp_path: Path):
    seen = watched(tiny_yaml, SMOOTHING)
    assert main(['export', str(run_folder), '--out', str(tmp_path / 'exported')]) == 0
    exported = copied(AutoModelForCausalLM.from_pretrained(tmp_path / 'exported'))
    by_hand = averages(seen.trained, 0.8)[12]
    assert close({f'model.{name}': one for name, one in exported.items()}, by_hand)


@pytest.mark.parametrize('stop', ['8ba', *slowly('12ba', '2ep', '5ba')])
@pytest.mark.parametrize('option', ['{smoothing: 0.8}', '{half_life: 1ep}'])
def test_a_run_that_stopped_goes_on_as_if_it_had_not(
    tiny_yaml: Path, run_folder: Path, tmp_path: Path, stop: str, option: str
):
    ema = f'algorithms.ema={option}'
    straight = tmp_path / 'straight'
    whole = [f'save_folder={straight}', f'callbacks.sample_log.folder={straight}/samples']
    fit(load_config(tiny_yaml, [ema, *whole, 'max_duration=3ep']))
    fit(load_config(tiny_yaml, [ema, f'max_duration={stop}', f'save_interval={stop}']))
    fit(load_config(tiny_yaml, [ema, 'max_duration=3ep', 'autoresume=true']))
    assert drawn_samples(run_folder) == drawn_samples(straight)
    lines = [without_clocks(rounds_of(run)) for run in (run_folder, straight)]
    for line, other in zip(*lines, strict=True):
        for key in ('losses', 'proportions', 'samples'):
            assert line[key] == other[key]
    assert equal(weights_of(run_folder), weights_of(straight))
    trained = [states_of(run)['ema_model']['named_parameters_dict'] for run in (run_folder, straight)]
    assert equal(*trained)
    assert not equal(trained[0], weights_of(straight))


def states_of(run: Path) -> dict[str, Any]:
    """What EMA has in the run's last checkpoint: the trained weights, where the model's are the averaged ones."""
    path = run / 'checkpoints' / 'latest-rank0.pt'
    return dict(torch.load(path, weights_only=False)['state']['algorithms'])['EMA']


def test_a_run_does_not_go_on_without_it(
    tiny_yaml: Path, run_folder: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
):
    fit(load_config(tiny_yaml, [SMOOTHING, 'max_duration=8ba', 'save_interval=8ba']))
    message = refused('save_interval=8ba', 'autoresume=true')
    assert message == (
        f'skillit: {run_folder} goes on: `algorithms.ema.smoothing` must stay 0.8, but got: not given (the model of '
        f'the checkpoint has the averaged weights); load_path={run_folder} load_weights_only=true '
        f'save_folder=ANOTHER begins another run from these weights.\n'
    )
    assert 'averaged weights' in refused(f'load_path={run_folder}', f'save_folder={run_folder}-2')
    capsys.readouterr()
    assert main(['train', str(tiny_yaml), 'algorithms.ema={smoothing: 0.9}', 'autoresume=true']) == 0
    assert 'algorithms.ema.smoothing: 0.8 -> 0.9, taken now' in ' '.join(capsys.readouterr().err.split())


@pytest.mark.parametrize('before', [1, 2])
def test_a_run_goes_on_on_another_number_of_ranks(
    tiny_yaml: Path, streams: Path, tmp_path: Path, launcher: Launcher, before: int
):
    straight, moved = tmp_path / 'straight', tmp_path / 'moved'
    both = [SMOOTHING, 'device_train_microbatch_size=2']
    one = [*both, f'save_folder={straight}', f'callbacks.sample_log.folder={straight}/samples']
    other = [*both, f'save_folder={moved}', f'callbacks.sample_log.folder={moved}/samples']
    stopped = launcher.ranks(
        tiny_yaml, streams, before, overrides=[*other, 'max_duration=8ba', 'save_interval=8ba']
    )
    finish(launcher.ranks(tiny_yaml, streams, 1, overrides=one), stopped)
    finish(launcher.ranks(tiny_yaml, streams, 3 - before, overrides=[*other, 'autoresume=true']))
    assert drawn_samples(moved) == drawn_samples(straight)
    assert rounds_of(moved)[-1]['losses'] == rounds_of(straight)[-1]['losses']
    assert equal(weights_of(moved), weights_of(straight))
    assert 'model.model.embed_tokens.weight' in states_of(moved)['ema_model']['named_parameters_dict']


@pytest.mark.parametrize(
    ('option', 'said'),
    [
        ('{smoothing: 1.5}', '`algorithms.ema.smoothing` must be between 0 and 1, but got: 1.5.'),
        ('{smoothing: 0.9, half_life: 3ba}', 'Only one of half_life or smoothing can be specified'),
        ('{half_life: 0ba}', "`algorithms.ema.half_life` must be more than nothing, but got: '0ba'."),
        ('{half_life: 100tok}', 'Invalid time unit'),
        ('{half_life: 4ba, update_interval: 1ep}', 'Units of half_life and update_interval must match.'),
        ('{halflife: 4ba}', "`algorithms.ema` has no option 'halflife': did you mean 'half_life'?"),
        ('{ema_start: soon}', '`algorithms.ema.ema_start` must be a time string'),
    ],
)
def test_bad_options(refused: Refused, option: str, said: str):
    assert said in refused(f'algorithms.ema={option}')


def test_it_is_the_name_in_composers_checkpoints():
    assert EMA.__name__ == 'EMA'
