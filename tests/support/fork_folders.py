"""Folders of forks that have ended, without training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skillit_stream.formats.fork_result import (
    GRAPH,
    MIXTURE,
    TAKE,
    ConfirmedGain,
    ForkCost,
    ForkResult,
    PredictedGain,
    PresentLosses,
    write_fork_result,
)
from skillit_stream.mixture import SkillsGraph
from skillit_stream.mixture.graph_measurement import Measurement

PRESENT = {'books': 0.5, 'code': 0.3, 'web_pages': 0.2}
CHOSEN = {'books': 0.25, 'code': 0.6, 'web_pages': 0.15}
LOSSES = {'recipes': 2.5, 'code': 1.5}
EFFECTS = np.array([[-0.02, -0.1], [0.15, 0.2], [0.01, -0.004]])
ERROR = 0.005

RESULT = ForkResult(
    verdict=TAKE,
    reason='0.1000 nats per token lower (t = 17.32 of 3 pairs, bound 2.92)',
    more_pairs=0,
    run='/runs/mine',
    checkpoint='/runs/mine/checkpoints/ep2-ba120-rank0.pt',
    step=120,
    of_steps=2400,
    steps=20,
    spread=12.5,
    targets=['recipes'],
    max_passes=4.0,
    present=PRESENT,
    mixture=CHOSEN,
    predicted=PredictedGain(gain=0.13, standard_error=0.01, interval=[0.087, 0.173]),
    confirmed=ConfirmedGain(
        gain=0.1, interval=[0.0752, 0.1248], gains=[0.09, 0.1, 0.11], t=17.3205, bound=2.92
    ),
    losses=PresentLosses(present=LOSSES, noise=dict.fromkeys(LOSSES, 0.0043)),
    cost=ForkCost(branches=12, steps=240),
)


def write_fork(folder: Path, *, effects: np.ndarray = EFFECTS, **changes: Any) -> Path:
    """The folder of a fork on three skills with two losses, with other findings if they are given."""
    result = replace(RESULT, **changes)
    folder.mkdir(parents=True, exist_ok=True)
    measured = Measurement(
        method='forks', effects=effects, steps=20, repeats=3, standard_errors=np.full(effects.shape, ERROR)
    )
    skills = tuple(result.losses.present)
    SkillsGraph(tuple(result.present), skills, effects, measured=measured).save(folder / GRAPH)
    write_fork_result(folder, result)
    (folder / MIXTURE).write_text(''.join(f'{key}: {value}\n' for key, value in result.mixture.items()))
    return folder
