"""The one interface of all mixture policies: losses in, the next round's proportions out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import unique_names
from skillit_stream.mixture.sample_order import SampleOrder
from skillit_stream.mixture.trials import Trial

STATE_VERSION = 1


@dataclass(frozen=True)
class RoundObservation:
    """What is known at one evaluation. Mappings are by skill name."""

    round: int
    """The round just trained (or, for `MixturePolicy.observe`, being trained), from 0; -1 before training."""

    eval_losses: Mapping[str, float]
    """Loss on each eval skill, nats per token."""

    train_losses: Mapping[str, float] | None = None
    """Mean training loss on each skill over the round, nats per token; skills not drawn are absent."""

    proportions: Mapping[str, float] | None = None
    """The mixture the round was trained on."""

    samples_seen: Mapping[str, int] | None = None
    """Samples of each skill drawn since the start of training."""

    gradients: Mapping[str, Mapping[str, float]] | None = None
    """Product of the gradients of every two eval skills' mean losses, by skill and skill."""

    trial: Mapping[str, Any] | None = None
    """What the policy's `trial` has found after the round, if it asked for one."""

    def losses_of(self, skills: Sequence[str], kind: str = 'eval') -> NDArray[np.float64]:
        """Put the losses into the order of `skills`; losses of other skills are left out.

        Args:
            skills: Whose losses are needed, m of them.
            kind: 'eval', or 'train': NaN there for a skill that was not drawn in the round.

        Returns:
            Losses in nats per token, float64 ``[m]``.

        Raises:
            InputError: If there is no eval loss of a skill, no training loss at all, or one is not finite.
        """
        losses, cause = self.eval_losses, 'the run has diverged or the eval stream holds no target tokens'
        if kind == 'train':
            losses, cause = self.train_losses, 'the run has diverged'
        if losses is None:
            raise InputError(
                f'the policy needs train_losses, but round {self.round} has none; '
                'measure the training loss of each skill, or choose a policy that needs eval losses alone'
            )
        missing = [name for name in skills if name not in losses]
        if missing and kind == 'eval':
            raise InputError(
                f'eval_losses of round {self.round} lack: {", ".join(missing)}; '
                'the policy needs an evaluator for each of these skills'
            )
        for name in skills:
            if name in losses and not math.isfinite(losses[name]):
                raise InputError(
                    f'{kind}_losses of round {self.round} must be finite, but got: {losses[name]} for {name!r}; '
                    f'{cause}'
                )
        return np.array([losses.get(name, math.nan) for name in skills], dtype=np.float64)

    def products_of(self, rows: Sequence[str], columns: Sequence[str]) -> NDArray[np.float64]:
        """Products of gradients, float64 ``[k, m]``: of each of the k skills `rows` with each of the m `columns`.

        Raises:
            InputError: There are none, one is missing or not finite.
        """
        if self.gradients is None:
            raise InputError(
                f'the policy needs products of gradients, but round {self.round} has none; '
                'measure them (mixing.gradients), or choose a policy that needs losses alone'
            )
        missing = [name for name in (*rows, *columns) if name not in self.gradients]
        if missing:
            raise InputError(f'gradients of round {self.round} lack {missing[0]}: evaluate it too')
        found = np.array(
            [[self.gradients[row][column] for column in columns] for row in rows], dtype=np.float64
        )
        if not np.isfinite(found).all():
            raise InputError(f'gradients of round {self.round} must be finite; the run has diverged')
        return found


