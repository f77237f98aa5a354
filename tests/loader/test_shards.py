"""Reading batches from memory-mapped shards, and fetching shards ahead."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from streaming.base.format.mds.reader import MDSReader

from skillit_stream.base.errors import InputError
from skillit_stream.loader import shards as shards_module
from skillit_stream.loader.host import fetch
from skillit_stream.loader.host.fetch import ShardFetcher
from skillit_stream.loader.shards import BatchReader, ShardMaps, common_dtype, sample_dtype
from tests.support.mds import SEQ_LEN, tokens_of, write_stream

MASK = np.array([0, 1] * (SEQ_LEN // 2), np.uint8)


def readers(folder: Path) -> list[MDSReader]:
    """The shard readers of a stream."""
    index = json.loads((folder / 'index.json').read_text())
    return [MDSReader.from_json(str(folder), '', shard) for shard in index['shards']]


def dtype_of(shards: list[MDSReader]) -> np.dtype:
    """The record type of shards that have one."""
    dtype = sample_dtype(shards[0])
    assert dtype is not None
    return dtype


def never(shard: int) -> None:
    """A `prepare` for shards that are all there."""
    pytest.fail(f'shard {shard} was on disk')


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """A stream of three shards with a mask and a number besides the tokens."""
    extra = {'loss_mask': (f'ndarray:uint8:{SEQ_LEN}', MASK), 'weight': ('float32', np.float32(0.5))}
    write_stream(tmp_path / 's', [4, 1, 3], 9, extra=extra)
    return tmp_path / 's'


def test_rows_of_many_shards_are_gathered_in_the_order_asked(stream: Path):
    shards = readers(stream)
    reader = BatchReader(shards, dtype=dtype_of(shards), prepare=never)
    batch = reader.read(np.array([2, 0, 1, 0, 2, 2]), np.array([1, 3, 0, 0, 2, 1]))
    numbers = [6, 3, 4, 0, 7, 6]
    np.testing.assert_array_equal(batch['tokens'], [tokens_of(9, number) for number in numbers])
    np.testing.assert_array_equal(batch['loss_mask'], np.tile(MASK, (6, 1)))
    assert batch['weight'].tolist() == [0.5] * 6
    assert {name: column.dtype.name for name, column in batch.items()} == {
        'tokens': 'uint16',
        'loss_mask': 'uint8',
        'weight': 'float32',
    }


def test_a_gathered_batch_is_writable_and_apart_from_the_file(stream: Path):
    shards = readers(stream)
    reader = BatchReader(shards, dtype=dtype_of(shards), prepare=never)
    batch = reader.read(np.array([0, 0]), np.array([0, 1]))
    batch['tokens'][:] = 0
    np.testing.assert_array_equal(reader.read(np.array([0]), np.array([1]))['tokens'], [tokens_of(9, 1)])


def test_what_is_gathered_is_what_streaming_decodes(stream: Path):
    shards = readers(stream)
    reader = BatchReader(shards, dtype=dtype_of(shards), prepare=never)
    for number, shard in enumerate(shards):
        for row in range(len(shard)):
            gathered = reader.read(np.array([number]), np.array([row]))
            for name, value in shard[row].items():
                np.testing.assert_array_equal(gathered[name][0], value)


def test_shards_read_are_reported_for_the_cache(stream: Path):
    shards, touched = readers(stream), []
    reader = BatchReader(shards, dtype=dtype_of(shards), prepare=never, touch=touched.append)
    reader.read(np.array([2, 0, 2]), np.array([0, 0, 0]))
    reader.read(np.array([2]), np.array([0]))
    assert touched == [0, 2, 2]


def test_a_missing_shard_is_prepared_and_then_read(stream: Path):
    shards = readers(stream)
    path = stream / shards[1].raw_data.basename
    path.rename(stream / 'away')
    prepared = []

    def prepare(shard: int) -> None:
        prepared.append(shard)
        if len(prepared) == 2:
            (stream / 'away').rename(path)

    reader = BatchReader(shards, dtype=dtype_of(shards), prepare=prepare)
    batch = reader.read(np.array([1]), np.array([0]))
    np.testing.assert_array_equal(batch['tokens'], [tokens_of(9, 4)])
    assert prepared == [1, 1]


@pytest.mark.parametrize('damage', ['cut', 'empty', 'other'])
def test_a_damaged_shard_is_named_with_the_remedy(stream: Path, damage: str):
    shards = readers(stream)
    path = stream / shards[0].raw_data.basename
    whole = path.read_bytes()
    other = (stream / shards[2].raw_data.basename).read_bytes()
    path.write_bytes({'cut': whole[:-1], 'empty': b'', 'other': other}[damage])
    reader = BatchReader(shards, dtype=dtype_of(shards), prepare=never)
    message = (
        r'^Shard .*shard\.00000\.mds does not hold the 4 samples of 28 bytes .*: delete the file to fetch'
    )
    with pytest.raises(RuntimeError, match=message):
        reader.read(np.array([0]), np.array([0]))


def test_the_map_used_longest_ago_is_closed_first(stream: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards_module, 'MAX_OPEN_SHARDS', 2)
    shards = readers(stream)
    maps = ShardMaps(dtype_of(shards))
    first = maps.get(0, shards[0])
    second = maps.get(1, shards[1])
    assert maps.get(0, shards[0]) is first
    maps.get(2, shards[2])
    assert maps.get(0, shards[0]) is first
    assert maps.get(1, shards[1]) is not second


@pytest.mark.parametrize('encoding', ['str', 'ndarray', 'ndarray:uint16', 'pkl', 'json', 'bytes', 'jpeg'])
def test_columns_of_varying_size_have_no_record_type(tmp_path: Path, encoding: str):
    write_stream(tmp_path / 's', [1])
    shard = readers(tmp_path / 's')[0]
    shard.column_encodings[0] = encoding
    assert sample_dtype(shard) is None


def test_other_formats_than_mds_have_no_record_type():
    assert sample_dtype(object()) is None


def test_streams_of_different_columns_are_refused(tmp_path: Path):
    write_stream(tmp_path / 'a', [1])
    write_stream(tmp_path / 'b', [1], extra={'loss_mask': ('ndarray:uint8:8', MASK)})
    shards = {name: readers(tmp_path / name)[0] for name in 'ab'}
    message = (
        r'^Streams must have the same columns, but a has .*tokens.* and b has .*loss_mask.*: convert them'
    )
    with pytest.raises(InputError, match=message):
        common_dtype(shards)


@pytest.mark.parametrize('name', ['skill', 'sample_id'])
def test_columns_that_the_loader_adds_are_reserved(tmp_path: Path, name: str):
    write_stream(tmp_path / 'a', [1], extra={name: ('int64', np.int64(3))})
    with pytest.raises(InputError, match=f"^Streams must not have a column '{name}'"):
        common_dtype({'a': readers(tmp_path / 'a')[0]}, reserved=('skill', 'sample_id'))


def test_needed_shards_are_fetched_first_in_the_order_asked_and_a_failure_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(fetch, 'THREADS', 1)
    fetched, gate, done = [], threading.Event(), threading.Event()

    def prepare(shard: int, is_needed: bool) -> None:
        gate.wait(10)
        fetched.append((shard, type(shard), is_needed))
        if shard == 7:
            raise OSError('no such object')
        if shard == 4:
            done.set()

    fetcher = ShardFetcher(prepare)
    # The thread waits with this one until all others are asked for.
    fetcher.request([0])
    fetcher.request([3, 2], are_needed=False)
    # In place of these two, which may be used up by now.
    fetcher.request([8, 4], are_needed=False)
    fetcher.request(np.array([5, 7]))
    fetcher.request([1])
    gate.set()
    assert done.wait(10)
    assert fetched == [
        *((shard, int, True) for shard in (0, 5, 7, 1)),
        *((shard, int, False) for shard in (8, 4)),
    ]


def test_asking_for_shards_does_not_wait_for_them():
    gate, fetched = threading.Event(), []

    def prepare(shard: int, is_needed: bool) -> None:
        gate.wait(10)
        fetched.append(shard)

    fetcher = ShardFetcher(prepare)
    fetcher.request(range(1000))
    fetcher.request(range(1000), are_needed=False)
    assert fetched == []
    gate.set()
