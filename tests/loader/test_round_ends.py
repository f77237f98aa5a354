"""The end of a round has one form in a state: none of the next, whoever asks, and read from older releases too."""

from pathlib import Path

import pytest
from streaming import StreamingDataLoader

from skillit_stream.loader.batches import collate
from tests.support.mds import ids_of, mixed_dataset
from tests.support.resuming import BATCH, MIXTURES, ROUND, as_saved, play, rest, set_next


@pytest.fixture
def undisturbed(streams_root: Path) -> list[list[int]]:
    """The batches of four rounds."""
    return list(play(mixed_dataset(streams_root), 0, 4))


@pytest.mark.parametrize('workers', [0, 2])
def test_a_state_of_the_end_of_a_round_is_of_the_next_however_it_is_asked_for(
    streams_root: Path, undisturbed: list[list[int]], workers: int
):
    dataset = mixed_dataset(streams_root)
    loader = StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers, collate_fn=collate)
    for number in range(2):
        for _ in loader:
            pass
        set_next(dataset, number)
        asked = [(ROUND, True), (ROUND, False), (0, True)]
        states = [loader.state_dict() or {}, *(dataset.state_dict(*arguments) for arguments in asked)]
        for state in map(as_saved, states):
            assert (state['epoch'], state['sample_in_epoch']) == (number + 1, 0)
            resumed = mixed_dataset(streams_root)
            resumed.load_state_dict(state)
            assert resumed.round == resumed.next_round == number + 1
            assert resumed.proportions == MIXTURES[number + 1]
            # Asked again before it goes on.
            again = as_saved(resumed.state_dict(0, True))
            assert again == {key: one for key, one in state.items() if key != 'within_epoch'}
            assert list(play(resumed, number + 1, 4)) == rest(undisturbed, number + 1, 0)


def test_a_state_of_version_3_of_a_whole_round_is_read_as_of_the_next(
    streams_root: Path, undisturbed: list[list[int]]
):
    dataset = mixed_dataset(streams_root)
    list(dataset)
    set_next(dataset, 0)
    state = as_saved(dataset.state_dict(ROUND, True))
    # As version 3 had it.
    before = {**state, **state.pop('within_epoch'), 'version': 3}
    assert (before['epoch'], before['sample_in_epoch']) == (0, ROUND)
    resumed = mixed_dataset(streams_root)
    resumed.load_state_dict(before)
    assert as_saved(resumed.state_dict(0, True)) == state
    assert list(play(resumed, 1, 4)) == rest(undisturbed, 1, 0)


def test_streams_may_change_at_the_end_of_a_round_however_its_state_was_asked_for(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    list(dataset)
    state = as_saved(dataset.state_dict(ROUND, False))
    resumed = mixed_dataset(streams_root, round_size=40, batch_size=8)
    resumed.load_state_dict(state)
    assert len(ids_of(resumed)) == 40
