"""The page of a fork: what it says for each verdict, and folders that it cannot be made from."""

import json
import re
from collections.abc import Callable
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skillit_stream.formats.fork_result import CANNOT_TELL, STAY, PresentLosses
from skillit_stream.report.fork_page import write_fork_page
from tests.support import commands
from tests.support.fork_folders import CHOSEN, PRESENT, RESULT, write_fork

Done = Callable[..., tuple[str, str]]


@pytest.fixture
def done(capsys: pytest.CaptureFixture[str]) -> Done:
    return partial(commands.done, capsys, 'report')


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    return partial(commands.refusal, capsys, 'report')


def text_of(page: Path) -> str:
    """What a reader reads: no tags, spaces in one."""
    body = page.read_text().split('<body>')[1]
    body = re.sub(r'<svg.*?</svg>', '', body, flags=re.DOTALL)
    return ' '.join(
        unescape(re.sub(r'<[^>]*>', '', body.replace('<td', ' <td').replace('<th', ' <th'))).split()
    )


def test_the_report_of_a_fork_is_its_page(done: Done, tmp_path: Path):
    fork = write_fork(tmp_path / 'fork')
    printed, _ = done(fork)
    assert printed.splitlines() == [f'take it: {RESULT.reason}', f'report: {fork / "fork.html"}']
    printed, _ = done(fork, '--out', tmp_path / 'elsewhere')
    assert (tmp_path / 'elsewhere' / 'fork.html').is_file()


def test_the_page_has_all_that_was_found(tmp_path: Path):
    text = text_of(write_fork_page(write_fork(tmp_path / 'fork')))
    assert text.startswith('Skill-It fork: mine, step 120 of 2,400 take it: 0.1000 nats per token lower')
    assert f'skillit apply /runs/mine {tmp_path / "fork" / "mixture.yaml"}' in text
    assert 'load_path=/runs/mine/checkpoints/ep2-ba120-rank0.pt' in text
    for skill, before in PRESENT.items():
        assert f'{skill} {before:.4f} {CHOSEN[skill]:.4f} {CHOSEN[skill] - before:+.4f}' in text
    assert 'predicted by the law 0.1300 0.0870 0.1730' in text
    assert 'confirmed by 3 pairs 0.1000 0.0752 0.1248 pair 1 0.0900 pair 2 0.1000 pair 3 0.1100' in text
    assert 't of the pairs is 17.32, and must be above 2.92' in text
    # Student's t with two degrees of freedom: within 4.303 standard errors of 0.
    assert 'books -0.0200 ± 0.0050within noise -0.1000 ± 0.0050' in text
    assert 'web_pages +0.0100 ± 0.0050within noise -0.0040 ± 0.0050within noise' in text
    assert 'code +0.1500 ± 0.0050 +0.2000 ± 0.0050' in text
    assert 'recipes (target) code' in text
    assert "12 branches, 240 steps in all: 10 % of the run's 2,400 steps" in text


def test_effects_of_either_sign_within_noise_are_hollow(tmp_path: Path):
    page = write_fork_page(write_fork(tmp_path / 'fork')).read_text()
    assert len(re.findall(r'stroke-dasharray: 3,2', page)) == 3
    assert 'hollow: within its noise' in page


def test_where_nothing_is_to_be_taken_the_page_does_not_advise_it(tmp_path: Path):
    reason = 'no gain above noise (no mixture is predicted to be better than the present one)'
    text = text_of(write_fork_page(write_fork(tmp_path / 'a', verdict=STAY, reason=reason, confirmed=None)))
    assert 'stay: no gain above noise' in text
    assert 'The run goes on as it is.' in text
    assert 'skillit apply' not in text
    assert 'No pairs were trained' in text
    text = text_of(write_fork_page(write_fork(tmp_path / 'b', verdict=CANNOT_TELL, more_pairs=2)))
    assert 'skillit fork with --confirm 5' in text
    assert 'which the verdict does not advise: A run that goes on' in text


def test_names_and_numbers_of_any_kind_are_shown(tmp_path: Path):
    skills = [f'<b>{number}</b> "a b"/c' for number in range(60)]
    many: dict[str, Any] = {
        'present': dict.fromkeys(skills, 1 / 60),
        'mixture': {skill: (2 * number) / (59 * 60) for number, skill in enumerate(skills)},
        'targets': skills[:1],
        'losses': PresentLosses(present=dict.fromkeys(skills, 1.0), noise=dict.fromkeys(skills, 0.0)),
        'spread': float('inf'),
        'of_steps': None,
    }
    fork = write_fork(tmp_path / 'fork', effects=np.eye(60), **many)
    page = write_fork_page(fork).read_text()
    assert '<b>0' not in page
    text = text_of(fork / 'fork.html')
    assert 'differ by infinitely many times' in text
    assert '12 branches, 240 steps in all; the run' in text
    assert 'The skills that move most; 20 more in mixture.yaml.' in text
    assert 'All of them are in graph.json.' in text


def test_folders_that_are_no_ended_fork_are_refused_in_one_line(
    refused: Callable[..., str], make_run: Callable[..., Path], tmp_path: Path
):
    (tmp_path / 'begun' / 'start').mkdir(parents=True)
    assert 'has no run.json' in refused(tmp_path / 'begun')
    (tmp_path / 'begun' / 'start' / 'origin.json').write_text('{}')
    assert 'has not ended: type its `skillit fork` again' in refused(tmp_path / 'begun')
    (tmp_path / 'other').mkdir()
    assert 'has no run.json' in refused(tmp_path / 'other')
    fork = write_fork(tmp_path / 'fork')
    assert 'name it alone' in refused(fork, make_run())
    assert 'name it alone' in refused(fork, '--watch')
    assert 'name it alone' in refused(fork, '--baseline', 'stratified')
    (tmp_path / 'file').write_text('')
    assert 'choose another folder' in refused(fork, '--out', tmp_path / 'file')
    (fork / 'graph.json').unlink()
    (fork / 'start').mkdir()
    (fork / 'start' / 'origin.json').write_text('{}')
    assert 'no such file' in refused(fork)
    write_fork(fork)
    plain = json.loads((fork / 'result.json').read_text())
    for wrong, message in (
        ({**plain, 'version': 9}, "'version' must be 1"),
        ({**plain, 'present': {'x': 1.0}, 'mixture': {'x': 1.0}}, 'not that of the fork'),
        ({**plain, 'cost': 3}, 'writes it anew'),
        ({**plain, 'mixture': {}}, "'mixture' must name the skills of the present one"),
        ({**plain, 'predicted': {**plain['predicted'], 'interval': [1.0]}}, 'must hold two numbers'),
        ([], 'must be a JSON object'),
    ):
        (fork / 'result.json').write_text(json.dumps(wrong))
        assert message in refused(fork)
