"""FSDP on two ranks: a run that went on from a sharded checkpoint is the run without a stop.

On CPUs, where torch 2.7.0 ends with a segmentation fault while it gathers a full checkpoint.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.support.launching import NEEDS, Launcher, finish
from tests.support.paths import ROOT
from tests.support.run_folders import drawn_samples, rounds_of
from tests.support.training_runs import shrunk

SCRIPT = ROOT / 'tests' / 'support' / 'cpu_fsdp.py'
YAML = ROOT / 'yamls' / 'addition' / 'skill_it.yaml'
ROUNDS = 3

pytestmark = [pytest.mark.filterwarnings('ignore::UserWarning'), pytest.mark.slow, *NEEDS]


def facts_of(run: Path) -> list[tuple[Any, ...]]:
    return [(line['round'], line['samples'], line['losses'], line['proportions']) for line in rounds_of(run)]


def test_a_run_that_stopped_goes_on_as_if_it_had_not(streams: Path, tmp_path: Path, launcher: Launcher):
    def train(run: Path, until: int) -> None:
        overrides = [
            *shrunk(streams, run, until),
            'fsdp_config={state_dict_type: sharded}',
            'save_interval=1ep',
        ]
        overrides += [f'callbacks.sample_log.folder={run / "samples"}', 'device_train_microbatch_size=4']
        finish(launcher.ranks(YAML, streams, 2, overrides=[*overrides, 'autoresume=true'], script=SCRIPT))

    straight, stopped = tmp_path / 'straight', tmp_path / 'stopped'
    train(straight, ROUNDS)
    train(stopped, ROUNDS - 1)
    train(stopped, ROUNDS)
    assert drawn_samples(stopped) == drawn_samples(straight)
    assert facts_of(stopped) == facts_of(straight)
