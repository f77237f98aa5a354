"""A stopped run draws exactly what an undisturbed one does, wherever it stopped and however it goes on."""

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streaming import StreamingDataLoader
from torch.utils.data import DataLoader

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import collate
from skillit_stream.loader.dataset import SkillStreamingDataset
from tests.support.mds import SIZES, ids_of, mixed_dataset, open_streams
from tests.support.resuming import BATCH, MIXTURES, ROUND, as_saved, play, rest, set_next

Release = Callable[[], None]


def states_of_a_run(dataset: SkillStreamingDataset, rounds: int) -> list[tuple[int, int, dict[str, Any]]]:
    """(round, batches played in it, state) at every global batch as Composer asks, the ends included."""
    states = [(0, 0, as_saved(dataset.state_dict(0, True)))]
    for number in range(rounds):
        for done, _ in enumerate(DataLoader(dataset, batch_size=BATCH), start=1):
            consumed = done * BATCH % ROUND
            if consumed:
                states.append((number, done, as_saved(dataset.state_dict(consumed, True))))
        # At the end of an epoch the mixture has been set when the state is taken, and Composer says 0.
        set_next(dataset, number)
        states.append((number + 1, 0, as_saved(dataset.state_dict(0, True))))
    return states


@pytest.fixture
def undisturbed(streams_root: Path) -> list[list[int]]:
    """The batches of four rounds."""
    return list(play(mixed_dataset(streams_root), 0, 4))


def end_to_end(batches: list[list[int]]) -> list[int]:
    """The samples of several batches or rounds."""
    return list(chain.from_iterable(batches))


@pytest.mark.parametrize('batching', ['random', 'stratified'])
def test_a_state_of_every_batch_of_three_rounds_resumes_exactly(
    streams_root: Path, release_datasets: Release, batching: str
):
    whole = list(play(mixed_dataset(streams_root, batching=batching), 0, 4))
    states = states_of_a_run(mixed_dataset(streams_root, batching=batching), 3)
    assert len(states) == 3 * ROUND // BATCH + 1
    for number, done, state in states:
        release_datasets()
        dataset = mixed_dataset(streams_root, batching=batching, proportions=None)
        dataset.load_state_dict(state)
        assert dataset.round == number
        assert dataset.proportions == MIXTURES[number]
        assert list(play(dataset, number, 4)) == rest(whole, number, done), (number, done)


@pytest.mark.parametrize(('number', 'done'), [(0, 0), (0, 5), (1, 11), (2, 0), (2, 7)])
@pytest.mark.parametrize('persistent', [False, True])
def test_states_resume_with_workers(
    streams_root: Path, undisturbed: list[list[int]], number: int, done: int, persistent: bool
):
    states = {(a, b): state for a, b, state in states_of_a_run(mixed_dataset(streams_root), 3)}
    dataset = mixed_dataset(streams_root)
    dataset.load_state_dict(states[number, done])
    drawn = list(play(dataset, number, 4, num_workers=2, persistent_workers=persistent))
    assert drawn == rest(undisturbed, number, done)


@pytest.mark.parametrize('workers', [0, 2])
def test_states_taken_while_workers_run_ahead_resume_exactly(
    streams_root: Path, undisturbed: list[list[int]], release_datasets: Release, workers: int
):
    dataset = mixed_dataset(streams_root)
    loader = DataLoader(dataset, batch_size=BATCH, num_workers=workers, collate_fn=collate)
    states = []
    for number in range(2):
        for done, _ in enumerate(loader, start=1):
            if done in (1, 6, 11):
                states.append((number, done, as_saved(dataset.state_dict(done * BATCH, True))))
        set_next(dataset, number)
        states.append((number + 1, 0, as_saved(dataset.state_dict(0, True))))
    del loader
    for number, done, state in states:
        release_datasets()
        resumed = mixed_dataset(streams_root)
        resumed.load_state_dict(state)
        assert list(play(resumed, number, 4)) == rest(undisturbed, number, done), (number, done)


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('stop', [1, 5, 12, 13, 23, 24, 30])
def test_the_streaming_dataloader_saves_and_resumes_exactly(
    streams_root: Path, undisturbed: list[list[int]], stop: int, workers: int
):
    """Twice: its counts start anew at each resumption."""
    drawn: list[list[int]] = []
    number, state = 0, None
    for limit in (stop, stop + 9, 48):
        dataset = mixed_dataset(streams_root)
        loader = StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers, collate_fn=collate)
        if state is not None:
            loader.load_state_dict(state)
            if dataset.round > number:
                set_next(dataset, number)
                number += 1
        while number < 4 and len(drawn) < limit:
            for batch in loader:
                drawn.append(ids_of([batch]))
                state = as_saved(loader.state_dict() or {})
                if len(drawn) == limit:
                    break
            else:
                set_next(dataset, number)
                number += 1
    assert drawn == undisturbed


