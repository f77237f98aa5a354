"""`skillit experiment`: what is trained, what is kept, what is refused."""

import json
from pathlib import Path

import pytest

from skillit_stream.cli import main
from skillit_stream.errors import InputError
from skillit_stream.experiments.config import ExperimentConfig, check, find_yaml
from skillit_stream.experiments.planning import mixture_drawn, plan_runs
from skillit_stream.training.config import load_yaml

ROOT = Path(__file__).parent.parent

TINY = """
name: tiny
yaml: {root}/yamls/addition/skill_it.yaml
out: {folder}/runs
streams: {folder}/streams
convert: [addition, --out, {folder}/streams, --train-samples, '200', --eval-samples, '20']
seeds: [5]
overrides:
  - max_duration=2ep
  - global_train_batch_size=4
  - train_loader.round_size=8
  - model.config.hidden_size=16
  - model.config.num_hidden_layers=1
methods:
  skill_it: {{}}
  stratified:
    data_mixing: {{policy: stratified}}
    paper: 0.012
  by_sample:
    data_mixing: {{policy: sample_curriculum}}
    losses_of_samples: true
  tilt: {{mixture_of: skill_it}}
baseline: stratified
note: Two rounds of two steps.
"""


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    path = tmp_path / 'tiny.yaml'
    path.write_text(TINY.format(root=ROOT, folder=tmp_path))
    return path


def test_every_method_is_planned_with_every_seed(yaml: Path):
    experiment = load_yaml(yaml, ExperimentConfig, ['seeds=[1,2]'])
    runs = plan_runs(experiment, yaml.parent)
    methods = ['skill_it', 'stratified', 'by_sample']
    assert [run.name for run in runs] == [f'{method}-s{seed}' for seed in (1, 2) for method in methods]
    assert [run.config.seed for run in runs] == [1, 1, 1, 2, 2, 2]
    assert runs[0].config.algorithms['data_mixing']['graph'] == 'streams'
    assert runs[1].config.algorithms == {'data_mixing': {'policy': 'stratified'}}
    assert len({str(run.folder) for run in runs}) == 6
    # The initial model, and with it the losses, are another one for every seed.
    assert [run.losses for run in runs if run.losses] == ['tiny-by_sample-s1', 'tiny-by_sample-s2']
    assert runs[2].config.algorithms['data_mixing']['losses'] == 'tiny-by_sample-s1'


def test_a_control_is_planned_once_its_mixture_is_known(yaml: Path):
    experiment = load_yaml(yaml, ExperimentConfig)
    drawn = {'skill_it': {'digit_0': 0.2, 'digit_1': 0.5, 'digit_2': 0.3}}
    control = plan_runs(experiment, yaml.parent, drawn)[-1]
    assert control.name == 'tilt-s5'
    assert control.config.algorithms['data_mixing'] == {'policy': 'static', 'weights': drawn['skill_it']}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            'baseline=stratifid',
            "`baseline` must be a method, but got: 'stratifid'; did you mean 'stratified'",
        ),
        ('methods.tilt.mixture_of=none', '`methods.tilt.mixture_of` must be a method, but got'),
        ('methods.tilt.data_mixing.policy=static', 'has both `mixture_of` and `data_mixing`'),
        ('methods.stratified={mixture_of: tilt}', 'must be a method with a policy of its own'),
        ('seeds=[1,1]', '`seeds` must differ'),
    ],
)
def test_an_experiment_that_does_not_hang_together_is_refused(yaml: Path, change: str, message: str):
    experiment = load_yaml(yaml, ExperimentConfig, [change])
    if 'stratified=' in change:
        experiment.methods['stratified'].data_mixing = None
    with pytest.raises(InputError, match=message):
        check(experiment, yaml)


@pytest.mark.parametrize(
    'path', sorted((ROOT / 'yamls' / 'experiments').glob('*.yaml')), ids=lambda path: path.stem
)
def test_every_experiment_of_the_repository_can_be_planned(path: Path):
    experiment = load_yaml(path, ExperimentConfig)
    check(experiment, path)
    assert experiment.name == path.stem
    sources = {method.mixture_of for method in experiment.methods.values() if method.mixture_of}
    runs = plan_runs(experiment, path.parent, {source: {'any': 1.0} for source in sources})
    assert len(runs) == len(experiment.methods) * len(experiment.seeds)
    if experiment.name != 'addition-demo':
        # Spread and tests by seed, and a control for what a fixed mixture would have done.
        assert len(experiment.seeds) >= 5
        assert sources
        assert experiment.baseline
        assert experiment.note


def test_an_experiment_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert find_yaml('addition-demo') == ROOT / 'yamls' / 'experiments' / 'addition-demo.yaml'
    with pytest.raises(InputError, match=r"no experiment 'addition-dem'.*did you mean 'addition-demo'"):
        find_yaml('addition-dem')


def test_an_experiment_without_methods_is_refused(yaml: Path, capsys: pytest.CaptureFixture[str]):
    yaml.write_text(yaml.read_text().split('methods:')[0])
    assert main(['experiment', str(yaml)]) == 2
    assert 'at least one method' in capsys.readouterr().err


def test_unknown_keys_are_refused_with_the_nearest(yaml: Path):
    with pytest.raises(InputError, match=r"unknown key `seed`: did you mean 'seeds'\?"):
        load_yaml(yaml, ExperimentConfig, ['seed=1'])


# Four training processes: about a minute.
def test_streams_are_made_runs_are_trained_once_and_reported(yaml: Path, capsys: pytest.CaptureFixture[str]):
    assert main(['experiment', str(yaml)]) == 0
    printed = capsys.readouterr().out
    report = yaml.parent / 'runs' / 'report' / 'report.html'
    assert f'Report: {report}' in printed
    assert report.exists()
    logs = sorted((yaml.parent / 'runs').glob('*/mixture.jsonl'))
    assert [log.parent.name for log in logs] == ['by_sample-s5', 'skill_it-s5', 'stratified-s5', 'tilt-s5']
    results = (yaml.parent / 'runs' / 'results.md').read_text()
    assert '| method | mean of the skills | digit_0 | digit_1 | digit_2 |' in results
    assert 'Two rounds of two steps.' in results
    numbers = json.loads((yaml.parent / 'runs' / 'results.json').read_text())
    assert [method['name'] for method in numbers['methods']] == [
        'skill_it',
        'stratified',
        'by_sample',
        'tilt',
    ]
    assert numbers['paper'] == {'stratified': 0.012}
    drawn = [mixture_drawn([yaml.parent / 'runs' / f'{one}-s5']) for one in ('skill_it', 'tilt')]
    assert drawn[1] == pytest.approx(drawn[0], abs=1 / 16)
    before = [log.stat().st_mtime_ns for log in logs]
    assert main(['experiment', str(yaml)]) == 0
    assert [log.stat().st_mtime_ns for log in logs] == before
