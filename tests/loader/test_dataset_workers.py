"""The order does not depend on worker processes: how many, how long they live, how they are started."""

import gc
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import default_collate

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import collate
from tests.support.jobs import loader_of, printed_by_ranks
from tests.support.mds import SHARES, ids_of, mixed_dataset, owners, tokens_of

ONLY_A = {'a': 1.0, 'b': 0.0, 'c': 0.0}
MIXTURES = [SHARES, ONLY_A, {'a': 0.1, 'b': 0.8, 'c': 0.1}]


@pytest.fixture
def foretold(streams_root: Path) -> list[list[int]]:
    """The rounds of `MIXTURES`, played without a loader."""
    dataset, rounds = mixed_dataset(streams_root), []
    for shares in MIXTURES:
        dataset.set_proportions(shares)
        rounds.append(ids_of(dataset))
    return rounds


@pytest.mark.parametrize('persistent', [False, True])
@pytest.mark.parametrize('workers', [2, 3])
def test_rounds_with_workers_are_the_rounds_without(
    streams_root: Path, foretold: list[list[int]], workers: int, persistent: bool
):
    dataset = mixed_dataset(streams_root)
    loader = loader_of(dataset, workers, persistent_workers=persistent)
    for number, expected in enumerate(foretold):
        dataset.set_proportions(MIXTURES[number])
        assert dataset.sample_ids(number).tolist() == expected
        assert ids_of(loader) == expected
        assert dataset.round == number
        assert dataset.proportions == MIXTURES[number]
    assert sum(dataset.samples_seen.values()) == 3 * 48


def test_batches_from_workers_hold_what_their_ids_name(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    for function in (collate, default_collate):
        for batch in loader_of(dataset, 2, collate_fn=function):
            for tokens, (stream, number) in zip(batch['tokens'], owners(ids_of([batch])), strict=True):
                np.testing.assert_array_equal(tokens.numpy(), tokens_of(stream, number))


@pytest.mark.parametrize('persistent', [False, True])
def test_a_mixture_set_while_workers_run_ahead_waits_for_the_next_round(
    streams_root: Path, foretold: list[list[int]], persistent: bool
):
    dataset = mixed_dataset(streams_root)
    loader = loader_of(dataset, 2, persistent_workers=persistent)
    for number, expected in enumerate(foretold):
        drawn = []
        for batch in loader:
            drawn += ids_of([batch])
            if len(drawn) == 20 and number < 2:
                dataset.set_proportions(MIXTURES[number + 1])
        assert drawn == expected


@pytest.mark.parametrize('workers', [0, 2, 3])
@pytest.mark.parametrize('batches', [1, 5, 12])
def test_after_an_abandoned_round_the_next_one_is_played(
    streams_root: Path, foretold: list[list[int]], workers: int, batches: int
):
    dataset = mixed_dataset(streams_root)
    loader = loader_of(dataset, workers)
    for number in (0, 1):
        drawn = []
        for batch in loader:
            drawn += ids_of([batch])
            if len(drawn) == 4 * batches:
                break
        assert drawn == foretold[number][: 4 * batches]
        dataset.set_proportions(MIXTURES[number + 1])
    assert ids_of(loader) == foretold[2]
    assert dataset.round == 2


def test_persistent_workers_abandoned_in_a_round_play_the_next(streams_root: Path, foretold: list[list[int]]):
    dataset = mixed_dataset(streams_root)
    loader = loader_of(dataset, 2, persistent_workers=True)
    for number in (0, 1):
        assert ids_of([next(iter(loader))]) == foretold[number][:4]
        dataset.set_proportions(MIXTURES[number + 1])
    assert ids_of(loader) == foretold[2]


def test_a_peek_without_workers_and_a_run_with_them_play_the_rounds_in_sequence(
    streams_root: Path, foretold: list[list[int]]
):
    dataset = mixed_dataset(streams_root)
    assert ids_of([next(iter(loader_of(dataset, 0)))]) == foretold[0][:4]
    dataset.set_proportions(MIXTURES[1])
    assert ids_of(loader_of(dataset, 2)) == foretold[1]
    dataset.set_proportions(MIXTURES[2])
    assert ids_of(loader_of(dataset, 3)) == foretold[2]
    assert dataset.round == 2


def test_rounds_shorter_than_the_number_of_workers_are_played_and_end(streams_root: Path):
    alone = mixed_dataset(streams_root, round_size=8)
    expected = [ids_of(alone) for _ in range(4)]
    dataset = mixed_dataset(streams_root, round_size=8)
    loader = loader_of(dataset, 3, persistent_workers=True)
    for number in range(4):
        assert ids_of(loader) == expected[number]
        state = dataset.state_dict(0, True)
        assert (state['epoch'], state['sample_in_epoch']) == (number + 1, 0)


def test_workers_of_every_rank_draw_that_ranks_share(
    streams_root: Path, foretold: list[list[int]], become_rank: Callable[[int, int], None]
):
    expected = np.array(foretold[0]).reshape(-1, 4)
    for rank in range(2):
        become_rank(rank, 2)
        dataset = mixed_dataset(streams_root, batch_size=2)
        own = np.array(ids_of(loader_of(dataset, 2))).reshape(-1, 2)
        np.testing.assert_array_equal(own, expected[:, 2 * rank : 2 * rank + 2])


def test_an_exhausted_stream_reaches_the_main_process_as_an_input_error(
    streams_root: Path, monkeypatch: pytest.MonkeyPatch
):
    # How long torch waits for each worker to end after an error.
    monkeypatch.setattr('torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL', 0.1)
    dataset = mixed_dataset(
        streams_root, round_size=16, on_exhausted='error', proportions={'a': 0.0, 'b': 1.0, 'c': 0.0}
    )
    loader = loader_of(dataset, 2)
    assert len(ids_of(loader)) == 16
    batches: Any = iter(loader)
    with pytest.raises(InputError, match=r'Skill b runs out in round 1: it has 4 samples left'):
        next(batches)
    batches._shutdown_workers()


def test_spawned_workers_see_mixtures_and_play_the_same(streams_root: Path, foretold: list[list[int]]):
    # Slow (about 10 s): each spawned worker imports everything anew.
    dataset = mixed_dataset(streams_root)
    loader = loader_of(dataset, 1, multiprocessing_context='spawn', persistent_workers=True)
    for number, expected in enumerate(foretold[:2]):
        dataset.set_proportions(MIXTURES[number])
        assert ids_of(loader) == expected
    assert dataset.round == 1


def test_a_round_leaves_no_handles_open(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    loader = loader_of(dataset, 2)
    ids_of(loader)
    gc.collect()
    before = len(os.listdir('/proc/self/fd'))
    for _ in range(3):
        ids_of(loader)
    gc.collect()
    assert len(os.listdir('/proc/self/fd')) <= before


_RANK = """
import json
from pathlib import Path
from tests.support.jobs import loader_of
from tests.support.mds import ids_of, mixed_dataset
dataset = mixed_dataset(Path({root!r}), batch_size=2)
rounds = []
for shares in {mixtures!r}:
    dataset.set_proportions(shares)
    rounds.append(ids_of(loader_of(dataset, 2)))
print(json.dumps(rounds))
"""


def test_two_ranks_of_one_node_share_the_rounds(streams_root: Path, foretold: list[list[int]]):
    # Slow (about 7 s): two processes import everything anew.
    printed = printed_by_ranks(_RANK.format(root=str(streams_root), mixtures=MIXTURES))
    played = [np.array(json.loads(out)).reshape(3, -1, 2) for out in printed]
    assert np.concatenate(played, axis=2).reshape(3, -1).tolist() == foretold
