"""`skillit experiment`: what is trained, what is kept, what is refused."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from skillit_stream import SkillsGraph
from skillit_stream.base.errors import InputError
from skillit_stream.cli import main
from skillit_stream.experiments.config import ExperimentConfig, check, find_yaml, order_control
from skillit_stream.experiments.learned_graph import graph_facts, learn_graph
from skillit_stream.experiments.planning import FINISHED, graph_hash, mixture_drawn, plan_runs
from skillit_stream.experiments.results import as_markdown
from skillit_stream.experiments.running import command_of
from skillit_stream.graphs.look import as_facts
from skillit_stream.mixture.graph_measurement import Measurement
from skillit_stream.report.methods import group_runs
from skillit_stream.report.run_folder import read_runs
from skillit_stream.training.config import dump_config
from skillit_stream.training.yaml_files import load_yaml
from tests.support.paths import ROOT
from tests.support.waiting import wait_for

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
  other_order: {{other_order_of: stratified}}
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
    methods = ['skill_it', 'stratified', 'by_sample', 'other_order']
    assert [run.name for run in runs] == [f'{method}-s{seed}' for seed in (1, 2) for method in methods]
    assert [run.config.seed for run in runs] == [1] * 4 + [2] * 4
    assert runs[0].config.algorithms['data_mixing']['graph'] == 'streams'
    assert runs[1].config.algorithms == {'data_mixing': {'policy': 'stratified'}}
    assert len({str(run.folder) for run in runs}) == 8
    # The initial model, and with it the losses, are another one for every seed.
    assert [run.losses for run in runs if run.losses] == ['tiny-by_sample-s1', 'tiny-by_sample-s2']
    assert runs[2].config.algorithms['data_mixing']['losses'] == 'tiny-by_sample-s1'


def test_a_control_is_planned_once_its_mixture_is_known(yaml: Path):
    experiment = load_yaml(yaml, ExperimentConfig)
    drawn = {'skill_it': {'digit_0': 0.2, 'digit_1': 0.5, 'digit_2': 0.3}}
    control = plan_runs(experiment, yaml.parent, drawn)[3]
    assert control.name == 'tilt-s5'
    assert control.config.algorithms['data_mixing'] == {'policy': 'static', 'weights': drawn['skill_it']}


def test_the_control_of_the_order_differs_in_the_order_alone(yaml: Path):
    experiment = load_yaml(yaml, ExperimentConfig)
    experiment.methods['stratified'].overrides = ['train_loader.dataset.shuffle_seed=3', 'optimizer.lr=0.5']
    *_, control = plan_runs(experiment, yaml.parent)
    [original] = [run for run in plan_runs(experiment, yaml.parent) if run.method == 'stratified']
    assert control.method == 'other_order'
    assert control.config.train_loader.dataset.pop('shuffle_seed') != 3
    assert original.config.train_loader.dataset.pop('shuffle_seed') == 3
    for field in ('method', 'run_name', 'save_folder'):
        setattr(control.config, field, getattr(original.config, field))
    assert dump_config(control.config) == dump_config(original.config)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            'baseline=stratifid',
            "`baseline` must be a method, but got: 'stratifid'; did you mean 'stratified'",
        ),
        ('methods.tilt.mixture_of=none', '`methods.tilt.mixture_of` must be a method, but got'),
        ('methods.other_order.other_order_of=none', '`methods.other_order.other_order_of` must be a method'),
        ('methods.tilt.other_order_of=stratified', 'has both `other_order_of` and `mixture_of`'),
        ('methods.other_order.other_order_of=tilt', 'must be a method with a policy of its own'),
        ('methods.tilt.data_mixing.policy=static', 'has both `mixture_of` and `data_mixing`'),
        ('methods.stratified={mixture_of: tilt}', 'must be a method with a policy of its own'),
        ('seeds=[1,1]', '`seeds` must differ'),
        ('jobs=0', '`jobs` must be at least 1, but got: 0'),
        ('learn_graph=[--method,approximate,--ou,x.json]', '`learn_graph` must be without --out.*got: --ou'),
        ('learn_graph=[--task=0/2]', '`learn_graph` must be without --out, --work, --task, but got: --task'),
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
    if experiment.name != 'demo':
        # Spread and tests by seed, and controls: what a fixed mixture would have done, what the order of samples does.
        assert order_control(experiment)
        assert len(experiment.seeds) >= 5
        assert sources
        assert experiment.baseline
        assert experiment.note


def test_an_experiment_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert find_yaml('demo') == ROOT / 'yamls' / 'experiments' / 'demo.yaml'
    with pytest.raises(InputError, match=r"no experiment 'demmo'.*did you mean 'demo'"):
        find_yaml('demmo')


def test_an_experiment_without_methods_is_refused(yaml: Path, capsys: pytest.CaptureFixture[str]):
    yaml.write_text(yaml.read_text().split('methods:')[0])
    assert main(['experiment', str(yaml)]) == 2
    assert 'at least one method' in capsys.readouterr().err


def test_unknown_keys_are_refused_with_the_nearest(yaml: Path):
    with pytest.raises(InputError, match=r"unknown key `seed`: did you mean 'seeds'\?"):
        load_yaml(yaml, ExperimentConfig, ['seed=1'])


def of_a_learned_graph(yaml: Path) -> None:
    """Change an experiment into one that learns the graph which its training YAML leaves open."""
    training = (ROOT / 'yamls' / 'addition' / 'skill_it.yaml').read_text()
    assert 'graph: streams' in training
    yaml.with_name('open.yaml').write_text(training.replace('graph: streams', 'graph: ???'))
    head = yaml.read_text().split('methods:')[0].replace(f'{ROOT}/yamls/addition/skill_it.yaml', 'open.yaml')
    yaml.write_text(
        head
        + """
