"""An iteration is one round, whole: whoever else begins to iterate, whenever workers wake up, whatever is loaded."""

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from skillit_stream.base.errors import InputError
from skillit_stream.loader.dataset import SkillStreamingDataset
from skillit_stream.loader.host.loader_identity import loader_identity
from tests.support.forked_ranks import by_forked_ranks
from tests.support.jobs import loader_of
from tests.support.mds import ids_of, mixed_dataset

SUPERSEDED = (
    r'Another iteration of the dataset has begun round 1 while round 0 was iterated: a dataset plays one'
)
BATCH = 4


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long torch waits for each worker to end after an error."""
    monkeypatch.setattr('torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL', 0.2)


@pytest.fixture
def foretold(streams_root: Path) -> list[list[int]]:
    """Three rounds, played by one process."""
    dataset = mixed_dataset(streams_root)
    return [ids_of(dataset) for _ in range(3)]


def late(*delays: float) -> Callable[[int], None]:
    """Has each worker sleep for so many seconds before it begins to iterate."""
    return lambda worker: time.sleep(delays[worker])


def after(*files: Path | None) -> Callable[[int], None]:
    """Has each worker wait for a file before it begins to iterate."""

    def wait(worker: int) -> None:
        file = files[worker]
        while file and not file.exists():
            time.sleep(0.01)

    return wait


def wait_until_begun(dataset: SkillStreamingDataset) -> None:
    """Until one of its iterations has been claimed."""
    while not dataset._rounds.begun:
        time.sleep(0.005)


def drawn_or_refused(batches: Iterable[Any]) -> list[int] | str:
    """The ids of all batches, or the last line of the InputError."""
    try:
        return ids_of(batches)
    except InputError as error:
        return str(error).strip().splitlines()[-1]


def test_a_peek_before_workers_wake_up_has_a_round_of_its_own(
    streams_root: Path, tmp_path: Path, foretold: list[list[int]]
):
    dataset, peeked = mixed_dataset(streams_root), tmp_path / 'peeked'
    batches = iter(loader_of(dataset, 2, worker_init_fn=after(peeked, peeked)))
    peek = next(iter(dataset))
    peeked.touch()
    assert ids_of([peek]) == foretold[0][:1]
    assert ids_of(batches) == foretold[1]
    assert dataset.round == 1


@pytest.mark.parametrize('delays', [(0.0, 0.5), (0.5, 0.0)])
def test_a_peek_while_workers_wake_up_ends_their_iteration(
    streams_root: Path, foretold: list[list[int]], delays: tuple[float, float]
):
    dataset = mixed_dataset(streams_root)
    loader = loader_of(dataset, 2, worker_init_fn=late(*delays), prefetch_factor=1)
    batches = iter(loader)
    wait_until_begun(dataset)
    assert ids_of([next(iter(dataset))]) == foretold[1][:1]
    with pytest.raises(InputError, match=SUPERSEDED):
        ids_of(batches)
    del batches
    assert ids_of(loader) == foretold[2]


@pytest.mark.parametrize('seed', range(6))
def test_whenever_workers_wake_up_and_somebody_peeks_no_two_rounds_are_mixed(
    streams_root: Path, foretold: list[list[int]], seed: int
):
    delays = random.Random(seed)
    dataset = mixed_dataset(streams_root)
    sleeps = [delays.random() * 0.1 for _ in range(3)]
    batches = iter(loader_of(dataset, 2, worker_init_fn=late(*sleeps[:2])))
    time.sleep(sleeps[2])
    # Whoever began last plays round 1; the other one may have begun just before, and is refused when it goes on.
    peeked = drawn_or_refused(islice(dataset, 1))
    drawn = drawn_or_refused(batches)
    if isinstance(drawn, list):
        assert drawn == foretold[1]
    else:
        assert 'Another iteration of the dataset' in drawn
        assert peeked == foretold[1][:1]


def test_two_loaders_that_start_at_once_and_from_one_seed_are_two_iterations(
    streams_root: Path, tmp_path: Path, foretold: list[list[int]]
):
    dataset, begun, ended = mixed_dataset(streams_root), tmp_path / 'begun', tmp_path / 'ended'
    started = []
    # The second one's workers, both, come between those of the first.
    for files in ((None, ended), (begun, begun)):
        torch.manual_seed(7)
        started.append(iter(loader_of(dataset, 2, worker_init_fn=after(*files), prefetch_factor=1)))
    first, second = started
    wait_until_begun(dataset)
    begun.touch()
    assert ids_of(second) == foretold[1]
    ended.touch()
    with pytest.raises(InputError, match=SUPERSEDED):
        ids_of(first)


def test_an_iteration_abandoned_before_all_its_workers_woke_up_is_not_joined_by_the_next(
    streams_root: Path, foretold: list[list[int]]
):
    dataset = mixed_dataset(streams_root)
    batches = iter(loader_of(dataset, 2, worker_init_fn=late(0.0, 30)))
    wait_until_begun(dataset)
    del batches
    assert ids_of(loader_of(dataset, 2)) == foretold[1]


@pytest.mark.parametrize('workers', [0, 2])
def test_whoever_goes_on_with_an_iteration_that_another_has_ended_is_refused(
    streams_root: Path, foretold: list[list[int]], workers: int
):
    dataset = mixed_dataset(streams_root)
    loader = loader_of(dataset, workers, **({'prefetch_factor': 1} if workers else {}))
    first = iter(loader)
    assert ids_of([next(first)]) == foretold[0][:BATCH]
    second = iter(loader)
    assert ids_of([next(second)]) == foretold[1][:BATCH]
    with pytest.raises(InputError, match=SUPERSEDED):
        ids_of(first)
    assert ids_of(second) == foretold[1][BATCH:]


class Identities(IterableDataset):
    """What each worker takes its DataLoader for, twice."""

    def __iter__(self) -> Iterator[tuple[int, ...] | None]:
        yield loader_identity()
        yield loader_identity()


@pytest.mark.parametrize('kind', [DataLoader, StatefulDataLoader])
def test_workers_of_a_loader_know_that_they_are_of_one(kind: type[DataLoader]):
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        identities = set(map(tuple, kind(Identities(), batch_size=None, num_workers=2)))
        assert len(identities) == 1
        found += identities
    assert found[0] != found[1]
    assert all(process == os.getpid() and pipe for process, _, pipe in found)
    assert list(Identities()) == [None, None]


OTHER_ORDERS = [{'shuffle_seed': 5}, {'num_canonical_nodes': 1}, {'shuffle_block_size': 3}]


@pytest.mark.parametrize('other', OTHER_ORDERS)
def test_workers_that_live_on_cannot_follow_a_state_of_another_order(
    streams_root: Path, release_datasets: Callable[[], None], other: dict[str, int]
):
    source = mixed_dataset(streams_root, **other)
    expected, state = ids_of(source), source.state_dict(0, True)
    expected = ids_of(source)
    release_datasets()
    dataset = mixed_dataset(streams_root)
    loader = loader_of(dataset, 2, persistent_workers=True)
    ids_of(loader)
    dataset.load_state_dict(state)
    message = r'The workers of this DataLoader were started before a state of another seed, .*: make a new DataLoader'
    with pytest.raises(InputError, match=message):
        ids_of(loader)
    del loader
    assert ids_of(loader_of(dataset, 2, persistent_workers=True)) == expected


def test_workers_that_live_on_follow_a_state_of_the_same_order(streams_root: Path, foretold: list[list[int]]):
    dataset = mixed_dataset(streams_root)
    start = dataset.state_dict(0, True)
    loader = loader_of(dataset, 2, persistent_workers=True)
    assert [ids_of(loader), ids_of(loader)] == foretold[:2]
    dataset.load_state_dict(start)
    assert [ids_of(loader), ids_of(loader)] == foretold[:2]


@pytest.mark.parametrize('other', [{}, {'shuffle_seed': 5}])
@pytest.mark.parametrize('workers', [0, 2])
def test_an_iteration_that_was_asked_for_before_a_state_was_loaded_is_refused(
    streams_root: Path, other: dict[str, int], workers: int
):
    state = {**mixed_dataset(streams_root).state_dict(0, True), **other}
    dataset = mixed_dataset(streams_root)
    if workers:
        batches = iter(loader_of(dataset, workers, worker_init_fn=late(0.2, 0.2)))
    else:
        batches = iter(dataset)
        next(batches)
    dataset.load_state_dict(state)
    expected = dataset.sample_ids(0).tolist()
    with pytest.raises(InputError, match=r'was loaded'):
        ids_of(batches)
    del batches
    assert ids_of(loader_of(dataset, workers)) == expected


def test_ranks_forked_after_the_dataset_was_made_are_refused(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    state = dataset.state_dict(0, True)
    loader = loader_of(dataset, 1)
    for play in (
        lambda rank: ids_of(dataset),
        lambda rank: ids_of(loader),
        lambda rank: dataset.load_state_dict(state),
    ):
        for rank, text in enumerate(by_forked_ranks(play)):
            expected = (
                f'The dataset was made for rank 0 of 1, but this process is rank {rank} of 2: make a dataset'
            )
            assert expected in text


def test_ranks_that_only_the_environment_knows_are_refused_too(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    refused = by_forked_ranks(
        lambda rank: ids_of(dataset),
        has_group=False,
        environment=lambda rank: {'RANK': rank, 'WORLD_SIZE': 2, 'LOCAL_RANK': rank, 'LOCAL_WORLD_SIZE': 2},
    )
    assert all('was made for rank 0 of 1, but this process is rank' in text for text in refused)


def test_of_processes_that_nobody_calls_ranks_one_plays(
    streams_root: Path, tmp_path: Path, foretold: list[list[int]]
):
    dataset = mixed_dataset(streams_root)

    def play(process: int) -> list[int]:
        while process and not (tmp_path / 'played').exists():
            time.sleep(0.01)
        played = ids_of(loader_of(dataset, process))
        (tmp_path / 'played').touch()
        time.sleep(0 if process else 2)
        return played

    first, second = by_forked_ranks(play, has_group=False)
    assert first == foretold[0]
    assert 'iterates this dataset, and process' in str(second)


def test_a_process_forked_for_the_whole_training_plays_on(streams_root: Path, foretold: list[list[int]]):
    dataset = mixed_dataset(streams_root)
    assert ids_of(dataset) == foretold[0]
    del dataset
    dataset = mixed_dataset(streams_root)
    [played] = by_forked_ranks(lambda rank: [ids_of(dataset), ids_of(loader_of(dataset, 2))], 1)
    assert played == foretold[:2]
