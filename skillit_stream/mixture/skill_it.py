"""Skill-It (Chen et al. 2023, arXiv 2307.14430, Algorithm 1)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.checks import (
    number_within,
    one_of,
    proportions_by_skill,
    weights_by_skill,
    whole_number,
)
from skillit_stream.mixture.context import NO_GRAPH, required
from skillit_stream.mixture.graph import SkillsGraph
from skillit_stream.mixture.loss_history import LossHistory
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.registry import refuse_unknown, register
from skillit_stream.mixture.simplex import by_name, log, softmax, take_over
from skillit_stream.mixture.skill_it_variant import (
    OVERRIDDEN,
    VARIANT_OPTIONS,
    SkillItVariant,
    refuse_overridden,
)
from skillit_stream.mixture.tilt import eta_of, width


@dataclass(frozen=True, eq=False)
class LogitParts:
    """The logits of a mixture, taken apart: ``base + edges.sum(axis=1)``, whose softmax it is."""

    base: NDArray[np.float64]
    """Logarithm of the prior, of the mixture carried on, or of an explicit first mixture, ``[k]``."""
    edges: NDArray[np.float64]
    """eta * A_ij * (losses of eval skill j, put together over the window), ``[k, m]``."""


class SkillIt(MixturePolicy):
    """Move the mixture to the skills that help most where the loss is still high.

    With A the skills graph, L_j(f_τ) the loss on eval skill j after τ rounds and w the window::

        p_1     ∝ exp(eta Σ_j A_ij)
        p_{t+1} ∝ exp(eta Σ_τ Σ_j A_ij L_j(f_τ)),  τ over the w newest evaluations

    A plain sum over window and skills, without a factor p_t; while there are fewer than w
    evaluations, over what there is, the one before training among them if it was observed.

    With `tilt` in place of eta the largest proportion is never more than `tilt` times the smallest (against the
    prior, if there is one), and is so much in the first mixture: eta is ``ln(tilt) / max_τ (s_max - s_min)``, s
    being the scores that it multiplies, over the updates so far. So it is lowered while the window fills, and
    the tilt falls with the losses after that. The first mixture, which no loss is known for, has an eta of its own.
    """

    name = 'skill_it'

    def __init__(
        self,
        graph: SkillsGraph,
        *,
        eta: float | None = None,
        tilt: float | None = None,
        window: int = 3,
        lag: int = 0,
        prior: Mapping[str, float] | None = None,
        initial: Mapping[str, float] | None = None,
        variant: SkillItVariant | None = None,
    ) -> None:
        """Check the parameters.

        Args:
            graph: Skills graph ``[k, m]``; its rows are mixed, the losses of its columns are needed.
            eta: Sharpness of the mixture, per nat; 0 is uniform (or the prior). None: 0.5, or what `tilt` asks for.
            tilt: How many times the smallest proportion the largest may be, 1 or more; None: as many as eta makes.
            window: Evaluations summed, at least 1.
            lag: 0: the evaluation at the end of the round just trained is the newest in the window.
                1: the one before that round is, the letter of Algorithm 1.
            prior: Non-negative weight of each train skill, multiplied into every mixture.
            initial: Proportions of the first round in place of the formula's; they sum to 1.
            variant: Departures from the paper; none by default.

        Raises:
            InputError: If a parameter is out of range or does not fit the graph.
        """
        super().__init__(graph.train_skills, graph.eval_skills)
        variant = SkillItVariant() if variant is None else variant
        variant.check_graph(graph)
        one_of('lag', lag, (0, 1))
        self.graph, self.lag, self.variant = graph, lag, variant
        self.tilt = None if tilt is None else _checked_tilt(tilt, eta, variant)
        self.eta = 0.0 if self.tilt else number_within('eta', 0.5 if eta is None else eta)
        self._widest = 0.0
        self.window = whole_number('window', window, at_least=1)
        self._prior = np.ones(len(self.skills))
        if prior is not None:
            self._prior = weights_by_skill('prior', prior, self.skills)
        self._initial = None if initial is None else proportions_by_skill('initial', initial, self.skills)
        self._weights = variant.edges(graph)
        held = graph.lone_skills if variant.hold_lone else []
        self._mixed = np.array([name not in held for name in self.skills])
        self._observed = np.array([name not in held for name in self.eval_skills])
        if self._mixed.any() and not self._prior[self._mixed].any():
            raise InputError('prior must leave a skill that is not held above 0, but all of those are 0')
        self.needs_initial_losses = lag == 1 or variant.looks_back
        self._history = LossHistory(
            self.eval_skills, keep=self.window + lag, per_round=variant.window_in == 'rounds'
        )
        self._last_round: int | None = None
        self._updates = 0
        self._log_mixture: NDArray[np.float64] | None = None
        self._parts: LogitParts | None = None

    @classmethod
    def published(
        cls,
        graph: SkillsGraph,
        *,
        eta: float,
        window: int = 3,
        prior: Mapping[str, float] | None = None,
        initial: Mapping[str, float] | None = None,
        targets: Sequence[str] | None = None,
        variant: SkillItVariant | None = None,
    ) -> 'SkillIt':
        """Build Skill-It as its published code computes it; flags of that code go into `variant`.

        The code updates before it evaluates, so the newest losses in the window are the last ones
        measured inside the round (`observe` hands those over) or, without any, before it: lag 1.
        Its target mask are `targets`: the columns of the graph that are used, all of them perhaps.

        Raises:
            InputError: As the constructor, and if `variant` has an option set that the code decides.
        """
        graph = graph.select(eval_skills=targets)
        variant = (SkillItVariant() if variant is None else variant).published(
            graph, targets=targets is not None
        )
        return cls(graph, eta=eta, window=window, lag=1, prior=prior, initial=initial, variant=variant)

    def initial(self) -> NDArray[np.float64]:
        """Return p_1, float64 ``[k]``: the explicit first mixture or the formula's."""
        if self._initial is not None:
            self._parts = LogitParts(log(self._initial), np.zeros_like(self._weights))
            return self._initial.copy()
        losses = self._initial_losses()
        eta = self.eta if self.tilt is None else eta_of(self.tilt, self._width_of(self._weights @ losses))
        self._parts = LogitParts(log(self._prior), eta * self._weights * losses)
        self._notes = self._note_of_tilt(eta)
        return self._mixture(log(self._prior) + eta * (self._weights @ losses))

    def observe(self, observation: RoundObservation) -> None:
        """Take in the evaluation before training (round -1) or one inside the running round.

        Raises:
            InputError: If a loss is missing or not finite, or the round is already finished.
        """
        losses = observation.losses_of(self.eval_skills)
        if self._last_round is not None and observation.round <= self._last_round:
            raise InputError(
                f'evaluations must come in order and once, but got: round {observation.round} '
                f'after the update that ended round {self._last_round}'
            )
        self._history.add(observation.round, losses)

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Take in the losses at the end of a round and return p_{t+1}, float64 ``[k]``.

        Raises:
            InputError: If a loss is missing or not finite, the round was already taken in, or
                `lag` is 1 and no earlier losses are known.
        """
        whole_number('round', observation.round)
        self.observe(observation)
        self._last_round = observation.round
        proportions = self._decide(observation)
        self._updates += 1
        return proportions

    def begin(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the first mixture of a run that is under way, float64 ``[k]``: by its losses, which are known.

        With `lag` 1 or an explicit first mixture it is that of `initial`.
        """
        if self.lag or self._initial is not None:
            return super().begin(observation)
        self.observe(observation)
        return self._decide(observation)

    def _decide(self, observation: RoundObservation) -> NDArray[np.float64]:
        """The mixture by the losses in the window, float64 ``[k]``."""
        window = self._window()
        with np.errstate(over='ignore', invalid='ignore'):
            weights, losses = self._weights_now(), self._reduced(window)
            eta = self._eta_now(window, weights @ losses)
            gain = eta * (weights @ losses)
        if not np.isfinite(gain).all():
            raise InputError(f'eta times the losses overflows after round {observation.round}; lower eta')
        base = self._carried() if self.variant.compound else log(self._prior)
        logits = base + gain
        self._parts = LogitParts(base, eta * weights * losses)
        if self.variant.compound:
            self._log_mixture = logits - logits.max()
        proportions = self._mixture(logits)
        losses = {name: observation.eval_losses[name] for name in self.eval_skills}
        self._notes = [*take_over(self.skills, proportions, losses), *self._note_of_tilt(eta)]
        return proportions

    @property
    def logit_parts(self) -> LogitParts | None:
        """What the last mixture that `initial` or `update` returned was made of; None before, and after a resume."""
        return self._parts

    @property
    def mixed(self) -> NDArray[np.bool_]:
        """Which skills the losses move, bool ``[k]``: all but those held at 1/k."""
        return self._mixed

    def decided(self) -> dict[str, float]:
        """With `tilt`: the eta of the last update, once there is one."""
        return {'eta': self.eta} if self.tilt and self._widest else {}

    def describe(self) -> dict[str, Any]:
        """Name and parameters, those of the variant among them."""
        named = {'prior': self._prior, 'initial': self._initial}
        return {
            'name': self.name,
            **({'eta': self.eta} if self.tilt is None else {'tilt': self.tilt}),
            'window': self.window,
            'lag': self.lag,
            **{key: None if own is None else by_name(self.skills, own) for key, own in named.items()},
            **asdict(self.variant),
        }

    def _initial_logits(self) -> NDArray[np.float64]:
        if self._initial is not None:
            return log(self._initial)
        return log(self._prior) + self.eta * (self._weights @ self._initial_losses())

    def _initial_losses(self) -> NDArray[np.float64]:
        """What stands for the losses in the first mixture, float64 ``[m]``."""
        if self.variant.initial_losses == 'prior':
            return self._prior[[self.skills.index(name) for name in self.eval_skills]]
        return np.ones(len(self.eval_skills))

    def _carried(self) -> NDArray[np.float64]:
        return self._initial_logits() if self._log_mixture is None else self._log_mixture

    def _mixture(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Softmax over the skills that are mixed; those held keep 1/k each."""
        proportions = np.full(len(self.skills), 1.0 / len(self.skills))
        if self._mixed.any():
            proportions[self._mixed] = softmax(logits[self._mixed]) * self._mixed.mean()
        return proportions

    def _window(self) -> list[NDArray[np.float64]]:
        """The losses in the window, oldest first, each float64 ``[m]``."""
        window = self._history.window(self.window, self.lag)
        if not window:
            raise InputError(
                f'lag=1 needs the losses before round {self._last_round}: evaluate before training '
                'and pass them to observe() as round -1, or use lag=0'
            )
        if self.variant.pad_window and self._history.visible(self.lag) < self.window:
            mean = self._history.first(0, self.lag).mean()
            window = [np.full(len(self.eval_skills), mean), *window]
        return window

    def _reduced(self, window: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Put the losses of the window together, float64 ``[m]``."""
        losses = np.sum(window, axis=0)
        if self.variant.reduce == 'mean':
            losses = losses / len(window)
        if self.variant.losses == 'raw':
            return losses
        reference = self._reference()
        if not (reference > 0).all():
            name = self.eval_skills[int(np.argmin(reference))]
            raise InputError(
                f"losses='relative' divides by the first losses, but that of {name!r} is not above 0"
            )
        return losses / reference

    def _width_of(self, scores: NDArray[np.float64]) -> float:
        """Of the scores of the skills that they move, float64 ``[k]``."""
        return width(scores[self._mixed & (self._prior > 0)])

    def _note_of_tilt(self, eta: float) -> list[str]:
        if self.tilt is None or self.tilt == 1 or eta:
            return []
        return [
            f'tilt={self.tilt:g} cannot be reached: all skills gain alike, and the mixture is that of the prior'
        ]

    def _eta_now(self, window: list[NDArray[np.float64]], scores: NDArray[np.float64]) -> float:
        if self.tilt is not None:
            self._widest = max(self._widest, self._width_of(scores))
            self.eta = eta_of(self.tilt, self._widest)
            return self.eta
        if self.variant.eta_schedule == 'fixed' or not self._observed.any():
            return self.eta
        now, first = window[-1][self._observed].sum(), self._reference()[self._observed].sum()
        if not (now > 0 and first > 0):
            raise InputError("eta_schedule='adaptive' divides by the summed losses, but they are not above 0")
        return self.eta * float(first / now)

    def _reference(self) -> NDArray[np.float64]:
        return self._history.first(self.variant.first_losses, self.lag)

    def _weights_now(self) -> NDArray[np.float64]:
        damped = self.variant.damped(self.graph)
        return np.where(damped, self._weights * 0.5**self._updates, self._weights)

    def _memory(self) -> dict[str, Any]:
        carried = self._log_mixture
        return {
            'last_round': self._last_round,
            'updates': self._updates,
            **({} if self.tilt is None else {'widest': self._widest}),
            'log_mixture': None if carried is None else carried.tolist(),
            'history': self._history.state_dict(),
        }

    def _restore(self, memory: Mapping[str, Any]) -> None:
        self._history.load_state_dict(memory['history'])
        self._last_round = memory['last_round']
        self._updates = int(memory['updates'])
        self._widest = float(memory.get('widest', 0.0))  # a run that had eta has none
        self.eta = self.eta if self.tilt is None else eta_of(self.tilt, self._widest)
        carried = memory['log_mixture']
        self._log_mixture = None if carried is None else np.array(carried, dtype=np.float64)


def _checked_tilt(tilt: float, eta: float | None, variant: SkillItVariant) -> float:
    """The tilt as a float; raises InputError if it is out of range, or beside what it does not fit."""
    if eta is not None:
        raise InputError(
            f'eta and tilt exclude each other, but got: eta={eta!r} and tilt={tilt!r}; set one to null'
        )
    for option, value in (('compound', True), ('eta_schedule', 'adaptive')):
        if getattr(variant, option) == value:
            raise InputError(
                f'tilt cannot be kept with {option}={value!r}, which tilts ever further; take eta'
            )
    return number_within('tilt', tilt, 1.0)


@register('skill_it')
def build_skill_it(
    skills: Sequence[str],
    graph: SkillsGraph | None,
    *,
    published: bool = False,
    targets: Sequence[str] | None = None,
    **options: Any,
) -> SkillIt:
    """Build Skill-It for these streams; its parameters and those of the variant are all options.

    The graph's rows are reduced to `skills`, in their order, and its columns to `targets`, the eval skills that
    the mixture is for; without `targets` they stay as they are. They are the eval skills that the policy needs.
    """
    one_of('published', published, (False, True))
    own = ('eta', 'window', 'prior', 'initial', *(() if published else ('lag', 'tilt')))
    refuse_unknown('skill_it', options, ('published', 'targets', *own, *VARIANT_OPTIONS))
    for option in OVERRIDDEN if published else ():
        if option in options:
            refuse_overridden(option)
    variant = SkillItVariant(**{key: options.pop(key) for key in VARIANT_OPTIONS if key in options})
    graph = required('skill_it', 'a skills graph', graph, NO_GRAPH)
    if not published:
        return SkillIt(graph.select(skills, targets), **options, variant=variant)
    if 'eta' not in options:
        raise InputError("policy 'skill_it' with published=True needs the option 'eta'")
    return SkillIt.published(graph.select(skills), **options, targets=targets, variant=variant)
