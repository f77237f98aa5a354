"""The private names of mosaicml-streaming that the loader leans on: an upgrade that moves one fails here."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import streaming.base.dataset as streaming_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from streaming import Stream, StreamingDataset
from streaming.base.format.mds.reader import MDSReader
from streaming.base.spanner import Spanner
from streaming.base.world import World

from skillit_stream.loader.host.construction import quick_construction
from skillit_stream.order.index import ShardIndex
from tests.support.jobs import fetched_streams
from tests.support.mds import mixed_dataset, write_stream
from tests.support.paths import FIND_HELPERS

sizes_of_shards = st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(lambda sizes: sum(sizes) > 0)


def test_the_constructor_looks_its_spanner_up_in_its_module():
    assert vars(streaming_dataset)['Spanner'] is Spanner
    with quick_construction():
        assert vars(streaming_dataset)['Spanner'] is ShardIndex
    assert vars(streaming_dataset)['Spanner'] is Spanner


def test_the_spanner_is_put_back_after_an_error():
    with pytest.raises(KeyError), quick_construction():
        raise KeyError
    assert vars(streaming_dataset)['Spanner'] is Spanner


@pytest.mark.alone
def test_a_built_dataset_has_a_shard_index_and_others_keep_the_spanner(streams_root: Path):
    assert type(mixed_dataset(streams_root).spanner) is ShardIndex
    plain = StreamingDataset(local=str(streams_root / 'a'), batch_size=1)
    assert type(plain.spanner) is Spanner


@settings(max_examples=40, deadline=None)
@given(sizes=sizes_of_shards)
def test_the_shard_index_answers_as_the_spanner_does(sizes: list[int]):
    # The Spanner itself skips no empty shard correctly, so it is asked about the others only.
    present = np.array([size for size in sizes if size], np.int64)
    ours, theirs = ShardIndex(present), Spanner(present, 4)
    for number in range(int(present.sum())):
        assert ours[number] == theirs[number]
    shards, rows = ShardIndex(np.array(sizes)).locate(np.arange(sum(sizes)))
    expected = [(shard, row) for shard, size in enumerate(sizes) for row in range(size)]
    assert list(zip(shards.tolist(), rows.tolist(), strict=True)) == expected


@pytest.mark.parametrize('index', [-1, 5, 100])
def test_ids_that_do_not_exist_are_an_index_error(index: int):
    with pytest.raises(IndexError, match=rf'^Sample id must be at least 0 and below 5, but got: {index}\.$'):
        ShardIndex(np.array([2, 0, 3]))[index]


def test_attributes_that_the_loader_reads_are_where_it_looks(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    assert isinstance(dataset._parallel_rank_world, World)
    assert isinstance(dataset._unique_rank_world, World)
    world = dataset._parallel_rank_world
    for name in ('rank', 'num_ranks', 'node', 'num_nodes', 'worker_of_rank', 'workers_per_rank'):
        assert isinstance(getattr(world, name), int), name
    assert world.detect_workers().workers_per_rank == 1
    assert dataset.samples_per_shard.tolist() == [7, 5, 12, 3, 10, 10, 3]
    assert dataset.stream_per_shard.tolist() == [0, 0, 0, 0, 1, 1, 2]
    assert dataset.shard_offset_per_stream.tolist() == [0, 4, 6]
    assert dataset.shards_per_stream.tolist() == [4, 2, 1]
    assert dataset.sample_offset_per_stream.tolist() == [0, 27, 47]
    assert dataset.samples_per_stream.tolist() == [27, 20, 3]
    assert dataset.num_samples == 50
    assert len(dataset._shard_access_times) == 7
    assert all(isinstance(shard, MDSReader) for shard in dataset.shards)
    assert [stream.remote for stream in dataset.streams] == [None] * 3
    for name in (
        'length',
        'epoch_size',
        'shuffle',
        'shuffle_seed',
        'cache_limit',
        'predownload',
        'replication',
    ):
        assert hasattr(dataset, name), name


def test_methods_that_the_loader_calls_or_overrides_keep_their_parameters():
    def parameters(method) -> list[str]:
        return list(inspect.signature(method).parameters)[1:]

    assert parameters(StreamingDataset.state_dict) == ['num_samples', 'from_beginning']
    assert parameters(StreamingDataset.load_state_dict) == ['obj']
    assert parameters(StreamingDataset.prepare_shard) == ['shard_id', 'blocking']
    assert parameters(StreamingDataset.get_item)[0] == 'sample_id'
    accepted = parameters(StreamingDataset.__init__)
    for name in (
        'streams',
        'epoch_size',
        'batch_size',
        'shuffle',
        'shuffle_block_size',
        'num_canonical_nodes',
    ):
        assert name in accepted, name


def test_a_shard_reader_tells_where_its_file_is_and_what_it_holds(tmp_path: Path):
    write_stream(tmp_path / 's', [3], extra={'weight': ('float32', np.float32(1))})
    index = json.loads((tmp_path / 's' / 'index.json').read_text())
    shard = MDSReader.from_json(str(tmp_path / 's'), '', index['shards'][0])
    assert Path(shard.dirname, shard.split or '', shard.raw_data.basename).is_file()
    assert shard.samples == 3
    assert shard.column_names == ['tokens', 'weight']
    assert shard.column_encodings == ['ndarray:uint16:8', 'float32']


def test_preparing_a_shard_again_fetches_one_that_was_evicted(tmp_path: Path):
    write_stream(tmp_path / 'remote', [3, 3])
    stream = Stream(remote=str(tmp_path / 'remote'), local=str(tmp_path / 'local'))
    dataset = mixed_dataset(tmp_path, streams={'a': stream}, proportions=None)
    path = tmp_path / 'local' / 'shard.00001.mds'
    assert not path.exists()
    dataset.prepare_shard(1)
    assert path.is_file()
    dataset.evict_shard(1)
    assert not path.exists()
    dataset.prepare_shard(1)
    assert path.is_file()


def test_an_applied_stream_bears_the_marks_by_which_it_is_refused_again(streams_root: Path):
    stream = Stream(local=str(streams_root / 'a'))
    assert not any(hasattr(stream, name) for name in ('proportion', 'repeat', 'choose'))
    mixed_dataset(streams_root, streams={'a': stream}, proportions=None)
    assert hasattr(stream, 'proportion')


_PLAY = """
import os
from pathlib import Path
from tests.support.jobs import fetched_streams
from tests.support.mds import ids_of, mixed_dataset
root, name = Path({root!r}), {name!r}
ids_of(mixed_dataset(root, streams=fetched_streams(root, Path(name))))
if name.endswith('killed'):
    os.kill(os.getpid(), 9)
"""


def test_a_process_that_ends_or_is_killed_leaves_nothing_that_stops_the_next(
    streams_root: Path, tmp_path: Path
):
    # Slow (about 7 s): two processes import everything anew.
    processes = {}
    for name in ('ended', 'killed'):
        code = FIND_HELPERS + _PLAY.format(root=str(streams_root), name=str(tmp_path / name))
        processes[name] = subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.PIPE, text=True)
    for name, process in processes.items():
        problems = process.communicate()[1]
        assert process.returncode == (-9 if name == 'killed' else 0), problems
        # torch names shared memory by process; Streaming's own is cleared by its resource tracker.
        left = [file for file in os.listdir('/dev/shm') if file.startswith(f'torch_{process.pid}_')]
        assert not left
        streams = fetched_streams(streams_root, tmp_path / name)
        assert len(list(mixed_dataset(streams_root, streams=streams))) == 48
