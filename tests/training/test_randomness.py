"""Dropout draws the same numbers after a stop as without one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.marks import slowly
from tests.support.training_runs import STEPS

Trained = Callable[..., None]
DROPOUT = 'model.config.attention_dropout=0.3'


def last_weights(run: Path) -> dict[str, Any]:
    return torch.load(run / 'checkpoints' / 'latest-rank0.pt', weights_only=False)['state']['model']


def are_same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(torch.equal(value, second[key]) for key, value in first.items())


def place(folder: Path) -> list[str]:
    return [f'save_folder={folder}', f'callbacks.sample_log.folder={folder / "samples"}']


@pytest.mark.parametrize('workers', [0, *slowly(2)])
def test_dropout_goes_on_as_if_the_run_had_not_stopped(
    trained: Trained, tmp_path: Path, release_datasets: Callable[[], None], workers: int
):
    options = (DROPOUT, f'train_loader.num_workers={workers}')
    trained(*options, *place(tmp_path / 'straight'))
    straight = last_weights(tmp_path / 'straight')
    # In a round, at its last batch, at its end, at the first batch of the next.
    for stop in ('2ba', f'{STEPS}ba', '1ep', f'{STEPS + 1}ba'):
        own = place(tmp_path / stop)
        for duration in (stop, '2ep'):
            release_datasets()
            trained(*options, *own, f'max_duration={duration}', 'autoresume=true')
        assert are_same(last_weights(tmp_path / stop), straight), stop


def test_dropout_is_at_work(trained: Trained, run_folder: Path, tmp_path: Path):
    trained(DROPOUT)
    trained(*place(tmp_path / 'without'))
    assert not are_same(last_weights(tmp_path / 'without'), last_weights(run_folder))