class MixturePolicy(ABC):
    """Turns what a round has shown into the mixture of the next. Pure NumPy, the same on every rank.

    The caller asks `initial` once, then after each round hands its observation to `update`.
    Evaluations that do not end a round go to `observe`: the one before training (round -1, which
    a policy asks for with `needs_initial_losses`) and any inside a round.

    A policy of one's own defines `initial` and `update`, and `remembers` (or `_memory` and `_restore`) if it
    remembers anything between rounds.
    """

    name: ClassVar[str] = ''
    """Name in checkpoints and run folders; the class name by default."""

    needs_initial_losses: bool = False
    """Whether the losses before training are wanted, through `observe`."""

    needs_train_losses: bool = False
    """Whether `RoundObservation.train_losses` is wanted; who drives the policy then has to measure them."""

    needs_gradients: bool = False
    """Whether `RoundObservation.gradients` is wanted; who drives the policy then has to measure them."""

    needs_branches: bool = False
    """Whether `trial` may ask for branches; who drives the policy then has to train them."""

    needs_short_runs: bool = False
    """Whether `trial` may ask for short runs, likewise."""

    weighs_tokens: bool = False
    """Whether `objective` may be another mixture; who drives the policy then has to weigh the losses of tokens."""

    accepts_bad_losses: bool = False
    """Whether observations may lack losses of `eval_skills` or hold some that are not finite."""

    remembers: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}
    """What it remembers between rounds: attribute ``_<name>`` -> how to make it of plain Python again."""

    _notes: Sequence[str] = ()

    def __init__(self, skills: Iterable[str], eval_skills: Iterable[str] = ()) -> None:
        """Keep the names.

        Args:
            skills: Skills that are mixed, in the order of the proportions this policy returns.
            eval_skills: Skills whose losses it needs; none if it does not look at losses.

        Raises:
            InputError: If names are empty or repeated.
        """
        self.skills = unique_names('skills', skills)
        wanted = tuple(eval_skills)
        self.eval_skills = unique_names('eval_skills', wanted) if wanted else ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Name a policy after its class unless it says otherwise."""
        super().__init_subclass__(**kwargs)
        if 'name' not in cls.__dict__:
            cls.name = cls.__name__

    @abstractmethod
    def initial(self) -> NDArray[np.float64]:
        """Return the proportions of the first round, float64 ``[k]`` in the order of `skills`."""

    @abstractmethod
    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Take in the round just trained and return the proportions of the next, float64 ``[k]``.

        A run that goes on from the end of a round asks once more, with the memory of before, so that other options
        of the policy count at once.

        Raises:
            InputError: If a needed loss is missing or not finite.
        """

    def begin(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the first mixture of a policy that begins inside a run, float64 ``[k]``, in place of `initial`.

        Args:
            observation: The evaluation that ended the round before, as one before training: round -1.
        """
        if self.needs_initial_losses:
            self.observe(observation)
        return self.initial()

    def trial(self, observation: RoundObservation) -> Trial | None:  # noqa: B027 - mostly none
        """Return the branches, or short runs, to train between a round and the `update` that is shown what was found.

        Args:
            observation: That `update` or `begin` will be handed.
        """

    def observe(self, observation: RoundObservation) -> None:  # noqa: B027 - doing nothing is a fine answer
        """Take in an evaluation that does not end a round: before training (round -1) or inside one."""

    def describe(self) -> dict[str, Any]:
        """Return the policy's name and parameters as plain Python, for the run folder."""
        return {'name': self.name}

    def notes(self) -> list[str]:
        """Return what was out of the ordinary in the last `initial` or `update`, one line each; mostly none.

        Who drives the policy writes them into the run's log and warns of them.
        """
        return list(self._notes)

    def decided(self) -> Mapping[str, float]:
        """Return what it has decided besides the mixture, by name, for the run's log; mostly nothing."""
        return {}

    def objective(self) -> NDArray[np.float64] | None:
        """Return what is trained for where that is not the last mixture, float64 ``[k]``, summing to 1; mostly None.

        The loss of a token of skill i is then weighed by the objective over the mixture, w_i / q_i: what is drawn is q,
        what the mean loss is of is w. A policy that has one says so with `weighs_tokens`.
        """
        return None

    def sample_orders(self) -> Mapping[str, SampleOrder]:
        """Return in which order the samples of each skill are to be drawn; mostly none: shuffled.

        Who builds the dataset gives it these (``SkillStreamingDataset(sample_orders=...)``).
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to continue identically, as plain Python."""
        return {
            'version': STATE_VERSION,
            'policy': self.name,
            'skills': list(self.skills),
            'eval_skills': list(self.eval_skills),
            'memory': self._memory(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`. Parameters are not part of it: they are the constructor's.

        Raises:
            InputError: If the state is of another version, policy, or set or order of skills.
        """
        expected = {**MixturePolicy.state_dict(self), 'memory': None}
        for key, value in expected.items():
            if key not in state:
                raise InputError(f'policy state must hold {key!r}, but holds: {", ".join(map(str, state))}')
            if key != 'memory' and state[key] != value:
                raise InputError(
                    f'policy state does not fit: {key} is {state[key]!r} in the checkpoint, '
                    f'{value!r} in this run; resume with the same policy and skills, or load only the weights'
                )
        self._restore(state['memory'])

    def _memory(self) -> dict[str, Any]:
        """What this policy remembers between rounds, plain Python."""
        return {name: _plain(getattr(self, f'_{name}')) for name in self.remembers}

    def _restore(self, memory: Mapping[str, Any]) -> None:
        """Inverse of `_memory`."""
        if memory and not self.remembers:
            raise InputError(
                f'policy {self.name!r} remembers nothing, but its state holds: {", ".join(memory)}'
            )
        for name, made in self.remembers.items():
            setattr(self, f'_{name}', None if memory[name] is None else made(memory[name]))


def array(numbers: Any) -> NDArray[np.float64]:
    """Numbers of a policy's memory as float64 of their shape."""
    return np.array(numbers, dtype=np.float64)


def _plain(value: Any) -> Any:
    """Arrays as lists, also those within lists; the rest as it is."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
