"""Loaders over the streams of `mds`, and processes that play them as the ranks of one job."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from streaming import Stream
from torch.utils.data import DataLoader

from skillit_stream.loader.batches import collate
from skillit_stream.loader.dataset import SkillStreamingDataset
from tests.support.mds import SIZES
from tests.support.paths import FIND_HELPERS


def loader_of(dataset: SkillStreamingDataset, workers: int, **options: Any) -> DataLoader:
    """A loader of the dataset's own batch size."""
    options = {'collate_fn': collate, **options}
    return DataLoader(dataset, batch_size=dataset.batch_size, num_workers=workers, **options)


def fetched_streams(
    remote: str | Path, local: Path, skills: Iterable[str] = SIZES, **options: Any
) -> dict[str, Stream]:
    """One stream a skill, fetched from below a remote to below a folder."""
    return {
        skill: Stream(remote=f'{remote}/{skill}', local=str(local / skill), **options) for skill in skills
    }


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def printed_by_ranks(code: str, ranks: int = 2) -> list[str]:
    """What each rank of one node prints when all run the same code, which must end without an error."""
    size = {'WORLD_SIZE': str(ranks), 'LOCAL_WORLD_SIZE': str(ranks)}
    world = {**os.environ, **size, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', FIND_HELPERS + code],
            env={**world, 'RANK': str(rank), 'LOCAL_RANK': str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    try:
        output = [process.communicate(timeout=80) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * ranks, output
    return [printed for printed, _ in output]
