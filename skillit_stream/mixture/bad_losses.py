"""What to do with losses that are missing or not finite."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.checks import one_of
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.wrapped import WrappedPolicy

ON_BAD_LOSS = ('error', 'keep', 'last')


class ForgivingPolicy(WrappedPolicy):
    """Goes on where a loss that the policy needs is missing or not finite, and says so in its notes.

    'keep': the round is not shown to the policy, the mixture stays as it was. 'last': the skill's last
    finite loss stands in; where there is none it is an error. Training losses that are not finite count;
    missing ones do not, since a skill that was not drawn has none.
    """

    def __init__(self, policy: MixturePolicy, on_bad_loss: str) -> None:
        """Wrap a policy.

        Raises:
            InputError: If `on_bad_loss` is neither 'keep' nor 'last'.
        """
        super().__init__(policy)
        one_of('on_bad_loss', on_bad_loss, ON_BAD_LOSS[1:])
        self.on_bad_loss = on_bad_loss
        self.accepts_bad_losses = True
        self._last: dict[str, dict[str, float]] = {'eval': {}, 'train': {}}
        self._mixture: NDArray[np.float64] | None = None

    def initial(self) -> NDArray[np.float64]:
        """Return the inner policy's first mixture, float64 ``[k]``."""
        self._mixture = self.policy.initial()
        return self._mixture.copy()

    def begin(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the inner policy's first mixture inside a run, float64 ``[k]``; after a bad loss that of `initial`."""
        mended = self._mended(observation)
        self._mixture = self.policy.initial() if mended is None else self.policy.begin(mended)
        return self._mixture.copy()

    def observe(self, observation: RoundObservation) -> None:
        """Pass an evaluation on; with 'keep' one that holds a bad loss is left out.

        Raises:
            InputError: With 'last', if a bad loss has no finite one before it.
        """
        mended = self._mended(observation)
        if mended is not None:
            self.policy.observe(mended)

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the inner policy's next mixture or, with 'keep' and a bad loss, the one before.

        Raises:
            InputError: With 'last', if a bad loss has no finite one before it.
        """
        mended = self._mended(observation)
        if mended is not None:
            self._mixture = self.policy.update(mended)
        elif self._mixture is None:
            raise InputError(
                f'on_bad_loss=keep has no mixture to keep after round {observation.round}; use on_bad_loss=error'
            )
        return self._mixture.copy()

    def notes(self) -> list[str]:
        """Return the inner policy's notes unless it was left out of the round, then which losses were bad."""
        return [*([] if self._kept else self.policy.notes()), *self._notes]

    def describe(self) -> dict[str, Any]:
        """Return the inner policy's description and what is done with bad losses."""
        return {**self.policy.describe(), 'on_bad_loss': self.on_bad_loss}

    def state_dict(self) -> dict[str, Any]:
        """Return the inner policy's state and, beside it, the last finite losses and the mixture."""
        mixture = None if self._mixture is None else self._mixture.tolist()
        last = {kind: dict(losses) for kind, losses in self._last.items()}
        return {**self.policy.state_dict(), 'bad_losses': {'last': last, 'mixture': mixture}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; one saved without this wrapper has no last losses."""
        self.policy.load_state_dict(state)
        own = state.get('bad_losses', {'last': {'eval': {}, 'train': {}}, 'mixture': None})
        self._last = {kind: dict(losses) for kind, losses in own['last'].items()}
        self._mixture = None if own['mixture'] is None else np.array(own['mixture'], dtype=np.float64)

    @property
    def _kept(self) -> bool:
        return self.on_bad_loss == 'keep' and bool(self._notes)

    def _mended(self, observation: RoundObservation) -> RoundObservation | None:
        """The observation with every loss finite, or None where the round is to be left out."""
        given = {'eval': dict(observation.eval_losses), 'train': dict(observation.train_losses or {})}
        needed = {'eval': self.eval_skills, 'train': self.skills if self.needs_train_losses else ()}
        bad = [
            (kind, name)
            for kind, names in needed.items()
            for name in names
            if not math.isfinite(given[kind].get(name, math.nan if kind == 'eval' else 0.0))
        ]
        self._notes = [self._note(kind, name, given[kind], observation.round) for kind, name in bad]
        if bad and self.on_bad_loss == 'keep':
            return None
        for kind, name in bad:
            if name not in self._last[kind]:
                raise InputError(
                    f'on_bad_loss=last: {self._notes[0]}, and none was finite before; '
                    'evaluate the skill, or take it out of the policy'
                )
            given[kind][name] = self._last[kind][name]
        for kind, names in needed.items():
            self._last[kind].update({name: given[kind][name] for name in names if name in given[kind]})
        train = None if observation.train_losses is None else given['train']
        return replace(observation, eval_losses=given['eval'], train_losses=train)

    def _note(self, kind: str, name: str, losses: Mapping[str, float], round_number: int) -> str:
        value = 'missing' if name not in losses else f'{losses[name]}'
        done = 'the mixture is kept' if self.on_bad_loss == 'keep' else 'the last finite one is used'
        if self.on_bad_loss == 'last' and name not in self._last[kind]:
            done = 'there is none to use'
        return f'{kind} loss of {name} in round {round_number} is {value}: {done}'