learn_graph: [--method, approximate, --steps, 2]
methods:
  stratified:
    data_mixing: {policy: stratified}
  learned:
    data_mixing: {policy: skill_it, graph: '${out}/graph.json', eta: 0.2}
  by_override:
    overrides: ['algorithms.data_mixing.graph=${out}/graph.json']
  tilt: {mixture_of: learned}
"""
    )


def test_methods_name_the_learned_graph_wherever_the_experiment_is_put(yaml: Path):
    of_a_learned_graph(yaml)
    for overrides, out in (([], yaml.parent / 'runs'), (['out=elsewhere'], Path('elsewhere'))):
        experiment = load_yaml(yaml, ExperimentConfig, overrides)
        _, learned, by_override, _ = plan_runs(experiment, yaml.parent, {'learned': {'digit_0': 1.0}})
        assert learned.config.algorithms['data_mixing'] == {
            'policy': 'skill_it',
            'graph': f'{out}/graph.json',
            'eta': 0.2,
        }
        assert by_override.config.algorithms['data_mixing']['graph'] == f'{out}/graph.json'


def test_a_method_that_leaves_its_graph_open_is_refused(yaml: Path):
    of_a_learned_graph(yaml)
    experiment = load_yaml(yaml, ExperimentConfig, ['methods.by_override.overrides=[]'])
    with pytest.raises(InputError, match=r'`algorithms.data_mixing.graph` must be given'):
        plan_runs(experiment, yaml.parent)


def test_a_run_is_finished_only_with_the_graph_that_is_there_now(yaml: Path):
    of_a_learned_graph(yaml)
    stratified, learned, *_ = plan_runs(load_yaml(yaml, ExperimentConfig), yaml.parent)
    graph = yaml.parent / 'runs' / 'graph.json'
    for run in (stratified, learned):
        run.folder.mkdir(parents=True)
        graph.write_text('one graph')
        (run.folder / 'config.yaml').write_text(dump_config(run.config))
        (run.folder / FINISHED).write_text(json.dumps({'graph': run.graph_hash()}))
        assert run.is_finished()
    graph.write_text('another graph')
    assert (stratified.is_finished(), learned.is_finished()) == (True, False)


def test_a_graph_written_out_is_no_file_however_long_it_is(yaml: Path):
    experiment = load_yaml(yaml, ExperimentConfig)
    rows = {
        f'a_skill_with_a_long_name_{number}': {'a_skill_with_a_long_name_0': 1.0} for number in range(300)
    }
    experiment.methods['stratified'].data_mixing = {'policy': 'skill_it', 'graph': rows}
    run = plan_runs(experiment, yaml.parent)[1]
    assert run.graph_hash() is None
    assert not run.is_finished()


def test_what_a_graph_was_learned_from_trains_no_run_again(tmp_path: Path):
    plain, measured = tmp_path / 'plain.json', tmp_path / 'measured.json'
    graph = SkillsGraph.complete(['a', 'b'], 0.25)
    graph.save(plain)
    how = Measurement(method='approximate', effects=graph.weights)
    SkillsGraph(graph.train_skills, graph.eval_skills, graph.weights, measured=how).save(measured)
    # The hash in the marks of runs that were finished before this was kept.
    before = hashlib.blake2b(plain.read_bytes(), digest_size=16).hexdigest()
    assert graph_hash(plain) == graph_hash(measured) == before
    SkillsGraph.complete(['a', 'b'], 0.5).save(plain)
    assert graph_hash(plain) != before


@pytest.mark.parametrize(('skills', 'shown'), [(12, True), (13, False)])
def test_results_show_the_matrix_of_a_small_graph_and_every_warning(skills: int, shown: bool):
    names = [f'skill_{number}' for number in range(skills)]
    weights = SkillsGraph.complete(names, 0.25).weights
    how = Measurement(method='approximate', effects=weights, steps=2)
    about = {
        'experiment': 'x',
        'note': '',
        'command': 'skillit experiment x',
        'ran_on': {'a machine': 1},
        'paper': {},
        'graph': {
            'learned_with': ['seed=1', '--steps', '2'],
            **as_facts(SkillsGraph(names, names, weights, measured=how)),
        },
    }
    lines = as_markdown(about, [], None).splitlines()
    assert any(
        line.startswith('Short runs: approximate, runs of 2 steps; start: not known') for line in lines
    )
    assert any(line.startswith('The graph, learned with `seed=1 --steps 2`: ') for line in lines)
    warnings = [line.split(' (')[0] for line in lines if line.startswith('Warning')]
    assert warnings == ['Warning: The graph is nearly complete', 'Warning: All rows sum to about the same']
    assert (f'| skill_1 | 0.25 | 1 | {" | ".join(["0.25"] * (skills - 2))} |' in lines) == shown


@pytest.mark.parametrize('skills', [12, 13])
def test_many_skills_are_left_to_the_json(tmp_path: Path, skills: int):
    names = [f'skill_{number}' for number in range(skills)]
    line = {
        'round': 0,
        'step': 5,
        'losses': dict.fromkeys(names, 1.5),
        'proportions': dict.fromkeys(names, 1 / skills),
    }
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'mixture.jsonl').write_text(json.dumps(line) + '\n')
    facts = {'version': 1, 'name': 'a', 'policy': {'name': 'static'}, 'seed': 1, 'dataset': {}}
    (tmp_path / 'run' / 'run.json').write_text(json.dumps(facts))
    about = dict.fromkeys(('experiment', 'note', 'command'), 'x') | {'ran_on': {}, 'paper': {}}
    text = as_markdown(about, group_runs(read_runs([tmp_path / 'run'])), None)
    assert '| method | mean of the skills |' in text
    assert ('skill_3' in text) == (skills == 12)
    assert ('The losses of the 13 skills are in results.json' in text) == (skills == 13)


def test_a_skill_whose_own_run_taught_nothing_is_warned_of(yaml: Path):
    of_a_learned_graph(yaml)
    folder = yaml.parent / 'runs'
    (folder / 'graph.runs').mkdir(parents=True)
    (folder / 'graph.runs' / 'losses.csv').write_text('trained on,a,b\nstart,2,2\na,1,1\nb,1.5,3\n')
    SkillsGraph(list('ab'), list('ab'), [[0.5, 0.5], [0.25, 0]]).save(folder / 'graph.json')
    complete, untaught = graph_facts(load_yaml(yaml, ExperimentConfig))['warnings']
    assert complete.startswith('The graph is nearly complete')
    assert untaught.startswith('training on b alone did not lower its own loss')


def test_a_graph_that_cannot_be_learned_ends_the_experiment(yaml: Path, capfd: pytest.CaptureFixture[str]):
    of_a_learned_graph(yaml)
    assert main(['experiment', str(yaml), 'learn_graph=[--method,guess]']) == 2
    told = capfd.readouterr().err
    assert "invalid choice: 'guess'" in told
    assert 'graph.json could not be learned with `learn_graph`; see above.' in told
    assert not list((yaml.parent / 'runs').glob('*'))


@pytest.mark.parametrize('learned', [False, True])
@pytest.mark.parametrize(
    ('method', 'told'),
    [
        ('{policy: ado, warmup: 1}', 'warmup must be a whole number, 3 or more, but got: 1'),
        ('{policy: static, weights: {digit_9: 1}}', 'digit_9'),
        ('{policy: skill_it, graph: nowhere.json}', 'nowhere.json'),
    ],
)
def test_a_method_that_is_refused_is_refused_before_another_is_trained(
    yaml: Path, capfd: pytest.CaptureFixture[str], learned: bool, method: str, told: str
):
    if learned:
        of_a_learned_graph(yaml)
    yaml.write_text(yaml.read_text().replace('methods:', f'methods:\n  last:\n    data_mixing: {method}'))
    assert main(['experiment', str(yaml)]) == 2
    error = capfd.readouterr().err
    assert 'skillit: Method last: ' in error
    assert told in error
    assert error.count('\n') == 1
    assert not (yaml.parent / 'runs').exists()


def test_a_run_that_is_refused_is_told_in_its_own_words(yaml: Path, capfd: pytest.CaptureFixture[str]):
    yaml.write_text(yaml.read_text().replace('round_size=8', 'round_size=9'))
    assert main(['experiment', str(yaml), 'jobs=1']) == 2
    told = capfd.readouterr().err
    assert (
        'skillit: Run skill_it-s5: `round_size` must be a positive multiple of the global batch of 4 samples'
        in told
    )
    assert 'log.txt)\n' in told


def test_several_ranks_are_started_by_the_launcher():
    alone = [sys.executable, '-m', 'skillit_stream.cli', 'train', 'x.yaml']
    assert command_of(1, 'train', 'x.yaml') == alone
    assert command_of(2, 'train', 'x.yaml') == [*alone[:2], 'composer', '-n', '2', '-m', *alone[2:]]


# Two ranks for the graph, two for the run, then two processes more for the graph: about a minute.
@pytest.mark.slow
def test_a_graph_is_learned_once_and_stands_in_the_results(yaml: Path, capfd: pytest.CaptureFixture[str]):
    of_a_learned_graph(yaml)
    before, after = yaml.read_text().split('  stratified:')
    yaml.write_text(
        before.replace('baseline: stratified\n', '')
        + '  learned:'
        + after.split('learned:')[1].split('  by')[0]
    )
    assert main(['experiment', str(yaml), 'ranks=2']) == 0
    folder = yaml.parent / 'runs'
    assert (
        SkillsGraph.load(folder / 'graph.json').to_dict()
        == json.loads((folder / 'learned-s5/run.json').read_text())['graph']
    )
    facts = json.loads((folder / 'results.json').read_text())['graph']
    assert facts['learned_with'] == ['seed=5', '--method', 'approximate', '--steps', '2']
    assert facts['weights'] == SkillsGraph.load(folder / 'graph.json').weights.tolist()
    lines = (folder / 'results.md').read_text().splitlines()
    assert '| trained on, helps | digit_0 | digit_1 | digit_2 |' in lines
    assert [line for line in lines if line.startswith('Warning: ')] == [
        f'Warning: {one}' for one in facts['warnings']
    ]

    stamps = {path: path.stat().st_mtime_ns for path in (folder / 'graph.runs').glob('on-*.json')}
    experiment = load_yaml(yaml, ExperimentConfig)
    learn_graph(experiment, yaml.parent)
    (run,) = plan_runs(experiment, yaml.parent)
    assert '3 runs of 2 steps, 3 done before.' in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert run.is_finished()

    learn_graph(
        load_yaml(yaml, ExperimentConfig, ['learn_graph=[--method,approximate,--steps,5]']), yaml.parent
    )
    told = capfd.readouterr()
    assert '3 runs of 5 steps, 0 done before.' in told.err
    assert f'{folder}/graph.json is another graph than before' in told.out
    assert not run.is_finished()


@pytest.mark.usefixtures('forked_runs')
def test_streams_are_made_runs_are_trained_once_and_reported(yaml: Path, capsys: pytest.CaptureFixture[str]):
    assert main(['experiment', str(yaml)]) == 0
    printed = capsys.readouterr().out
    report = yaml.parent / 'runs' / 'report' / 'report.html'
    assert f'Report: {report}' in printed
    assert report.exists()
    logs = sorted((yaml.parent / 'runs').glob('*/mixture.jsonl'))
    methods = ['skill_it', 'stratified', 'by_sample', 'tilt', 'other_order']
    assert [log.parent.name for log in logs] == [f'{method}-s5' for method in sorted(methods)]
    results = (yaml.parent / 'runs' / 'results.md').read_text()
    assert '| method | mean of the skills | digit_0 | digit_1 | digit_2 |' in results
    assert 'Two rounds of two steps.' in results
    numbers = json.loads((yaml.parent / 'runs' / 'results.json').read_text())
    assert [method['name'] for method in numbers['methods']] == methods
    assert numbers['curves']['tilt']['loss']['mean']['steps'] == [0, 2, 4]
    assert report.with_name('reach.png').exists()
    assert numbers['paper'] == {'stratified': 0.012}
    drawn = [mixture_drawn([yaml.parent / 'runs' / f'{one}-s5']) for one in ('skill_it', 'tilt')]
    assert drawn[1] == pytest.approx(drawn[0], abs=1 / 16)
    before = [log.stat().st_mtime_ns for log in logs]
    assert main(['experiment', str(yaml)]) == 0
    assert [log.stat().st_mtime_ns for log in logs] == before


@pytest.mark.skipif(sys.platform != 'linux', reason='needs /proc')
@pytest.mark.parametrize('by', [signal.SIGTERM, signal.SIGKILL])
def test_its_commands_end_with_it_however_it_ends(tmp_path: Path, by: signal.Signals):
    script = (
        'import subprocess, sys\n'
        'from skillit_stream.experiments.running import with_us\n'
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], preexec_fn=with_us())\n"
        'print(child.pid, flush=True)\n'
        'child.wait()\n'
    )
    parent = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    child = Path('/proc', parent.stdout.readline().strip())
    try:
        assert child.exists()
        os.kill(parent.pid, by)
        parent.wait()
        # One that nobody waits for stays in the table, without a command line.
        wait_for(lambda: not child.exists() or not (child / 'cmdline').read_bytes())
    finally:
        parent.kill()
