"""What would be drawn with another mixture in another order, looked up without drawing it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.loader.dataset import SkillStreamingDataset
from tests.support.mds import mixed_dataset


def test_batches_ahead_are_those_that_would_be_drawn_and_draw_nothing(
    streams_root: Path, become_rank: Callable[[int, int], None]
):
    """Over the end of a round, of every rank, with another mixture and order, while a round is over or under way."""
    other = {'a': 0.2, 'b': 0.2, 'c': 0.6}

    def made(rank: int = 0, ranks: int = 1) -> SkillStreamingDataset:
        become_rank(rank, ranks)
        dataset = mixed_dataset(streams_root, round_size=24, batch_size=8 // ranks)
        for _ in dataset:
            pass
        return dataset

    dataset = made()
    before = dataset.state_dict(0), dataset.sample_ids(1).tolist()
    a_round = dataset.round_size // 8
    seed = int(dataset.shuffle_seed)
    ahead = [ids.tolist() for ids in dataset.batches_ahead(a_round + 2, proportions=other, shuffle_seed=seed)]
    strange = [ids.tolist() for ids in dataset.batches_ahead(3, proportions=other, shuffle_seed=seed + 1)]
    assert (dataset.state_dict(0), dataset.sample_ids(1).tolist()) == before
    assert strange != ahead[:3]
    for rank in (0, 1):
        own = made(rank, 2).batches_ahead(a_round + 2, proportions=other, shuffle_seed=seed)
        assert [ids.tolist() for ids in own] == [ids[4 * rank : 4 * rank + 4] for ids in ahead]
    become_rank(0, 1)
    dataset.set_proportions(other)
    drawn = dataset.sample_ids(1).tolist() + dataset.sample_ids(2).tolist()
    assert [one for ids in ahead for one in ids] == drawn[: 8 * len(ahead)]


def test_batches_ahead_of_a_stream_that_runs_out_are_refused(streams_root: Path):
    dataset = mixed_dataset(
        streams_root, round_size=24, on_exhausted='error', proportions={'a': 1, 'b': 0, 'c': 0}
    )
    lone = {'a': 0.0, 'b': 0.0, 'c': 1.0}
    with pytest.raises(InputError, match='Skill c runs out in round 0'):
        list(dataset.batches_ahead(1, proportions=lone, shuffle_seed=1))
