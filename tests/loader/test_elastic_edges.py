"""A run goes on in a world of any other size, also with streams and numbers of skills at the edges."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.loader.dataset import SkillStreamingDataset
from tests.support.jobs import loader_of
from tests.support.mds import ids_of, mixed_dataset, open_streams, owners, write_stream, write_streams

BecomeRank = Callable[[int, int], None]
ROUND, BATCH = 48, 12
STEPS = ROUND // BATCH


def play(dataset: SkillStreamingDataset, rounds: int, workers: int = 0) -> list[int]:
    """Sample ids of what is left of this round and of the rounds up to `rounds`, from a fresh or loaded start."""
    loader = loader_of(dataset, workers)
    return [one for _ in range(dataset.round, rounds) for one in ids_of(loader)]


def stopped_at(dataset: SkillStreamingDataset, step: int, workers: int = 0) -> dict[str, Any]:
    """The state, after a trip through a file, when all ranks have trained on `step` global batches."""
    for number in range(step // STEPS + 1):
        for done, _ in enumerate(loader_of(dataset, workers), start=number * STEPS + 1):
            if done == step:
                sample = step % STEPS * dataset.global_batch_size
                return json.loads(json.dumps(dataset.state_dict(sample * (dataset.replication or 1), True)))
    raise AssertionError('the rounds are over')


def by_all_ranks(
    root: Path,
    become_rank: BecomeRank,
    state: dict[str, Any],
    *,
    ranks: int,
    workers: int = 0,
    **options: Any,
) -> list[int]:
    """What ranks, a node each, draw from a state to the end of round 1, as one global order."""
    parts = []
    for rank in range(ranks):
        become_rank(rank, ranks)
        dataset = mixed_dataset(root, batch_size=BATCH // ranks, **options)
        dataset.load_state_dict(state)
        parts.append(np.array(play(dataset, 2, workers)).reshape(-1, BATCH // ranks))
    return np.concatenate(parts, axis=1).ravel().tolist()


# (nodes, workers of each), to fewer and to more.
WORLDS = [
    ((1, 0), (4, 2)),
    ((1, 2), (6, 0)),
    ((2, 3), (3, 0)),
    ((3, 0), (2, 2)),
    ((4, 2), (1, 3)),
    ((6, 0), (4, 0)),
]


@pytest.mark.parametrize(('before', 'after'), WORLDS, ids=str)
@pytest.mark.parametrize('step', [3, STEPS, STEPS + 1])
def test_any_world_goes_on_where_any_other_stopped(
    streams_root: Path, become_rank: BecomeRank, before: tuple[int, int], after: tuple[int, int], step: int
):
    expected = play(mixed_dataset(streams_root, batch_size=BATCH), 2)
    become_rank(0, before[0])
    state = stopped_at(mixed_dataset(streams_root, batch_size=BATCH // before[0]), step, before[1])
    rest = by_all_ranks(streams_root, become_rank, state, ranks=after[0], workers=after[1])
    assert rest == expected[step * BATCH :]


@pytest.mark.parametrize('replicas', [2, 3])
def test_replicas_draw_the_same_and_may_come_and_go(
    streams_root: Path, become_rank: BecomeRank, replicas: int
):
    expected = play(mixed_dataset(streams_root, batch_size=BATCH), 2)
    become_rank(0, 2 * replicas)
    state = stopped_at(mixed_dataset(streams_root, batch_size=BATCH // 2, replication=replicas), 3)
    assert by_all_ranks(streams_root, become_rank, state, ranks=2) == expected[3 * BATCH :]
    become_rank(0, 2)
    assert stopped_at(mixed_dataset(streams_root, batch_size=BATCH // 2), 3) == state
    parts = []
    for rank in range(2 * replicas):
        become_rank(rank, 2 * replicas)
        dataset = mixed_dataset(streams_root, batch_size=BATCH // 2, replication=replicas)
        dataset.load_state_dict(state)
        parts.append(np.array(play(dataset, 2)).reshape(-1, BATCH // 2))
    for rank, part in enumerate(parts):
        np.testing.assert_array_equal(part, parts[rank // replicas * replicas])
    assert np.concatenate(parts[::replicas], axis=1).ravel().tolist() == expected[3 * BATCH :]


def test_another_global_batch_waits_for_the_end_of_the_round(streams_root: Path, become_rank: BecomeRank):
    whole = mixed_dataset(streams_root, batch_size=BATCH)
    within, between = stopped_at(whole, 3), stopped_at(mixed_dataset(streams_root, batch_size=BATCH), STEPS)
    become_rank(0, 2)
    # Two ranks where there was one, with its batch: twice the global batch.
    twice = mixed_dataset(streams_root, batch_size=BATCH)
    with pytest.raises(
        InputError,
        match=r'^`global_batch_size` must stay 12 until the round .*: 24: finish that round first\.$',
    ):
        twice.load_state_dict(within)
    twice.load_state_dict(between)
    drawn = twice.sample_ids(1).tolist()
    for rank in range(2):
        become_rank(rank, 2)
        twice = mixed_dataset(streams_root, batch_size=BATCH)
        twice.load_state_dict(between)
        own = np.reshape(drawn, (-1, 2, BATCH))[:, rank]
        assert play(twice, 2) == own.ravel().tolist()
    # The tapes go on where they were: over both rounds nothing is drawn too often.
    expect_even([*whole.sample_ids(0).tolist(), *drawn], {'a': [27], 'b': [20], 'c': [3]})


def expect_even(drawn: list[int], sizes: dict[str, list[int]]) -> None:
    """In each stream no sample was drawn twice more often than another."""
    counts = Counter(owners(drawn, sizes))
    for stream, shards in enumerate(sizes.values()):
        times = [counts[stream, number] for number in range(sum(shards))]
        assert max(times) - min(times) <= 1


EDGES = {
    'one skill': {'a': [30, 7]},
    'one sample': {'a': [1]},
    'only streams of one sample': {'a': [1], 'b': [1], 'c': [1]},
    'below a round': {'a': [47], 'b': [100]},
    'below a global batch': {'a': [11], 'b': [5, 3], 'c': [200]},
    'below the number of nodes': {'a': [3], 'b': [1, 1], 'c': [64]},
}


@pytest.mark.parametrize('canonical_nodes', [1, 4])
@pytest.mark.parametrize('sizes', EDGES.values(), ids=EDGES)
def test_small_streams_are_walked_evenly_and_go_on_with_more_nodes(
    tmp_path: Path, become_rank: BecomeRank, sizes: dict[str, list[int]], canonical_nodes: int
):
    write_streams(tmp_path, sizes)
    shares = dict.fromkeys(sizes, 1 / len(sizes))
    options = {'streams': sizes, 'proportions': shares, 'num_canonical_nodes': canonical_nodes}
    whole = mixed_dataset(tmp_path, batch_size=BATCH, **options)
    expected = play(whole, 2)
    expect_even(expected[:ROUND], sizes)
    expect_even(expected, sizes)
    assert Counter(stream for stream, _ in owners(expected[:ROUND], sizes)) == dict.fromkeys(
        range(len(sizes)), ROUND // len(sizes)
    )
    become_rank(0, 1)
    state = stopped_at(mixed_dataset(tmp_path, batch_size=BATCH, **options), 2)
    assert by_all_ranks(tmp_path, become_rank, state, ranks=4, **options) == expected[2 * BATCH :]


def test_two_thousand_skills_play_a_round_and_resume(tmp_path: Path):
    write_stream(tmp_path / 'written', [3])
    skills = [f'skill_{number:04}' for number in range(2000)]
    for skill in skills:
        shutil.copytree(tmp_path / 'written', tmp_path / skill)

    def dataset() -> SkillStreamingDataset:
        streams = open_streams(tmp_path, skills)
        return mixed_dataset(tmp_path, streams=streams, proportions=None, round_size=4000, batch_size=400)

    played = dataset()
    assert played.skills == tuple(skills)
    loader = iter(loader_of(played, 0))
    drawn = ids_of([next(loader) for _ in range(4)])
    state = json.loads(json.dumps(played.state_dict(1600, True)))
    rest = ids_of(loader)
    assert Counter(one // 3 for one in [*drawn, *rest]) == dict.fromkeys(range(2000), 2)
    resumed = dataset()
    resumed.load_state_dict(state)
    assert ids_of(loader_of(resumed, 2)) == rest
    assert ids_of(loader_of(resumed, 2)) == ids_of(loader_of(played, 0))
