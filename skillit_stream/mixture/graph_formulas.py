"""The graph from the losses of short runs, and which runs that takes (Skill-It, arXiv 2307.14430, section 3).

With L_j(f) the loss on skill j of the model f that every run starts from, and f_i the model after H steps on
skill i, f_ij after H steps on an even mix of i and j:

- *brute force*: δ_j = L_j(f) - L_j(f_j) and δ_ij = L_j(f) - L_j(f_ij). There is an edge from i to j where
  δ_ij > δ_j, of weight (δ_ij - δ_j) / δ_j: what half the training on i gives beyond training on j alone. A
  skill's own weight is 1. The mix of i and j serves both directions: k + k(k-1)/2 runs.
- *approximate*: A_ij = max(0, (L_j(f) - L_j(f_i)) / L_j(f)), the share by which training on i lowers the loss
  on j: one run a train skill, whichever skills are evaluated.

What is clipped at 0 is the *effect*, which is kept beside the weights. Where every run is repeated with other
orders of the samples, effects are those of the mean losses, and their standard errors come from leaving one repeat
out after the other (the jackknife; for the approximate method it is the standard error of a mean).

The authors' published code learns no graph, so there is no threshold or normalisation of theirs to follow. Their
published graphs differ from these formulas: some hold negative weights, weights of a skill on itself differ
from 1, and some are called normalized, by a rule that is not published.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.graph import SkillsGraph
from skillit_stream.mixture.graph_measurement import Measurement, StartOfRuns

APPROXIMATE, BRUTE_FORCE = 'approximate', 'brute-force'
METHODS = (APPROXIMATE, BRUTE_FORCE)

Mix = tuple[str, ...]
"""The skills that a run is trained on in equal proportions: one or two, in the order of the train skills."""


@dataclass(frozen=True)
class MeasuredLosses:
    """Losses before and after short runs from the same weights, nats per token by eval skill."""

    start: Mapping[str, float]
    """Before any of them."""
    after: Mapping[Mix, Mapping[str, float]]
    """After each."""


def needed_mixes(method: str, train_skills: Sequence[str], eval_skills: Sequence[str]) -> list[Mix]:
    """The runs that a method needs, those on one skill first.

    Raises:
        InputError: Brute force is asked for, but an eval skill is not trained on.
    """
    if method == APPROXIMATE:
        return [(skill,) for skill in train_skills]
    for skill in eval_skills:
        if skill not in train_skills:
            raise InputError(
                f'`--method brute-force` needs runs on every eval skill, but {skill!r} is not trained on: use '
                f'--method approximate, or leave it out of `eval_loader.skills`.'
            )
    singles = [(skill,) for skill in train_skills if skill in eval_skills]
    pairs = [pair for pair in combinations(train_skills, 2) if set(pair) & set(eval_skills)]
    return [*singles, *pairs]


def graph_of(
    method: str,
    repeats: Sequence[MeasuredLosses],
    train_skills: Sequence[str],
    eval_skills: Sequence[str],
    *,
    steps: int | None = None,
    start: StartOfRuns | None = None,
) -> SkillsGraph:
    """The graph that a method reads from measured losses, train skills x eval skills.

    Args:
        method: `approximate` or `brute-force`.
        repeats: The losses of every run, each time with another order of the samples; at least one.
        train_skills: Rows.
        eval_skills: Columns.
        steps: Of each run, to be kept with the graph.
        start: What the runs started from, likewise.

    Raises:
        InputError: A run is missing, or a loss is missing or not a positive number.
    """
    effects = effects_of(method, mean_losses(repeats), train_skills, eval_skills)
    measured = Measurement(
        method=method,
        effects=effects,
        steps=steps,
        start=start,
        repeats=len(repeats),
        standard_errors=_standard_errors(method, repeats, train_skills, eval_skills),
    )
    # Brute force says nothing of a skill that is not learned alone (no edge), nor of a skill's weight on itself.
    weights = np.maximum(np.nan_to_num(effects, nan=0.0), 0.0)
    graph = SkillsGraph(train_skills, eval_skills, weights, measured=measured)
    if method == BRUTE_FORCE:
        weights = np.where(graph.same_skill, 1.0, weights)
    return SkillsGraph(train_skills, eval_skills, weights, measured=measured)


def effects_of(
    method: str, losses: MeasuredLosses, train_skills: Sequence[str], eval_skills: Sequence[str]
) -> NDArray[np.float64]:
    """The weights before they are clipped at 0, float64 ``[k, m]``; NaN where nothing can be said.

    Raises:
        InputError: A run is missing, or a loss is missing or not a positive number.
    """
    for mix in needed_mixes(method, train_skills, eval_skills):
        if mix not in losses.after:
            raise InputError(
                f'{method} needs the losses after training on {format_mix(mix)}: give that run too.'
            )
    effect = _approximate if method == APPROXIMATE else _brute_force
    return np.array(
        [[effect(losses, train, column, train_skills) for column in eval_skills] for train in train_skills]
    )


def mean_losses(repeats: Sequence[MeasuredLosses]) -> MeasuredLosses:
    """Losses after each run, averaged over its repeats, which all have the same runs and skills."""
    if len(repeats) == 1:
        return repeats[0]
    first = repeats[0]
    return MeasuredLosses(
        first.start,
        {
            mix: {skill: float(np.mean([one.after[mix][skill] for one in repeats])) for skill in losses}
            for mix, losses in first.after.items()
        },
    )


def not_learned(losses: MeasuredLosses, eval_skills: Iterable[str]) -> list[str]:
    """Eval skills whose loss did not fall in the run on them alone: their columns say nothing."""
    return [
        skill for skill in eval_skills if (skill,) in losses.after and _gain(losses, (skill,), skill) <= 0
    ]


def mix_of(skills: Iterable[str], train_skills: Sequence[str]) -> Mix:
    """The name of a run: its skills in the order of the train skills."""
    return tuple(sorted(skills, key=list(train_skills).index))


def format_mix(mix: Mix) -> str:
    """The skills of a mix, joined by a plus."""
    return ' + '.join(mix)


def _standard_errors(
    method: str, repeats: Sequence[MeasuredLosses], train_skills: Sequence[str], eval_skills: Sequence[str]
) -> NDArray[np.float64] | None:
    """Of the effects of the mean losses; None for a single repeat."""
    count = len(repeats)
    if count == 1:
        return None
    left_out = np.array(
        [
            effects_of(method, mean_losses([*repeats[:at], *repeats[at + 1 :]]), train_skills, eval_skills)
            for at in range(count)
        ]
    )
    return np.sqrt((count - 1) * left_out.var(axis=0))


def _approximate(losses: MeasuredLosses, train: str, column: str, order: Sequence[str]) -> float:
    del order
    return _gain(losses, (train,), column) / _loss(losses.start, column, 'before training')


def _brute_force(losses: MeasuredLosses, train: str, column: str, order: Sequence[str]) -> float:
    alone = _gain(losses, (column,), column)
    if train == column or alone <= 0:
        return math.nan  # no gain to compare with: see not_learned
    return (_gain(losses, mix_of((train, column), order), column) - alone) / alone


def _gain(losses: MeasuredLosses, mix: Mix, column: str) -> float:
    """How far training on the mix lowers the loss on a skill, nats per token."""
    after = _loss(losses.after[mix], column, f'after training on {format_mix(mix)}')
    return _loss(losses.start, column, 'before training') - after


def _loss(losses: Mapping[str, float], skill: str, when: str) -> float:
    value = losses.get(skill)
    if value is None:
        raise InputError(f'There is no loss of eval skill {skill!r} {when}: evaluate it in every run.')
    if not (math.isfinite(value) and value > 0):
        raise InputError(
            f'The loss of {skill!r} {when} must be a positive number, but got: {value}; lower the learning rate '
            f'if it diverged.'
        )
    return value
