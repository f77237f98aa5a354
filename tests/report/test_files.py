"""The files of a report, the command, and the terminal."""

import base64
import hashlib
import html
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import StringIO

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from skillit_stream import cli
from skillit_stream.base.errors import InputError
from skillit_stream.mixture import SkillsGraph
from skillit_stream.mixture.graph_measurement import Measurement, StartOfRuns
from skillit_stream.mixture.graph_warnings import warnings_of
from skillit_stream.report import print_summary, write_report
from skillit_stream.report.drawing import line_look
from skillit_stream.report.methods import group_runs
from skillit_stream.report.reach_drawing import draw_reaches
from skillit_stream.report.run_folder import read_runs
from skillit_stream.report.terminal import print_methods
from skillit_stream.report.views import reach_view
from tests.support.paths import ROOT

FILES = {'report.html', 'mixture.png', 'losses.png', 'graph.png', 'summary.json'}
GRAPH = [[1, 0.5, 0], [0.2, 1, 0.3], [0, -0.1, 1]]


class Page(HTMLParser):
    """Collects tags, ids and references, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.cells: list[str] = []
        self.scripts: list[list[str]] = []
        self.within_a_word = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.within_a_word = tag == 'wbr'
        if tag not in {'meta', 'br', 'wbr'}:
            self.open.append(tag)
        if tag == 'script':
            self.scripts.append([key for key, _ in attrs])
        self.handle_attributes(attrs)

    def handle_startendtag(self, tag, attrs):
        self.handle_attributes(attrs)

    def handle_attributes(self, attrs):
        for key, value in attrs:
            if key == 'id':
                self.ids.append(value)
            if key in {'src', 'href', 'xlink:href'}:
                self.references.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in {'td', 'th', 'li', 'p'}:
            if self.within_a_word:
                self.cells[-1] += data
            else:
                self.cells.append(data)
        self.within_a_word = False


@pytest.fixture
def six_runs(make_run):
    return [
        make_run(name, seed=seed, speed=speed, graph=GRAPH if name == 'skill_it' else None)
        for name, speed in (('skill_it', 1.5), ('stratified', 1.0))
        for seed in (1, 2, 3)
    ]


def test_two_methods_of_three_seeds_make_a_whole_report(six_runs):
    path = write_report(six_runs)
    assert path == six_runs[0].parent / 'report' / 'report.html'
    assert {file.name for file in path.parent.iterdir()} == FILES
    page = Page(path.read_text())
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    text = ' '.join(page.cells)
    assert 'skill_it (3 seeds)' in text
    assert re.search(r'skill_it\W+stratified\W+3 of 3\W+\d\.\d{4} ± \d\.\d{4} 0\.25', text)
    assert 'proportions asked and drawn differ by at most' in text
    summary = json.loads((path.parent / 'summary.json').read_text())
    assert summary['pairs'][0]['wins'] == 3


def test_the_page_needs_nothing_from_outside(six_runs):
    text = write_report(six_runs).read_text()
    page = Page(text)
    assert all(reference.startswith(('#', 'data:')) for reference in page.references)
    assert [set(attributes) for attributes in page.scripts] == [{'type', 'id'}, set()]
    # Names of XML dialects are the only addresses, and nothing is fetched from those.
    addresses = set(re.findall(r'https?://[^"\'\s)<]+', text))
    assert addresses <= {'http://www.w3.org/2000/svg', 'http://www.w3.org/1999/xlink'}


def test_the_same_runs_give_the_same_figures(make_run, tmp_path):
    run = make_run(rounds=1, skills=['a'], graph=[[1]])
    one, two = (write_report([run], tmp_path / name).parent for name in ('one', 'two'))
    for name in FILES - {'report.html'}:
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_the_page_allows_its_own_script_alone(make_run):
    text = write_report([make_run(rounds=1)]).read_text()
    script = text.split('<script>')[1].split('</script>')[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'" in text
    assert not {'eval(', 'innerHTML', 'fetch('} & set(re.findall(r'\w+\(|innerHTML', script))


def test_names_are_escaped_and_never_formulas(make_run):
    odd = ['a_$x^{$', '<script>alert(1)</script>', '_hidden & "quoted"']
    text = write_report([make_run('<b>', skills=odd, rounds=2, graph=GRAPH)]).read_text()
    page = Page(text)
    assert len(page.scripts) == 2
    assert '&lt;script&gt;' in text
    assert page.open == []


def test_accuracy_gets_panels_a_figure_and_a_line_in_the_table(make_run, tmp_path):
    measured = ['bits_per_byte', 'exact_match', 'accuracy']
    end = {'a': 0.0, 'b': math.log(4)}
    losses = [{'a': 3.0, 'b': 3.0}, end]
    runs = [make_run(rounds=1, losses=losses, figures=measured), make_run('y', rounds=1, losses=losses)]
    path = write_report(runs, tmp_path / 'out')
    text = path.read_text()
    assert (path.parent / 'accuracy.png').is_file()
    assert 'Accuracy over training' in text
    assert 'aria-label="exact match over training: mean of the skills"' in text
    assert '<small>62.5% right</small>' in text  # (100% + 25%) / 2
    assert f'<small>{math.log(4) / 3:.4f} bits per byte</small>' in text
    text = write_report(runs[1:], tmp_path / 'out').read_text()
    assert not (path.parent / 'accuracy.png').exists()
    assert not {'Accuracy', 'bits per byte'} & set(re.findall('Accuracy|bits per byte', text))


@pytest.mark.parametrize(('methods', 'seeds'), [(1, 1), (1, 10), (12, 1), (12, 10)])
def test_the_steps_to_a_baseline_are_drawn_for_one_method_and_for_many(make_run, tmp_path, methods, seeds):
    runs = [
        make_run(f'method_{number}', seed=seed, rounds=2, skills=['a'], speed=1 + number % 3)
        for number in range(methods)
        for seed in range(1, seeds + 1)
    ]
    path = write_report(runs, tmp_path / 'out', baseline='method_0')
    assert (path.parent / 'reach.png').read_bytes()[:4] == b'\x89PNG'
    assert (path.parent / 'difference.png').exists() == (methods > 1)
    picture = path.read_text().split('<h2>Steps to the baseline</h2>')[1].split('</section>')[0]
    assert 'aria-label="step at which each method reaches the final loss of method_0: method_0: ' in picture
    # Every row is labelled: it can be read without colours.
    assert {f'method_{number}' for number in range(1, methods)} < set(re.findall(r'method_\d+', picture))
    assert picture.count('>never<') == 1


def test_a_seed_that_never_reaches_the_baseline_is_an_open_dot_at_the_right(make_run):
    losses = {
        'base': [3.0, 2.0, 1.0],
        'soon': [3.0, 1.0, 1.0],
        'never': [3.0, 2.0, 1.5],
        'other': [3.0, 2.0, 1.0],
    }
    runs = [
        make_run(name, seed=1 + (name == 'other'), rounds=2, losses=[{'a': value} for value in values])
        for name, values in losses.items()
    ]
    view = reach_view(group_runs(read_runs(runs)), 'base')
    assert view is not None
    assert view.last_step == 400
    axes = Figure().add_subplot()
    draw_reaches(axes, view)
    dots = [line for line in axes.lines if line.get_marker() == 'o']
    steps = [float(np.asarray(dot.get_xdata())[0]) for dot in dots]
    assert steps[:2] == [400, 200]
    assert steps[2] > 400
    assert [dot.get_markerfacecolor() for dot in dots] == [line_look(0)[0], line_look(1)[0], 'none']
    texts = [text.get_text() for text in axes.texts]
    assert texts == [
        'base (baseline): step 400',
        'soon: step 200',
        'never: never, on 1 seed',
        'other: no seed in common',
        'never',
    ]


def test_without_a_baseline_there_are_no_steps_to_it(make_run, tmp_path):
    runs = [make_run('x', rounds=1), make_run('y', rounds=1)]
    assert (write_report(runs, tmp_path / 'out', baseline='x').parent / 'reach.png').exists()
    path = write_report(runs, tmp_path / 'out')
    assert not (path.parent / 'reach.png').exists()
    assert 'Steps to the baseline' not in path.read_text()
    silent = make_run('z', rounds=1, losses=[{}, {}])
    assert 'Steps to the baseline' not in write_report([silent], tmp_path / 'out', baseline='z').read_text()


def test_train_and_eval_skills_may_differ(make_run):
    graph = np.linspace(-1, 1, 8).reshape(4, 2).tolist()
    path = write_report([make_run(skills=list('abcd'), eval_skills=['x', 'y'], graph=graph, rounds=2)])
    assert {file.name for file in path.parent.iterdir()} == FILES
    assert json.loads((path.parent / 'summary.json').read_text())['eval_skills'] == ['x', 'y']


def test_a_run_whose_skills_changed_gets_a_whole_report(make_run):
    folder, other = make_run(rounds=4, graph=GRAPH), make_run('static', rounds=4)
    log = folder / 'mixture.jsonl'
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    # From round 2 on `ones` is gone and `thousands` is there, in training and in evaluation.
    for line in lines[3:]:
        for key in ('proportions', 'realised', 'samples', 'passes', 'losses'):
            line[key]['thousands'] = line[key].pop('ones')
    lines[3]['order'] = {'round_size': 12_800}
    log.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    run = read_runs([folder])[0]
    assert run.train_skills == ('hundreds', 'tens', 'ones', 'thousands')
    assert (run.proportions() > 0).tolist() == [[True, True, True, False]] * 2 + [
        [True, True, False, True]
    ] * 2
    path = write_report([folder, other])
    assert {file.name for file in path.parent.iterdir()} == FILES
    assert Page(path.read_text()).open == []
    assert 'means are over the 2 of 4 in all' in path.read_text()
    summary = json.loads((path.parent / 'summary.json').read_text())
    assert list(summary['runs'][0]['last_proportions']) == ['hundreds', 'tens', 'thousands']
    assert summary['runs'][0]['largest_miss']['difference'] < 1e-3


def test_accuracy_and_the_cost_of_evaluating_stand_beside_a_run(make_run):
    folder, other = make_run(rounds=4), make_run('static', rounds=4)
    log = folder / 'mixture.jsonl'
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    figures = {'accuracy': {'ones': 0.5, 'tens': 0.25}, 'bits_per_byte': {'ones': 1.5}}
    lines = [{**line, 'eval_seconds': 2.5, **figures} for line in lines]
    log.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    path = write_report([folder, other])
    rows = [row for row in path.read_text().split('<tr') if '12.5' in row or '50.0' in row]
    # 4 rounds of 12.5 s, in each 2.5 s of evaluation; what came before training is no part of a round.
    [measured] = [row for row in rows if '10.0 (20.0%)' in row]
    assert '37.5%' in measured
    [unmeasured] = [row for row in rows if '0.0 (0.0%)' in row]
    assert '%' not in unmeasured.split('0.0 (0.0%)')[0].split('1.0 (2.0%)')[0]
    run, without = json.loads((path.parent / 'summary.json').read_text())['runs']
    assert (run['eval_seconds'], without['eval_seconds']) == (10.0, 0.0)
    assert (run['final_figures'], without['final_figures']) == (figures, {})


def test_many_skills_stay_a_small_page_and_a_full_summary(make_run):
    skills = [f'skill_{i}' for i in range(300)]
    graph = np.random.default_rng(0).normal(size=(300, 300)).round(3).tolist()
    path = write_report([make_run(skills=skills, graph=graph, rounds=1)])
    assert path.stat().st_size < 2_000_000
    summary = json.loads((path.parent / 'summary.json').read_text())
    assert len(summary['methods'][0]['losses']) == len(summary['runs'][0]['passes']) == 300
    assert 'other (288 skills)' in path.read_text()


def test_a_graph_is_shown_with_how_it_was_learned_and_what_speaks_against_it(make_run):
    full = SkillsGraph(
        ('hundreds', 'tens', 'ones'),
        ('hundreds', 'tens', 'ones'),
        np.ones((3, 3)),
        measured=Measurement(
            effects=np.ones((3, 3)), steps=60, method='approximate', start=StartOfRuns(weights='scratch')
        ),
    )
    learned, empty = make_run('learned'), make_run('empty', graph=np.eye(3).tolist())
    facts = json.loads((learned / 'run.json').read_text())
    (learned / 'run.json').write_text(json.dumps({**facts, 'graph': full.to_dict()}))
    section = (
        write_report([learned, empty]).read_text().split('<h2>Skills graph</h2>')[1].split('</section>')[0]
    )
    one, other = section.split('<h3>')[1:]
    assert 'Learned: ' in one
    assert '60 steps' in one
    assert 'from scratch' in one
    assert warnings_of(full)
    for warning in warnings_of(full):
        assert html.escape(warning, quote=True) in one
    assert 'The graph is nearly empty (0 of 6 possible edges)' in other
    assert 'Learned: ' not in other


def test_without_losses_or_graph_old_figures_do_not_stay(make_run, tmp_path):
    write_report([make_run('x', rounds=1, graph=GRAPH)], tmp_path / 'out')
    path = write_report([make_run('y', rounds=1, losses=[{}, {}])], tmp_path / 'out')
    assert {file.name for file in path.parent.iterdir()} == {'report.html', 'mixture.png', 'summary.json'}
    assert 'No evaluation ran' in path.read_text()


def test_a_diverged_run_is_reported(make_run):
    nan = float('nan')
    path = write_report([make_run(rounds=1, losses=[{'a': 2.0, 'b': 1.0}, {'a': nan, 'b': nan}])])
    assert 'not a finite number' in path.read_text()


def test_a_run_that_logged_the_least_still_gets_a_page(make_run):
    folder = make_run()
    (folder / 'mixture.jsonl').write_text(
        '{"round": 0, "step": 0}\n{"round": 1, "step": 0, "losses": {"a": Infinity}}\n'
    )
    facts = {'version': 1, 'seed': 0, 'dataset': {'streams': ['a']}}
    (folder / 'run.json').write_text(json.dumps(facts))
    assert Page(write_report([folder]).read_text()).open == []


def test_a_report_that_cannot_be_written_says_so_and_leaves_nothing(make_run, tmp_path):
    (tmp_path / 'file').write_text('kept')
    with pytest.raises(InputError, match=r"cannot be written to '.*file' .*choose another folder with --out"):
        write_report([make_run(rounds=1)], tmp_path / 'file')
    assert (tmp_path / 'file').read_text() == 'kept'


def test_a_failed_write_keeps_the_old_file_and_no_temporary_one(make_run, tmp_path, monkeypatch):
    run = make_run(rounds=1, skills=['a'])
    before = write_report([run], tmp_path).read_bytes()

    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.replace', fail)
    with pytest.raises(InputError, match='No space left on device'):
        write_report([run], tmp_path)
    assert (tmp_path / 'report.html').read_bytes() == before
    assert not list(tmp_path.glob('.*.tmp'))


def test_the_command_prints_the_table_and_the_path(make_run, tmp_path, capsys):
    run = make_run(rounds=1, skills=['a'])
    code = cli.main(['report', str(run), '--out', str(tmp_path / 'out')])
    printed = capsys.readouterr().out
    assert code == 0
    assert 'mean of the skills' in printed
    assert printed.endswith(f'report: {tmp_path / "out" / "report.html"}\n')


def test_a_browser_is_opened_only_when_asked(make_run, tmp_path, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr('webbrowser.open', lambda address: bool(opened.append(address)))
    arguments = ['report', str(make_run(rounds=1, skills=['a'])), '--out', str(tmp_path / 'out')]
    assert cli.main(arguments) == 0
    assert opened == []
    assert cli.main([*arguments, '--open']) == 0
    assert opened == [(tmp_path / 'out' / 'report.html').as_uri()]
    assert 'no browser can be opened here' in capsys.readouterr().err


def test_the_command_ends_with_2_and_one_line_on_bad_input(tmp_path, capsys):
    assert cli.main(['report', str(tmp_path / 'nowhere')]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert 'does not exist' in error


def test_the_terminal_shows_mean_spread_seeds_and_wins(six_runs, capsys):
    print_summary(six_runs)
    printed = ' '.join(capsys.readouterr().out.split())
    assert '(3 seeds)' in printed
    assert re.search(r'mean of the skills │ \d\.\d{4} ± \d\.\d{4} \* │ \d\.\d{4} ± \d\.\d{4}', printed)
    assert 'skill_it ends lower than stratified on 3 of 3 seeds' in printed


def test_names_with_brackets_survive_the_terminal(make_run):
    output = StringIO()
    methods = group_runs(read_runs([make_run('[red]x', skills=['[bold]', 'b'], rounds=1)]))
    print_methods(methods, console=Console(file=output, width=100))
    assert '[red]x' in output.getvalue()
    assert '[bold]' in output.getvalue()


def test_reports_need_no_training_engine():
    code = (
        'import sys, skillit_stream.report.command;'
        "sys.exit(', '.join({'torch', 'composer', 'streaming'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, '')


def test_all_that_the_page_is_made_of_is_installed():
    listed = (
        (ROOT / 'pyproject.toml')
        .read_text(encoding='utf-8')
        .split('"skillit_stream.report" = [')[1]
        .split(']')[0]
    )
    beside = {file.name for file in (ROOT / 'skillit_stream' / 'report').iterdir() if file.is_file()}
    assert {name for name in beside if not name.endswith('.py')} == set(re.findall('"(.+?)"', listed))


def test_an_earlier_report_among_the_runs_is_passed_over(make_run, tmp_path, capsys):
    runs = [str(make_run(name)) for name in ('one', 'two')]
    assert cli.main(['report', *runs]) == 0
    assert cli.main(['report', *runs, str(tmp_path / 'runs' / 'report')]) == 0
    assert 'one' in capsys.readouterr().out
    assert cli.main(['report', str(tmp_path / 'runs' / 'report')]) == 2
