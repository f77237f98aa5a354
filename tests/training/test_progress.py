"""What a run says of itself: the plan, a row a round, the end; on rank 0, with and without a terminal."""

import re
import sys
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from skillit_stream.base.errors import plain_warnings
from skillit_stream.cli import main
from skillit_stream.training import progress
from skillit_stream.training.progress import StatusLine
from skillit_stream.training.progress_text import (
    WIDTH,
    RoundTable,
    RunPlan,
    duration_text,
    end_lines,
    evaluation_text,
    mixture_line,
    short_number,
    start_lines,
)
from tests.support.commands import done
from tests.support.launching import NEEDS, Launcher, finish
from tests.support.run_folders import mixture_lines, rounds_of
from tests.support.training_runs import EVAL_SAMPLES, SKILLS, STEPS, TRAIN_SAMPLES

SCREEN = 30
PLAN: dict[str, Any] = {
    'skills': {'a': 70, 'b': 30},
    'seq_len': 16,
    'duration': '10ep',
    'rounds': 10,
    'round_size': 40,
    'batch_size': 8,
    'eval_skills': {'a': 20, 'b': 5},
    'samples_per_skill': 10,
    'eval_batches': 4,
    'eval_interval': '1ep',
    'folder': 'runs/run',
    'policy': 'skill_it',
    'checkpoints': 'runs/run/checkpoints',
}


def plan(**changes: Any) -> RunPlan:
    """A small one."""
    return RunPlan(**{**PLAN, **changes})


def rows_of(printed: str) -> list[str]:
    """The rows of rounds."""
    return re.findall(r'^ *\d+/\d+ .*$', printed, re.MULTILINE)


def on_screen(printed: str) -> str:
    """What is left on a terminal where lines were drawn and cleared."""
    lines = [line.split('\r\033[K')[-1] for line in printed.split('\n')]
    assert '\r' not in ''.join(lines)
    return '\n'.join(lines)


def test_ten_rounds_fit_on_a_screen(
    capsys: pytest.CaptureFixture[str], tiny_yaml: Path, run_folder: Path, streams: Path
):
    out, printed = done(capsys, 'train', tiny_yaml, 'max_duration=10ep', 'algorithms.data_mixing.eta=3')
    assert out == ''
    lines = printed.splitlines()
    assert len(lines) <= SCREEN
    # A temporary folder's path is as long as it is.
    assert max(len(line.replace(str(run_folder), 'run')) for line in lines) <= WIDTH
    assert f'skills       3, {3 * TRAIN_SAMPLES} samples of' in printed
    assert f'rounds       10 of {STEPS} steps (max_duration=10ep); a step is 4 samples' in printed
    assert f'evaluation   all {3 * EVAL_SAMPLES} samples of 3 skills, 18 batches, 5.1 times' in printed
    assert f'folder       {run_folder}' in printed
    assert 'mixture      skill_it; first: ' in printed
    assert lines[-1] == f'look at it   skillit report {run_folder}'

    rounds = rounds_of(run_folder)
    rows = rows_of(printed)
    assert [row.split()[0] for row in rows] == [f'{number}/10' for number in range(1, 11)]
    for number, (row, record) in enumerate(zip(rows, rounds, strict=True)):
        losses, proportions = record['losses'], record['proportions']
        assert float(row.split()[1]) == pytest.approx(sum(losses.values()) / 3, abs=6e-4)
        worst = max(losses, key=lambda skill: losses[skill])
        assert row.split()[2] == worst
        largest = max(proportions, key=lambda skill: proportions[skill])
        assert f'{largest} {100 * proportions[largest]:.1f}' in row
        change = 100 * (proportions[largest] - rounds[number - 1]['proportions'][largest])
        assert (f'{largest} {100 * proportions[largest]:.1f} {change:+.1f}' in row) == (
            number > 0 and abs(change) >= 0.05
        )
    final = rounds[-1]['losses']
    assert all(f'{skill} {loss:.3f}' in lines[-3] for skill, loss in final.items())
    first = mixture_lines(run_folder)[0]['losses']
    [start] = [line for line in lines if line.startswith('start ')]
    assert f'{sum(first.values()) / 3:.3f}' in start


