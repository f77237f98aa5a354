"""A DataLoader that accelerate prepares: the same samples as without it, or one line that says what to do instead."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.launching import NEEDS, Launcher, finish
from tests.support.paths import ROOT
from tests.support.prepared_loaders import GLOBAL_BATCH

pytestmark = NEEDS


def play(launcher: Launcher, folder: Path, streams: Path, ranks: int) -> list[dict[str, Any]]:
    """What each rank of a job got."""
    out = folder / 'found'
    script = ROOT / 'tests' / 'support' / 'prepared_loaders.py'
    finish(launcher.ranks(out, streams, ranks, overrides=[str(streams)], script=script))
    return [json.loads(out.with_name(f'{out.name}-{rank}.json').read_text()) for rank in range(ranks)]


@pytest.mark.slow
def test_two_ranks_are_told_to_leave_the_loader_alone(launcher: Launcher, tmp_path: Path, streams_root: Path):
    every = play(launcher, tmp_path, streams_root, 2)
    for rank, found in enumerate(every):
        orders = found.pop('orders')
        resumed = found.pop('resumed')
        assert found.pop('skipped').startswith(
            'accelerate would drop 5 batches of a round that the dataset resumes'
        )
        own = slice(rank * GLOBAL_BATCH // 2, (rank + 1) * GLOBAL_BATCH // 2)
        # What was refused has not counted as a round.
        expected = np.reshape(orders[0], (-1, GLOBAL_BATCH))[:, own]
        assert found.pop('as it is') == expected.ravel().tolist()
        assert resumed == expected[5:].ravel().tolist()
        assert set(found) >= {'by default', 'widened', 'each its own, with workers', 'wrapped', 'stateful'}
        for way, got in found.items():
            assert 'accelerator.prepare() would divide among the ranks' in got, way
            assert 'prepare model and optimizer alone' in got, way
    assert 'by default, with a spawned worker' in every[0]


def test_one_process_may_have_its_loader_prepared(launcher: Launcher, tmp_path: Path, streams_root: Path):
    [found] = play(launcher, tmp_path, streams_root, 1)
    orders = found.pop('orders')
    resumed = found.pop('resumed')
    assert found.pop('skipped').startswith('accelerate would drop 5 batches')
    for number, (way, got) in enumerate(found.items()):
        assert got == orders[number], way
    assert resumed == orders[-1][5 * GLOBAL_BATCH :]
