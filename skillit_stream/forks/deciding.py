"""From branches to a verdict, whoever trains them: asks for them, is sent their losses, says what they mean."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np

from skillit_stream.forks.choice import Array, Choice, Measured, choose
from skillit_stream.forks.plan import ForkPlan
from skillit_stream.forks.verdict import Verdict, verdict_of
from skillit_stream.formats.fork_result import STAY
from skillit_stream.mixture.trials import Branch

ENOUGH = 10.0
"""Branches that differ by so many times what the order alone does are long enough."""
SAME = 1e-5
"""A mixture this near to the present one (total variation) is the present one."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the branches say. Losses and gains are in nats per token."""

    steps: int
    """Of each branch in the end."""
    measured: Measured
    choice: Choice
    gains: Array | None = None
    """Of the pairs, ``[n]``; None where there were none."""
    verdict: Verdict


Asking = Generator[list[Branch], Array, Finding]
"""Yields branches, all of one length; is sent their losses, float64 ``[branches, eval skills]``."""


def deciding(plan: ForkPlan, batch_size: int, *, say: Callable[[str], None] | None = None) -> Asking:
    """Ask for branches up to a verdict.

    How much the branches differ decides how long they are, and not whether there is a choice: the noise that
    three repeats show may be off by three times or more, and the pairs decide without it.

    Args:
        plan: Of the branches.
        batch_size: Samples in a step.
        say: Says which branches are to be trained again, longer.

    Raises:
        InputError: The branches are of fewer distinct mixtures than the law has parameters.
    """
    steps, *longer = plan.lengths
    measured = yield from _measured(plan, steps)
    while longer and (spread := measured.spread(plan.targets)) < ENOUGH:
        if say:
            say(f'After {steps} steps the branches differ by {spread:.1f} times what the order alone does.')
        steps = longer.pop(0)
        measured = yield from _measured(plan, steps)
    return (yield from _chosen(plan, steps, measured, batch_size))


def _measured(plan: ForkPlan, steps: int) -> Generator[list[Branch], Array, Measured]:
    losses = yield [*plan.raised(steps), *plan.repeats(steps)]
    skills = len(plan.skills)
    return Measured(present=plan.present, repeats=losses[skills:], raised=losses[:skills])


def _chosen(plan: ForkPlan, steps: int, measured: Measured, batch_size: int) -> Asking:
    """Choose a mixture, and see whether it helps."""
    choice = choose(measured, plan.targets, plan.highest(batch_size))
    if choice.gain <= 0 or 0.5 * np.abs(choice.mixture - plan.present).sum() < SAME:
        reason = 'no gain above noise (no mixture is predicted to be better than the present one)'
        verdict = Verdict(kind=STAY, reason=reason)
        return Finding(steps=steps, measured=measured, choice=choice, verdict=verdict)
    losses = yield [branch for pair in plan.pairs(steps, choice.mixture) for branch in pair]
    targets = losses[:, plan.targets].mean(axis=1)
    gains = targets[0::2] - targets[1::2]
    verdict = verdict_of(gains, plan.options.min_gain)
    return Finding(steps=steps, measured=measured, choice=choice, gains=gains, verdict=verdict)


def losses_of(answers: Sequence, eval_skills: Sequence[str]) -> Array:
    """Losses of branches, mappings by eval skill, as `deciding` is sent them: float64 ``[branches, eval skills]``."""
    return np.array([[losses[skill] for skill in eval_skills] for losses in answers])
