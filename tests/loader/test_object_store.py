"""Streams in an object store: a real S3 server on this machine, which can be told to fail."""

import contextlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streaming import Stream
from streaming.base.dataset import _ShardState
from streaming.base.hashing import get_hash

from skillit_stream.base.errors import InputError
from skillit_stream.loader.dataset import SkillStreamingDataset
from tests.support.jobs import fetched_streams, loader_of, printed_by_ranks
from tests.support.mds import SIZES, ids_of, mixed_dataset, owners, tokens_of, write_stream, write_streams
from tests.support.object_store import Store
from tests.support.waiting import wait_for

# A store that does not answer must not hold up the suite; nothing here takes more than a few seconds.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def hashed(tmp_path: Path) -> Path:
    """The streams of `SIZES` with the hash of every shard in their indexes."""
    root = tmp_path / 'hashed'
    write_streams(root, SIZES)
    for index in root.glob('*/index.json'):
        content = json.loads(index.read_text())
        for shard in content['shards']:
            raw = shard['raw_data']
            raw['hashes'] = {'sha1': get_hash('sha1', (index.parent / raw['basename']).read_bytes())}
        index.write_text(json.dumps(content))
    return root


def expect_right(batch: Any, sizes: Any = None) -> None:
    """The tokens of a batch are those its ids name."""
    for tokens, (stream, number) in zip(batch['tokens'], owners(ids_of([batch]), sizes), strict=True):
        np.testing.assert_array_equal(tokens.numpy(), tokens_of(stream, number))


def files_of(local: Path) -> list[str]:
    return sorted(path.relative_to(local).as_posix() for path in local.rglob('*') if path.is_file())


def disk_use(local: Path) -> int:
    """Bytes of all files; one may be evicted while they are counted."""
    total = 0
    for path in local.rglob('*'):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


@pytest.mark.parametrize('workers', [0, 2])
def test_two_rounds_from_the_store_are_the_rounds_of_local_shards(
    store: Store, hashed: Path, tmp_path: Path, workers: int
):
    local = mixed_dataset(hashed)
    expected = [ids_of(local), ids_of(local)]
    streams = fetched_streams(f's3://{store.upload(hashed)}', tmp_path / 'local', validate_hash='sha1')
    dataset = mixed_dataset(tmp_path, streams=streams)
    for round_ids in expected:
        batches = list(loader_of(dataset, workers))
        assert ids_of(batches) == round_ids
        for batch in batches:
            expect_right(batch)


@pytest.mark.parametrize('workers', [0, 2])
def test_the_cache_limit_bounds_the_disk_while_batches_draw_on_many_shards(
    store: Store, tmp_path: Path, workers: int
):
    sizes, local = {skill: [40] * 12 for skill in 'abc'}, tmp_path / 'local'
    write_streams(tmp_path / 'corpus', sizes)
    bucket = store.upload(tmp_path / 'corpus')
    shard = (tmp_path / 'corpus/a/shard.00000.mds').stat().st_size
    limit = sum(path.stat().st_size for path in (tmp_path / 'corpus').glob('*/index.json')) + 5 * shard
    streams = fetched_streams(f's3://{bucket}', local, sizes)
    dataset = mixed_dataset(
        tmp_path,
        streams=streams,
        proportions=None,
        round_size=240,
        batch_size=12,
        shuffle_block_size=80,
        cache_limit=limit,
    )
    drawn = []
    for batch in loader_of(dataset, workers):
        expect_right(batch, sizes)
        drawn += ids_of([batch])
        assert disk_use(local) <= limit
        assert dataset.cache_usage <= limit
    assert len(drawn) == 240
    maps = Path('/proc/self/maps').read_text().splitlines()
    assert sum(str(local) in line and '(deleted)' in line for line in maps) <= 12
    if not workers:
        # What was requested ahead arrives; then the books agree with the disk.
        wait_for(lambda: dataset.cache_usage == disk_use(local))


def dataset_with_room_for(shards: float, root: Path) -> SkillStreamingDataset:
    """One stream without a remote and one with, and room in the cache for some shards of that one."""
    write_stream(root / 'mine', [20] * 4, 0)
    write_stream(root / 'remote', [20] * 12, 1)
    streams = {
        'mine': Stream(local=str(root / 'mine')),
        'theirs': Stream(remote=str(root / 'remote'), local=str(root / 'local')),
    }
    kept = sum(path.stat().st_size for path in [*(root / 'mine').iterdir(), root / 'remote/index.json'])
    limit = kept + int(shards * (root / 'mine/shard.00000.mds').stat().st_size)
    return mixed_dataset(root, streams=streams, proportions=None, round_size=320, cache_limit=limit)


def test_the_only_copy_of_a_shard_is_never_evicted(tmp_path: Path):
    ids_of(dataset_with_room_for(3, tmp_path))
    assert len(files_of(tmp_path / 'mine')) == 5
    assert len(files_of(tmp_path / 'local')) <= 4


