"""RegMix-D: RegMix's regression renewed at each stage, from whole runs (Zhao et al. 2026, arXiv 2606.18663).

A stage is a round of the runs that the regression is fitted to. With l_t the target loss at the start of stage t of a
run and m_t what it was trained on there, rows (t, m_t, l_t) -> l_{t+1} of all runs and stages give one regression, and

    m_t = the mean of the mixtures whose l_{t+1} is predicted lowest

by RegMix's search. Offline, l_t is what was predicted for the stage before, from the runs' mean loss before training
on: a schedule. Online it is the loss that the run itself has at that time.

The paper was read in its abstract and summaries, which name the rows, the search at each change and both ways. Which
regression it is and how candidates are drawn they do not say: both are RegMix's here, whose extension it is.
"""

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import unique_names
from skillit_stream.mixture.checks import one_of, whole_number
from skillit_stream.mixture.context import required
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.schedule import Schedule
from skillit_stream.mixture.simplex import by_name, log
from skillit_stream.mixture.stages import run_length
from skillit_stream.mixture_fit.laws import LAWS, Fitted, Linear, check_distinct, fit_trees
from skillit_stream.mixture_fit.run_logs import Stages, read_stages
from skillit_stream.mixture_fit.search import Bounds, simulated_mixture

Array = NDArray[np.float64]
NAME = 'regmix_d'
REGRESSIONS = ('regmix-trees', 'regmix')


class Transitions(Protocol):
    """What the loss after a stage follows from."""

    stages: int

    def at(self, stage: int, loss: float) -> Fitted:
        """The law of mixtures at one stage of a run that has this loss."""
        ...


class _AtStage:
    """A fit to (t, m, l) with t and l held."""

    def __init__(self, fitted: Fitted, before: Sequence[float], after: Sequence[float]) -> None:
        self._fitted, self._before, self._after = fitted, before, after

    def predict(self, mixtures: Array) -> Array:
        """The loss after the stage, float64 ``[s, k]`` -> ``[s]``."""
        rows = len(mixtures)
        return self._fitted.predict(
            np.column_stack([np.tile(self._before, (rows, 1)), mixtures, np.tile(self._after, (rows, 1))])
        )

    def parameters(self) -> dict[str, Any]:
        """Of the fit."""
        return self._fitted.parameters()


class TreeTransitions:
    """One set of boosted trees over (t, m, l) of all stages."""

    def __init__(self, mixtures: Array, losses: Array) -> None:
        """Fit it.

        Args:
            mixtures: Of each run and stage, float64 ``[n, S, k]``.
            losses: Before the first and after every stage, float64 ``[n, S + 1]``.
        """
        runs, self.stages, skills = mixtures.shape
        stage = np.tile(np.arange(self.stages), runs)
        rows = np.column_stack([stage, mixtures.reshape(-1, skills), losses[:, :-1].ravel()])
        self._trees = fit_trees(rows, losses[:, 1:].ravel(), np.repeat(np.arange(runs), self.stages))

    def at(self, stage: int, loss: float) -> Fitted:
        """See `Transitions`."""
        return _AtStage(self._trees, [stage], [loss])


class LinearTransitions:
    """A linear regression on (m, l) for each stage: its best mixture follows from the stage alone."""

    def __init__(self, mixtures: Array, losses: Array) -> None:
        """Fit them; arguments as of `TreeTransitions`; raises InputError if too few mixtures are distinct."""
        self.stages = mixtures.shape[1]
        for at in range(self.stages):
            check_distinct(LAWS['regmix'], mixtures[:, at])
        self._fits = [
            _fit_line(mixtures[:, at], losses[:, at], losses[:, at + 1]) for at in range(self.stages)
        ]

    def at(self, stage: int, loss: float) -> Fitted:
        """See `Transitions`."""
        return _AtStage(self._fits[stage], [], [loss])


def _fit_line(mixtures: Array, before: Array, after: Array) -> Linear:
    """Least squares of the loss after a stage on (m, l), about its mean; m sums to 1 and carries the intercept."""
    mean = after.mean()
    found = np.linalg.lstsq(np.column_stack([mixtures, before]), after - mean, rcond=None)[0]
    return Linear(np.append(mean + found[:-1], found[-1]))


def build_regmix_d(
    skills: Sequence[str],
    eval_skills: Sequence[str],
    sizes: Mapping[str, int] | None,
    rounds: int | None,
    *,
    runs: str | Sequence[str],
    targets: Sequence[str] | None = None,
    law: str = 'regmix-trees',
    online: bool = True,
    seed: int = 0,
) -> MixturePolicy:
    """Fit the regression to finished runs and build the policy, online or as a schedule.

    Args:
        skills: Skills that are mixed, k of them.
        eval_skills: That are evaluated.
        sizes: Samples in each train stream: candidates are drawn around their proportions.
        rounds: Of the run, from where the policy begins. The stages of the runs are spread over them.
        runs: Run folders, or a pattern such as ``runs/small-*``, each trained on mixtures of its own.
        targets: Eval skills whose mean loss shall fall; None: all.
        law: 'regmix-trees' (LightGBM) or 'regmix' (linear, a fit a stage).
        online: Whether the run's own losses count; else a schedule.
        seed: Of the candidates.

    Raises:
        InputError: The runs are missing, too few or of other skills, or an option is out of range.
    """
    one_of('law', law, REGRESSIONS)
    one_of('online', online, (False, True))
    skills = unique_names('skills', skills)
    wanted = unique_names('targets', targets) if targets else tuple(eval_skills)
    length = run_length(NAME, rounds)
    stages = read_stages(_folders(runs))
    mixtures, losses = _mixtures(stages, skills), _losses(stages, wanted)
    fitted = (TreeTransitions if law == 'regmix-trees' else LinearTransitions)(mixtures, losses)
    search = _Search(
        fitted,
        [required(NAME, 'the sizes of the streams', sizes)[skill] for skill in skills],
        whole_number('seed', seed, 0),
    )
    if online:
        return RegMixD(skills, wanted, length, search, {'runs': len(losses), 'law': law, 'seed': seed})
    loss, found = float(losses[:, 0].mean()), []
    for stage in range(fitted.stages):
        mixture, loss = search.best(stage, loss)
        found.append(by_name(skills, mixture))
    return Schedule(skills, length, mixtures=found)


