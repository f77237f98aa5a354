"""Every cause for which a shard cannot be had is told, each with its own remedy."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streaming import Stream

from skillit_stream.base.errors import InputError
from skillit_stream.loader.eval_streams import EvalStreams
from tests.support.jobs import fetched_streams, loader_of
from tests.support.mds import ids_of, mixed_dataset, tokens_of, write_stream, write_streams
from tests.support.mounts import in_child, read_only, tiny

SAMPLES = 4000  # of 16 bytes that hardly compress: about 64 KB a shard


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    """One stream, a, of a single compressed shard."""
    write_stream(tmp_path / 'zipped' / 'a', [SAMPLES], compression='zstd')
    return tmp_path / 'zipped'


def opened(root: Path, **options: Any) -> EvalStreams:
    return EvalStreams({'a': Stream(local=str(root / 'a'), **options)})


def first_sample(streams: EvalStreams) -> dict[str, Any]:
    return next(iter(streams.samples_by_id(np.array([0]))))


def shard_of(root: Path) -> Path:
    return next((root / 'a').glob('shard.00000.mds.zstd'))


def test_a_compressed_shard_in_a_folder_that_is_read_only(zipped: Path, tmp_path: Path):
    with pytest.raises(
        InputError,
        match=rf'^Skill a has the compressed shard {shard_of(zipped)}, which is unpacked beside it, but .*/a cannot '
        rf'be written to \(Read-only file system\): pass remote=.{zipped}/a. to its Stream and as `local` a folder',
    ):
        in_child(lambda: first_sample(opened(zipped)), [read_only(zipped)])
    # The remedy works.
    stream = Stream(remote=str(zipped / 'a'), local=str(tmp_path / 'local'))
    in_child(lambda: first_sample(EvalStreams({'a': stream})) and None, [read_only(zipped)])


def test_the_remedy_for_a_read_only_folder_leaves_the_split_to_the_stream(tmp_path: Path):
    write_stream(tmp_path / 'a' / 'train', [3], compression='zstd')
    with pytest.raises(InputError, match=rf'/a/train cannot be .*: pass remote=.{tmp_path}/a. to its'):
        in_child(lambda: first_sample(opened(tmp_path, split='train')), [read_only(tmp_path / 'a')])


def test_a_compressed_shard_that_may_not_be_read(zipped: Path, monkeypatch: pytest.MonkeyPatch):
    read = Path.read_bytes

    def refuse(self: Path) -> bytes:
        if self.suffix == '.zstd':
            raise PermissionError(13, 'Permission denied', str(self))
        return read(self)

    monkeypatch.setattr(Path, 'read_bytes', refuse)  # root may read everything
    with pytest.raises(InputError, match=r'^Skill a may not read its shard .*\.zstd \(Permission denied\): '):
        first_sample(opened(zipped))


@pytest.mark.parametrize('name', ['index.json', 'shard.00000.mds'])
def test_a_file_that_may_not_be_read(streams_root: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    file, opener = str(streams_root / 'a' / name), open

    def refuse(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path) == file:
            raise PermissionError(13, 'Permission denied', file)
        return opener(path, *arguments, **options)

    monkeypatch.setattr('builtins.open', refuse)
    with pytest.raises(
        InputError, match=rf'may not .*read.* {file} \(Permission denied\): have its owner let you'
    ):
        first_sample(opened(streams_root))


def test_an_unpacked_shard_that_is_damaged(zipped: Path):
    first_sample(opened(zipped))
    shard = zipped / 'a' / 'shard.00000.mds'
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(
        RuntimeError, match=r'^Skill a has a damaged shard, .*\.mds: .*\. Delete it: it is unpacked'
    ):
        first_sample(opened(zipped))
    shard.unlink()
    first_sample(opened(zipped))


def test_what_a_kill_left_of_an_unpacking_goes_when_it_is_old(zipped: Path):
    names = ['shard.00000.mds.0123abcd', 'shard.00000.mds.tmp', 'shard.00000.mds.ffffffff']
    for name in names:
        (zipped / 'a' / name).write_text('')
    for name in names[:2]:
        os.utime(zipped / 'a' / name, (0, 0))
    first_sample(opened(zipped))
    assert [name for name in names if (zipped / 'a' / name).exists()] == names[2:]


def test_a_compressed_shard_on_a_full_disk(zipped: Path, tmp_path: Path):
    full = tmp_path / 'full'
    full.mkdir()

    def unpack() -> list[str]:
        os.system(f'cp -r {zipped}/a {full}')
        with pytest.raises(
            InputError,
            match=r'^The disk of .*/full/a is full: skill a needs [\d.]+ KB there to unpack its shard .*zstd, and '
            r'[\d.]+ (KB|bytes) are free: free some',
        ):
            first_sample(opened(full))
        return sorted(path.name for path in (full / 'a').iterdir())

    # Nor is anything left there that fills it for good.
    assert in_child(unpack, [tiny(full, '60k')]) == ['index.json', 'shard.00000.mds.zstd']


@pytest.mark.parametrize(
    ('spoil', 'found'),
    [
        (lambda data: data[:-20], r'it has \d+ bytes, but its index says \d+'),
        (lambda data: data[:40] + bytes(20) + data[60:], '.*'),
        (lambda data: b'', r'it has 0 bytes, but its index says \d+'),
    ],
)
def test_a_compressed_shard_that_is_damaged(zipped: Path, spoil: Callable[[bytes], bytes], found: str):
    shard = shard_of(zipped)
    shard.write_bytes(spoil(shard.read_bytes()))
    streams = opened(zipped)
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=rf'^Skill a has a damaged shard, {shard}: {found}\. Copy or convert'
        ):
            first_sample(streams)


def test_a_compressed_shard_that_is_missing_is_said_to_be(zipped: Path):
    shard_of(zipped).unlink()
    with pytest.raises(InputError, match=r'^Skill a lacks a shard that its index names, .*: copy or convert'):
        first_sample(opened(zipped))


def test_two_jobs_may_unpack_the_same_shard_at_once(zipped: Path, monkeypatch: pytest.MonkeyPatch):
    began = []

    def moved(*paths: Any, move: Callable[..., Any]) -> None:
        began.append(paths)
        if len(began) == 1:
            first_sample(opened(zipped))  # as another job does, before the first has put its own in place
        move(*paths)

    for name in ('rename', 'replace'):
        monkeypatch.setattr(os, name, partial(moved, move=getattr(os, name)))
    assert first_sample(opened(zipped))['tokens'].tolist() == tokens_of(0, 0).tolist()
    assert len(began) == 2
    assert sorted(path.name for path in (zipped / 'a').iterdir()) == [
        'index.json',
        'shard.00000.mds',
        'shard.00000.mds.zstd',
    ]


def test_an_unpacked_shard_whose_compressed_form_was_removed_is_kept(zipped: Path):
    first_sample(opened(zipped))
    shard_of(zipped).unlink()
    assert len(first_sample(opened(zipped))['tokens']) == 8
    assert (zipped / 'a' / 'shard.00000.mds').is_file()


def test_a_full_disk_behind_a_remote(tmp_path: Path):
    write_stream(tmp_path / 'remote' / 'a', [SAMPLES, SAMPLES])
    full = tmp_path / 'full'
    full.mkdir()

    def fetch() -> list[str]:
        stream = Stream(remote=str(tmp_path / 'remote' / 'a'), local=str(full / 'a'), download_retry=1)
        with pytest.raises(
            InputError,
            match=r'^The disk of .*/full/a is full: skill a needs [\d.]+ KB there to fetch its shard .*mds, and '
            r'[\d.]+ (KB|bytes) are free: free some, set `cache_limit`, or give its Stream a `local` folder',
        ):
            first_sample(EvalStreams({'a': stream}))
        return sorted(path.name for path in (full / 'a').iterdir())

    assert in_child(fetch, [tiny(full, '60k')]) == ['index.json']


@pytest.mark.parametrize('workers', [0, 2])
def test_workers_report_it_too(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch):
    # How long torch waits for each worker to end after an error.
    monkeypatch.setattr('torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL', 0.1)
    write_streams(tmp_path / 'remote', {'a': [SAMPLES, SAMPLES], 'b': [SAMPLES], 'c': [SAMPLES]})
    full = tmp_path / 'full'
    full.mkdir()

    def train() -> None:
        streams = fetched_streams(tmp_path / 'remote', full, download_retry=1)
        list(loader_of(mixed_dataset(tmp_path, streams=streams), workers))

    with pytest.raises(InputError, match=r'The disk of .*/full/. is full: skill . needs'):
        in_child(train, [tiny(full, '60k')])


@pytest.mark.parametrize('kind', ['a file', 'read-only'])
def test_a_cache_folder_that_cannot_be_made(tmp_path: Path, kind: str):
    write_stream(tmp_path / 'remote' / 'a', [3])
    folder = tmp_path / 'taken'
    if kind == 'a file':
        folder.write_text('')
        mounts = []
    else:
        folder.mkdir()
        mounts = [read_only(folder)]

    def build() -> None:
        stream = Stream(remote=str(tmp_path / 'remote' / 'a'), local=str(folder / 'a'), download_retry=1)
        EvalStreams({'a': stream})

    with pytest.raises(
        InputError,
        match=rf'^Stream a cannot use its `local` folder {folder}/a \((Not a directory|Read-only .*|File exists)\): '
        rf'pass a folder',
    ):
        in_child(build, mounts)


def test_a_cache_folder_that_becomes_read_only(tmp_path: Path):
    write_stream(tmp_path / 'remote' / 'a', [3])

    def stream() -> Stream:
        return Stream(remote=str(tmp_path / 'remote' / 'a'), local=str(tmp_path / 'cache'), download_retry=1)

    streams = EvalStreams({'a': stream()})  # has its index
    del streams
    with pytest.raises(
        InputError, match=r'^Skill a cannot fetch its shard .*: .*/cache cannot be written to'
    ):
        in_child(lambda: first_sample(EvalStreams({'a': stream()})), [read_only(tmp_path / 'cache')])


def test_a_remote_without_an_index_is_named(tmp_path: Path):
    stream = Stream(remote=str(tmp_path / 'nothing'), local=str(tmp_path / 'local'), download_retry=1)
    with pytest.raises(InputError, match=rf'^Stream a cannot get its index {tmp_path}/nothing/index\.json: '):
        EvalStreams({'a': stream})


@pytest.mark.parametrize('workers', [0, 2])
def test_relative_folders_are_those_of_where_the_dataset_was_made(
    streams_root: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(streams_root)
    local = {skill: Stream(local=skill) for skill in 'abc'}
    remote = {skill: Stream(remote=f'./{skill}', local=os.path.relpath(tmp_path / skill)) for skill in 'abc'}
    datasets = [mixed_dataset(tmp_path, streams=streams) for streams in (local, remote)]
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    expected = mixed_dataset(streams_root).sample_ids(0).tolist()
    for dataset in datasets:
        assert ids_of(loader_of(dataset, workers)) == expected


def test_a_tilde_is_the_home_folder(streams_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('HOME', str(streams_root))
    monkeypatch.chdir(tmp_path)
    streams = {'a': Stream(local='~/a'), 'b': Stream(remote='~/b', local=str(tmp_path / 'b'))}
    samples = EvalStreams(streams).all_skills()
    assert ids_of(samples[index] for index in range(len(samples))) == list(range(47))