def test_a_cache_limit_without_room_for_one_shard_is_named(tmp_path: Path):
    dataset = dataset_with_room_for(0.1, tmp_path)
    with pytest.raises(InputError, match=r'^`cache_limit` must leave room for a shard of .*: raise it\.$'):
        ids_of(dataset)


def test_a_store_that_fails_a_few_times_is_asked_again(store: Store, streams_root: Path, tmp_path: Path):
    bucket = store.upload(streams_root)
    dataset = mixed_dataset(tmp_path, streams=fetched_streams(f's3://{bucket}', tmp_path / 'local'))
    # Once and twice: the client tries again; the four of 'c' are more than its own patience.
    store.failures.update({f'{bucket}/a/shard.00000.mds': 1, f'{bucket}/b/shard.00001.mds': 2})
    store.failures[f'{bucket}/c/shard.00000.mds'] = 4
    assert sorted(ids_of(dataset)) == sorted(dataset.sample_ids(0).tolist())
    assert not +store.failures


def damage(store: Store, bucket: str, kind: str) -> None:
    """Spoil the second shard of skill b in the store."""
    client, key = store.client(), 'b/shard.00001.mds'
    whole = client.get_object(Bucket=bucket, Key=key)['Body'].read()
    if kind == 'missing':
        client.delete_object(Bucket=bucket, Key=key)
    else:
        bad = whole[:-9] if kind == 'truncated' else whole[:-9] + bytes(9)
        client.put_object(Bucket=bucket, Key=key, Body=bad)


CAUSES = {
    'missing': 'Object s3.* not found',
    'truncated': r'it has \d+ bytes, but its index says \d+',
    'altered': 'Checksum failure',
}


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('kind', CAUSES)
def test_a_shard_that_cannot_be_had_is_one_error_that_names_it(
    store: Store, hashed: Path, tmp_path: Path, kind: str, workers: int, monkeypatch: pytest.MonkeyPatch
):
    # How long torch waits for each worker to end after an error.
    monkeypatch.setattr('torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL', 0.1)
    bucket = store.upload(hashed)
    damage(store, bucket, kind)
    options = {'download_retry': 1, 'validate_hash': 'sha1' if kind == 'altered' else None}
    dataset = mixed_dataset(
        tmp_path, streams=fetched_streams(f's3://{bucket}', tmp_path / 'local', **options)
    )
    batches: Any = iter(loader_of(dataset, workers))
    message = rf'Skill b cannot get its shard s3://{bucket}/b/shard.00001.mds: {CAUSES[kind]}.*Check that it'
    with pytest.raises(RuntimeError, match=message):
        ids_of(batches)
    # What did not pass is not left behind for a second try to trust.
    assert 'b/shard.00001.mds' not in files_of(tmp_path / 'local')
    if workers:
        batches._shutdown_workers()


def test_a_hash_that_the_index_does_not_hold_is_bad_input(store: Store, hashed: Path, tmp_path: Path):
    streams = fetched_streams(f's3://{store.upload(hashed)}', tmp_path / 'local', validate_hash='md5')
    dataset = mixed_dataset(tmp_path, streams=streams)
    with pytest.raises(InputError, match=r'^`validate_hash` must be a hash .* \(sha1\), but got: \'md5\'\.$'):
        ids_of(dataset)


@pytest.mark.parametrize('spoil', [lambda data: data[:-5], lambda data: b'\xff' * 4 + data[4:]])
def test_a_local_copy_that_is_damaged_is_fetched_again(
    streams_root: Path, tmp_path: Path, spoil: Callable[[bytes], bytes]
):
    dataset = mixed_dataset(tmp_path, streams=fetched_streams(streams_root, tmp_path))
    expected = ids_of(dataset)
    del dataset
    copy = tmp_path / 'b/shard.00000.mds'
    copy.write_bytes(spoil(copy.read_bytes()))
    assert ids_of(mixed_dataset(tmp_path, streams=fetched_streams(streams_root, tmp_path))) == expected
    assert copy.read_bytes() == (streams_root / 'b/shard.00000.mds').read_bytes()


def test_a_shard_whose_fetching_process_has_ended_is_fetched_by_others(streams_root: Path, tmp_path: Path):
    dataset = mixed_dataset(tmp_path, streams=fetched_streams(streams_root, tmp_path))
    ended = subprocess.Popen(['true'])
    ended.wait()
    for shard in range(7):
        dataset._shard_states[shard] = _ShardState.PREPARING
        dataset._shard_access_times[shard] = ended.pid
    (tmp_path / 'c/shard.00000.mds.6dE01fA2').write_bytes(b'the half of it')
    assert len(ids_of(dataset)) == 48
    assert 'c/shard.00000.mds.6dE01fA2' not in files_of(tmp_path)


