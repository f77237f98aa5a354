"""Shards are MDSWriter's to the byte, however often what has come of them is put on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streaming import MDSWriter

from skillit_stream.convert.packing import Samples
from skillit_stream.convert.shard_writer import ShardWriter
from skillit_stream.convert.shards import index_entry, shard_config, token_columns, write_index

SHARD_BYTES = 4096


def samples_of(count: int, seq_len: int, dtype: type, *, masked: bool) -> Samples:
    numbers = np.random.default_rng(count)
    tokens = numbers.integers(0, 60_000, (count, seq_len)).astype(dtype)
    return Samples(tokens, numbers.integers(0, 2, (count, seq_len)).astype(np.uint8) if masked else None)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize('dtype', [np.uint16, np.uint32])
@pytest.mark.parametrize('masked', [False, True])
@given(batches=st.lists(st.tuples(st.integers(0, 90), st.booleans()), max_size=8), seq_len=st.integers(2, 70))
@settings(max_examples=25, deadline=None)
def test_the_shards_and_the_index_are_those_of_mdswriter(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: type,
    masked: bool,
    batches: list[tuple[int, bool]],
    seq_len: int,
):
    tmp_path = tmp_path_factory.mktemp('shards')
    columns = token_columns(dtype, seq_len, masked=masked)
    ours = ShardWriter(str(tmp_path / 'ours'), columns, SHARD_BYTES)
    (tmp_path / 'ours').mkdir()
    theirs = MDSWriter(
        out=str(tmp_path / 'theirs'), columns=columns, hashes=['xxh64'], size_limit=SHARD_BYTES
    )
    for count, spill in batches:
        samples = samples_of(count, seq_len, dtype, masked=masked)
        ours.write_samples(samples)
        if spill:
            ours.spill()
            assert ours.waiting_bytes == 0
        for row in range(count):
            mask = {} if samples.mask is None else {'loss_mask': samples.mask[row]}
            theirs.write({'tokens': samples.tokens[row], **mask})
    shards = ours.finish_shards()
    theirs.finish()
    write_index(
        str(tmp_path / 'ours'), [index_entry(one, shard_config(columns, SHARD_BYTES)) for one in shards]
    )
    assert files_of(tmp_path / 'ours') == files_of(tmp_path / 'theirs')
    assert ours.samples == sum(one.samples for one in shards) == sum(count for count, _ in batches)


def test_samples_of_another_length_are_not_written(tmp_path: Path):
    writer = ShardWriter(str(tmp_path), token_columns(np.uint16, 8), SHARD_BYTES)
    with pytest.raises(RuntimeError, match='Internal error: columns of'):
        writer.write_samples(samples_of(3, 9, np.uint16, masked=False))


def test_the_index_names_each_shard_with_its_label(tmp_path: Path):
    columns = token_columns(np.uint16, 64)
    writer = ShardWriter(str(tmp_path), columns, SHARD_BYTES, 'add1.00003')
    writer.write_samples(samples_of(60, 64, np.uint16, masked=False))
    shards = writer.finish_shards()
    write_index(str(tmp_path), [index_entry(one, shard_config(columns, SHARD_BYTES)) for one in shards])
    index = json.loads((tmp_path / 'index.json').read_text())
    assert [one['raw_data']['basename'] for one in index['shards']] == [
        'shard.add1.00003.00000.mds',
        'shard.add1.00003.00001.mds',
        'shard.add1.00003.00002.mds',
    ]
