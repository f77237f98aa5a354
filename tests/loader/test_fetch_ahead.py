"""What is fetched for the next round while the present one is trained."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skillit_stream.loader.dataset import SkillStreamingDataset
from skillit_stream.loader.fetch_ahead import fetched_ahead
from skillit_stream.loader.host.dataset import HostDataset
from tests.support.jobs import fetched_streams
from tests.support.mds import mixed_dataset, write_streams
from tests.support.waiting import wait_for

SIZES = {skill: [10] * 8 for skill in 'ab'}


@pytest.fixture
def open_dataset(tmp_path: Path) -> Callable[..., SkillStreamingDataset]:
    """Makes a dataset of two skills behind a remote, with room in its cache for some shards."""
    write_streams(tmp_path / 'corpus', SIZES)

    def opened(room: float | None, **options: Any) -> SkillStreamingDataset:
        indexes = sum(path.stat().st_size for path in (tmp_path / 'corpus').glob('*/index.json'))
        shard = (tmp_path / 'corpus/a/shard.00000.mds').stat().st_size
        return mixed_dataset(
            tmp_path,
            streams=fetched_streams(tmp_path / 'corpus', tmp_path / 'local', SIZES),
            proportions={'a': 0.5, 'b': 0.5},
            cache_limit=None if room is None else indexes + int(room * shard),
            **{'num_canonical_nodes': 1, **options},
        )

    return opened


def requested_at_once(dataset: SkillStreamingDataset) -> list[int]:
    """Which shards are asked for in idle time, in their order, before the first batch of three is trained."""
    asked, needed = [], []
    dataset.request = lambda shards, are_needed=True: (needed if are_needed else asked).extend(shards)
    stretches = [np.array([[0, 1], [10, 11], [25, 0]])]
    batches = fetched_ahead(dataset, stretches, 3, lambda: [8, 1, 9, 3])
    assert next(batches).tolist() == [0, 1]
    assert needed == [0, 1]
    found = list(asked)
    assert [ids.tolist() for ids in batches] == [[10, 11], [25, 0]]
    return found


@pytest.mark.parametrize(
    ('room', 'found'),
    [(None, [0, 1, 2, 8, 1, 9, 3]), (5.5, [0, 1, 2, 8, 9]), (4.5, [0, 1, 2, 8]), (2.5, [0, 1])],
)
def test_before_the_first_batch_all_of_the_round_and_the_next_are_asked_for_as_far_as_they_fit(
    open_dataset: Callable[..., SkillStreamingDataset], room: float | None, found: list[int]
):
    assert requested_at_once(open_dataset(room, batch_size=2, predownload=2)) == found


def test_the_next_round_is_fetched_while_this_one_is_trained(
    open_dataset: Callable[..., SkillStreamingDataset],
):
    # Rounds end where the blocks of both tapes end, so the next one begins with shards that none has needed.
    dataset = open_dataset(None, round_size=40, shuffle_block_size=20, predownload=4)
    upcoming = set(dataset.spanner.locate(dataset.sample_ids(1))[0].tolist())
    assert not upcoming & set(dataset.spanner.locate(dataset.sample_ids(0))[0].tolist())
    samples = iter(dataset)
    next(samples)
    wait_for(lambda: all(map(dataset.is_local, upcoming)))
    assert len(list(samples)) == 39


def test_no_shard_that_the_round_still_needs_gives_way_to_one_of_the_next(
    open_dataset: Callable[..., SkillStreamingDataset], monkeypatch: pytest.MonkeyPatch
):
    this_thread, running, evicted = threading.local(), [], []
    prepare, evict = HostDataset.prepare_shard, HostDataset._evict_shard

    def prepare_noting_why(self: HostDataset, shard: int, blocking: bool = True) -> None:
        running.append(shard)
        this_thread.is_guess = not blocking
        prepare(self, shard, blocking)
        running.remove(shard)

    def evict_noting_why(self: HostDataset, shard: int) -> None:
        if this_thread.is_guess:
            evicted.append(shard)
        evict(self, shard)

    monkeypatch.setattr(HostDataset, 'prepare_shard', prepare_noting_why)
    monkeypatch.setattr(HostDataset, '_evict_shard', evict_noting_why)
    # Two shards a block and skill: a round of 40 draws on four, and the next one on four others.
    dataset = open_dataset(6.5, round_size=40, shuffle_block_size=20)
    for number in range(6):
        order = dataset.spanner.locate(dataset.sample_ids(number))[0]
        before = len(evicted)
        for at, _ in enumerate(dataset):
            assert not set(evicted[before:]) & set(order[at + 1 :].tolist()), (number, at)
        for _ in range(2):
            # A fetch that begins late, for a round that is over, is another matter. One may be about to begin.
            wait_for(lambda: dataset._fetcher._queues.requests.empty() and not running)
            time.sleep(0.05)
    assert evicted
