"""benchmarks/resume.py: its smoke run plays the real loaders, and its counts are those of the samples."""

import importlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT

BENCHMARKS = ROOT / 'benchmarks'


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of the benchmark, by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.mark.slow
def test_the_smoke_run_counts_what_each_installed_loader_draws(benchmark: Any, tmp_path: Path):
    command = [sys.executable, str(BENCHMARKS / 'resume.py'), '--smoke', '--out', str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert {path.name for path in tmp_path.iterdir()} == {'resume-smoke.json', 'resume-smoke.md'}
    record = json.loads((tmp_path / 'resume-smoke.json').read_text())
    resume = benchmark('resume')
    outcomes = {(row['case'], row['loader']): row for row in record['rows']}
    assert list(outcomes) == [(case, name) for case in resume.SMOKE for name in resume.SMOKE_LOADERS]
    for (_, name), row in outcomes.items():
        if resume.missing_packages(name):
            assert row['outcome'].startswith('not installed: ')
        else:
            assert re.fullmatch(r'same .*|(\d+) lost, (\d+) repeated(, \d+ left at its end)?', row['outcome'])
            assert row['lost'] is not None
            assert row['repeated'] is not None
    assert outcomes['killed', 'skillit_stream']['outcome'] == 'same order'
    assert outcomes['mixture changed', 'skillit_stream']['outcome'] == '0 lost, 0 repeated'
    assert outcomes['killed', 'StreamingDataset']['outcome'] == 'same order'
    # Its epochs are plans of their own: what it repeats shows that repetition is seen.
    assert outcomes['mixture changed', 'StreamingDataset']['repeated'] > 0


@pytest.mark.parametrize(
    ('steps', 'words', 'lost', 'repeated'),
    [
        ([[0, 1], [2, 3], [4, 4]], 'same order', 0, 0),
        ([[1, 0], [2, 3], [4, 4]], 'same batches, other order inside', 0, 0),
        ([[2, 3], [0, 1], [4, 4]], 'same samples, other batches', 0, 0),
        ([[0, 1], [2, 3]], '2 lost, 0 repeated', 2, 0),
        ([[0, 1], [2, 3], [4, 4], [4, 4]], '0 lost, 2 repeated', 0, 2),
        # 9 is not among those of the other run: once it is another sample, the second time a repetition.
        ([[0, 1], [2, 3], [9, 9]], '2 lost, 1 repeated', 2, 1),
    ],
)
def test_a_resumed_run_is_compared_sample_by_sample(
    benchmark: Any, steps: list[list[int]], words: str, lost: int, repeated: int
):
    outcome = benchmark('counted').compare(steps, [[0, 1], [2, 3], [4, 4]])
    assert (outcome.words, outcome.lost, outcome.repeated) == (words, lost, repeated)


def test_a_pass_counts_what_is_never_drawn_and_what_is_drawn_again(benchmark: Any):
    counted, streams = benchmark('counted'), {'first': 3, 'second': 4}
    apart = benchmark('numbered_streams').APART
    steps = [[0, 1, 2], [apart, apart + 1, apart + 1]]
    assert counted.count_pass(steps, streams).words == '2 lost, 1 repeated'
    # The first stream is over and whole: what the second has not given is not lost.
    outcome = counted.count_pass(steps, streams, ends_with_a_stream=True)
    assert outcome.words == '0 lost, 1 repeated, 2 left at its end'
    assert (outcome.lost, outcome.repeated) == (0, 1)
    # Drawn as often as it has samples, but one of them twice.
    outcome = counted.count_pass([[0, 1, 1], [apart]], streams, ends_with_a_stream=True)
    assert outcome.words == '1 lost, 1 repeated, 3 left at its end'


def test_a_loader_that_is_not_installed_is_named(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    resume = benchmark('resume')
    monkeypatch.setitem(resume.IMPORTED, 'litdata', ('litdata', 'no_such_package.part'))
    (row,) = resume.rows_of(tmp_path, ['litdata'], ['killed'])
    assert row['outcome'].startswith('not installed: ')
    assert 'no_such_package' in row['outcome']


class Failing:
    """A loader whose second rank fails while the first would go on for ever."""

    ends_with_epoch = one_state_a_rank = state_has_mixture = False

    def __init__(self, stage: Any, rank: int) -> None:
        self.rank = rank

    def epoch(self) -> Iterator[list[int]]:
        """One batch, then the end."""
        yield [self.rank]
        if self.rank:
            raise ValueError('Two\nlines.')
        time.sleep(60)


def test_what_a_rank_says_ends_all_ranks(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    processes = benchmark('rank_processes')
    monkeypatch.setitem(processes.LOADERS, 'failing', Failing)
    monkeypatch.setattr(processes, 'GRACE', 0.1)
    stage = benchmark('resume_loaders').Stage('failing', tmp_path, {'only': 16}, end=2)
    played = processes.play(stage, tmp_path / 'start')
    assert played.failure == 'ValueError: Two lines.'
    assert played.steps(1) == [[0, 1]]
