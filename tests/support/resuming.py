"""Rounds whose mixture moves, played batch by batch, and what is left of them for whoever goes on."""

import json
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from skillit_stream.loader.batches import collate
from skillit_stream.loader.dataset import SkillStreamingDataset
from tests.support.mds import SHARES, ids_of

# The mixture of each round: skill c has many passes, skill b none in round 1.
MIXTURES = [SHARES, {'a': 0.7, 'b': 0.0, 'c': 0.3}, {'a': 0.1, 'b': 0.8, 'c': 0.1}, SHARES, SHARES]
ROUND, BATCH = 48, 4


def set_next(dataset: SkillStreamingDataset, number: int) -> None:
    """What a mixing policy does at the end of round `number`, in the process that played it or one that goes on."""
    if number + 1 < len(MIXTURES):
        dataset.set_proportions(MIXTURES[number + 1])


def play(dataset: SkillStreamingDataset, first: int, rounds: int, **loader: Any) -> Iterator[list[int]]:
    """Sample ids of the batches of rounds `first` on, the mixture moving after each."""
    batches = DataLoader(dataset, batch_size=BATCH, collate_fn=collate, **loader)
    for number in range(first, rounds):
        for batch in batches:
            yield ids_of([batch])
        set_next(dataset, number)


def as_saved(state: dict[str, Any]) -> dict[str, Any]:
    """A state after a trip through a file."""
    return json.loads(json.dumps(state))


def rest(undisturbed: list[list[int]], number: int, done: int) -> list[list[int]]:
    """What is left after `done` batches of a round."""
    return undisturbed[number * ROUND // BATCH + done :]
