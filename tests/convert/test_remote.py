"""Streams straight into an object store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streaming import Stream

from skillit_stream.convert.destinations import ObjectStore
from skillit_stream.convert.verify import verify
from skillit_stream.loader.dataset import SkillStreamingDataset
from tests.support.mds import ids_of
from tests.support.object_store import Store
from tests.support.streams_reading import left_in, read_tokens

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def arguments(tmp_path: Path, write_rows: Callable[..., Path], tokenizer: str) -> list[object]:
    """A conversion of four files in several parts."""
    for file in range(4):
        rows = [
            {'text': f'{file} {row} ' + 'lorem ' * (row % 9), 'kind': 'ab'[row % 2]} for row in range(150)
        ]
        write_rows(f'{file}.jsonl', rows)
    options = ['--tokenizer', tokenizer, '--seq-len', 32, '--part-size', '8kb', '--shard-size', '16kb']
    return ['convert', 'jsonl', tmp_path / 'corpus', '--skill-field', 'kind', '--workers', 1, *options]


def download(store: Store, bucket: str, prefix: str, folder: Path) -> Path:
    """The objects under a prefix as files."""
    client = store.client()
    for entry in client.list_objects_v2(Bucket=bucket, Prefix=prefix)['Contents']:
        path = folder / entry['Key'].removeprefix(f'{prefix}/')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.get_object(Bucket=bucket, Key=entry['Key'])['Body'].read())
    return folder


def test_the_streams_in_a_bucket_are_those_of_a_folder(
    tmp_path: Path, store: Store, arguments: list[object], skillit: Callable[..., str]
):
    store.client().create_bucket(Bucket='streams')
    skillit(*arguments, '--out', tmp_path / 'here')
    skillit(*arguments, '--out', 's3://streams/some/where', '--work', tmp_path / 'work')
    there = download(store, 'streams', 'some/where', tmp_path / 'there')
    manifest = verify(str(there))
    assert manifest.to_json() == verify(str(tmp_path / 'here')).to_json()
    for skill in manifest.skills:
        for split in ('train', 'eval'):
            np.testing.assert_array_equal(
                read_tokens(there, skill, split), read_tokens(tmp_path / 'here', skill, split)
            )
    assert left_in(tmp_path) == ['corpus', 'here', 'there', 'work']
    assert left_in(tmp_path / 'work') == []
    # They can be trained on from where they are.
    streams = {
        skill: Stream(
            remote=f's3://streams/some/where/{skill}', local=str(tmp_path / 'cache' / skill), split='train'
        )
        for skill in manifest.skills
    }
    dataset = SkillStreamingDataset(streams=streams, round_size=16, batch_size=4)
    assert ids_of(dataset) == dataset.sample_ids(0).tolist()


def test_finished_streams_in_a_bucket_are_left_alone(
    tmp_path: Path,
    store: Store,
    arguments: list[object],
    skillit: Callable[..., str],
    refused: Callable[..., str],
):
    store.client().create_bucket(Bucket='finished')
    place = ['--out', 's3://finished/S', '--work', tmp_path / 'work']
    skillit(*arguments, *place)
    assert '--out s3://finished/S: holds finished streams; choose' in refused(*arguments, *place)
    assert '--overwrite replaces local folders only' in refused(*arguments, *place, '--overwrite')


def test_a_bucket_that_does_not_exist_is_one_line(
    tmp_path: Path, store: Store, arguments: list[object], refused: Callable[..., str]
):
    del store
    error = refused(*arguments, '--out', 's3://nowhere/S', '--work', tmp_path / 'work')
    assert '--out s3://nowhere/S: cannot be reached' in error
    assert 'check the bucket and your credentials' in error


def test_a_command_that_was_stopped_uploads_what_is_missing(
    tmp_path: Path, store: Store, arguments: list[object], skillit: Callable[..., str]
):
    store.client().create_bucket(Bucket='stopped')
    place = ['--out', 's3://stopped/S', '--work', tmp_path / 'work']
    for task in ('1/3', '0/3'):
        skillit(*arguments, *place, '--task', task)
    skillit(*arguments, *place)
    skillit(*arguments, '--out', tmp_path / 'here')
    there = download(store, 'stopped', 'S', tmp_path / 'there')
    assert verify(str(there)).to_json() == verify(str(tmp_path / 'here')).to_json()


def test_streams_that_another_command_has_published_meanwhile_are_not_replaced(
    tmp_path: Path,
    store: Store,
    arguments: list[object],
    skillit: Callable[..., str],
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
):
    store.client().create_bucket(Bucket='shared')
    finish = ObjectStore.finish_split
    manifest = {'Bucket': 'shared', 'Key': 'S/skills.json'}

    def late(self: ObjectStore, *rest: Any) -> str:
        store.client().put_object(**manifest, Body=b'of another command')
        return finish(self, *rest)

    place = ['--out', 's3://shared/S', '--work', tmp_path / 'work']
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, 'finish_split', late)
        error = refused(*arguments, *place)
    assert (
        '--out s3://shared/S: another command has finished streams there meanwhile, and some of its shards'
        in error
    )
    assert store.client().get_object(**manifest)['Body'].read() == b'of another command'
    assert list((tmp_path / 'work').rglob('part.json')), 'the work is kept'
    store.client().delete_object(**manifest)
    skillit(*arguments, *place)
    verify(str(download(store, 'shared', 'S', tmp_path / 'there')))