class RegMixD(MixturePolicy):
    """At each round the mixture that is predicted to end it lowest, from the loss that the run has."""

    name = NAME

    def __init__(
        self,
        skills: Sequence[str],
        targets: Sequence[str],
        rounds: int,
        search: '_Search',
        fitted_to: Mapping[str, Any],
    ) -> None:
        """Take a fitted search; see `build_regmix_d`."""
        super().__init__(skills, targets)
        self.needs_initial_losses = True
        self._rounds, self._search, self._fitted_to = rounds, search, dict(fitted_to)
        self._first: float | None = None
        self._predicted: float | None = None

    def observe(self, observation: RoundObservation) -> None:
        """Take in the losses before training; evaluations inside a round change nothing."""
        if observation.round < 0:
            self._first = self._target(observation)

    def initial(self) -> NDArray[np.float64]:
        """Return the mixture of the first round, float64 ``[k]``; raises InputError without losses before it."""
        if self._first is None:
            raise InputError(
                f'{self.name} needs the losses before training: evaluate before it and pass them to observe() as '
                'round -1'
            )
        return self._best(0, self._first)

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the mixture of the next round, float64 ``[k]``; raises InputError if a loss is missing."""
        return self._best(observation.round + 1, self._target(observation))

    def decided(self) -> Mapping[str, float]:
        """The target loss that is predicted for the end of the next stage, nats per token."""
        return {} if self._predicted is None else {'predicted_loss': self._predicted}

    def describe(self) -> dict[str, Any]:
        """Name, targets, runs, stages and the regression."""
        stages = self._search.fitted.stages
        return {'name': self.name, 'targets': list(self.eval_skills), 'stages': stages, **self._fitted_to}

    def _target(self, observation: RoundObservation) -> float:
        return float(observation.losses_of(self.eval_skills).mean())

    def _best(self, number: int, loss: float) -> Array:
        stages = self._search.fitted.stages
        # The stage in which the round begins.
        mixture, self._predicted = self._search.best(min(number * stages // self._rounds, stages - 1), loss)
        return mixture


class _Search:
    """RegMix's search at one stage."""

    def __init__(self, fitted: Transitions, sizes: Sequence[float], seed: int) -> None:
        self.fitted, self._seed = fitted, seed
        self._bounds = Bounds(
            limits=np.ones(len(sizes)), log_base=log(np.array(sizes, dtype=float)), pull=0.0
        )

    def best(self, stage: int, loss: float) -> tuple[Array, float]:
        """The mixture, float64 ``[k]``, and the loss that is predicted after the stage."""
        fit = self.fitted.at(stage, loss)
        mixture = simulated_mixture([fit], np.ones(1), self._bounds, self._seed)
        mixture = mixture / mixture.sum()
        return mixture, float(fit.predict(mixture[None])[0])


def _folders(runs: str | Sequence[str]) -> list[str]:
    """Run folders by name or pattern, each pattern's in order."""
    found = []
    for one in [runs] if isinstance(runs, str) else runs:
        matches = sorted(folder for folder in glob.glob(one) if Path(folder).is_dir())
        if not matches:
            raise InputError(
                f'policy {NAME!r}: no run folder is at {one!r}; give runs=FOLDERS of finished runs'
            )
        found += matches
    return found


def _mixtures(stages: Stages, skills: Sequence[str]) -> Array:
    """Of each run and stage, float64 ``[n, S, k]`` in the order of `skills`."""
    used = {skill for table in stages.tables for skill in table.skills}
    if used != set(skills):
        odd = sorted(used ^ set(skills))[0]
        raise InputError(
            f'policy {NAME!r}: {odd!r} is trained on in one of this run and its `runs` alone; take runs of the same '
            f'train skills'
        )
    by_stage = []
    for table in stages.tables:
        columns = dict(zip(table.skills, table.proportions.T, strict=True))
        none = np.zeros(len(table.runs))
        by_stage.append(np.column_stack([columns.get(skill, none) for skill in skills]))
    return np.stack(by_stage, axis=1)


def _losses(stages: Stages, targets: Sequence[str]) -> Array:
    """The target loss of each run before the first and after every stage, float64 ``[n, S + 1]``."""
    metrics = stages.tables[0].metrics
    missing = [name for name in targets if name not in metrics]
    if missing:
        raise InputError(
            f'policy {NAME!r}: its `runs` do not evaluate {missing[0]!r}; name `targets` that they do: '
            f'{", ".join(metrics)}'
        )
    columns = [metrics.index(name) for name in targets]
    values = [stages.before, *(table.values for table in stages.tables)]
    return np.stack([one[:, columns].mean(axis=1) for one in values], axis=1)