def words(printed: str) -> str:
    """What is printed without what a clock measured."""
    rows = re.sub(r'(?m)^( *\d+/\d+ .*?)  +\S+  +(<1|\d+) s$|^( *\d+/\d+ .*?)  +\S+$', r'\1\3', printed)
    return re.sub(r'in (<1 s|\d+ s)(, \d+% of it evaluation)?', 'in TIME', rows)


def test_a_log_file_gets_the_same_lines_with_and_without_the_bar(
    capsys: pytest.CaptureFixture[str], tiny_yaml: Path
):
    _, without = done(capsys, 'train', tiny_yaml)
    _, with_it = done(capsys, 'train', tiny_yaml, 'save_overwrite=true', 'progress_bar=true')
    assert words(with_it) == words(without)
    assert len(rows_of(words(without))) == 2


def test_on_a_terminal_the_changing_line_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str], tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch
):
    _, plain = done(capsys, 'train', tiny_yaml)
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
    monkeypatch.setattr(progress, 'REDRAW_SECONDS', 0)
    monkeypatch.setenv('COLUMNS', '200')
    _, drawn = done(capsys, 'train', tiny_yaml, 'save_overwrite=true', 'progress_bar=true')
    assert words(on_screen(drawn)) == words(plain)
    assert '0 of 2 rounds done, evaluating, batch 3 of 18' in drawn
    assert re.search(r'\] 1 of 2 rounds done, step 2 of 6, training loss \d\.\d{3}, \S+ tok/s', drawn)
    _, bare = done(capsys, 'train', tiny_yaml, 'save_overwrite=true', 'progress_bar=false')
    assert '\r' not in bare


def test_resuming_says_from_where(capsys: pytest.CaptureFixture[str], tiny_yaml: Path, run_folder: Path):
    done(capsys, 'train', tiny_yaml, 'max_duration=8ba', 'save_interval=2ba')
    _, printed = done(capsys, 'train', tiny_yaml, 'autoresume=true', 'max_duration=3ep')
    newest = next((run_folder / 'checkpoints').glob('ep1-ba8-*.pt'))
    text = ' '.join(printed.split())
    assert f'resuming after 1 of 3 rounds and 2 steps of the next, step 8, from {newest}' in text
    assert 'mixture skill_it; now: ' in text
    assert [row.split()[0] for row in rows_of(printed)] == ['2/3', '3/3']
    assert 'start ' not in printed


@pytest.mark.timeout(240)
@pytest.mark.parametrize('ranks', [pytest.param(2, marks=NEEDS)])
def test_rank_zero_alone_speaks(
    streams: Path, tiny_yaml: Path, launcher: Launcher, run_folder: Path, ranks: int
):
    launch = launcher.ranks(tiny_yaml, streams, ranks)
    finish(launch)
    printed = launch.output.read_text()
    assert printed.count('look at it ') == printed.count('mixture ') == 1
    assert len(rows_of(printed)) == 2
    assert 'a step is 4 samples' in printed


