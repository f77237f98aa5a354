"""Aioli: Skill-It with a graph estimated while training (Chen et al. 2024, arXiv 2411.05735)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.aioli_start import AioliStart
from skillit_stream.mixture.checks import number_within, one_of, whole_number
from skillit_stream.mixture.graph import SkillsGraph
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation, array
from skillit_stream.mixture.registry import register
from skillit_stream.mixture.simplex import played, softmax, take_over


@register('aioli')
class Aioli(MixturePolicy):
    """Probe each skill for a round, estimate the graph from the drops, then train on what it says.

    The run goes through cycles. A cycle first holds a probing round for each skill j (`sweeps` times
    over), with the proportion `focus` on j and the rest spread evenly: rows P_l. From the drop d_l of the
    losses on the m eval skills over each probing round it estimates how much training on j lowers the
    loss on i, and moves the mixture, which is then trained on for `hold` rounds::

        A       solves  d_l,i = Σ_j P_l,j A_ij  over the probing rounds (least squares)
        A       = diag(mean of d_l,i / P_l,i over the rounds that probe i)    (if `diagonal`)
        A       = (A - min(A, 0)) / Σ A                                       (if `normalise`)
        p_{s+1} ∝ p_s exp(eta Σ_i A_ij),  p_0 uniform

    With `smoothing` g the graph is a moving average, Ā = (1 - g) A + g Ā, and p ∝ exp(eta Σ_i Ā_ij)
    without the factor p_s: the published code's option of that kind. Before the first cycle the run may spend
    `prior_rounds` on a `prior` or by Skill-It (`AioliStart`), which the cycles do not see otherwise.

    The authors probe for a few steps inside a round, each skill in a random order; here a round is the
    shortest span with one mixture, and the order is that of the skills. Where limits changed a probing
    mixture, P holds what was played. `diagonal` with a focus of 1 leaves the graph whole in their code. The
    default of `eta` is that of its script for 3 skills, which has normalise, focus 0.5, smoothing 0.5 and 4
    sweeps that take 0.29 of a cycle.
    """

    name = 'aioli'
    remembers: ClassVar = {'place': int, 'mixture': array, 'losses': array, 'seen': list, 'graph': array}

    def __init__(
        self,
        skills: Sequence[str],
        eval_skills: Sequence[str],
        rounds: int | None = None,
        graph: SkillsGraph | None = None,
        *,
        eta: float = 0.1,
        focus: float = 0.75,
        sweeps: int = 1,
        hold: int | None = None,
        normalise: bool = True,
        smoothing: float | None = None,
        diagonal: bool = False,
        prior: Mapping[str, float] | None = None,
        prior_rounds: int = 0,
        start_eta: float | None = None,
        start_window: int | None = None,
    ) -> None:
        """Check the parameters.

        Args:
            skills: Skills that are mixed, k of them.
            eval_skills: Skills whose losses are to fall, m of them.
            rounds: Rounds of the run, if known.
            graph: Skills graph that a start by Skill-It needs.
            eta: Step size; with `normalise` the exponents of the skills sum to it.
            focus: Proportion of the probed skill in a probing round, above 1/k, at most 1.
            sweeps: Probing rounds per skill in a cycle.
            hold: Rounds of a cycle that are trained on the estimated mixture; None: two per probing round.
            normalise: Shift the graph to be non-negative and scale it to sum to 1.
            smoothing: Weight of the earlier graphs in a moving average, 0 to below 1; None: no average.
            diagonal: Estimate what each skill does to itself alone; every skill has to be evaluated.
            prior: Weight of each skill before the first cycle.
            prior_rounds: Rounds before the first cycle, on `prior` or by Skill-It.
            start_eta: η of Skill-It before the first cycle; with a `prior` of its first mixture alone, which stays.
            start_window: Evaluations in Skill-It's window, without a `prior`; None: 3.

        Raises:
            InputError: If a parameter is out of range, or the run ends before the first probing does.
        """
        super().__init__(skills, eval_skills)
        self.needs_initial_losses = True
        k = len(self.skills)
        self.eta, self.focus = number_within('eta', eta), number_within('focus', focus, 0.0, 1.0)
        if not self.focus > 1 / k:
            raise InputError(f'focus must be above 1/{k}, the even proportion, but got: {focus!r}')
        self.sweeps = whole_number('sweeps', sweeps, at_least=1)
        self._probes = k * self.sweeps
        self.hold = 2 * self._probes if hold is None else whole_number('hold', hold, at_least=1)
        self._start = AioliStart(
            self.skills,
            graph,
            eval_skills=self.eval_skills,
            prior=prior,
            rounds=prior_rounds,
            eta=start_eta,
            window=start_window,
        )
        self._check_rounds(rounds)
        one_of('normalise', normalise, (False, True))
        one_of('diagonal', diagonal, (False, True))
        self.normalise, self.diagonal = normalise, diagonal
        self._own = self._own_losses() if diagonal else []
        self.smoothing = None if smoothing is None else number_within('smoothing', smoothing, 0.0, 0.999)
        self._place = (
            -self._start.rounds
        )  # in the cycle, of the round being trained; below 0 before the first
        self._mixture = np.full(k, 1.0 / k)
        self._losses: NDArray[np.float64] | None = None
        self._seen: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        self._graph: NDArray[np.float64] | None = None

    @property
    def graph(self) -> NDArray[np.float64] | None:
        """The last estimate, train skills x eval skills ``[k, m]`` as in a `SkillsGraph`; None before any."""
        return None if self._graph is None else self._graph.T.copy()

    def observe(self, observation: RoundObservation) -> None:
        """Take in the losses before training; evaluations inside a round matter to a start by Skill-It alone.

        Raises:
            InputError: If a loss is missing or not finite.
        """
        losses = observation.losses_of(self.eval_skills)
        if observation.round < 0:
            self._losses = losses
        if self._place < 0:
            self._start.observe(observation)

    def initial(self) -> NDArray[np.float64]:
        """Return the first mixture: a probing one, or that of the start, float64 ``[k]``."""
        return self._start.initial() if self._place < 0 else self._next()

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Take in a round's losses; return the next probing mixture or the estimated one, float64 ``[k]``.

        Raises:
            InputError: If a loss is missing or not finite, or none was observed before the first round.
        """
        losses = observation.losses_of(self.eval_skills)
        if self._losses is None:
            raise InputError(
                f'aioli needs the losses before round {observation.round}: evaluate before training and pass '
                'them to observe() as round -1'
            )
        self._notes = []
        if self._place < 0:
            self._losses = losses
            self._place += 1
            return self._start.update(observation) if self._place < 0 else self._next()
        if self._place < self._probes:
            proportions = played(self.skills, observation.proportions, self._next())
            self._seen.append((proportions, self._losses - losses))
            if len(self._seen) == self._probes:
                self._move()
                self._notes = take_over(self.skills, self._mixture, observation.eval_losses)
        self._losses = losses
        self._place = (self._place + 1) % (self._probes + self.hold)
        return self._next()

    def describe(self) -> dict[str, Any]:
        """Name and parameters."""
        keys = ('name', 'eta', 'focus', 'sweeps', 'hold', 'normalise', 'smoothing', 'diagonal')
        return {**{key: getattr(self, key) for key in keys}, **self._start.describe()}

    def _check_rounds(self, rounds: int | None) -> None:
        before = self._start.rounds + self._probes
        if rounds is not None and rounds <= before:
            first = f'spends {self._start.rounds} rounds on its start and ' if self._start.rounds else ''
            raise InputError(
                f"policy 'aioli' {first}probes for {self._probes} rounds before its first mixture, but the run has "
                f'{rounds}; make rounds shorter (round_size) or the run longer'
            )

    def _own_losses(self) -> list[int]:
        """Where each skill's own loss is among the eval skills."""
        missing = [name for name in self.skills if name not in self.eval_skills]
        if missing:
            raise InputError(f'diagonal needs the losses of all skills, but {missing[0]!r} is not evaluated')
        return [self.eval_skills.index(name) for name in self.skills]

    def _next(self) -> NDArray[np.float64]:
        """The mixture of the round at this place of the cycle."""
        if self._place >= self._probes:
            return self._mixture.copy()
        k = len(self.skills)
        proportions = np.full(k, (1.0 - self.focus) / (k - 1) if k > 1 else 0.0)
        proportions[self._place % k] = self.focus
        return proportions

    def _move(self) -> None:
        """Estimate the graph from the probing rounds and move the mixture by it."""
        mixtures, drops = (np.array(rows) for rows in zip(*self._seen, strict=True))
        graph = self._diagonal(mixtures, drops) if self.diagonal else _solved(mixtures, drops)  # [m, k]
        if self.normalise:
            graph = graph - min(graph.min(), 0.0)
            total = graph.sum()
            graph = graph / total if total > 0 else graph
        self._seen = []
        before = np.log(self._mixture)
        if self.smoothing is not None:
            before = np.zeros(len(self.skills))
            if self._graph is not None:
                graph = (1.0 - self.smoothing) * graph + self.smoothing * self._graph
        self._graph = graph
        self._mixture = softmax(before + self.eta * graph.sum(axis=0))

    def _diagonal(self, mixtures: NDArray[np.float64], drops: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each skill does to itself, from the rounds that probe it."""
        k = len(self.skills)
        graph = np.zeros((len(self.eval_skills), k))
        for skill, own in enumerate(self._own):
            drop, trained = drops[skill::k, own], mixtures[skill::k, skill]
            graph[own, skill] = np.divide(drop, trained, out=np.zeros_like(drop), where=trained > 0).mean()
        return graph

    def _memory(self) -> dict[str, Any]:
        start = self._start.state_dict()
        return {**super()._memory(), **({} if start is None else {'start': start})}

    def _restore(self, memory: Mapping[str, Any]) -> None:
        super()._restore(memory)
        if self._place < 0 and not self._start.rounds:
            raise InputError(
                'policy state does not fit: it is before the first cycle; resume with its prior_rounds'
            )
        self._start.load_state_dict(memory.get('start'))


def _solved(mixtures: NDArray[np.float64], drops: NDArray[np.float64]) -> NDArray[np.float64]:
    """A of drops = mixtures @ A.T by least squares, float64 ``[m, k]``."""
    return np.linalg.lstsq(mixtures, drops, rcond=None)[0].T
