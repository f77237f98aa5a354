"""A /dev/shm that is too small is said to be, where it would end the process by a bus error."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from skillit_stream.base.errors import InputError
from skillit_stream.loader.eval_streams import EvalStreams
from skillit_stream.loader.host.shared_room import allocated_memory, shared_storage
from tests.support.jobs import loader_of
from tests.support.mds import SIZES, ids_of, mixed_dataset, open_streams
from tests.support.mounts import in_child, tiny

MESSAGE = r'^/dev/shm is full: the loader needs [\d.]+ [KM]B more there, and .* of [\d.]+ KB are free\. .*--shm-size=1g'


@pytest.mark.parametrize('size', ['100k', '8k', '4k'])
def test_a_tiny_one_is_named_with_its_remedy(streams_root: Path, size: str):
    with pytest.raises(InputError, match=MESSAGE):
        in_child(lambda: mixed_dataset(streams_root) and None, [tiny('/dev/shm', size)])


def test_for_evaluation_too(streams_root: Path):
    with pytest.raises(InputError, match=MESSAGE):
        in_child(lambda: EvalStreams(open_streams(streams_root, SIZES)) and None, [tiny('/dev/shm', '8k')])


def test_what_is_asked_for_there_is_enough(streams_root: Path):
    def play() -> list[int]:
        return ids_of(loader_of(mixed_dataset(streams_root), 2))

    found = in_child(play, [tiny('/dev/shm', '400k')])
    assert found == mixed_dataset(streams_root).sample_ids(0).tolist()


def test_other_ways_of_torch_to_share_are_looked_after(streams_root: Path):
    def share() -> Any:
        torch.multiprocessing.set_sharing_strategy('file_system')
        return mixed_dataset(streams_root) and None

    with pytest.raises(InputError, match=MESSAGE):
        in_child(share, [tiny('/dev/shm', '100k')])


def test_shared_memory_is_zeros():
    assert bytes(shared_storage(100).tolist()) == bytes(100)


def test_one_that_another_process_is_about_to_make_is_waited_for():
    name = f'room_{os.getpid()}'
    file = Path('/dev/shm', name)
    file.touch()
    grow = threading.Timer(0.2, os.truncate, (file, 4096))
    grow.start()
    try:
        memory = allocated_memory(name, size=4096)
        assert memory.shm.size == 4096
        memory.cleanup()
    finally:
        grow.join()
        file.unlink(missing_ok=True)
