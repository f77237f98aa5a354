"""A dataset with a remote made twice in one process, as a notebook's cell does that is run again."""

import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from streaming.base.storage.download import LocalDownloader

from skillit_stream.base.errors import InputError
from skillit_stream.loader.eval_streams import EvalStreams
from skillit_stream.loader.host import shared_memory
from tests.support.jobs import fetched_streams, loader_of
from tests.support.mds import SIZES, ids_of, mixed_dataset
from tests.support.mounts import in_child


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch):
    """A folder that stays in use is found to be so at once."""
    monkeypatch.setattr(shared_memory, '_PATIENCE', 0.1)


class Cell:
    """A notebook's cell, and the names that it binds."""

    def __init__(self, root: Path, local: Path) -> None:
        self.root, self.local = root, local
        self.names: dict[str, Any] = {}

    def run(self) -> list[int]:
        """Make a dataset and a loader whose workers stay; returns the ids of a batch."""
        # A name is bound to the new object once it has been made.
        self.names['dataset'] = mixed_dataset(self.root, streams=fetched_streams(self.root, self.local))
        self.names['loader'] = loader_of(self.names['dataset'], 2, persistent_workers=True)
        self.names['batches'] = iter(self.names['loader'])
        return ids_of([next(self.names['batches'])])


@pytest.fixture
def cell(streams_root: Path, tmp_path: Path) -> Cell:
    return Cell(streams_root, tmp_path / 'local')


def test_a_cell_that_is_run_again_is_told_the_way_out_and_it_works(cell: Cell):
    first = cell.run()
    with pytest.raises(
        InputError,
        match=rf'^The local folder {re.escape(str(cell.local))}/a is in use by another dataset of this process: close '
        r'that one, `dataset\.close\(\)`, or delete it and whatever holds it \(its DataLoader, a trainer\), .* to use',
    ):
        cell.run()
    cell.names['dataset'].close()
    assert cell.run() == first
    # The workers of the first had not ended.
    cell.names['dataset'].close()


def test_what_nothing_refers_to_any_more_is_in_nobodys_way(cell: Cell):
    first = cell.run()
    cell.names.clear()
    assert cell.run() == first


def test_a_dataset_may_be_closed_twice_and_fetches_nothing_after(
    streams_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # How long torch waits for each worker to end after an error.
    monkeypatch.setattr('torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL', 0.1)
    dataset = mixed_dataset(streams_root, streams=fetched_streams(streams_root, tmp_path))
    dataset.prepare_shard(0)
    dataset.close()
    dataset.close()
    dataset.prepare_shard(0)  # is there
    with pytest.raises(InputError, match=r'^The dataset was closed, .*: make a new one\.$'):
        dataset.prepare_shard(1)
    for workers in (0, 2):
        with pytest.raises(InputError, match=r'The dataset was closed'):
            ids_of(loader_of(dataset, workers))


def test_closing_waits_for_what_is_being_fetched(
    streams_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    download, begun = LocalDownloader._download_file_impl, threading.Event()

    def slow(self: Any, remote: str, local: str, timeout: float) -> None:
        begun.set()
        time.sleep(0.3)
        download(self, remote, local, timeout)

    dataset = mixed_dataset(streams_root, streams=fetched_streams(streams_root, tmp_path))
    monkeypatch.setattr(LocalDownloader, '_download_file_impl', slow)
    threading.Thread(target=dataset.prepare_shard, args=(0,)).start()
    assert begun.wait(10)
    dataset.close()
    assert dataset.is_local(0)


def test_closing_does_not_wait_for_a_fetcher_that_has_died(streams_root: Path, tmp_path: Path):
    dataset = mixed_dataset(streams_root, streams=fetched_streams(streams_root, tmp_path))

    def die() -> None:
        assert dataset._claim(0)
        signal.raise_signal(signal.SIGKILL)

    with pytest.raises(AssertionError, match='SIGKILL'):
        in_child(die)
    dataset.close()


def test_eval_streams_are_closed_alike(streams_root: Path, tmp_path: Path):
    first = EvalStreams(fetched_streams(streams_root, tmp_path))
    first.close()
    EvalStreams(fetched_streams(streams_root, tmp_path))


def test_a_dataset_without_a_remote_may_be_closed(streams_root: Path):
    dataset = mixed_dataset(streams_root, streams=SIZES)
    dataset.close()
    assert len(ids_of(dataset)) == 48
