"""`skillit fork`: verdicts, files, what a branch is, what is left untouched, going on after a kill, tasks, refusals."""

import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
import yaml

from skillit_stream import SkillsGraph
from skillit_stream.cli import main
from skillit_stream.forks.branches import Branches
from skillit_stream.forks.deciding import ENOUGH
from skillit_stream.forks.records import BranchRecords
from skillit_stream.formats.run_log import read_rounds
from skillit_stream.mixture.trials import Branch
from skillit_stream.training.config import load_config
from tests.forks.conftest import CHECKPOINT
from tests.support import commands, fork_runs

Fork = Callable[..., tuple[str, str]]
WANTED = ('--targets', 'wanted', '--confirm', '2')


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob('*')) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_mixture_that_helps_is_found_confirmed_and_written(fork: Fork, forked_run: Path, tmp_path: Path):
    before = contents(forked_run)
    printed, waiting = fork(tmp_path / 'fork', *WANTED, '--confirm', '3')
    assert contents(forked_run) == before
    assert printed.startswith('take it: ')
    result = json.loads((tmp_path / 'fork' / 'result.json').read_text())
    assert result['verdict'] == 'take it'
    assert result['confirmed']['interval'][0] > 0
    assert (result['step'], result['of_steps'], result['steps']) == (32, 80, 12)
    mixture = yaml.safe_load((tmp_path / 'fork' / 'mixture.yaml').read_text())
    assert list(mixture) == list(fork_runs.TRAINED)
    assert sum(mixture.values()) == pytest.approx(1.0, abs=1e-9)
    assert mixture['letters'] == max(mixture.values())
    graph = SkillsGraph.load(tmp_path / 'fork' / 'graph.json')
    assert graph.eval_skills == tuple(sorted(fork_runs.SIGNS)) or set(graph.eval_skills) == set(
        fork_runs.SIGNS
    )
    column = graph.select(eval_skills=['wanted']).weights[:, 0]
    assert column[0] > 0 > max(column[1:])
    assert graph.measured is not None
    assert graph.measured.repeats == 3
    assert "12 branches of 12 steps are 180 % of the run's 80 steps" in waiting


def test_the_present_mixture_in_the_runs_own_order_is_the_run_itself(forked_run: Path):
    runs = Branches(load_config(forked_run / 'config.yaml'), forked_run / 'checkpoints' / CHECKPOINT)
    later = {one.step: one for one in read_rounds(forked_run / 'mixture.jsonl').rounds}
    # Over the end of a round and into the next.
    steps = 2 * fork_runs.STEPS
    halves = [
        runs.losses(
            Branch(name='x', mixture=runs.present, steps=steps, shuffle_seed=runs.shuffle_seed, half=half)
        )
        for half in (0, 1)
    ]
    means = {skill: sum(half[skill] for half in halves) / 2 for skill in fork_runs.SIGNS}
    assert means == pytest.approx(later[32 + steps].losses, rel=1e-12)


def test_a_branch_is_the_same_whatever_was_trained_before_it(forked_run: Path):
    runs = Branches(load_config(forked_run / 'config.yaml'), forked_run / 'checkpoints' / CHECKPOINT)
    one = Branch(name='x', mixture=runs.present, steps=5, shuffle_seed=1, half=0)
    other = Branch(
        name='y', mixture={**dict.fromkeys(runs.present, 0.0), 'digits': 1.0}, steps=9, shuffle_seed=2, half=1
    )
    first = runs.losses(one)
    assert runs.losses(other) != first
    assert runs.losses(one) == first