def test_silence_is_broken_after_a_minute_and_then_ever_more_rarely(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    now = 0.0
    monkeypatch.setattr(progress, 'monotonic', lambda: now)
    status, spoken = StatusLine(changing=False), []
    for now in range(0, 6 * 3600, 10):
        status.show(lambda: 'still here')
        if capsys.readouterr().err:
            spoken.append(now)
    assert spoken[:6] == [60, 180, 420, 900, 1860, 3780]
    assert all(later - earlier == 3600 for earlier, later in pairwise(spoken[6:]))
    assert len(spoken) < 12


def test_rows_have_their_width_whatever_the_skills_are_called():
    for name in ('a', 'common_crawl', 'question_generation-spanish-spanish'):
        skills = [f'{name}{number}' for number in range(40)]
        table = RoundTable(skills, 1000)
        losses = {skill: 10 + number for number, skill in enumerate(skills)}
        even = dict.fromkeys(skills, 1 / 40)
        tilted = {**even, skills[0]: 0.9}
        row = table.row(1000, losses, tilted, even, tokens_per_second=1.2e6, seconds_left=86400 * 3 + 4000)
        lines = [table.header(), table.before_training(losses, 7), row]
        assert max(map(len, lines)) == len(row) == WIDTH
        assert '90.0 +87.5' in row
        assert '49.00' in row
        assert row.endswith('1.20M    3 d 01 h')
        first = mixture_line('skill_it', even, first=True)
        sizes = dict.fromkeys(skills, 10**9)
        many = plan(skills=sizes, eval_skills=sizes)
        text = [*first, *start_lines(many), *end_lines(many, '3 rounds', 7e5, 2e5, losses)]
        assert max(map(len, text)) <= WIDTH
        assert 'and 34 more' in ' '.join(text)


def test_a_loss_that_is_no_number_comes_first():
    row = RoundTable(['a', 'b'], None).row(
        3, {'a': 2.0, 'b': float('nan')}, {'a': 0.5, 'b': 0.5}, None, tokens_per_second=1, seconds_left=None
    )
    assert row.split()[:4] == ['3', 'nan', 'b', 'nan,']


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({}, '15 of 25 samples of 2 skills, 4 batches, 38% of the samples of a round (all: eval_loader.'),
        ({'samples_per_skill': None, 'round_size': 50}, 'all 25 samples of 2 skills, 4 batches, 50% of'),
        (
            {'samples_per_skill': None, 'eval_batches': 1},
            '1 batch, 62% of the samples of a round; cheaper: eval_loader.samples_per_skill=5, or a larger',
        ),
        ({'eval_interval': '5ba', 'samples_per_skill': None, 'round_size': 8}, '3.1 times the samples of a'),
        ({'eval_interval': '5ba'}, 'of a round, every 5ba (all:'),
    ],
)
def test_the_cost_of_evaluation_and_its_remedy(changes: dict[str, Any], text: str):
    found = evaluation_text(plan(**changes))
    assert text in found
    assert ('cheaper' in found) == ('cheaper' in text or '3.1 times' in text)


def test_weights_from_elsewhere_are_named():
    assert 'weights      from some.pt' in start_lines(plan(loaded='some.pt'))
    assert not [line for line in start_lines(plan()) if line.startswith(('weights', 'resuming'))]


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [
        (0.2, '<1 s'),
        (12.4, '12 s'),
        (200, '3 min 20 s'),
        (700, '11 min'),
        (7500, '2 h 05 m'),
        (273600, '3 d 04 h'),
    ],
)
def test_durations_are_as_exact_as_they_are_long(seconds: float, text: str):
    assert duration_text(seconds) == text


def test_numbers_have_three_digits():
    found = [short_number(value) for value in (7, 999, 1234, 45_600, 123_000, 1_250_000, 2.2e10)]
    assert found == ['7', '999', '1.23k', '45.6k', '123k', '1.25M', '22.0G']


@pytest.fixture
def warned(capsys: pytest.CaptureFixture[str]) -> Callable[[Callable[[], None]], list[str]]:
    """What a command prints of its warnings, with Python's own way of showing them."""

    def run(action: Callable[[], None]) -> list[str]:
        with warnings.catch_warnings():
            warnings.resetwarnings()
            warnings.showwarning = lambda *args, **_: sys.stderr.write(warnings.formatwarning(*args[:4]))
            with plain_warnings():
                action()
        return capsys.readouterr().err.splitlines()

    return run


def test_a_warning_is_one_line_without_its_place_and_comes_once(warned: Callable[..., list[str]]):
    def act() -> None:
        for _ in range(3):
            warnings.warn('skill a\n  has few samples', stacklevel=1)
        warnings.warn('skill a has few samples', stacklevel=1)
        for figure in (0.9, 0.95):
            warnings.warn(f'skill b takes {figure} of the mixture', stacklevel=1)
        warnings.warn('torch will change', FutureWarning, stacklevel=1)
        warnings.warn('so will numpy', DeprecationWarning, stacklevel=1)

    lines = ['skillit: warning: skill a has few samples']
    lines += ['skillit: warning: skill b takes 0.9 of the mixture']
    assert warned(act) == lines
    # The next command of the same process says it again.
    assert warned(act) == lines


def test_a_run_warns_in_lines_of_its_own(
    capsys: pytest.CaptureFixture[str], tiny_yaml: Path, recwarn: pytest.WarningsRecorder
):
    assert main(['train', str(tiny_yaml), 'train_loader.warn_passes=0.01']) == 0
    found = [str(one.message) for one in recwarn if 'has few samples' in str(one.message)]
    assert len(found) == len(SKILLS)
