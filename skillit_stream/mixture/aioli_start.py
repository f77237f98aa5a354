"""What Aioli trains on before its first cycle: a prior, or Skill-It on a graph that is known."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.checks import number_within, weights_by_skill, whole_number
from skillit_stream.mixture.context import NO_GRAPH, required
from skillit_stream.mixture.graph import SkillsGraph
from skillit_stream.mixture.policy import RoundObservation
from skillit_stream.mixture.simplex import by_name, log, softmax
from skillit_stream.mixture.skill_it import SkillIt
from skillit_stream.mixture.skill_it_variant import SkillItVariant

WINDOW = 3


class AioliStart:
    """The rounds before the first cycle, as Aioli's published code has them.

    With a prior q every round is trained on p ∝ q; with a prior and a graph A on p ∝ q exp(eta A q); with a graph
    alone Skill-It runs, its window over the evaluations up to the last one inside the round just trained or, without
    any, before it.
    """

    def __init__(
        self,
        skills: Sequence[str],
        graph: SkillsGraph | None,
        *,
        eval_skills: Sequence[str],
        prior: Mapping[str, float] | None,
        rounds: int,
        eta: float | None,
        window: int | None,
    ) -> None:
        """Check the parameters, which are those of `Aioli`.

        Raises:
            InputError: If one is out of range, needs another, or has no effect.
        """
        self.rounds = whole_number('prior_rounds', rounds)
        self.eta, self.window = eta, window
        self._mixture: NDArray[np.float64] | None = None
        self._skill_it: SkillIt | None = None
        self._skills, self._prior = tuple(skills), None
        given = prior is not None or eta is not None
        if given and not self.rounds:
            raise InputError(
                "policy 'aioli' has no rounds for its prior or start_eta: set prior_rounds, 1 or more"
            )
        if self.rounds and not given:
            raise InputError("prior_rounds of policy 'aioli' needs a prior or start_eta")
        if window is not None and (eta is None or prior is not None):
            raise InputError('start_window is of a start by Skill-It alone: start_eta without a prior')
        if eta is not None:
            number_within('start_eta', eta)
            graph = required('aioli', 'a skills graph for start_eta', graph, NO_GRAPH).select(skills)
        if prior is not None:
            self._prior = weights_by_skill('prior', prior, skills)
            self._mixture = self._static(self._prior, graph if eta is not None else None)
        elif eta is not None and graph is not None:
            self.window = WINDOW if window is None else window
            evaluations = SkillItVariant(window_in='evaluations')
            unknown = [name for name in graph.eval_skills if name not in eval_skills]
            if unknown:
                raise InputError(
                    f'start_eta needs the loss of {unknown[0]!r}, a column of the graph: evaluate it'
                )
            self._skill_it = SkillIt(graph, eta=eta, window=self.window, lag=1, variant=evaluations)

    def initial(self) -> NDArray[np.float64]:
        """The first mixture, float64 ``[k]``."""
        return self._skill_it.initial() if self._skill_it else self._of_prior()

    def observe(self, observation: RoundObservation) -> None:
        """Take in an evaluation before training or inside a round."""
        if self._skill_it:
            self._skill_it.observe(observation)

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """The next mixture, float64 ``[k]``."""
        return self._skill_it.update(observation) if self._skill_it else self._of_prior()

    def describe(self) -> dict[str, Any]:
        """The parameters."""
        return {
            'prior': None if self._prior is None else by_name(self._skills, self._prior),
            'prior_rounds': self.rounds,
            'start_eta': self.eta,
            'start_window': self.window,
        }

    def state_dict(self) -> dict[str, Any] | None:
        """What Skill-It remembers; None without it."""
        return None if self._skill_it is None else self._skill_it.state_dict()

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Inverse of `state_dict`."""
        if self._skill_it is not None and state is not None:
            self._skill_it.load_state_dict(state)

    def _of_prior(self) -> NDArray[np.float64]:
        if self._mixture is None:
            raise RuntimeError('Internal error: no start of Aioli')
        return self._mixture.copy()

    def _static(self, prior: NDArray[np.float64], graph: SkillsGraph | None) -> NDArray[np.float64]:
        if graph is None:
            return prior / prior.sum()
        if not graph.is_square:
            raise InputError('prior with start_eta needs a skills graph with the same skills on both sides')
        own = prior[[self._skills.index(name) for name in graph.eval_skills]]
        return softmax(log(prior) + float(self.eta or 0.0) * (graph.weights @ own))
