"""`skillit verify` finds whatever was changed after the conversion."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.convert.packing import Samples
from skillit_stream.convert.shard_writer import ShardWriter
from skillit_stream.convert.shards import index_entry, index_hash, shard_config, token_columns, write_index
from skillit_stream.convert.verify import verify


@pytest.fixture(scope='module')
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from skillit_stream.cli import main

    root = tmp_path_factory.mktemp('pristine') / 'S'
    assert main(f'convert addition --out {root} --train-samples 40 --eval-samples 10'.split()) == 0
    return root


@pytest.fixture
def streams(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / 'S')
    return tmp_path / 'S'


def edit_manifest(root: Path, change) -> None:
    path = root / 'skills.json'
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def rewrite_split(root: Path, split: str, samples: list[np.ndarray]) -> None:
    """Write a split of digit_0 anew with shards and index in order, and let the manifest agree."""
    folder = root / 'digit_0' / split
    shutil.rmtree(folder)
    writer = ShardWriter(str(folder), token_columns(np.uint16, 17, masked=True), 1 << 26)
    mask = np.zeros((len(samples), 17), np.uint8)
    mask[:, -1] = 1
    writer.write_samples(Samples(np.stack(samples).astype(np.uint16), mask))
    columns = token_columns(np.uint16, 17, masked=True)
    write_index(
        str(folder), [index_entry(one, shard_config(columns, 1 << 26)) for one in writer.finish_shards()]
    )

    def change(data):
        data['skills']['digit_0']['splits'][split]['index_hash'] = index_hash(str(folder))

    edit_manifest(root, change)


def test_an_untouched_folder_passes(streams, skillit):
    printed = skillit('verify', streams)
    assert 'Verified' in printed
    assert 'digit_2' in printed


def test_a_changed_byte_in_a_shard_is_found(streams, refused):
    path = streams / 'digit_1' / 'train' / 'shard.00000.mds'
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    error = refused('verify', streams)
    assert (
        'digit_1/train/shard.00000.mds: its xxh64 differs from the index; convert the corpus again' in error
    )


def test_a_shortened_or_missing_shard_is_found(streams, refused):
    path = streams / 'digit_1' / 'eval' / 'shard.00000.mds'
    path.write_bytes(path.read_bytes()[:-1])
    assert 'bytes, the index says' in refused('verify', streams)
    path.unlink()
    assert 'shard.00000.mds: cannot be read (No such file' in refused('verify', streams)


def test_a_changed_index_is_found(streams, refused):
    path = streams / 'digit_0' / 'eval' / 'index.json'
    path.write_text(path.read_text() + ' ')
    assert 'digit_0/eval/index.json: has sha256:' in refused('verify', streams)
    path.write_text('{')
    assert 'index.json: broken index' in refused('verify', streams)


@pytest.mark.parametrize('name', ['samples', 'tokens', 'target_tokens'])
def test_wrong_counts_are_found(streams, refused, name):
    def change(data):
        data['skills']['digit_2']['splits']['train'][name] += 1

    edit_manifest(streams, change)
    error = refused('verify', streams)
    assert 'digit_2/train: holds ' in error
    assert f' {name}, the manifest says' in error


def test_a_changed_tokenizer_is_found(streams, refused):
    path = streams / 'tokenizer' / 'tokenizer.json'
    path.write_text(path.read_text().replace('"+"', '"*"'))
    assert 'tokenizer.json has sha256:' in refused('verify', streams)
    path.unlink()
    assert 'tokenizer.json cannot be read' in refused('verify', streams)


def test_a_missing_split_is_found(streams, refused):
    edit_manifest(streams, lambda data: data['skills']['digit_2']['splits'].pop('eval'))
    assert "skill 'digit_2' has splits ['train', 'eval'], the manifest says ['train']" in refused(
        'verify', streams
    )


def test_other_columns_are_found(streams, refused):
    edit_manifest(streams, lambda data: data['columns'].pop('loss_mask'))
    assert 'columns {' in refused('verify', streams)


def test_a_token_beyond_the_vocabulary_is_found(streams):
    samples = [np.full(17, i) for i in range(10)]
    samples[4][2] = 999
    rewrite_split(streams, 'eval', samples)
    with pytest.raises(InputError, match=r'digit_0/eval: sample 4 holds token 999, the vocabulary \d+;'):
        verify(str(streams))


def test_a_sample_in_both_splits_is_found(streams):
    rewrite_split(streams, 'eval', [np.full(17, 3 + i % 4) for i in range(10)])
    rewrite_split(streams, 'train', [np.full(17, 6 + i % 4) for i in range(40)])
    with pytest.raises(
        InputError, match=r"digit_0/train: a sample of skill 'digit_0' is in train and in eval"
    ):
        verify(str(streams))


def test_a_folder_without_streams_is_refused(tmp_path, refused):
    assert 'skills.json: cannot be read (No such file' in refused('verify', tmp_path / 'nowhere')


def test_streams_that_the_manifest_does_not_list_are_found(streams, refused):
    shutil.copytree(streams / 'digit_0', streams / 'stale')
    assert 'S/stale: streams of a skill that skills.json does not list; move' in refused('verify', streams)
    shutil.rmtree(streams / 'stale' / 'train')
    assert 'S/stale: streams of a skill' in refused('verify', streams)


def test_a_shard_that_no_index_lists_is_found(streams, refused):
    folder = streams / 'digit_1' / 'eval'
    shutil.copyfile(folder / 'shard.00000.mds', folder / 'shard.00001.mds')
    assert 'eval/shard.00001.mds: a shard that no index lists; move it' in refused('verify', streams)


def test_files_that_are_nobodys_streams_are_no_business_of_it(streams, skillit):
    (streams / 'notes.txt').write_text('mine')
    (streams / 'digit_0' / 'notes.txt').write_text('mine')
    (streams / 'plots' / 'train').mkdir(parents=True)
    (streams / 'plots' / 'train' / 'loss.png').write_text('mine')
    assert 'Verified' in skillit('verify', streams)
