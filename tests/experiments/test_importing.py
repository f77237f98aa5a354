"""`skillit experiment --import`: runs that were finished elsewhere are taken if they are the planned ones."""

import json
import shutil
from pathlib import Path

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.cli import main
from skillit_stream.experiments.config import ExperimentConfig
from skillit_stream.experiments.importing import import_runs
from skillit_stream.experiments.planning import FINISHED, PlannedRun, plan_runs
from skillit_stream.training.yaml_files import load_yaml
from tests.support.paths import ROOT

TINY = """
name: tiny
yaml: {root}/yamls/addition/skill_it.yaml
out: {folder}/runs
streams: {streams}
convert: [addition, --out, {streams}, --train-samples, '200', --eval-samples, '20']
seeds: {seeds}
overrides:
  - max_duration=2ep
  - device=cpu
  - global_train_batch_size=4
  - train_loader.round_size=8
  - model.config.hidden_size=16
  - model.config.num_hidden_layers=1
methods:
  stratified:
    data_mixing: {{policy: stratified}}
  other_order: {{other_order_of: stratified}}
baseline: stratified
note: Two rounds of two steps.
"""


def write_experiment(folder: Path, streams: Path, seeds: str) -> Path:
    """The experiment's YAML in a folder of its own."""
    folder.mkdir(exist_ok=True)
    path = folder / 'tiny.yaml'
    path.write_text(TINY.format(root=ROOT, folder=folder, streams=streams, seeds=seeds))
    return path


def planned(path: Path) -> list[PlannedRun]:
    return plan_runs(load_yaml(path, ExperimentConfig), path.parent)


@pytest.fixture(scope='module')
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the experiment was run with seed 1; tests must not change it."""
    folder = tmp_path_factory.mktemp('elsewhere')
    assert main(['experiment', str(write_experiment(folder, folder / 'streams', '[1]')), 'jobs=2']) == 0
    return folder


@pytest.mark.slow
def test_runs_of_two_machines_add_up(elsewhere: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    # Converted again: the same bytes at another place.
    yaml = write_experiment(tmp_path / 'here', tmp_path / 'here' / 'streams', '[1, 2]')
    mark = elsewhere / 'runs' / 'stratified-s1' / FINISHED
    assert main(['experiment', str(yaml), 'jobs=2', '--import', str(elsewhere / 'runs')]) == 0
    printed = capfd.readouterr().out
    assert f'Taken from {elsewhere / "runs"}: stratified-s1, other_order-s1' in printed
    assert 'Trained stratified-s1' not in printed
    assert 'Trained stratified-s2' in printed
    runs = tmp_path / 'here' / 'runs'
    assert (runs / 'stratified-s1' / FINISHED).read_bytes() == mark.read_bytes()
    assert not (runs / 'stratified-s1' / 'checkpoints').exists()
    results = json.loads((runs / 'results.json').read_text())
    [(machine, count)] = results['ran_on'].items()
    assert (count, 'torch' in machine) == (4, True)
    assert all(one.is_finished() for one in planned(yaml))


@pytest.mark.slow
def test_what_is_finished_here_stays(elsewhere: Path, tmp_path: Path):
    yaml = write_experiment(tmp_path / 'here', elsewhere / 'streams', '[1]')
    runs = planned(yaml)
    assert import_runs(runs, elsewhere / 'runs') == ['stratified-s1', 'other_order-s1']
    (runs[0].folder / 'mixture.jsonl').write_text('own')
    assert import_runs(runs, elsewhere / 'runs') == []
    assert (runs[0].folder / 'mixture.jsonl').read_text() == 'own'


@pytest.mark.slow
def test_a_run_of_another_experiment_is_taken_if_only_its_name_is_another(elsewhere: Path, tmp_path: Path):
    yaml = write_experiment(tmp_path / 'here', elsewhere / 'streams', '[1]')
    yaml.write_text(yaml.read_text().replace('name: tiny', 'name: larger'))
    runs = planned(yaml)
    assert import_runs(runs, elsewhere / 'runs') == ['stratified-s1', 'other_order-s1']
    assert all(one.is_finished() for one in runs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('old', 'new', 'problem'),
    [
        ('round_size=8', 'round_size=16', '`train_loader.round_size` is 8 there and 16 here'),
        ('max_duration=2ep', 'max_duration=3ep', '`max_duration` is 2ep there and 3ep here'),
        ('policy: stratified', 'policy: proportional', 'is stratified there and proportional here'),
    ],
)
def test_a_run_with_another_configuration_is_refused(
    elsewhere: Path, tmp_path: Path, old: str, new: str, problem: str
):
    yaml = write_experiment(tmp_path / 'here', elsewhere / 'streams', '[1]')
    yaml.write_text(yaml.read_text().replace(old, new))
    with pytest.raises(InputError, match=problem):
        import_runs(planned(yaml), elsewhere / 'runs')
    assert not (tmp_path / 'here' / 'runs').exists()


@pytest.mark.slow
def test_a_run_on_other_samples_is_refused(elsewhere: Path, tmp_path: Path):
    streams = tmp_path / 'streams'
    assert (
        main(['convert', 'addition', '--out', str(streams), '--train-samples', '199', '--eval-samples', '20'])
        == 0
    )
    yaml = write_experiment(tmp_path / 'here', streams, '[1]')
    with pytest.raises(InputError, match='was trained on other samples of digit_0'):
        import_runs(planned(yaml), elsewhere / 'runs')


@pytest.mark.slow
def test_a_run_with_another_graph_is_refused(elsewhere: Path, tmp_path: Path):
    other = tmp_path / 'other'
    shutil.copytree(elsewhere / 'runs', other)
    mark = other / 'stratified-s1' / FINISHED
    mark.write_text(json.dumps({**json.loads(mark.read_text()), 'graph': 'another'}))
    yaml = write_experiment(tmp_path / 'here', elsewhere / 'streams', '[1]')
    with pytest.raises(InputError, match='was trained with another graph'):
        import_runs(planned(yaml), other)


def test_a_folder_that_is_not_there_is_refused(
    tmp_path: Path, elsewhere: Path, capfd: pytest.CaptureFixture[str]
):
    yaml = write_experiment(tmp_path / 'here', elsewhere / 'streams', '[1]')
    assert main(['experiment', str(yaml), '--import', str(tmp_path / 'nowhere')]) == 2
    assert '`--import` must be a folder of finished runs, but there is none at' in capfd.readouterr().err