def test_a_mixture_set_before_the_stop_holds_after_it(streams_root: Path, undisturbed: list[list[int]]):
    dataset = mixed_dataset(streams_root)
    samples = iter(dataset)
    for _ in range(2 * BATCH):
        next(samples)
    dataset.set_proportions(MIXTURES[1])
    state = as_saved(dataset.state_dict(2 * BATCH, True))
    resumed = mixed_dataset(streams_root)
    resumed.load_state_dict(state)
    assert resumed.proportions == MIXTURES[0]
    drawn = [ids_of(resumed), ids_of(resumed)]
    assert end_to_end(drawn) == end_to_end(undisturbed[2:24])
    assert resumed.proportions == MIXTURES[1]


def test_a_mixture_set_right_after_resuming_mid_round_waits_for_the_next(
    streams_root: Path, undisturbed: list[list[int]]
):
    dataset = mixed_dataset(streams_root)
    next(iter(dataset))
    resumed = mixed_dataset(streams_root)
    resumed.load_state_dict(as_saved(dataset.state_dict(3 * BATCH, True)))
    resumed.set_proportions(MIXTURES[1])
    assert [*ids_of(resumed), *ids_of(resumed)] == end_to_end(undisturbed[3:24])


def test_a_resumed_process_that_stops_at_once_saves_the_same_state(streams_root: Path):
    for _, done, state in states_of_a_run(mixed_dataset(streams_root), 2)[::5]:
        resumed = mixed_dataset(streams_root)
        resumed.load_state_dict(state)
        assert as_saved(resumed.state_dict(done * BATCH, True)) == state
        assert as_saved(resumed.state_dict(0, False)) == state


def test_a_resumed_dataset_foretells_its_rounds(streams_root: Path, undisturbed: list[list[int]]):
    _, _, state = states_of_a_run(mixed_dataset(streams_root), 2)[17]
    resumed = mixed_dataset(streams_root)
    resumed.load_state_dict(state)
    assert resumed.sample_ids(1).tolist() == end_to_end(undisturbed[12:24])
    with pytest.raises(
        InputError, match=r'^`round` must be at least 1, where this process resumed, .*: 0\.$'
    ):
        resumed.sample_ids(0)


def test_states_are_plain_python(streams_root: Path):
    def check(value: Any) -> None:
        assert type(value) in (dict, list, str, int, float, bool, type(None)), value
        for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(child)

    dataset = mixed_dataset(streams_root)
    list(dataset)
    for arguments in ((0, True), (8, True), (np.int64(8), False)):
        state = dataset.state_dict(int(arguments[0]), arguments[1])
        check(state)
        assert json.loads(json.dumps(state)) == state
        assert set(state['streams']) == set(SIZES)


