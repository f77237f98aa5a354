"""Who is which rank: by the process group where there is one, whatever the launcher wrote into the environment."""

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streaming import StreamingDataLoader
from torch import distributed

from skillit_stream.base.errors import InputError
from skillit_stream.loader.eval_streams import EvalStreams
from skillit_stream.loader.host.job_rank import as_rank_of_its_job
from tests.support.forked_ranks import by_forked_ranks
from tests.support.jobs import fetched_streams, free_port, loader_of
from tests.support.mds import ids_of, mixed_dataset, open_streams

WORLD = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE')


@pytest.fixture
def foretold(streams_root: Path) -> list[int]:
    """Round 0, played by one process."""
    return ids_of(mixed_dataset(streams_root))


def global_order(parts: list[Any]) -> list[int]:
    """What ranks with batches of 2 have drawn, as one."""
    return np.concatenate([np.array(part).reshape(-1, 2) for part in parts], axis=1).ravel().tolist()


def test_ranks_that_only_a_process_group_knows_share_a_round(
    streams_root: Path, tmp_path: Path, foretold: list[int]
):
    def play(rank: int) -> tuple[list[int], int, Any, int]:
        before = dict(os.environ)
        dataset = mixed_dataset(streams_root, batch_size=2, streams=fetched_streams(streams_root, tmp_path))
        loader = StreamingDataLoader(dataset, batch_size=2, num_workers=1)
        batches = iter(loader)
        ids = ids_of([next(batches) for _ in range(3)])
        state = loader.state_dict() or {}
        ids += ids_of(batches)
        # One folder for both: only one of them may be the machine's first.
        evaluated = EvalStreams(fetched_streams(streams_root, tmp_path / 'eval'))
        assert dict(os.environ) == before
        return ids, state['sample_in_epoch'], dataset.ranks, len(evaluated.all_skills())

    answers = by_forked_ranks(play)
    assert global_order([ids for ids, *_ in answers]) == foretold
    assert [rest for _, *rest in answers] == [[12, 2, 50]] * 2


@pytest.mark.parametrize(
    ('environment', 'message'),
    [
        (
            {'RANK': 0},
            'RANK is 0 in the environment, but 1 by the process group, of rank 1 of 2: correct RANK, or',
        ),
        (
            {'WORLD_SIZE': 1},
            'WORLD_SIZE is 1 in the environment, but 2 by the process group, of rank 0 of 2: corr',
        ),
        (
            {'LOCAL_RANK': 0},
            'LOCAL_RANK is 0 in the environment of rank 1, but must be 1 with 2 ranks on each ma',
        ),
        (
            {'LOCAL_WORLD_SIZE': 3},
            'LOCAL_WORLD_SIZE must be the same on all ranks and divide WORLD_SIZE=2, but got: 3',
        ),
    ],
)
def test_an_environment_that_contradicts_the_group_is_refused_on_all_ranks(
    streams_root: Path, environment: dict[str, int], message: str
):
    refused = by_forked_ranks(lambda rank: mixed_dataset(streams_root), environment=lambda rank: environment)
    assert [text[: len(message)] for text in refused] == [message] * 2


@pytest.mark.parametrize(
    ('names', 'expected'),
    [
        ('ab', [(0, 2, 1), (1, 2, 1)]),
        ('aabb', [(rank, 4, 2) for rank in range(4)]),
        (
            'abab',
            'LOCAL_WORLD_SIZE is not in the environment of all ranks, and cannot be told from the machines',
        ),
        (
            'aab',
            'LOCAL_WORLD_SIZE is not in the environment of all ranks, and cannot be told from the machines',
        ),
    ],
)
def test_ranks_of_a_machine_are_told_by_the_machines(
    monkeypatch: pytest.MonkeyPatch, names: str, expected: Any
):
    def find(rank: int) -> Any:
        monkeypatch.setattr(socket, 'gethostname', lambda: names[rank])
        with as_rank_of_its_job() as found:
            return tuple(found)

    found = by_forked_ranks(find, len(names))
    if isinstance(expected, str):
        found, expected = {text[: len(expected)] for text in found}, {expected}
    assert found == expected


