"""A policy whose skills graph is learned inside the run, where it begins (``graph: measure``)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.checks import number_within, one_of, whole_number
from skillit_stream.mixture.graph import SkillsGraph
from skillit_stream.mixture.graph_formulas import (
    APPROXIMATE,
    METHODS,
    MeasuredLosses,
    Mix,
    format_mix,
    graph_of,
    needed_mixes,
)
from skillit_stream.mixture.graph_measurement import CHECKPOINT, StartOfRuns
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.registry import refuse_unknown
from skillit_stream.mixture.trials import ShortRun, Trial
from skillit_stream.mixture.wrapped import WrappedPolicy

MEASURED = 'measured'
HERE, BEFORE_TRAINING = 'this run', 'before its first step'
OPTIONS = ('steps', 'method', 'repeats', 'lr')


class MeasuringPolicy(WrappedPolicy):
    """Any policy that takes a graph, with the one that short runs from the weights at its start give.

    The short runs are those of ``skillit graph learn`` (`graph_formulas`), asked for as a trial before its first
    mixture. What was learned is part of the state: a run that goes on does not learn it again.
    """

    needs_short_runs = True

    def __init__(
        self,
        build: Callable[[SkillsGraph], MixturePolicy],
        skills: Sequence[str],
        eval_skills: Sequence[str],
        *,
        measure: Any,
        start: int = 0,
        batch_size: int | None = None,
        run_steps: int | None = None,
    ) -> None:
        """Check the options, those of the policy among them.

        Args:
            build: Makes the policy of a graph.
            skills: Rows of the graph, k.
            eval_skills: Columns, m.
            measure: ``steps`` of each short run, the ``method`` and the ``repeats``, as of `skillit graph learn`;
                ``lr``, the learning rate of the short runs, where it is not the run's.
            start: The round that the policy begins with.
            batch_size: Samples in a step.
            run_steps: Steps of the whole run, if they are known.

        Raises:
            InputError: If one is missing, unknown or out of range.
        """
        given = dict(measure) if isinstance(measure, Mapping) else {}
        refuse_unknown('measure', given, OPTIONS)
        if 'steps' not in given:
            raise InputError(
                f'graph=measure needs the steps of each short run: measure={{steps: 60}}, but got: {measure!r}'
            )
        self.steps = whole_number('measure.steps', given['steps'], 1)
        self.method, self.repeats = (
            given.get('method', APPROXIMATE),
            whole_number('measure.repeats', given.get('repeats', 1), 1),
        )
        self.lr = None if given.get('lr') is None else number_within('measure.lr', given['lr'], low=1e-12)
        one_of('measure.method', self.method, METHODS)
        self._mixes = needed_mixes(self.method, skills, eval_skills)
        self._build, self._columns, self._start = build, tuple(eval_skills), start
        self._batch_size, self._run_steps = batch_size, run_steps
        self.graph: SkillsGraph | None = None
        """What was learned; None before."""
        # Before it is learned, nothing is decided by it: it says what the policy needs.
        self._unknown = SkillsGraph(skills, eval_skills, np.ones((len(skills), len(eval_skills))))
        super().__init__(build(self._unknown))

    def initial(self) -> NDArray[np.float64]:
        """Return the policy's first mixture, float64 ``[k]``; raises RuntimeError where its graph is not learned."""
        self._check_known(0)
        return self.policy.initial()

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the policy's next mixture, float64 ``[k]``, once it has taken in what was learned after the round."""
        self._take(observation)
        self._check_known(observation.round + 1)
        return self.policy.update(observation)

    def observe(self, observation: RoundObservation) -> None:
        """Take in what was learned before training, or pass an evaluation on."""
        if not self._take(observation):
            self.policy.observe(observation)

    def trial(self, observation: RoundObservation) -> Trial | None:
        """Return the short runs of the graph where the policy begins."""
        if self.graph is not None or observation.round + 1 < self._start:
            return None
        return self._learned(observation)

    def describe(self) -> dict[str, Any]:
        """Return the inner policy's description, and how its graph is learned."""
        measure = {'steps': self.steps, 'method': self.method, 'repeats': self.repeats, 'lr': self.lr}
        return {**self.policy.describe(), 'measure': measure}

    def state_dict(self) -> dict[str, Any]:
        """Return the inner policy's state and the graph that was learned."""
        return {**self.policy.state_dict(), 'graph': self.graph.to_dict() if self.graph else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`.

        Raises:
            InputError: If it is of another policy, or of one whose graph was not learned in the run.
        """
        if 'graph' not in state:
            raise InputError(
                'policy state does not fit: its graph was not learned in the run, as graph=measure says; go on with '
                'the graph of before'
            )
        self.graph = SkillsGraph.from_dict(state['graph']) if state['graph'] else None
        self.policy = self._build(self.graph or self._unknown)
        self.policy.load_state_dict({key: value for key, value in state.items() if key != 'graph'})

    def _take(self, observation: RoundObservation) -> bool:
        """Have the policy go on with a graph that has just been learned; whether one was."""
        plain = (observation.trial or {}).get('graph')
        if plain is None:
            return False
        self.graph, memory = SkillsGraph.from_dict(plain), self.policy.state_dict()
        self.policy = self._build(self.graph)
        self.policy.load_state_dict(memory)
        return True

    def _check_known(self, upcoming: int) -> None:
        if self.graph is None and upcoming >= self._start:
            raise RuntimeError('Internal error: the graph was to be learned before it decides.')

    def _learned(self, observation: RoundObservation) -> Trial:
        none = dict.fromkeys(self.skills, 0.0)
        [before] = yield [ShortRun(name=BEFORE_TRAINING, mixture=none, steps=0, repeat=0)]
        repeats = []
        for repeat in range(self.repeats):
            after = yield [self._short_run(mix, repeat) for mix in self._mixes]
            repeats.append(MeasuredLosses(before, dict(zip(self._mixes, after, strict=True))))
        drawn = sum((observation.samples_seen or {}).values())
        step = drawn // self._batch_size if self._batch_size else 0
        # Before the first step the weights may be of any model.
        start = StartOfRuns(
            weights=CHECKPOINT,
            path=HERE if step else BEFORE_TRAINING,
            step=step or None,
            of_steps=self._run_steps if step else None,
        )
        graph = graph_of(
            self.method, repeats, self._unknown.train_skills, self._columns, steps=self.steps, start=start
        )
        runs = len(self._mixes) * self.repeats
        return {
            'verdict': MEASURED,
            'reason': f'the skills graph, by {runs} short runs of {self.steps} steps',
            'mixture': None,
            'branches': runs,
            'steps': runs * self.steps,
            'steps_so_far': runs * self.steps,
            'graph': graph.to_dict(),
        }

    def _short_run(self, mix: Mix, repeat: int) -> ShortRun:
        even = {skill: float(skill in mix) / len(mix) for skill in self._unknown.train_skills}
        return ShortRun(
            name=f'on {format_mix(mix)}', mixture=even, steps=self.steps, repeat=repeat, lr=self.lr
        )
