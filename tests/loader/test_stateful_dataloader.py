"""torchdata's StatefulDataLoader: it asks the dataset for a state without arguments, in every worker."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from torchdata.stateful_dataloader import StatefulDataLoader

from skillit_stream import InputError, SkillStreamingDataset, collate
from skillit_stream.loader.place import Place
from tests.support.mds import SHARES, ids_of, mixed_dataset

STEPS = 12
OTHER = {'a': 0.2, 'b': 0.2, 'c': 0.6}


def stateful_loader(dataset: SkillStreamingDataset, workers: int, **options: Any) -> StatefulDataLoader:
    options = {'collate_fn': collate, 'num_workers': workers, **options}
    return StatefulDataLoader(dataset, batch_size=dataset.batch_size, **options)


def two_rounds(root: Path) -> list[list[int]]:
    """The rounds of a run whose mixture changes after the first."""
    dataset = mixed_dataset(root)
    first = ids_of(dataset)
    dataset.set_proportions(OTHER)
    return [first, ids_of(dataset)]


@pytest.mark.parametrize('stop', [0, 1, 7, STEPS])
def test_without_workers_the_loaders_state_is_the_datasets(streams_root: Path, stop: int):
    dataset = mixed_dataset(streams_root)
    loader = stateful_loader(dataset, 0)
    played = iter(loader)
    drawn = ids_of(islice(played, stop))
    if stop == STEPS:
        assert next(played, None) is None
    dataset.set_proportions(OTHER)
    state = loader.state_dict()
    resumed = mixed_dataset(streams_root)
    loader = stateful_loader(resumed, 0)
    loader.load_state_dict(state)
    expected = [one for played in two_rounds(streams_root) for one in played]
    rounds = [ids_of(loader), ids_of(loader)]
    assert (drawn + rounds[0] + rounds[1])[: 2 * 48] == expected


@pytest.mark.parametrize(
    ('stop', 'workers', 'options'),
    [
        (1, 2, {}),
        (5, 3, {}),
        (STEPS - 1, 2, {'persistent_workers': True}),
        (STEPS, 2, {'persistent_workers': True}),
        (STEPS, 2, {}),
    ],
)
def test_with_workers_each_goes_on_at_its_own_place(
    streams_root: Path, stop: int, workers: int, options: dict[str, Any]
):
    expected = two_rounds(streams_root)
    dataset = mixed_dataset(streams_root)
    loader = stateful_loader(dataset, workers, **options)
    played = iter(loader)
    drawn = ids_of(islice(played, stop))
    if stop == STEPS:
        assert next(played, None) is None
    dataset.set_proportions(OTHER)
    samples = stop % STEPS * 4
    state = json.loads(json.dumps([loader.state_dict(), dataset.state_dict(samples, True)], default=list))
    del played, loader
    resumed = mixed_dataset(streams_root)
    resumed.load_state_dict(state[1])
    loader = stateful_loader(resumed, workers, **options)
    loader.load_state_dict(state[0])
    rest = [ids_of(loader) for _ in range(2)]
    if stop == STEPS:
        assert [drawn, rest[0]] == expected
    else:
        assert [drawn + rest[0], rest[1]] == expected


def test_another_number_of_workers_needs_the_datasets_state_alone(streams_root: Path):
    expected = two_rounds(streams_root)[0]
    dataset = mixed_dataset(streams_root)
    loader = stateful_loader(dataset, 3)
    played = iter(loader)
    drawn = ids_of(islice(played, 5))
    states = loader.state_dict(), dataset.state_dict(5 * 4, True)
    del played, loader
    resumed = mixed_dataset(streams_root)
    resumed.load_state_dict(states[1])
    resumed_at = (0, 5)
    assert drawn + ids_of(stateful_loader(resumed, 2)) == expected
    places = states[0]['_snapshot']['_worker_snapshots'].values()
    for worker, place in enumerate(Place.from_plain(one['dataset_state']) for one in places):
        with pytest.raises(
            InputError, match=rf'of worker {worker} of 3, but got it in worker 0 of 2: a loader'
        ):
            place.first_batch((0, 2), resumed_at, STEPS)


@pytest.mark.parametrize(('steps', 'snapshots'), [(None, 1), (8, 1), (6, 5)])
def test_a_loaders_state_without_the_datasets_of_the_same_step_is_refused(
    streams_root: Path, steps: int | None, snapshots: int
):
    dataset = mixed_dataset(streams_root)
    loader = stateful_loader(dataset, 2, snapshot_every_n_steps=snapshots)
    played = iter(loader)
    for _ in range(6):
        next(played)
    state = loader.state_dict()
    del played
    resumed = mixed_dataset(streams_root)
    if steps:
        resumed.load_state_dict(dataset.state_dict(steps * 4, True))
    loader = stateful_loader(resumed, 2)
    loader.load_state_dict(state)
    with pytest.raises(
        InputError, match=r"The loader's state is of round 0, .* load the state of the same step"
    ):
        next(iter(loader))


def test_where_workers_draw_the_dataset_does_not_guess_how_many(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    assert dataset.state_dict() == dataset.state_dict(0, True)
    loader = stateful_loader(dataset, 1)
    next(iter(loader))
    with pytest.raises(InputError, match=r'^`num_samples` must be given, for workers of a DataLoader'):
        dataset.state_dict()
    assert dataset.proportions == SHARES
