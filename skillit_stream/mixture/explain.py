"""Why each round's mixture moved: the change of every skill's log proportion, by edge of the skills graph and loss.

For Skill-It the change of ``log p_i`` from one round to the next is a sum over the graph's edges::

    log p_i(t+1) - log p_i(t) = Σ_j [eta A_ij (what entered the window of L_j - what left it)]  + normaliser + rest_i

which is eta A_ij (newest L_j - the L_j dropped) where the window is full; the normaliser is the same for all skills,
for proportions sum to 1. The policy is built again from its description and shown the logged losses, so that all its
variants are covered by its own arithmetic; a round whose logged mixture does not follow from that is not explained.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.bad_losses import ForgivingPolicy
from skillit_stream.mixture.graph import SkillsGraph
from skillit_stream.mixture.limits import Limits
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.skill_it import LogitParts, SkillIt
from skillit_stream.mixture.skill_it_variant import VARIANT_OPTIONS, SkillItVariant
from skillit_stream.mixture.waiting import WaitingPolicy

OWN = ('eta', 'tilt', 'window', 'lag', 'prior', 'initial')
SAME = 1e-9
"""Proportions that differ by less are the same, but for the float noise of another machine."""


class Evaluated(Protocol):
    """An evaluation."""

    @property
    def losses(self) -> Mapping[str, float]:
        """Nats per token per eval skill."""
        ...


class LoggedRound(Evaluated, Protocol):
    """A round of a run, or (round -1) the evaluation before it, as a run's log holds it."""

    @property
    def round(self) -> int:
        """From 0; -1 before training."""
        ...

    @property
    def proportions(self) -> Mapping[str, float]:
        """Of the round, by train skill."""
        ...

    @property
    def within(self) -> Sequence[Evaluated]:
        """The evaluations inside the round."""
        ...

    @property
    def applied(self) -> Mapping[str, Any] | None:
        """What the run was given after the round: ``policy``, its description, and ``graph``."""
        ...


