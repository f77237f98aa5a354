"""A process may end between any two stores to the shared states: whoever comes after takes over, and nobody waits."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from streaming.base.dataset import _ShardState
from streaming.base.shared import SharedArray, SharedScalar

from tests.support.jobs import fetched_streams
from tests.support.mds import mixed_dataset
from tests.support.paths import IMPORTABLE

PATIENCE = 20  # seconds for what takes milliseconds


def ended_after(stores: int | None, action: Callable[[], None]) -> int:
    """Do it in a child that is killed right after so many stores; returns how many it made in all."""
    done = multiprocessing.Value('i', 0)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return done.value
    for kind, name in ((SharedArray, '__setitem__'), (SharedScalar, 'set')):
        store = getattr(kind, name)

        def counted(*arguments: Any, store: Any = store) -> None:
            store(*arguments)
            done.value += 1
            if done.value == stores:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(kind, name, counted)
    try:
        action()
    finally:
        os._exit(0)


def fetch_all(dataset: Any) -> None:
    """Every shard, one after another; fails where that takes too long."""

    def too_long(*_: Any) -> None:
        raise TimeoutError(dataset._shard_states.numpy().tolist())

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(PATIENCE)
    try:
        for shard in range(dataset.num_shards):
            dataset.prepare_shard(shard)
    finally:
        signal.alarm(0)


def usage_there(folder: Path) -> int:
    """Bytes of the files that are there, counted on the disk."""
    return sum(path.stat().st_size for path in folder.rglob('*') if path.suffix in ('.mds', '.json'))


@pytest.mark.parametrize('limited', [False, True])
@pytest.mark.parametrize('touched', [False, True])
def test_a_death_after_any_store_leaves_nobody_waiting(
    limited: bool, touched: bool, streams_root: Path, tmp_path: Path
):
    def made(number: int) -> tuple[Any, Path]:
        folder = tmp_path / str(number)
        limit = {'cache_limit': smallest_limit} if limited else {}
        dataset: Any = mixed_dataset(folder, streams=fetched_streams(streams_root, folder), **limit)
        if limited:
            # As much as fits: what comes must evict.
            for shard in range(dataset.num_shards - 1):
                dataset.prepare_shard(shard)
        return dataset, folder

    smallest_limit = 1 << 40
    whole: Any = mixed_dataset(tmp_path / 'w', streams=fetched_streams(streams_root, tmp_path / 'w'))
    largest = max(shard.get_max_size() for shard in whole.shards)
    smallest_limit = sum(stream.get_index_size() for stream in whole.streams) + 2 * largest
    last = whole.num_shards - 1
    del whole

    first, _ = made(0)
    stores = ended_after(None, partial(first.prepare_shard, last))
    assert stores >= (5 if limited else 4)
    for number in range(1, stores + 1):
        dataset, folder = made(number)
        ended_after(number, partial(dataset.prepare_shard, last))
        if touched:
            # A reader of an evicted copy, a little late.
            dataset.touch(last)
        fetch_all(dataset)
        assert dataset.is_local(last)
        if limited:
            assert usage_there(folder) <= dataset.cache_usage <= smallest_limit
        else:
            assert set(dataset._shard_states.numpy().tolist()) == {int(_ShardState.LOCAL)}


def test_usage_that_a_death_has_left_is_counted_anew(streams_root: Path, tmp_path: Path):
    whole: Any = mixed_dataset(tmp_path / 'w', streams=fetched_streams(streams_root, tmp_path / 'w'))
    largest = max(shard.get_max_size() for shard in whole.shards)
    limit = sum(stream.get_index_size() for stream in whole.streams) + largest
    del whole
    dataset: Any = mixed_dataset(
        tmp_path / 'l', streams=fetched_streams(streams_root, tmp_path / 'l'), cache_limit=limit
    )
    dataset.cache_usage += 10**9
    fetch_all(dataset)
    assert usage_there(tmp_path / 'l') == dataset.cache_usage


MADE_IN_A_CHILD = """
import os, sys, torch
from pathlib import Path
from tests.support.mds import mixed_dataset

root = Path(sys.argv[1])
torch.ones(10**6).sum()  # starts the threads that a child does not have
parent = mixed_dataset(root)
del parent
child = os.fork()
if not child:
    mixed_dataset(root)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.alone
def test_a_dataset_may_be_made_in_a_forked_child(streams_root: Path):
    environment = {**os.environ, **IMPORTABLE, 'OMP_NUM_THREADS': '2'}
    began = time.monotonic()
    command = [sys.executable, '-c', MADE_IN_A_CHILD, str(streams_root)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (done.stderr, time.monotonic() - began)
