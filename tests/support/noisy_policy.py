"""A policy of one's own for `policy: path/to/noisy_policy.py:NoisySkillIt`."""

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skillit_stream import RoundObservation, SkillIt, SkillsGraph


class NoisySkillIt(SkillIt):
    """Skill-It whose decisions differ between ranks by float noise; each rank writes down what was played.

    Args:
        graph: The skills graph.
        folder: Gets ``mixtures-rank<rank>.jsonl``, a line per round: its number and its proportions.
    """

    def __init__(self, graph: SkillsGraph, *, folder: str) -> None:
        super().__init__(graph, eta=0.5, window=2)
        self._rank = int(os.environ.get('RANK', '0'))
        self._path = Path(folder) / f'mixtures-rank{self._rank}.jsonl'

    def initial(self) -> NDArray[np.float64]:
        """The first mixture, and noise."""
        return self._noisy(super().initial())

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        """The next mixture, and noise."""
        with self._path.open('a') as file:
            file.write(json.dumps([observation.round, dict(observation.proportions or {})]) + '\n')
        return self._noisy(super().update(observation))

    def _noisy(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        noisy = shares + np.linspace(0, self._rank * 2.0**-50, len(shares))
        return noisy / noisy.sum()
