"""benchmarks/merging.py: what is merged, what is predicted from it, and its smoke run."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skillit_stream.forks.branches import Branches
from skillit_stream.training.config import load_config
from tests.forks.conftest import CHECKPOINT
from tests.support.paths import ROOT

BENCHMARKS = ROOT / 'benchmarks'
WAYS = [
    'branches',
    'one present',
    'branches and merged',
    'one present, merged',
    'merged',
    'merged at the place',
]


@pytest.fixture
def merging(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module('merging')


def test_an_average_is_of_the_weights_and_leaves_counts_alone(merging: Any):
    models = [
        {'weight': torch.tensor([1.0, 2.0]), 'count': torch.tensor(3)},
        {'weight': torch.tensor([5.0, -2.0]), 'count': torch.tensor(3)},
    ]
    found = merging.averaged(models, np.array([0.25, 0.75]))
    assert found['weight'].tolist() == [4.0, -1.0]
    assert found['count'].item() == 3


def test_a_branch_merged_with_nothing_has_its_own_losses(merging: Any, forked_run: Path):
    runs = Branches(load_config(forked_run / 'config.yaml'), forked_run / 'checkpoints' / CHECKPOINT)
    forked = merging.Forked(runs, 3)
    one, first = forked.train(np.array([1.0, 0.0, 0.0]), 0)
    other, second = forked.train(np.array([0.0, 1.0, 0.0]), 0)
    assert forked.merge([first, second], np.array([1.0, 0.0])) == one
    assert forked.merge([first, second], np.array([0.0, 1.0])) == other
    assert forked.merge([first, second], np.array([0.5, 0.5])) not in (one, other)


def test_losses_that_follow_the_law_are_predicted_without_error(merging: Any):
    rng = np.random.default_rng(1)

    def of(mixtures: np.ndarray) -> Any:
        values = np.column_stack([2 + np.exp(mixtures @ [1.0, 0.2, -1.0]), mixtures @ [1.0, 0.0, 0.5]])
        return merging.Losses(mixtures=mixtures, values=values)

    present = np.full((3, 3), 1 / 3)
    held_out = of(rng.dirichlet(np.ones(3), 6))
    trained = merging.Outcomes(
        skills=('curved', 'other'),
        raised=of(0.5 * np.eye(3) + 1 / 6),
        repeats=of(present),
        merged=of(rng.dirichlet(np.ones(3), 20)),
        held_out=held_out,
        at_the_place=held_out,
        at_present=of(present[:1]),
    )
    rows = merging.rows_of(trained, ['curved'])
    assert [row['predicted by'] for row in rows] == WAYS
    for row in rows:
        assert row['rank correlation'] == pytest.approx(1)
        assert row['error'] < 1e-3 * row['error of one for all']
        assert row['offset'] == pytest.approx(0, abs=1e-3)
        assert row['lost by its choice'] == 0
        assert row['merging lowers'] == pytest.approx(0, abs=1e-12)


@pytest.mark.slow
def test_the_smoke_run_goes_through_the_whole_script(tmp_path: Path):
    command = [sys.executable, str(BENCHMARKS / 'merging.py'), '--smoke', '--out', str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    record = json.loads((tmp_path / 'merging-smoke.json').read_text())
    assert [row['predicted by'] for row in record['rows']] == WAYS
    assert record['configuration']['held_out'] == 3
