"""A run whose streams and checkpoints are in an object store: a real S3 server on this machine."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skillit_stream.audit.replay import Replay
from skillit_stream.cli import main
from skillit_stream.training.builders import Run, build_run
from skillit_stream.training.config import load_config
from tests.support.divided_streams import divided
from tests.support.launching import NEEDS, Launcher, finish
from tests.support.object_store import Store
from tests.support.paths import SUPPORT
from tests.support.quick_uploads import quick_looks, uploads_from_threads
from tests.support.run_folders import drawn_samples, mixture_lines, without_clocks
from tests.support.training_runs import settings, write_yaml

Train = Callable[..., Path]

pytestmark = [pytest.mark.timeout(180), *NEEDS]


@pytest.fixture
def train(tmp_path: Path, streams: Path) -> Train:
    """Train two rounds with overrides, in a run folder of the given name, which is returned."""

    def run(name: str, *overrides: str) -> Path:
        yaml = write_yaml(tmp_path / f'{name}.yaml', settings(streams, tmp_path / name))
        assert main(['train', str(yaml), *overrides]) == 0
        return tmp_path / name

    return run


def outcome(run: Path) -> dict[str, Any]:
    return {'samples': drawn_samples(run), 'lines': without_clocks(mixture_lines(run))}


@pytest.mark.slow
def test_a_run_from_a_bucket_is_the_run_from_the_folder(
    store: Store, streams: Path, tmp_path: Path, train: Train, release_datasets: Callable[[], None]
):
    bucket, cache = store.upload(streams), tmp_path / 'cache'
    remote = train('remote', f'streams=s3://{bucket}/', f'streams_local={cache}')
    assert outcome(remote) == outcome(train('local'))
    assert (cache / 'digit_0' / 'train' / 'index.json').exists()
    assert not list(cache.rglob('*.part'))
    # The cache has the indexes that an audit reads.
    replay = Replay(remote)
    assert replay.rounds_of_these_ids(replay.last) == (0, replay.rounds - 1)
    # Shards are there now; what may have changed is asked for again.
    store.gets.clear()
    release_datasets()
    train('again', f'streams=s3://{bucket}/', f'streams_local={cache}')
    assert store.gets[f'{bucket}/skills.json'] == 1
    assert not [key for key in store.gets if 'shard' in key]


def test_a_tokenizer_that_is_named_is_not_fetched(store: Store, streams: Path, tmp_path: Path, train: Train):
    bucket = store.upload(streams)
    overrides = [f'streams=s3://{bucket}', f'streams_local={tmp_path / "cache"}', 'max_duration=1ba']
    train('named', *overrides, f'tokenizer={streams / "tokenizer"}', 'save_interval=1ba')
    assert not [key for key in store.gets if key.startswith(f'{bucket}/tokenizer')]


def test_a_folder_on_a_slow_disk_may_be_cached_too(streams: Path, tmp_path: Path, train: Train):
    cached = train('cached', f'streams_local={tmp_path / "cache"}')
    assert outcome(cached) == outcome(train('local'))
    assert list((tmp_path / 'cache').rglob('shard.*'))


def test_a_cache_of_other_streams_is_refused(
    streams: Path, tmp_path: Path, train: Train, refused: Callable[..., str]
):
    own, cache = shutil.copytree(streams, tmp_path / 'own'), tmp_path / 'cache'
    train('first', f'streams={own}', f'streams_local={cache}', 'max_duration=1ba')
    index = own / 'digit_1' / 'train' / 'index.json'
    manifest = json.loads((own / 'skills.json').read_text())
    index.write_text(index.read_text() + ' ')
    manifest['skills']['digit_1']['splits']['train']['index_hash'] = 'sha256:0'
    (own / 'skills.json').write_text(json.dumps(manifest))
    message = refused(f'streams={own}', f'streams_local={cache}')
    assert (
        f'`streams_local`: {cache}/digit_1/train was fetched from other streams than those in `streams`'
        in message
    )


def test_streams_that_are_not_there_are_one_line(store: Store, tmp_path: Path, refused: Callable[..., str]):
    assert '`streams_local` must be given' in refused('streams=s3://nowhere/streams')
    message = refused('streams=s3://nowhere/streams', f'streams_local={tmp_path / "cache"}')
    assert 's3://nowhere/streams/skills.json cannot be read (ClientError: ' in message
    assert message.endswith('check the address and your credentials.\n')
    other = refused('streams=gopher://nowhere/streams', f'streams_local={tmp_path / "cache"}')
    assert 'Unsupported remote path' in other


def test_streams_without_a_tokenizer_ask_for_one(streams: Path, tmp_path: Path, refused: Callable[..., str]):
    own = shutil.copytree(streams, tmp_path / 'own')
    (own / 'tokenizer' / 'tokenizer.json').unlink()
    message = refused(f'streams={own}', f'streams_local={tmp_path / "cache"}')
    assert f'{own}/tokenizer/tokenizer.json cannot be read (FileNotFoundError: ' in message
    assert message.endswith('Or name a tokenizer: tokenizer=NAME_OR_FOLDER.\n')


def test_a_run_folder_must_be_a_path(refused: Callable[..., str]):
    message = refused('save_folder=s3://bucket/run')
    assert '`save_folder` must be a path' in message
    assert 'pass checkpoint_folder=s3://bucket/run' in message


@pytest.mark.slow
def test_two_ranks_share_a_cache(
    store: Store, streams: Path, tmp_path: Path, launcher: Launcher, train: Train
):
    yaml = write_yaml(tmp_path / 'two.yaml', settings(streams, tmp_path / 'two'))
    place = [f'streams=s3://{store.upload(streams)}', f'streams_local={tmp_path / "cache"}']
    finish(launcher.ranks(yaml, streams, 2, overrides=place))
    assert outcome(tmp_path / 'two')['samples'] == outcome(train('local'))['samples']


def build(yaml: Path, *overrides: str) -> Run:
    with quick_looks():
        return build_run(load_config(yaml, overrides))


def fit(run: Run) -> None:
    if not run.resumed:
        run.trainer.eval()
    run.trainer.fit()
    run.trainer.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_goes_on_from_the_store_on_a_machine_that_has_never_seen_it(
    store: Store, streams: Path, tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch
):
    # Composer uploads from processes of its own, which import everything anew: the first run's do.
    store.client().create_bucket(Bucket='runs')
    monkeypatch.chdir(tmp_path)
    place = 'checkpoint_folder=s3://runs/some/run'
    here = write_yaml(tmp_path / 'here.yaml', settings(streams, tmp_path / 'here'))
    fit(build(here, place, 'max_duration=2ep'))
    keys = {entry['Key'] for entry in store.client().list_objects_v2(Bucket='runs')['Contents']}
    names = [
        'config.yaml',
        'ep1-ba6-rank0.pt',
        'ep2-ba12-rank0.pt',
        'latest-rank0.pt.symlink',
        'mixture.jsonl',
        'run.json',
    ]
    assert keys - {'.credentials_validated_successfully'} == {f'some/run/{name}' for name in names}

    there = write_yaml(tmp_path / 'there.yaml', settings(streams, tmp_path / 'there'))
    with pytest.raises(
        ValueError, match='There is a run in s3://runs/some/run already: pass autoresume=true'
    ):
        build(there, place)
    with pytest.raises(ValueError, match='`seed` must stay 3, but got: 9'):
        build(there, place, 'autoresume=true', 'max_duration=3ep', 'seed=9')
    assert not (tmp_path / 'there' / 'config.yaml').exists()
    with uploads_from_threads():
        run = build(there, place, 'autoresume=true', 'max_duration=3ep')
        assert run.resumed
        fit(run)
    whole = train('whole', 'max_duration=3ep')
    assert without_clocks(mixture_lines(tmp_path / 'there')) == without_clocks(mixture_lines(whole))
    expected = drawn_samples(whole)
    assert drawn_samples(tmp_path / 'there') == {step: expected[step] for step in range(12, 18)}
    # The log in the store is whole as well, and nothing lies where Composer would have put its download.
    body = store.client().get_object(Bucket='runs', Key='some/run/mixture.jsonl')['Body'].read().decode()
    assert body == (tmp_path / 'there' / 'mixture.jsonl').read_text()
    assert not (tmp_path / 's3:').exists()

    # A checkpoint in a store can be started from and exported as well.
    checkpoint = 's3://runs/some/run/ep3-ba18-rank0.pt'
    assert main(['export', checkpoint, '--out', str(tmp_path / 'exported')]) == 0
    for name, start in (('started', checkpoint), ('folder', 's3://runs/some/run')):
        started = train(name, f'load_path={start}', 'load_weights_only=true', 'max_duration=1ep')
        losses = mixture_lines(started)[0]['losses']
        assert losses == pytest.approx(mixture_lines(whole)[-1]['losses'], rel=1e-6)


def test_a_store_that_is_not_there_is_one_line(store: Store, refused: Callable[..., str]):
    assert '`checkpoint_folder`: s3://nowhere/run cannot be reached: ' in refused(
        'checkpoint_folder=s3://nowhere/run'
    )
    message = refused('checkpoint_folder=gopher://nowhere/run')
    assert (
        '`checkpoint_folder` must be in an object store of Composer, but got: gopher://nowhere/run' in message
    )


@pytest.mark.slow
def test_two_ranks_go_on_from_the_store(
    store: Store, streams: Path, tmp_path: Path, launcher: Launcher, train: Train
):
    store.client().create_bucket(Bucket='ranks')
    place = ['checkpoint_folder=s3://ranks/run', 'autoresume=true']
    for name, duration in (('first', '1ep'), ('second', '2ep')):
        yaml = write_yaml(tmp_path / f'{name}.yaml', settings(streams, tmp_path / name))
        overrides = [*place, f'max_duration={duration}']
        finish(launcher.ranks(yaml, streams, 2, overrides=overrides, script=SUPPORT / 'quick_uploads.py'))
    whole = outcome(train('whole'))
    second = tmp_path / 'second'
    assert drawn_samples(second) == {step: whole['samples'][step] for step in range(6, 12)}
    assert [line['round'] for line in mixture_lines(second)] == [-1, 0, 1]
    assert mixture_lines(second)[0]['losses'] == pytest.approx(whole['lines'][0]['losses'], rel=1e-6)


@pytest.mark.slow
def test_streams_in_two_buckets_are_one_corpus(
    store: Store, streams: Path, tmp_path: Path, train: Train, refused: Callable[..., str]
):
    parts = divided(streams, tmp_path, ('digit_0',), ('digit_1', 'digit_2'))
    buckets, cache = [store.upload(part) for part in parts], tmp_path / 'cache'
    listed = f'streams=[{",".join(f"s3://{bucket}" for bucket in buckets)}]'
    remote = train('remote', listed, f'streams_local={cache}')
    assert outcome(remote) == outcome(train('local'))
    assert (cache / buckets[0] / 'digit_0' / 'train' / 'index.json').exists()
    assert (cache / buckets[1] / 'digit_2' / 'train' / 'index.json').exists()
    assert len(Replay(remote).sample_ids(1)) == 24
    assert '`streams_local` must be given' in refused(listed)
