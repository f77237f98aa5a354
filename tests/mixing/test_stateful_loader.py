"""The driver beside a StatefulDataLoader, and its state in distributed checkpoints, as torchtitan has both."""

import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.checkpoint as dcp
from torchdata.stateful_dataloader import StatefulDataLoader

from skillit_stream import MixtureDriver, SkillIt, SkillsGraph, collate
from tests.support.mds import SIZES, ids_of, mixed_dataset

SKILLS = tuple(SIZES)
STEPS = 12


def losses_of(number: int) -> dict[str, float]:
    return {'a': 3.0 - number / 4, 'b': 2.0 + number / 8, 'c': 1.0}


class Run:
    """A loop over two rounds, stopped after any batch or after the end of a round."""

    def __init__(self, root: Path, workers: int) -> None:
        dataset = mixed_dataset(root)
        self.loader = StatefulDataLoader(dataset, batch_size=4, collate_fn=collate, num_workers=workers)
        self.driver = MixtureDriver(dataset, SkillIt(SkillsGraph.identity(SKILLS), eta=0.5))

    def play(self, steps: int, done: int = 0) -> list[int]:
        """The samples of the steps from `done` to `steps`; a round is ended after its last."""
        self.driver.start()
        drawn = []
        while done < steps:
            for batch in islice(self.driver.batches(self.loader), steps - done):
                drawn += ids_of([batch])
                done += 1
            if done % STEPS == 0:
                self.driver.end_round(losses_of(done))
        return drawn


class Pickled:
    """One value of a distributed checkpoint, as torchtitan keeps a loader's state."""

    def __init__(self, driver: MixtureDriver) -> None:
        self.driver = driver

    def state_dict(self) -> dict[str, Any]:
        return {'driver': pickle.dumps(self.driver.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.driver.load_state_dict(pickle.loads(state['driver']))


@pytest.mark.parametrize(
    ('stop', 'before', 'after'),
    [(5, 2, 2), (STEPS, 2, 2), (5, 2, 0), (STEPS + 3, 1, 2), (STEPS, 0, 0), (STEPS + 1, 0, 0)],
)
def test_it_goes_on_with_the_loaders_state_or_without_it(
    streams_root: Path, stop: int, before: int, after: int
):
    expected = Run(streams_root, 0).play(2 * STEPS)
    first, second = Run(streams_root, before), Run(streams_root, after)
    drawn = first.play(stop)
    state, loader = first.driver.state_dict(), first.loader.state_dict()
    second.driver.load_state_dict(state)
    if before == after:
        second.loader.load_state_dict(loader)
    assert drawn + second.play(2 * STEPS, stop) == expected


@pytest.mark.filterwarnings('ignore:torch.distributed is')
def test_its_state_is_one_value_of_a_distributed_checkpoint(streams_root: Path, tmp_path: Path):
    expected = Run(streams_root, 0).play(2 * STEPS)
    first, second = Run(streams_root, 0), Run(streams_root, 0)
    drawn = first.play(STEPS + 2)
    dcp.save({'mixture': Pickled(first.driver)}, checkpoint_id=str(tmp_path / 'saved'))
    dcp.load({'mixture': Pickled(second.driver)}, checkpoint_id=str(tmp_path / 'saved'))
    assert drawn + second.play(2 * STEPS, STEPS + 2) == expected
