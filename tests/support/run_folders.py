"""What the tests read in the folder of a run that has ended."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch


def mixture_lines(run: Path) -> list[dict[str, Any]]:
    """The lines of ``mixture.jsonl``."""
    return [json.loads(line) for line in (run / 'mixture.jsonl').read_text().splitlines()]


def rounds_of(run: Path) -> list[dict[str, Any]]:
    """The lines of trained rounds."""
    return [line for line in mixture_lines(run) if line['round'] >= 0]


def without_clocks(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lines of ``mixture.jsonl`` without what a clock measured."""
    clocks = ('seconds', 'stalled_seconds', 'eval_seconds')
    kept = [{key: value for key, value in line.items() if key not in clocks} for line in lines]
    return [
        {**line, 'trial': {**trial, 'seconds': 0}} if (trial := line.get('trial')) else line for line in kept
    ]


def drawn_samples(run: Path) -> dict[int, list[int]]:
    """Step -> ids of its samples in rank order; of a step that was trained twice, the second time."""
    steps: dict[int, dict[str, list[int]]] = defaultdict(dict)
    for file in sorted((run / 'samples').glob('samples-rank*.jsonl')):
        # The last line of a run that was killed may lack its end.
        for text in file.read_text().splitlines(keepends=True):
            if text.endswith('\n'):
                line = json.loads(text)
                steps[line['step']][file.name] = line['samples']
    return {
        step: [one for name in sorted(ranks) for one in ranks[name]] for step, ranks in sorted(steps.items())
    }


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """The model in the run's last checkpoint."""
    return torch.load(run / 'checkpoints' / 'latest-rank0.pt', weights_only=False)['state']['model']
