"""Samples from easy to hard, over all skills: curriculum and anti-curriculum."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.apportion import cumulative_counts
from skillit_stream.mixture.checks import number_within, one_of, whole_number
from skillit_stream.mixture.context import required
from skillit_stream.mixture.policy import MixturePolicy, RoundObservation
from skillit_stream.mixture.registry import register
from skillit_stream.mixture.sample_order import (
    PACINGS,
    Pace,
    RankedSamples,
    SampleOrder,
    keys_at,
    paced_fraction,
)
from skillit_stream.mixture.stages import run_length

# A run of more rounds than this goes through the order in so many steps.
MOST_STEPS = 200
MOST_KEYS = 1 << 20


@register('sample_curriculum')
class SampleCurriculum(MixturePolicy):
    """Samples by the loss that the initial model has on them, the easiest first, whichever skill they are of.

    Skill-It's baselines "curriculum" and "anticurriculum" (Chen et al. 2023, appendix), as the published code
    computes them: in round r of R the samples are drawn from the first g((r + 1) / R) of all samples in that
    order, each at most once as long as there are others, with the pacing g of `paced_fraction`. (The
    published code orders as many samples as it trains on; here they are all samples of the streams.)

    The samples up to a loss are so many of each skill: those are the proportions of the round. Which samples
    they are is the loader's part: the dataset must be given `sample_orders()`.
    """

    name = 'sample_curriculum'

    def __init__(
        self,
        skills: Sequence[str],
        sample_losses: Callable[[str], Mapping[str, RankedSamples]] | None,
        rounds: int | None,
        round_size: int | None,
        *,
        losses: str = 'initial',
        anti: bool = False,
        pacing: str = 'linear',
        start: float = 0.0,
        full_at: float = 1.0,
    ) -> None:
        """Check the parameters and lay out the run.

        Args:
            skills: Skills that are mixed, k of them.
            sample_losses: Finds the losses of a name, by skill.
            rounds: Rounds of the run.
            round_size: Samples of a round.
            losses: Name of the losses, as `skillit score --name` wrote them.
            anti: The hardest samples first.
            pacing: 'linear' or 'logarithmic'.
            start: b, the fraction of samples to begin with, 0 to 1.
            full_at: a, the fraction of the run after which all samples are drawn from, above 0.

        Raises:
            InputError: If a parameter is out of range, or losses or the run's length are not known.
        """
        super().__init__(skills)
        self.rounds = run_length(self.name, rounds)
        size = whole_number('round_size', round_size, at_least=1)
        one_of('anti', anti, (False, True))
        one_of('pacing', pacing, tuple(PACINGS))
        if not isinstance(losses, str):
            raise InputError(f'losses must be the name of losses of samples, but got: {losses!r}')
        self._options = {
            'losses': losses,
            'anti': anti,
            'pacing': pacing,
            'start': number_within('start', start, 0.0, 1.0),
            'full_at': number_within('full_at', full_at),
        }
        if not full_at > 0:
            raise InputError(
                f'full_at must be above 0, but got: {full_at!r}; start=1 begins with all samples'
            )
        found = required(self.name, 'the losses of the samples', sample_losses)(losses)
        self._ranked = [found[name].reversed() if anti else found[name] for name in self.skills]
        fractions = [self.fraction(number) for number in range(self.rounds)]
        keys = keys_at(fractions, self._ranked, MOST_KEYS)
        self._mixtures = self._mixtures_up_to(keys)
        self._paces = self._paces_of(keys, size)

    def fraction(self, round_number: int) -> float:
        """The fraction of all samples that a round is drawn from."""
        steps = min(self.rounds, MOST_STEPS)
        progress = -(-(round_number + 1) * steps // self.rounds) / steps
        pacing, start, full_at = (self._options[key] for key in ('pacing', 'start', 'full_at'))
        return paced_fraction(pacing, progress, start=start, full_at=full_at)

    def sample_orders(self) -> dict[str, SampleOrder]:
        """What the dataset must be given, by skill."""
        orders = zip(self._ranked, self._paces, strict=True)
        return {name: SampleOrder(*order) for name, order in zip(self.skills, orders, strict=True)}

    def initial(self) -> NDArray[np.float64]:
        """Return the mixture of round 0, float64 ``[k]``."""
        return self._mixtures[0].copy()

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """Return the mixture of the next round, float64 ``[k]``; after the last one it stays."""
        return self._mixtures[min(observation.round + 1, self.rounds - 1)].copy()

    def describe(self) -> dict[str, Any]:
        """Name and parameters."""
        return {'name': self.name, 'rounds': self.rounds, **self._options}

    def _mixtures_up_to(self, keys: Sequence[float]) -> NDArray[np.float64]:
        """Proportions of the skills among the samples up to each key, float64 ``[rounds, k]``."""
        proportions = []
        for number, key in enumerate(keys):
            if number and key == keys[number - 1]:
                proportions.append(proportions[-1])
                continue
            counts = np.array([one.counts(key).sum() for one in self._ranked], np.float64)
            proportions.append(counts / counts.sum())
        return np.array(proportions)

    def _paces_of(self, keys: Sequence[float], round_size: int) -> list[Pace]:
        """At how many of its own draws each skill is let go on to the next key."""
        # By name, as the loader counts: ties go by it.
        by_name = sorted(range(len(self.skills)), key=lambda skill: self.skills[skill])
        drawn, owed = np.zeros(len(self.skills), np.int64), np.zeros(len(self.skills))
        stages: list[dict[int, float]] = [{} for _ in self.skills]
        for number, (proportions, key) in enumerate(zip(self._mixtures, keys, strict=True)):
            if not number or key != keys[number - 1]:
                # Of two stages of a skill that begin at the same draw only the later one is drawn from.
                for own, before in zip(stages, drawn.tolist(), strict=True):
                    own[before] = key
            counts, owed = cumulative_counts(proportions[by_name], round_size, owed)
            drawn[by_name] += counts
        return [Pace(tuple(own), tuple(own.values())) for own in stages]
