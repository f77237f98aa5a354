"""A run folder whose mixtures Skill-It has made of its losses."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from skillit_stream.formats.run_log import RoundRecord
from skillit_stream.mixture import RoundObservation, SkillsGraph, build_policy


def moving_run(base: Path, n_train: int = 3, n_eval: int = 3, rounds: int = 5, **options: Any) -> Path:
    """Write one below `base`, with this many skills and rounds and the policy's options; returns the folder."""
    train, evals = [f't{i}' for i in range(n_train)], [f'e{j}' for j in range(n_eval)]
    rng = np.random.default_rng(0)
    graph = SkillsGraph(train, evals, rng.uniform(0, 1, (n_train, n_eval)))
    policy = build_policy('skill_it', skills=train, eval_skills=evals, graph=graph, **{'eta': 0.3, **options})
    folder = base / f'run{len(list(base.iterdir()))}'
    folder.mkdir()
    facts = {'version': 1, 'name': 'x', 'seed': 7, 'policy': policy.describe(), 'graph': graph.to_dict()}
    (folder / 'run.json').write_text(json.dumps(facts))
    proportions, lines = policy.initial(), []
    for number in range(rounds):
        named = dict(zip(train, proportions.tolist(), strict=True))
        losses = {skill: float(4 / (1 + number) + rng.uniform()) for skill in evals}
        proportions = policy.update(RoundObservation(number, losses))
        notes = tuple(policy.notes())
        record = RoundRecord(
            round=number, step=10 * number + 10, proportions=named, losses=losses, notes=notes
        )
        lines.append(record.to_line() + '\n')
    (folder / 'mixture.jsonl').write_text(''.join(lines))
    return folder