@dataclass(frozen=True, eq=False)
class Move:
    """How the mixture of a round differs from that of the round before, and why."""

    round: int
    """The round that the newer mixture was trained in."""
    skills: tuple[str, ...]
    eval_skills: tuple[str, ...]
    before: NDArray[np.float64]
    """Proportions of the round before, ``[k]``."""
    after: NDArray[np.float64]
    """Proportions of this round, ``[k]``."""
    edges: NDArray[np.float64]
    """What the losses of each eval skill add to the change of each log proportion, ``[k, m]``."""
    normaliser: NDArray[np.float64]
    """What proportions that sum to 1 add, ``[k]``: the same for every skill that is mixed, 0 for one that is held."""
    rest: NDArray[np.float64]
    """What limits add, and the end of an explicit first mixture, ``[k]``; NaN where a proportion is 0."""
    change: NDArray[np.float64]
    """Of each log proportion, ``[k]``: ``edges.sum(axis=1) + normaliser + rest``; NaN from or to 0."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """The moves of a run that its losses explain, and a sentence for what they do not."""

    moves: tuple[Move, ...] = ()
    missing: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class MovePart:
    """What one loss did to one proportion in a move."""

    skill: str
    eval_skill: str
    to_log: float
    """Added to the log proportion of `skill` by the loss on `eval_skill`, less the mean over the mixture: what is
    added to every skill alike moves nothing."""
    to_proportion: float
    """The same of the proportion itself, to first order."""


def largest_parts(move: Move, most: int) -> list[MovePart]:
    """The parts of a move that changed proportions most, the largest first."""
    relative = move.edges - move.before @ move.edges
    moved = relative * move.before[:, None]
    order = np.argsort(-np.abs(moved), axis=None, kind='stable')[:most]
    places = [np.unravel_index(one, moved.shape) for one in order]
    return [
        MovePart(
            move.skills[row],
            move.eval_skills[column],
            float(relative[row, column]),
            float(moved[row, column]),
        )
        for row, column in places
    ]


def explain_rounds(
    policy: Mapping[str, Any], graph: SkillsGraph | None, rounds: Iterable[LoggedRound]
) -> Explanation:
    """Take the change of every logged mixture apart, by edge of the graph and loss.

    Args:
        policy: Its description (``MixturePolicy.describe``), as in run.json.
        graph: The run's skills graph.
        rounds: The run's log in order, an evaluation before training (round -1) among it.
    """
    explanations, stretch = [], []
    for record in rounds:
        stretch.append(record)
        if record.applied:
            explanations.append(_explain_stretch(policy, graph, stretch))
            policy, given = record.applied['policy'], record.applied.get('graph')
            # It has begun with the losses of this round.
            graph, stretch = SkillsGraph.from_dict(given) if given else None, [record]
    explanations.append(_explain_stretch(policy, graph, stretch))
    moves = tuple(move for one in explanations for move in one.moves)
    return Explanation(moves, tuple(dict.fromkeys(line for one in explanations for line in one.missing)))


def _explain_stretch(
    policy: Mapping[str, Any], graph: SkillsGraph | None, rounds: Sequence[LoggedRound]
) -> Explanation:
    """The moves of rounds that one policy decided."""
    name = policy.get('name')
    if name == 'static':
        return Explanation(missing=('The mixture is fixed: there is no move to explain.',))
    if 'groups' in policy:
        return Explanation(missing=('The streams are in groups: why these move cannot be told yet.',))
    if name != SkillIt.name or graph is None:
        return Explanation(
            missing=(
                f'The policy {name} has no fixed skills graph: why it moves cannot be told by edge and loss.',
            )
        )
    explained: list[Move] = []
    strange: list[int] = []
    try:
        for move, follows in _moves(policy, graph, rounds):
            if follows:
                explained.append(move)
            else:
                strange.append(move.round)
    except InputError as error:
        return Explanation(tuple(explained), (f'Not explained further: {error}.',))
    missing = []
    if strange:
        missing.append(
            f'{len(strange)} of {len(strange) + len(explained)} moves (first: round {strange[0]}) do not follow from '
            "the graph and options in run.json: they were others when the round was trained, or a resumed run's "
            'streams had changed.'
        )
    return Explanation(tuple(explained), tuple(missing))


@dataclass(frozen=True, eq=False)
class _Mixture:
    """The mixture of a round."""

    played: NDArray[np.float64]
    """As the log has it, ``[k]``."""
    own: NDArray[np.float64]
    """As the policy answers, without limits, ``[k]``."""
    parts: LogitParts
    within_limits: bool
    """Whether `played` is `own` within the limits, as far as the log can tell."""


def _moves(
    policy: Mapping[str, Any], graph: SkillsGraph, rounds: Iterable[LoggedRound]
) -> Iterator[tuple[Move, bool]]:
    """Each move, and whether it is the one that the policy makes."""
    shown: MixturePolicy | None = None
    inner: SkillIt | None = None
    before: _Mixture | None = None
    first: RoundObservation | None = None
    own = np.zeros(0)
    for record in rounds:
        if record.round < 0:
            first = RoundObservation(-1, dict(record.losses))
            continue
        if shown is None or inner is None or set(inner.skills) != set(record.proportions):
            # With other streams a run's policy begins anew.
            inner = _built(policy, graph.select(tuple(record.proportions)))
            shown = _as_shown(policy, inner)
            own, before = shown.initial(), None
            if shown.needs_initial_losses and first is not None:
                shown.observe(first)
        # Before a policy begins nothing moves the mixture.
        after = _mixture(policy, inner, own, record) if inner.logit_parts else None
        if before is not None and after is not None:
            yield _move(record.round, inner, before, after)
        before, first = after, None
        for one in record.within:
            if all(name in one.losses for name in inner.eval_skills):
                shown.observe(RoundObservation(record.round, dict(one.losses)))
        own = shown.update(
            RoundObservation(record.round, dict(record.losses), proportions=dict(record.proportions))
        )


def _built(policy: Mapping[str, Any], graph: SkillsGraph) -> SkillIt:
    """Skill-It as it is described; raises InputError if the description does not fit the graph."""
    options = {key: policy[key] for key in OWN if key in policy}
    variant = SkillItVariant(**{key: policy[key] for key in VARIANT_OPTIONS if key in policy})
    return SkillIt(graph, **options, variant=variant)


def _as_shown(policy: Mapping[str, Any], inner: SkillIt) -> MixturePolicy:
    """The policy with what stands around it and sees its losses."""
    shown: MixturePolicy = ForgivingPolicy(inner, policy['on_bad_loss']) if 'on_bad_loss' in policy else inner
    if 'start' not in policy:
        return shown
    before = np.array([policy['before_start'].get(name, 0.0) for name in inner.skills])
    return WaitingPolicy(shown, int(policy['start']), before)


def _mixture(
    policy: Mapping[str, Any], inner: SkillIt, own: NDArray[np.float64], record: LoggedRound
) -> _Mixture:
    played = np.array([record.proportions[name] for name in inner.skills], dtype=np.float64)
    if inner.logit_parts is None:
        raise RuntimeError('Internal error: a mixture has no parts.')
    within = True
    # What `max_passes` leaves depends on more than the log holds.
    if policy.get('max_passes') is None:
        bounds = {key: policy[key] for key in ('floor', 'ceiling') if key in policy}
        limited, _ = Limits.build(inner.skills, **bounds).apply(own, np.zeros(len(own)), record.round)
        within = bool(np.abs(limited - played).max() < SAME)
    return _Mixture(played, own, inner.logit_parts, within)


def _move(number: int, policy: SkillIt, before: _Mixture, after: _Mixture) -> tuple[Move, bool]:
    """The move between two mixtures, and whether both are what the policy answers."""
    old, new, mixed = before.parts, after.parts, policy.mixed
    edges, start = np.zeros_like(new.edges), np.zeros(len(mixed))
    if new is not old:  # else a bad loss has kept the mixture
        if policy.variant.compound:
            edges = new.edges
        else:
            edges = new.edges - old.edges
            with np.errstate(invalid='ignore'):
                start = np.where(new.base == old.base, 0.0, new.base - old.base)
    edges, start = np.where(mixed[:, None], edges, 0.0), np.where(mixed, start, 0.0)
    normaliser = np.zeros(len(mixed))
    if mixed.any():
        # Any skill gives it; one that is large before and after gives it with the least noise.
        pivot = int(np.argmax(np.where(mixed, np.minimum(before.own, after.own), -1.0)))
        own_change = _log_change(before.own, after.own)
        normaliser[mixed] = own_change[pivot] - edges[pivot].sum() - start[pivot]
    change = _log_change(before.played, after.played)
    limited = np.abs(before.played - before.own).max() > SAME or np.abs(after.played - after.own).max() > SAME
    rest = change - edges.sum(axis=1) - normaliser if limited else np.where(np.isnan(change), np.nan, start)
    move = Move(
        number,
        policy.skills,
        policy.eval_skills,
        before.played,
        after.played,
        edges,
        normaliser,
        rest,
        change,
    )
    return move, before.within_limits and after.within_limits


def _log_change(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each log proportion; NaN from or to 0."""
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.where((before > 0) & (after > 0), np.log(after) - np.log(before), np.nan)