@pytest.mark.parametrize(('before', 'after'), [(1, 2), (4, 1), (2, 4)])
@pytest.mark.parametrize('done', [0, 2, 5])
def test_a_run_resumed_on_another_number_of_ranks_keeps_the_global_order(
    streams_root: Path, become_rank: Callable[[int, int], None], before: int, after: int, done: int
):
    whole = mixed_dataset(streams_root, batch_size=8)
    expected = [*ids_of(whole), *ids_of(whole)]
    become_rank(0, before)
    dataset = mixed_dataset(streams_root, batch_size=8 // before)
    loader = StreamingDataLoader(dataset, batch_size=8 // before)
    for count, _ in enumerate(loader, start=1):
        if count == max(1, done):
            break
    state = as_saved(dataset.state_dict(8 * done, True))
    assert done == 0 or as_saved(loader.state_dict() or {}) == state
    parts = []
    for rank in range(after):
        become_rank(rank, after)
        resumed = mixed_dataset(streams_root, batch_size=8 // after)
        resumed.load_state_dict(state)
        parts.append(np.array([*ids_of(resumed), *ids_of(resumed)]).reshape(-1, 8 // after))
    assert np.concatenate(parts, axis=1).ravel().tolist() == expected[8 * done :]


def test_replicas_count_once_in_either_convention(
    streams_root: Path, become_rank: Callable[[int, int], None]
):
    become_rank(0, 4)
    dataset = mixed_dataset(streams_root, replication=2)
    loader = StreamingDataLoader(dataset, batch_size=BATCH)
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    # Composer counts what all four devices got.
    state = dataset.state_dict(3 * 4 * BATCH, True)
    assert state['sample_in_epoch'] == 3 * 2 * BATCH
    assert loader.state_dict() == state
    resumed = mixed_dataset(streams_root, replication=2)
    resumed.load_state_dict(as_saved(state))
    assert ids_of(resumed) == ids_of(batches)


def test_seed_blocks_and_canonical_nodes_come_from_the_state(streams_root: Path):
    options = {'shuffle_seed': 5, 'num_canonical_nodes': 4, 'shuffle_block_size': 5}
    dataset = mixed_dataset(streams_root, **options)
    samples = iter(dataset)
    for _ in range(BATCH):
        next(samples)
    resumed = mixed_dataset(streams_root, shuffle_seed=6, num_canonical_nodes=1, shuffle_block_size=99)
    resumed.load_state_dict(as_saved(dataset.state_dict(BATCH, True)))
    assert ids_of(resumed) == ids_of(samples)
    assert ids_of(resumed) == ids_of(dataset)


def test_skills_may_be_listed_in_another_order_on_resumption(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    list(dataset)
    resumed = mixed_dataset(streams_root, streams=open_streams(streams_root, 'cba'))
    resumed.load_state_dict(as_saved(dataset.state_dict(0, True)))
    assert resumed.proportions == dataset.proportions
    assert resumed.samples_seen == dataset.samples_seen


def test_loading_twice_forgets_the_first(streams_root: Path, undisturbed: list[list[int]]):
    states = states_of_a_run(mixed_dataset(streams_root), 2)
    resumed = mixed_dataset(streams_root)
    resumed.load_state_dict(states[20][2])
    list(resumed)
    resumed.load_state_dict(states[3][2])
    assert list(play(resumed, 0, 4)) == rest(undisturbed, 0, 3)


def test_between_rounds_sizes_and_batching_may_change(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    first = ids_of(dataset)
    state = as_saved(dataset.state_dict(0, True))
    resumed = mixed_dataset(streams_root, round_size=40, batch_size=8, batching='stratified')
    resumed.load_state_dict(state)
    second = ids_of(resumed)
    assert len(second) == 40
    # 24 samples of `a` were drawn: its last three come before any of its next pass.
    drawn = [one for one in [*first, *second] if one < 27]
    assert sorted(drawn[:27]) == list(range(27))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            {'round_size': 40},
            r'^`round_size` must stay 48 until the round .* at sample 8 is over, .*: 40: finish that round first\.$',
        ),
        (
            {'batch_size': 8},
            r'^`global_batch_size` must stay 4 until the round .* sample 8 is over, .*: 8: finish that round first\.$',
        ),
        (
            {'batching': 'stratified'},
            r'^`batching` must stay random until .* but got: stratified: finish that round first\.$',
        ),
    ],
)
def test_in_the_middle_of_a_round_they_may_not(streams_root: Path, change: dict, message: str):
    state = mixed_dataset(streams_root).state_dict(8, True)
    with pytest.raises(InputError, match=message):
        mixed_dataset(streams_root, **change).load_state_dict(state)


@pytest.mark.parametrize('state', [{'epoch': 1, 'sample_in_epoch': 8}, {'version': 1}])
def test_states_of_another_version_or_kind_are_refused(streams_root: Path, state: dict):
    message = r'^The dataset state must be of version 4, but got: (None|1); it may come from another kind'
    with pytest.raises(InputError, match=message):
        mixed_dataset(streams_root).load_state_dict(state)


def as_before_growth_and_accounts(state: dict) -> dict:
    """The state as version 2 had it."""
    streams = {
        skill: {**{key: one for key, one in stream.items() if key not in ('grown_at', 'owed')}, 'growths': []}
        for skill, stream in state['streams'].items()
    }
    return {**state, 'version': 2, 'streams': streams}


def test_a_state_of_the_version_before_goes_on_with_nothing_owed(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    for _ in range(2):
        ids_of(dataset)
    state = dataset.state_dict(0, True)
    again = mixed_dataset(streams_root)
    again.load_state_dict(as_before_growth_and_accounts(state))
    forgotten = {skill: {**one, 'owed': 0.0} for skill, one in state['streams'].items()}
    same = mixed_dataset(streams_root)
    same.load_state_dict({**state, 'streams': forgotten})
    assert again.sample_ids(2).tolist() == same.sample_ids(2).tolist()
    assert again.samples_seen == dataset.samples_seen


def test_a_state_of_the_version_before_within_a_grown_pass_is_refused(streams_root: Path):
    state = as_before_growth_and_accounts(mixed_dataset(streams_root).state_dict(0, True))
    state['streams']['a']['growths'] = [{'shards': 2, 'taken': [1, 0]}]
    message = r'^The dataset state is of version 2, and a had been lengthened in the pass .* the release that saved it'
    with pytest.raises(InputError, match=message):
        mixed_dataset(streams_root).load_state_dict(state)


def test_another_setting_of_shuffle_is_refused(streams_root: Path):
    state = mixed_dataset(streams_root, shuffle=False).state_dict(0, True)
    with pytest.raises(InputError, match=r'^`shuffle` must stay False, as in the saved state, but got: True'):
        mixed_dataset(streams_root).load_state_dict(state)


def test_a_refused_state_changes_nothing(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    foretold = dataset.sample_ids(0).tolist()
    state = {**dataset.state_dict(8, True), 'round_size': 40, 'shuffle_seed': 1}
    with pytest.raises(InputError, match=r'`round_size` must stay 40'):
        dataset.load_state_dict(state)
    assert ids_of(dataset) == foretold
