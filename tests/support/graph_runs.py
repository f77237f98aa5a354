"""Tiny configurations for graphs: streams of the addition corpus, a Llama of one layer, runs of a few steps."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.training_runs import LLAMA

SKILLS = ('digit_0', 'digit_1', 'digit_2')
STEPS, BATCH = 4, 4


def settings(streams: Path) -> dict[str, Any]:
    """The keys of a training YAML; a round is as long as a short run of `STEPS`."""
    return {
        'streams': str(streams),
        'max_duration': '1ep',
        'seed': 3,
        'device': 'cpu',
        'global_train_batch_size': BATCH,
        'model': {'config': LLAMA, 'init': 'fan_in'},
        'train_loader': {'round_size': STEPS * BATCH},
        'eval_loader': {'batch_size': 7},
        'optimizer': {'name': 'adamw', 'lr': 0.01},
        'progress_bar': False,
    }


def write_yaml(path: Path, keys: Mapping[str, Any]) -> Path:
    """Write a training YAML and return its path."""
    path.write_text(yaml.safe_dump(dict(keys), sort_keys=False))
    return path


def write_run(
    folder: Path,
    proportions: Mapping[str, float],
    losses: Mapping[str, float],
    *,
    start: Mapping[str, float] | None = None,
    steps: int = 10,
) -> str:
    """The mixture.jsonl of a run of one round; returns the folder."""
    line = {'round': 0, 'step': steps, 'proportions': dict(proportions), 'losses': dict(losses)}
    lines = [line] if start is None else [{'round': -1, 'step': 0, 'losses': dict(start)}, line]
    folder.mkdir()
    (folder / 'mixture.jsonl').write_text(''.join(json.dumps(one) + '\n' for one in lines))
    return str(folder)
