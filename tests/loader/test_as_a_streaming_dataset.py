"""What a user of StreamingDataset expects of any: indexing, splits, hashes, unsafe types."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streaming import MDSWriter, Stream

from skillit_stream import SkillStreamingDataset
from skillit_stream.loader.eval_streams import EvalStreams
from tests.support.mds import SIZES, ids_of, mixed_dataset, tokens_of, write_stream


def write_numbers(folder: Path, encoding: str = 'int', **options: Any) -> None:
    with MDSWriter(out=str(folder), columns={'number': encoding}, size_limit=200, **options) as out:
        for number in range(48):
            out.write({'number': number})


def numbers_dataset(stream: Stream, **options: Any) -> SkillStreamingDataset:
    return SkillStreamingDataset(streams={'s': stream}, round_size=48, batch_size=4, **options)


@pytest.mark.parametrize(
    ('index', 'expected'),
    [
        (0, 0),
        (-1, 49),
        ([17], [17]),
        ([-14, 3, -50], [36, 3, 0]),
        (slice(0, 29, 3), [*range(0, 29, 3)]),
        (slice(-7, -40, -5), [*range(43, 10, -5)]),
        (np.arange(10), [*range(10)]),
        (np.array([3, 19, -2]), [3, 19, 48]),
    ],
)
def test_samples_are_had_by_any_kind_of_index(streams_root: Path, index: Any, expected: Any):
    dataset = mixed_dataset(streams_root)
    assert sum(map(sum, SIZES.values())) == 50
    found = dataset[index]
    assert (ids_of([found])[0] if isinstance(expected, int) else ids_of(found)) == expected
    first = found if isinstance(expected, int) else found[0]
    number, skill = int(first['sample_id']), int(first['skill'])
    before = sum(sum(shards) for shards in list(SIZES.values())[:skill])
    assert first['tokens'].tolist() == tokens_of(skill, number - before).tolist()


@pytest.mark.parametrize('index', [50, -51])
def test_an_index_beyond_the_samples_is_an_index_error(streams_root: Path, index: int):
    with pytest.raises(IndexError):
        mixed_dataset(streams_root)[index]


def test_a_stream_of_pickled_columns_is_opened_by_those_alone_who_allow_it(tmp_path: Path):
    write_numbers(tmp_path / 's', 'pkl')
    with pytest.raises(ValueError, match='contains an unsafe type'):
        numbers_dataset(Stream(local=str(tmp_path / 's')))
    dataset = numbers_dataset(Stream(local=str(tmp_path / 's')), allow_unsafe_types=True)
    assert sorted(sample['number'] for sample in dataset) == [*range(48)]


def test_splits_of_one_folder_are_datasets_of_their_own(tmp_path: Path):
    for split in ('train', 'eval'):
        write_stream(tmp_path / 'remote' / split, [7, 5], stream=len(split))
    remote, local = str(tmp_path / 'remote'), str(tmp_path / 'local')
    train = SkillStreamingDataset(
        streams={'s': Stream(remote=remote, local=local, split='train')}, round_size=12, batch_size=4
    )
    evals = EvalStreams({'s': Stream(remote=remote, local=local, split='eval')}).skill('s')
    assert {int(sample['tokens'][0]) for sample in train} == {5}
    assert {int(evals[index]['tokens'][0]) for index in range(len(evals))} == {4}


@pytest.mark.parametrize('compression', [None, 'zstd:7'])
def test_hashes_of_the_index_are_validated(tmp_path: Path, compression: str | None):
    write_numbers(tmp_path / 'remote', hashes=['sha1', 'xxh64'], compression=compression)

    def drawn(folder: str, algorithm: str) -> list[int]:
        stream = Stream(
            remote=str(tmp_path / 'remote'), local=str(tmp_path / folder), validate_hash=algorithm
        )
        return sorted(sample['number'] for sample in numbers_dataset(stream))

    assert drawn('first', 'xxh64') == [*range(48)]
    shards = sorted((tmp_path / 'remote').glob('shard.*'))
    assert len(shards) > 1
    shutil.copy2(shards[0], shards[1])
    with pytest.raises(RuntimeError, match=r'shard\.00001'):
        drawn('second', 'sha1')
