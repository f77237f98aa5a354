"""Synthetic run folders, as training would write them."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MakeRun = Callable[..., Path]
STREAM_SIZE, ROUND_SIZE = 20_000, 12_800  # samples
SKILLS = ('hundreds', 'tens', 'ones')


def synthetic_losses(step: int, skills: Sequence[str], *, seed: int, speed: float) -> dict[str, float]:
    noise = np.random.default_rng([seed, step]).normal(0, 0.03, len(skills))
    return {
        skill: float(2.3 * np.exp(-speed * step / (400 * (1 + i % 7))) * np.exp(noise[i]))
        for i, skill in enumerate(skills)
    }


def synthetic_proportions(round_: int, skills: Sequence[str], *, moves: bool) -> dict[str, float]:
    logits = np.array([np.sin(0.5 * round_ + i) * moves - 0.05 * i for i in range(len(skills))])
    shares = np.exp(logits) / np.exp(logits).sum()
    return dict(zip(skills, shares.tolist(), strict=True))


def synthetic_figure(figure: str, losses: dict[str, float]) -> dict[str, float]:
    scale = {'exact_match': 1.0, 'accuracy': 0.5}
    return {
        skill: loss / 3 if figure == 'bits_per_byte' else float(np.exp(-scale[figure] * loss))
        for skill, loss in losses.items()
    }


def run_facts(name: str, *, seed: int, skills: Sequence[str], method: str | None) -> dict[str, Any]:
    facts = {
        'version': 1,
        'name': name,
        'policy': {'name': name, 'eta': 0.2, 'window': 3},
        'seed': seed,
        'dataset': {
            'streams': {skill: {'samples': STREAM_SIZE} for skill in skills},
            'round_size': ROUND_SIZE,
            'global_batch_size': 64,
        },
    }
    return facts if method is None else {**facts, 'method': method}


def round_line(
    round_: int, skills: Sequence[str], *, moves: bool, passes: dict[str, float]
) -> dict[str, Any]:
    shares = synthetic_proportions(round_, skills, moves=moves)
    samples = {skill: int(ROUND_SIZE * share) for skill, share in shares.items()}
    samples[skills[0]] += ROUND_SIZE - sum(samples.values())
    return {
        'round': round_,
        'step': 200 * (round_ + 1),
        'proportions': shares,
        'realised': {skill: n / ROUND_SIZE for skill, n in samples.items()},
        'samples': samples,
        'passes': {skill: passes[skill] + samples[skill] / STREAM_SIZE for skill in skills},
        'stalled_seconds': 0.25,
        'seconds': 12.5,
    }


def write_run(
    base: Path,
    name: str = 'skill_it',
    *,
    seed: int = 1,
    skills: Sequence[str] = SKILLS,
    eval_skills: Sequence[str] | None = None,
    rounds: int = 10,
    speed: float = 1.0,
    graph: Sequence[Sequence[float]] | None = None,
    losses: Sequence[dict[str, float]] | None = None,
    method: str | None = None,
    figures: Sequence[str] = (),
) -> Path:
    """Write a run folder below `base`; `losses` holds those before training, then those of each round."""
    evals = list(skills if eval_skills is None else eval_skills)
    if losses is None:
        steps = range(0, 200 * rounds + 1, 200)
        losses = [synthetic_losses(step, evals, seed=seed, speed=speed) for step in steps]
    facts = run_facts(name, seed=seed, skills=skills, method=method)
    facts['graph'] = graph and {
        'version': 1,
        'train_skills': list(skills),
        'eval_skills': evals,
        'weights': graph,
    }
    lines: list[dict[str, Any]] = [{'round': -1, 'step': 0, 'proportions': {}, 'losses': losses[0]}]
    passes = dict.fromkeys(skills, 0.0)
    for round_ in range(rounds):
        line = round_line(round_, skills, moves=name == 'skill_it', passes=passes)
        passes = line['passes']
        lines.append({**line, 'losses': losses[round_ + 1]})
    for line in lines:
        line |= {figure: synthetic_figure(figure, line['losses']) for figure in figures}
    folder = base / 'runs' / f'{name}-seed{seed}'
    folder.mkdir(parents=True)
    (folder / 'run.json').write_text(json.dumps(facts))
    (folder / 'mixture.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """`write_run` below the test's own folder."""
    return partial(write_run, tmp_path)


@pytest.fixture(scope='module')
def make_shared_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """As `make_run`, in a folder that all tests of a module share."""
    return partial(write_run, tmp_path_factory.mktemp('shared'))