def test_ranks_without_a_group_and_without_local_world_size_share_a_folder(
    streams_root: Path, tmp_path: Path, foretold: list[int]
):
    job = {'WORLD_SIZE': 2, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': free_port()}

    def play(rank: int) -> list[int]:
        dataset = mixed_dataset(streams_root, batch_size=2, streams=fetched_streams(streams_root, tmp_path))
        assert not distributed.is_initialized()
        return ids_of(loader_of(dataset, 0))

    played = by_forked_ranks(play, environment=lambda rank: {**job, 'RANK': rank}, has_group=False)
    assert global_order(played) == foretold


@pytest.mark.parametrize('has_group', [True, False])
@pytest.mark.parametrize('said', [(None, None), (2, None), (1, 1), (1, None)])
def test_a_local_world_size_that_is_missing_or_wrong_is_no_other_dataset(
    streams_root: Path, tmp_path: Path, foretold: list[int], said: tuple[int | None, ...], has_group: bool
):
    group = {'WORLD_SIZE': 2, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': free_port()}

    def environment(rank: int) -> dict[str, Any]:
        local = {} if said[rank] is None else {'LOCAL_WORLD_SIZE': said[rank]}
        return local if has_group else {**group, 'RANK': rank, **local}

    def play(rank: int) -> list[int]:
        return ids_of(
            mixed_dataset(streams_root, batch_size=2, streams=fetched_streams(streams_root, tmp_path))
        )

    played = by_forked_ranks(play, environment=environment, has_group=has_group)
    if said == (1, 1):
        message = (
            f'LOCAL_WORLD_SIZE is 1 in the environment, as if machine {socket.gethostname()} were 2 nodes of 2, '
            f'which would each fetch into the local folder {tmp_path / "a"}: set it to the ranks'
        )
        assert [text[: len(message)] for text in played] == [message] * 2
    else:
        assert global_order(played) == foretold


def test_a_group_that_is_made_for_a_dataset_ends_while_its_threads_end_their_work():
    # What they let go of last needs Python's lock, which torch holds while it waits for them.
    ports = [free_port() for _ in range(20)]

    def find(rank: int) -> int:
        for port in ports:
            os.environ['MASTER_PORT'] = str(port)
            with as_rank_of_its_job() as found:
                assert found.ranks == 2
        return rank

    job = {'WORLD_SIZE': 2, 'MASTER_ADDR': '127.0.0.1'}
    assert by_forked_ranks(find, environment=lambda rank: {**job, 'RANK': rank}, has_group=False) == [0, 1]


@pytest.mark.parametrize(
    ('environment', 'message'),
    [
        (
            {'WORLD_SIZE': 2},
            r'^WORLD_SIZE is 2 in the environment, but RANK is missing and there is no process gr',
        ),
        (
            {'RANK': 1},
            r'^RANK is 1 in the environment, but WORLD_SIZE is missing and there is no process group: ',
        ),
        ({'RANK': 1, 'WORLD_SIZE': 1}, r'^RANK must be at least 0 and below WORLD_SIZE=1, but got: 1\.$'),
        (
            {'LOCAL_RANK': 1},
            r'^LOCAL_RANK is 1 in the environment of rank 0, but must be 0 with 1 ranks on each',
        ),
        ({'RANK': 'x'}, r"^RANK in the environment must be a whole number of ranks, but got: 'x'\.$"),
        ({'RANK': 0, 'WORLD_SIZE': 2}, r'^The process group of the ranks could not be made: .*MASTER_ADDR'),
    ],
)
def test_an_environment_that_says_too_little_is_refused(
    streams_root: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, Any], message: str
):
    for name in (*WORLD, 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(InputError, match=message):
        mixed_dataset(streams_root)


def test_a_group_that_was_destroyed_and_made_again_is_asked_again(streams_root: Path, tmp_path: Path):
    def play(rank: int) -> list[int]:
        found = [mixed_dataset(streams_root, batch_size=2).ranks]
        distributed.destroy_process_group()
        found.append(mixed_dataset(streams_root, batch_size=2).ranks)
        store = f'file://{tmp_path / "store"}'
        # In the other order: who was rank 0 is rank 1.
        distributed.init_process_group('gloo', init_method=store, rank=1 - rank, world_size=2)
        dataset = mixed_dataset(streams_root, batch_size=2, streams=open_streams(streams_root, 'abc'))
        return [*found, dataset.ranks, dataset.rank]

    assert by_forked_ranks(play) == [[2, 1, 2, 1], [2, 1, 2, 0]]
