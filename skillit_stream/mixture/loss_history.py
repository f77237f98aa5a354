"""The losses a windowed policy still needs: the newest evaluations and the first ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError

# (round, losses [m] in nats per token)
Evaluation = tuple[int, NDArray[np.float64]]


class LossHistory:
    """Evaluations in order: the newest few and the first two; what lies between is dropped.

    With `per_round`, the later of two evaluations in one round replaces the earlier.
    """

    def __init__(self, skills: Sequence[str], *, keep: int, per_round: bool) -> None:
        """Start empty, to hold the `keep` newest evaluations of these eval skills."""
        self.skills = tuple(skills)
        self.keep = keep
        self.per_round = per_round
        self._count = 0
        self._first: list[Evaluation] = []
        self._newest: list[Evaluation] = []

    def add(self, round_number: int, losses: NDArray[np.float64]) -> None:
        """Append an evaluation, float64 ``[m]``.

        Raises:
            InputError: If it belongs to a round before the newest one.
        """
        if self._newest and round_number < self._newest[-1][0]:
            raise InputError(
                f'evaluations must come in order, but got: round {round_number} after {self._newest[-1][0]}'
            )
        if self.per_round and self._newest and self._newest[-1][0] == round_number:
            self._newest.pop()
            self._first = self._first[: self._count - 1]
            self._count -= 1
        self._count += 1
        self._newest = [*self._newest, (round_number, losses)][-self.keep :]
        if len(self._first) < 2:
            self._first = [*self._first, (round_number, losses)]

    def visible(self, lag: int) -> int:
        """How many evaluations there have been, the newest `lag` left out."""
        return max(0, self._count - lag)

    def window(self, size: int, lag: int) -> list[NDArray[np.float64]]:
        """Up to `size` evaluations, oldest first, that end `lag` before the newest."""
        upto = len(self._newest) - lag
        return [losses for _, losses in self._newest[max(0, upto - size) : max(0, upto)]]

    def first(self, index: int, lag: int) -> NDArray[np.float64]:
        """Evaluation number `index` (0 or 1), or the last one before it that is not within the lag."""
        return self._first[min(index, self.visible(lag) - 1)][1]

    def state_dict(self) -> dict[str, Any]:
        """Return the history as plain Python."""
        return {
            'count': self._count,
            'first': [[round_number, losses.tolist()] for round_number, losses in self._first],
            'newest': [[round_number, losses.tolist()] for round_number, losses in self._newest],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`. A window longer than the one saved fills up again.

        Raises:
            InputError: If an evaluation does not hold one loss per skill.
        """
        first, newest = self._read(state['first']), self._read(state['newest'])
        self._count = int(state['count'])
        self._first, self._newest = first, newest[-self.keep :]

    def _read(self, rows: Sequence[Sequence[Any]]) -> list[Evaluation]:
        evaluations = [(int(number), np.array(losses, dtype=np.float64)) for number, losses in rows]
        for number, losses in evaluations:
            if losses.shape != (len(self.skills),):
                raise InputError(
                    f'policy state must hold {len(self.skills)} losses for round {number}, '
                    f'but holds an array of shape {losses.shape}'
                )
        return evaluations
