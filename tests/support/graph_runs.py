"""Tiny configurations for graphs: streams of the addition corpus, a Llama of one layer, runs of a few steps."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import training_runs
from tests.support.training_runs import BATCH

STEPS = 4


def settings(streams: Path) -> dict[str, Any]:
    """The keys of a training YAML; a round is as long as a short run of `STEPS`."""
    keys = training_runs.settings(streams, streams)
    for name in ('run_name', 'save_folder', 'algorithms', 'callbacks'):
        del keys[name]
    return {**keys, 'max_duration': '1ep', 'train_loader': {'round_size': STEPS * BATCH}}


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
