"""The driver beside a StatefulDataLoader, and its state in distributed checkpoints, as torchtitan has both."""

import pickle
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed.checkpoint as dcp
from torchdata.stateful_dataloader import StatefulDataLoader

from skillit_stream import MixtureDriver, SkillIt, SkillsGraph, collate
from tests.support.forked_ranks import by_forked_ranks
from tests.support.mds import SIZES, ids_of, mixed_dataset

SKILLS = tuple(SIZES)
STEPS = 12


def losses_of(number: int) -> dict[str, float]:
    return {'a': 3.0 - number / 4, 'b': 2.0 + number / 8, 'c': 1.0}


class Run:
    """A loop over two rounds, stopped after any batch or after the end of a round."""

    def __init__(self, root: Path, workers: int, batch_size: int = 4) -> None:
        dataset = mixed_dataset(root, batch_size=batch_size)
        self.loader = StatefulDataLoader(
            dataset, batch_size=batch_size, collate_fn=collate, num_workers=workers
        )
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


def play_ranks(
    root: Path, ranks: int, workers: int, done: int, steps: int, saved: Any = None
) -> tuple[list[int], Any]:
    """The global order of the steps from `done` to `steps`, and the state after them, which is one on all ranks.

    Args:
        root: Of the streams.
        ranks: How many play, with 4 samples a batch together.
        workers: Of each rank's loader.
        done: Steps before.
        steps: Up to which is played.
        saved: A state to go on with.
    """

    def play(_: int) -> tuple[list[int], Any]:
        run = Run(root, workers, batch_size=4 // ranks)
        if saved:
            run.driver.load_state_dict(saved)
        return run.play(steps, done), run.driver.state_dict()

    answers = by_forked_ranks(play, ranks)
    assert all(state == answers[0][1] for _, state in answers)
    parts = [np.array(drawn).reshape(-1, 4 // ranks) for drawn, _ in answers]
    return np.concatenate(parts, axis=1).ravel().tolist(), answers[0][1]


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
    [(5, 2, 2), (STEPS, 2, 2), (STEPS + 3, 1, 2), (STEPS, 0, 0)],
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


@pytest.mark.parametrize('stops', [(5, STEPS + 3), (STEPS, STEPS + 7)])
def test_other_ranks_and_workers_go_on_in_the_same_global_order(streams_root: Path, stops: tuple[int, int]):
    expected = Run(streams_root, 0).play(2 * STEPS)
    drawn, done, state = [], 0, None
    for ranks, workers, steps in zip((2, 4, 1), (2, 1, 3), (*stops, 2 * STEPS), strict=True):
        played, state = play_ranks(streams_root, ranks, workers, done, steps, state)
        drawn, done = drawn + played, steps
    assert drawn == expected


@pytest.mark.filterwarnings('ignore:torch.distributed is')
def test_its_state_is_one_value_of_a_distributed_checkpoint(streams_root: Path, tmp_path: Path):
    expected = Run(streams_root, 0).play(2 * STEPS)
    first, second = Run(streams_root, 0), Run(streams_root, 0)
    drawn = first.play(STEPS + 2)
    dcp.save({'mixture': Pickled(first.driver)}, checkpoint_id=str(tmp_path / 'saved'))
    dcp.load({'mixture': Pickled(second.driver)}, checkpoint_id=str(tmp_path / 'saved'))
    assert drawn + second.play(2 * STEPS, STEPS + 2) == expected
