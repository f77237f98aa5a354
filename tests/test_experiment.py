"""`skillit experiment`: what is trained, what is kept, what is refused."""

from pathlib import Path

import pytest

from skillit_stream.cli import main
from skillit_stream.errors import InputError
from skillit_stream.experiment import ExperimentConfig, plan_runs
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
"""


@pytest.fixture
def yaml(tmp_path: Path) -> Path:
    path = tmp_path / 'tiny.yaml'
    path.write_text(TINY.format(root=ROOT, folder=tmp_path))
    return path


def test_every_method_is_planned_with_every_seed(yaml: Path):
    experiment = load_yaml(yaml, ExperimentConfig, ['seeds=[1,2]'])
    runs = plan_runs(experiment, yaml.parent)
    assert [run.name for run in runs] == ['skill_it-s1', 'stratified-s1', 'skill_it-s2', 'stratified-s2']
    assert [run.config.seed for run in runs] == [1, 1, 2, 2]
    assert runs[0].config.algorithms['data_mixing']['graph'] == 'streams'
    assert runs[1].config.algorithms == {'data_mixing': {'policy': 'stratified'}}
    assert len({str(run.folder) for run in runs}) == 4


def test_an_experiment_without_methods_is_refused(yaml: Path, capsys: pytest.CaptureFixture[str]):
    yaml.write_text(yaml.read_text().split('methods:')[0])
    assert main(['experiment', str(yaml)]) == 2
    assert 'at least one method' in capsys.readouterr().err


def test_unknown_keys_are_refused_with_the_nearest(yaml: Path):
    with pytest.raises(InputError, match=r"unknown key `seed`: did you mean 'seeds'\?"):
        load_yaml(yaml, ExperimentConfig, ['seed=1'])


# Two training processes: about half a minute.
def test_streams_are_made_runs_are_trained_once_and_reported(yaml: Path, capsys: pytest.CaptureFixture[str]):
    assert main(['experiment', str(yaml)]) == 0
    printed = capsys.readouterr().out
    report = yaml.parent / 'runs' / 'report' / 'report.html'
    assert f'Report: {report}' in printed
    assert report.exists()
    logs = sorted((yaml.parent / 'runs').glob('*/mixture.jsonl'))
    assert [log.parent.name for log in logs] == ['skill_it-s5', 'stratified-s5']
    before = [log.stat().st_mtime_ns for log in logs]
    assert main(['experiment', str(yaml)]) == 0
    assert [log.stat().st_mtime_ns for log in logs] == before