def test_killed_after_any_branch_it_ends_the_same(
    fork: Fork, forked_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, _ = fork(tmp_path / 'whole', *WANTED)
    save, finished = BranchRecords.save, 0

    def save_or_die(self: BranchRecords, branch: Branch, losses: dict[str, float]) -> None:
        nonlocal finished
        finished += 1
        if finished % 4 == 0:
            raise RuntimeError('killed')
        save(self, branch, losses)

    killed = 0
    monkeypatch.setattr(BranchRecords, 'save', save_or_die)
    arguments = ['--checkpoint', CHECKPOINT, '--steps', '12', '--max-steps', '12', *WANTED]
    command = ['fork', str(forked_run), *arguments, '--out', str(tmp_path / 'killed')]
    while main(command) == 1:
        killed += 1
    assert killed == 3
    for name in ('result.json', 'graph.json', 'mixture.yaml'):
        assert (tmp_path / 'killed' / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()
    assert whole.startswith(('take it', 'cannot tell'))


def test_more_pairs_go_on_with_those_that_are_done(fork: Fork, tmp_path: Path):
    fork(tmp_path / 'fork', *WANTED)
    first = json.loads((tmp_path / 'fork' / 'result.json').read_text())['confirmed']['gains']
    _, waiting = fork(tmp_path / 'fork', '--targets', 'wanted', '--confirm', 3)
    second = json.loads((tmp_path / 'fork' / 'result.json').read_text())['confirmed']['gains']
    assert ': 2 branches of 12 steps' in waiting
    assert second[:2] == first
    assert len(second) == 3


def test_another_least_gain_is_a_verdict_of_the_same_branches(fork: Fork, tmp_path: Path):
    fork(tmp_path / 'fork', *WANTED)
    printed, waiting = fork(tmp_path / 'fork', *WANTED, '--min-gain', '9')
    assert printed.startswith('stay: no gain above 9 nats per token and noise')
    assert 'About' not in waiting
    confirmed = json.loads((tmp_path / 'fork' / 'result.json').read_text())['confirmed']
    assert (confirmed['min_gain'], confirmed['t'] < 0 < confirmed['gain']) == (9, True)


@pytest.mark.slow
def test_tasks_share_the_branches_and_the_last_says_what_was_found(fork: Fork, tmp_path: Path):
    whole, _ = fork(tmp_path / 'whole', *WANTED)
    out = tmp_path / 'shared'
    printed, waiting = fork(out, *WANTED, '--task', '0/2')
    assert printed == ''
    assert 'Not done yet, by other tasks: capitals raised' in waiting
    fork(out, *WANTED, '--task', '1/2')
    printed, _ = fork(out, *WANTED, '--task', '0/2')
    assert (out / 'result.json').read_bytes() == (tmp_path / 'whole' / 'result.json').read_bytes()
    assert printed.splitlines()[0] == whole.splitlines()[0]


def test_branches_that_differ_too_little_get_longer_and_after_the_longest_the_pairs_decide(
    fork: Fork, tmp_path: Path
):
    _, waiting = fork(tmp_path / 'fork', '--steps', 1, '--max-steps', 2)
    assert 'After 1 steps the branches differ by' in waiting
    result = json.loads((tmp_path / 'fork' / 'result.json').read_text())
    assert (result['steps'], len(result['confirmed']['gains'])) == (2, 3)
    assert result['spread'] < ENOUGH
    assert result['cost'] == {'branches': 18, 'steps': 6 * 1 + 12 * 2}


def test_a_live_runs_checkpoint_may_be_gone_when_the_fork_goes_on(forked_run: Path, tmp_path: Path):
    run = tmp_path / 'run'
    shutil.copytree(forked_run, run)
    command = [
        'fork',
        str(run),
        '--steps',
        '2',
        '--max-steps',
        '2',
        '--repeats',
        '2',
        '--out',
        str(tmp_path / 'f'),
    ]
    for path in (run / 'checkpoints').iterdir():
        if path.name not in (CHECKPOINT, 'ep5-ba40-rank0.pt'):
            path.unlink()
    assert main(command) == 0
    first = (tmp_path / 'f' / 'result.json').read_bytes()
    assert json.loads(first)['step'] == 40
    (run / 'checkpoints' / 'ep5-ba40-rank0.pt').unlink()
    (tmp_path / 'f' / 'result.json').unlink()
    assert main([*command, '--checkpoint', str(run / 'checkpoints' / 'ep5-ba40-rank0.pt')]) == 0
    assert main(command) == 0
    assert (tmp_path / 'f' / 'result.json').read_bytes() == first


def test_where_the_targets_are_what_is_trained_on_evenly_it_does_not_move(fork: Fork, tmp_path: Path):
    printed, _ = fork(tmp_path / 'fork', '--targets', ','.join(fork_runs.TRAINED), '--repeats', 2)
    assert printed.startswith(('stay: ', 'cannot tell: '))


def test_a_checkpoint_inside_a_round_is_gone_on_from_at_the_next(forked_run: Path, tmp_path: Path):
    run = fork_runs.train(forked_run.parent / 'streams', tmp_path / 'run', save_interval='5ba')
    runs = Branches(load_config(run / 'config.yaml'), run / 'checkpoints' / 'ep3-ba25-rank0.pt')
    whole = {one.round: one for one in read_rounds(run / 'mixture.jsonl').rounds}[3]
    assert runs.step == 25
    # Samples that the run takes in the rest of its round are no branch's.
    assert sum(runs.drawn.values()) == 4 * fork_runs.STEPS * fork_runs.BATCH
    assert {skill: runs.drawn[skill] / runs.sizes[skill] for skill in runs.drawn} == pytest.approx(
        whole.passes
    )
    losses = runs.losses(Branch(name='x', mixture=runs.present, steps=3, shuffle_seed=7, half=0))
    assert set(losses) == set(fork_runs.SIGNS)


@pytest.mark.slow
def test_no_skill_is_raised_beyond_what_is_left_of_its_stream(fork: Fork, tmp_path: Path):
    fork(tmp_path / 'fork', *WANTED, '--max-passes', 1)
    result = json.loads((tmp_path / 'fork' / 'result.json').read_text())
    # 270 samples of each skill, of which the first four rounds drew a third of 256; 48 steps of 8 are left.
    assert result['mixture']['letters'] == pytest.approx((270 - 85) / (48 * 8), abs=0.003)


def test_copies_that_were_cut_short_are_removed(fork: Fork, tmp_path: Path):
    (tmp_path / 'fork' / '.start-cut').mkdir(parents=True)
    (tmp_path / 'fork' / '.start-cut' / 'checkpoint.pt').write_bytes(b'half')
    fork(tmp_path / 'fork', '--steps', 1, '--max-steps', 1)
    assert sorted(path.name for path in (tmp_path / 'fork').iterdir()) == [
        *('branches', 'fork.html', 'graph.json', 'mixture.yaml', 'result.json', 'start'),
    ]


def test_a_folder_with_files_of_somebody_else_is_left_alone(
    refused: Callable[..., str], forked_run: Path, tmp_path: Path
):
    (tmp_path / 'graph.json').write_text('mine')
    message = refused(forked_run, '--steps', 2, '--checkpoint', CHECKPOINT, '--out', tmp_path)
    assert 'holds a graph.json that is of no fork' in message
    assert [path.name for path in tmp_path.iterdir()] == ['graph.json']


def test_its_page_has_the_command_that_takes_the_mixture_over(
    fork: Fork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    printed, _ = fork(tmp_path / 'fork', *WANTED)
    page = tmp_path / 'fork' / 'fork.html'
    shown, _ = commands.done(capsys, 'report', tmp_path / 'fork')
    assert shown.splitlines() == [printed.splitlines()[0], f'report: {page}']
    result = json.loads((tmp_path / 'fork' / 'result.json').read_text())
    assert result['cost'] == {'branches': 3 + 3 + 2 * 2, 'steps': 10 * 12}
    apply, train = (
        shlex.split(unescape(one)) for one in re.findall('<code>(skillit.*?)</code>', page.read_text())
    )
    assert apply == ['skillit', 'apply', result['run'], str(tmp_path / 'fork' / 'mixture.yaml')]
    moved = tmp_path / 'moved'
    assert f'save_folder={result["run"]}-moved' in train
    commands.done(
        capsys,
        *(f'save_folder={moved}' if part.startswith('save_folder=') else part for part in train[1:]),
    )
    first, *_ = read_rounds(moved / 'mixture.jsonl').rounds
    assert (first.round, first.proportions) == (4, pytest.approx(result['mixture']))


def test_what_does_not_fit_is_refused_in_one_line(
    refused: Callable[..., str], forked_run: Path, tmp_path: Path
):
    out = ['--out', tmp_path / 'fork']
    early = ['--checkpoint', CHECKPOINT, *out]
    assert 'name an earlier one with --checkpoint' in refused(
        forked_run, '--steps', 2, '--out', tmp_path / 'end'
    )
    (tmp_path / 'empty').mkdir()
    moved = (forked_run / 'config.yaml').read_text().replace(str(forked_run), str(tmp_path / 'empty'))
    (tmp_path / 'empty' / 'config.yaml').write_text(moved)
    assert 'can be forked' in refused(tmp_path / 'empty', '--steps', 2, *out)
    assert 'the folder of a run' in refused(tmp_path / 'none', '--steps', 2, *out)
    assert 'there is no ep9.pt' in refused(forked_run, '--steps', 2, '--checkpoint', 'ep9.pt', *out)
    assert '`--steps` must be at least 1' in refused(forked_run, '--steps', 0, *early)
    assert '`--repeats` must be at least 2' in refused(forked_run, '--steps', 2, '--repeats', 1, *early)
    assert '`--confirm` must be at least 2' in refused(forked_run, '--steps', 2, '--confirm', 1, *early)
    assert '`--min-gain` must be 0 or more' in refused(forked_run, '--steps', 2, '--min-gain', 'nan', *early)
    assert '`--max-steps` must be at least' in refused(forked_run, '--steps', 4, '--max-steps', 3, *early)
    assert '`--max-passes` must be above 0' in refused(forked_run, '--steps', 4, '--max-passes', 0, *early)
    assert "`--targets` names 'wnted'" in refused(forked_run, '--steps', 2, '--targets', 'wnted', *early)
    assert 'outside of the run' in refused(forked_run, '--steps', 2, '--out', forked_run / 'fork')
    other = ['--checkpoint', 'ep5-ba40-rank0.pt', *out]
    assert 'has a fork of' in refused(forked_run, '--steps', 2, *other)
