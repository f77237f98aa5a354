"""A run folder of a run that is under way, as a driver writes it; no process trains it."""

import json
from pathlib import Path
from typing import Any

import pytest

from skillit_stream import MixtureDriver, SkillIt, SkillsGraph
from tests.support.mds import SIZES, ids_of, mixed_dataset

SKILLS = tuple(SIZES)
GRAPH = SkillsGraph(SKILLS, SKILLS, [[1, 0.5, 0], [0, 1, 0.25], [0.1, 0, 1]])


class OngoingRun:
    """Plays rounds of a run and writes its folder.

    Args:
        root: Of the streams.
        folder: The run's.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.policy = SkillIt(GRAPH, eta=0.5)
        self.driver = MixtureDriver(mixed_dataset(root), self.policy, folder / 'mixture.jsonl')
        self.write_about()
        self.driver.start(self.losses(0))

    def losses(self, number: int) -> dict[str, float]:
        """By the end of so many rounds."""
        return {'a': 3.0 - number / 4, 'b': 2.0 + number / 8, 'c': 1.0}

    def write_about(self, **others: Any) -> None:
        """run.json, with other entries."""
        about = {
            'version': 1,
            'name': 'ongoing',
            'seed': 1,
            'rounds': 8,
            'policy': self.policy.describe(),
            'dataset': self.driver.dataset.describe(),
            'eval_skills': list(SKILLS),
            'evaluates_rounds': True,
            'graph': GRAPH.to_dict(),
        }
        (self.folder / 'run.json').write_text(json.dumps({**about, **others}))

    def play(self, rounds: int) -> None:
        """Train so many."""
        for _ in range(rounds):
            ids_of(self.driver.dataset)
            self.driver.end_round(self.losses(self.driver.round + 1))


@pytest.fixture
def ongoing(streams_root: Path, tmp_path: Path) -> OngoingRun:
    """A run of 8 rounds whose first is under way."""
    return OngoingRun(streams_root, tmp_path / 'run')
