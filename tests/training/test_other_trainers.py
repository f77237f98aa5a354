"""The examples for other trainers, with the real libraries: stopped, and resumed on other ranks and workers."""

import json
from pathlib import Path

import pytest

from tests.support.example_run import read_batches
from tests.support.launching import NEEDS, Launch, Launcher, finish
from tests.support.paths import ROOT

pytestmark = [pytest.mark.timeout(240), *NEEDS]

RECORDED = ROOT / 'tests' / 'support' / 'recorded.py'
STEPS_PER_ROUND, STEPS = 8, 24
# The first step, ranks, workers, the last step. Each begins with the last checkpoint, one of every 4 steps: the second
# at the end of a round, the third inside one.
LEGS = {
    'lightning_trainer': [(0, 2, 1, 10), (8, 1, 2, 14), (12, 2, 0, STEPS)],
    'accelerate_loop': [(0, 2, 1, 10), (8, 1, 2, 14), (12, 2, 0, STEPS)],
    # Trainer saves the last step too. Two ranks of a CPU cannot load its optimizer: transformers names it `cpu:0`.
    'hf_trainer': [(0, 2, 1, 8), (8, 1, 2, 14), (14, 1, 0, STEPS)],
}
IMPORTS = {
    'lightning_trainer': 'lightning.pytorch',
    'accelerate_loop': 'accelerate',
    'hf_trainer': 'transformers.trainer',
}


def start(
    launcher: Launcher, example: str, streams: Path, run: Path, *, ranks: int, workers: int, end: int
) -> Launch:
    """The ranks of a run until a step; what they train on is written down in a folder of the run, named by it."""
    records = run / f'until-{end}'
    records.mkdir(parents=True)
    arguments = [str(records), str(streams), str(run), '--steps', str(end), '--workers', str(workers)]
    if example == 'lightning_trainer':
        arguments += ['--devices', str(ranks)]
    script = ROOT / 'examples' / f'{example}.py'
    imports = [IMPORTS[example]]
    return launcher.ranks(script, streams, ranks, overrides=arguments, script=RECORDED, imports=imports)


def mixtures(run: Path) -> list[list[float]]:
    """The proportions of each round that has ended."""
    lines = [json.loads(line) for line in (run / 'mixture.jsonl').read_text().splitlines()]
    return [list(line['proportions'].values()) for line in lines if line.get('proportions')]


@pytest.mark.parametrize('example', LEGS)
def test_stopped_and_resumed_on_other_ranks_and_workers_the_order_is_the_same(
    example: str, launcher: Launcher, streams: Path, tmp_path: Path
):
    pytest.importorskip(IMPORTS[example].partition('.')[0])
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    undisturbed = start(launcher, example, streams, whole, ranks=1, workers=0, end=STEPS)
    for _, ranks, workers, end in LEGS[example]:
        finish(start(launcher, example, streams, parts, ranks=ranks, workers=workers, end=end))
    finish(undisturbed)
    expected = read_batches(whole / f'until-{STEPS}')
    assert len(expected) == STEPS
    for begin, _, _, end in LEGS[example]:
        assert read_batches(parts / f'until-{end}') == expected[begin:end], (begin, end)
    # The mixture moved, and the same way but for float noise.
    proportions = mixtures(whole)
    assert len({tuple(one) for one in proportions}) == len(proportions) == STEPS // STEPS_PER_ROUND
    assert [pytest.approx(one, abs=1e-4) for one in proportions] == mixtures(parts)


@pytest.mark.slow
def test_ranks_that_lightning_starts_by_itself_share_the_samples(
    launcher: Launcher, streams: Path, tmp_path: Path
):
    # Its children get LOCAL_RANK, NODE_RANK and WORLD_SIZE; nobody gets RANK.
    pytest.importorskip('lightning')
    run, whole, steps = tmp_path / 'run', tmp_path / 'whole', 10
    alone = start(launcher, 'lightning_trainer', streams, whole, ranks=1, workers=0, end=steps)
    records = run / 'records'
    records.mkdir(parents=True)
    script = ROOT / 'examples' / 'lightning_trainer.py'
    options = ['--steps', str(steps), '--devices', '2', '--workers', '1']
    finish(launcher.script(RECORDED, streams, str(script), str(records), str(streams), str(run), *options))
    finish(alone)
    assert read_batches(records) == read_batches(whole / f'until-{steps}')
