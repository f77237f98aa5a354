"""A schedule of mixtures fixed before training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.checks import number_within, proportions_by_skill
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.registry import register
from skillit_stream.mixture.simplex import by_name
from skillit_stream.mixture.stages import mixture_of_round, run_length


@register('schedule')
class Schedule(MixturePolicy):
    """One mixture after another, each for its segment of the run; needs no losses.

    A round in which a segment ends is trained on both mixtures, each in its part of the round
    (`mixture_of_round`). After the last round the last mixture stays.
    """

    name = 'schedule'

    def __init__(
        self,
        skills: Sequence[str],
        rounds: int | None,
        *,
        mixtures: Sequence[Mapping[str, float]],
        segments: Sequence[float] | None = None,
    ) -> None:
        """Check the mixtures.

        Args:
            skills: Skills that are mixed, k of them.
            rounds: Rounds of the run.
            mixtures: S mixtures in order, each a weight per skill; the weights need not sum to 1.
            segments: Length of each mixture's segment in any unit, above 0; None: all the same.

        Raises:
            InputError: If a mixture does not name each skill once, or the numbers do not fit.
        """
        super().__init__(skills)
        self.rounds = run_length(self.name, rounds)
        if isinstance(mixtures, Mapping | str) or not isinstance(mixtures, Sequence) or not mixtures:
            raise InputError(f'mixtures must be a list of mixtures, one a segment, but got: {mixtures!r}')
        self._stages = np.array(
            [
                proportions_by_skill(f'mixtures[{number}]', mixture, self.skills, any_sum=True)
                for number, mixture in enumerate(mixtures)
            ]
        )
        given = [1.0] * len(mixtures) if segments is None else segments
        if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != len(mixtures):
            raise InputError(f'segments must be {len(mixtures)} lengths, one a mixture, but got: {given!r}')
        lengths = [number_within(f'segments[{n}]', value) for n, value in enumerate(given)]
        if not min(lengths) > 0:
            raise InputError(f'segments must be above 0, but got: {given!r}; leave the mixture out')
        self._lengths = np.array(lengths)

    def initial(self) -> NDArray[np.float64]:
        """Return the mixture of round 0, float64 ``[k]``."""
        return mixture_of_round(self._stages, self._lengths, 0, self.rounds)

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the mixture of the next round, float64 ``[k]``."""
        return mixture_of_round(self._stages, self._lengths, observation.round + 1, self.rounds)

    def describe(self) -> dict[str, Any]:
        """Name, mixtures and lengths of the segments."""
        return {
            'name': self.name,
            'mixtures': [by_name(self.skills, mixture) for mixture in self._stages],
            'segments': self._lengths.tolist(),
            'rounds': self.rounds,
        }