def test_forked_workers_do_not_share_the_connections_of_their_parent(
    store: Store, streams_root: Path, tmp_path: Path
):
    streams = fetched_streams(f's3://{store.upload(streams_root)}', tmp_path / 'local')
    mixed_dataset(tmp_path, streams=streams)
    downloader: Any = streams['a']._downloader
    client = downloader._s3_client
    assert client is not None
    child = os.fork()
    if not child:
        own: Any = streams['a']._downloader
        os._exit(own._s3_client is not None)
    assert os.waitpid(child, 0)[1] == 0
    assert streams['a']._downloader is downloader
    assert downloader._s3_client is client


def shards_of(dataset: SkillStreamingDataset, ids: Any) -> set[int]:
    return set(dataset.spanner.locate(np.asarray(ids))[0].tolist())


def local_shards(dataset: SkillStreamingDataset) -> set[int]:
    return set(np.flatnonzero(dataset._shard_states.numpy() == _ShardState.LOCAL).tolist())


def test_shards_of_coming_batches_are_fetched_while_a_batch_is_in_use(
    store: Store, streams_root: Path, tmp_path: Path
):
    bucket = store.upload(streams_root)
    dataset = mixed_dataset(
        tmp_path, streams=fetched_streams(f's3://{bucket}', tmp_path / 'local'), predownload=12
    )
    order = dataset.sample_ids(0)
    samples = iter(dataset)
    assert ids_of([next(samples)]) == order[:1].tolist()
    # The batch in use and the three within `predownload` samples of it.
    wait_for(lambda: shards_of(dataset, order[:16]) <= local_shards(dataset))
    assert ids_of(samples) == order[1:].tolist()
    assert max(store.gets[key] for key in store.gets if key.startswith(f'{bucket}/')) == 1


@pytest.mark.parametrize('workers', [0, 2])
def test_at_the_end_of_a_round_the_next_block_of_every_tape_is_on_its_way(
    store: Store, tmp_path: Path, workers: int
):
    sizes = {skill: [10] * 8 for skill in 'abc'}
    write_streams(tmp_path / 'corpus', sizes)
    bucket = store.upload(tmp_path / 'corpus')
    streams = fetched_streams(f's3://{bucket}', tmp_path / 'local', sizes)
    # Skill c has no part in the first round: its tape has a next block all the same.
    shares = {'a': 0.5, 'b': 0.5, 'c': 0.0}
    dataset = mixed_dataset(tmp_path, streams=streams, proportions=shares, shuffle_block_size=20)
    loader = loader_of(dataset, workers, persistent_workers=bool(workers))
    assert len(ids_of(loader)) == 48
    dataset.set_proportions({'a': 0.25, 'b': 0.25, 'c': 0.5})
    upcoming = dataset.sample_ids(1)
    skills = dataset.stream_per_shard[dataset.spanner.locate(upcoming)[0]]
    first = [int(upcoming[skills == skill][0]) for skill in range(3)]
    wait_for(lambda: shards_of(dataset, first) <= local_shards(dataset))
    assert ids_of(loader) == upcoming.tolist()


_RANK = """
import json
from pathlib import Path
import torch.distributed as dist
import torch.utils.data._utils as data_utils
from tests.support.jobs import fetched_streams, loader_of
from tests.support.mds import ids_of, mixed_dataset
dist.init_process_group('gloo')
# How long torch waits for each worker to end after an error.
data_utils.MP_STATUS_CHECK_INTERVAL = 0.1
said = []
taken = []
for bucket, workers, local in {cases!r}:
    streams = fetched_streams(f's3://{{bucket}}', Path(local), download_retry=1)
    try:
        dataset = mixed_dataset(Path('.'), streams=streams, batch_size=2, num_canonical_nodes=1)
        taken.append(dataset)
        said.append(len(ids_of(loader_of(dataset, workers))))
    except Exception as error:
        said.append(f'{{type(error).__name__}}: {{error}}')
    dist.barrier()
print(json.dumps(said))
"""


def test_every_rank_of_a_node_gets_the_error(store: Store, streams_root: Path, tmp_path: Path):
    # Slow (about 15 s): two processes import everything anew.
    whole, broken = store.upload(streams_root), store.upload(streams_root)
    damage(store, broken, 'missing')
    # The last one finds its folder in use by the first dataset, which the ranks keep.
    names = ['whole', 'alone', 'workers', 'whole']
    cases = [
        (bucket, workers, str(tmp_path / name))
        for bucket, workers, name in zip([whole, broken, broken, whole], [2, 0, 2, 0], names, strict=True)
    ]
    for out in printed_by_ranks(_RANK.format(cases=cases)):
        played, alone, workers, in_use = json.loads(out)
        assert played == 24
        for said in (alone, workers):
            assert said.startswith('RuntimeError')
            assert f'Skill b cannot get its shard s3://{broken}/b/shard.00001.mds: Object s3' in said
        assert in_use.startswith(
            f'InputError: The local folder {tmp_path / "whole" / "a"} is in use by another'
        )
