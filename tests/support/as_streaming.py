"""A pytest plugin under which Streaming's own tests try SkillStreamingDataset in the place of StreamingDataset.

Given with ``-p``, before their files are imported. An expected failure is marked so, strictly: the run fails where a
test fails that is not listed, where one passes that is, and where a line of the list is of no test.
"""

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import streaming
import streaming.base
from streaming import MDSWriter, Stream
from streaming.base.registry_utils import construct_from_registry
from streaming.base.stream import streams_registry

from skillit_stream import SkillStreamingDataset
from skillit_stream.loader.host import shared_memory
from tests.conftest import release_datasets  # noqa: F401 (a fixture of all tests)

WHOLE_BATCHES = 'a round is whole global batches: of 117 samples in batches of 4 it draws 116'
REFUSED = 'tapes and proportions choose the order, and what would choose another is refused'
NODES = 'a global batch divides over the canonical nodes, which would be refused'
TAPES = 'the next round goes on in the tapes; it is not the same again'
ANY_SIZE = 'a batch follows the proportions to within a sample, however small a stream is'
BATCH_SIZE = 'a batch size is required when the dataset is made'
OWN_ERROR = 'an error of ours names stream, folder and remedy'
OWN_STATE = 'a state holds cursors and proportions, and numbers alone are refused'
EXPECTED = {
    r'test_dataloader_single_device\[.*-False-128\]': WHOLE_BATCHES,
    r'test_streamingdataloader_mid_epoch_resumption\[.*-True-3456-4\]': WHOLE_BATCHES,
    r'test_dataset_sample_order\[.*-2\]': WHOLE_BATCHES,
    r'test_same_local_no_remote$': WHOLE_BATCHES,
    r'test_dataloader_device_per_stream_batching': REFUSED,
    r'test_dataloader_fixed_balanced_sampling': REFUSED,
    r'test_dataloader_per_stream_batching': REFUSED,
    r'test_dataset_no_shuffle\[(per_stream|device_per_stream)': REFUSED,
    r'test_py1e_shuffle_block_warning': REFUSED,
    r'test_sampling_method_invalid_Exception': REFUSED,
    r'test_dataloader_epoch_size_no_streams': NODES,
    r'test_dataloader_epoch_size_multiple_streams_default': NODES,
    r'test_dataloader_stratified_batching\[': NODES,
    r'test_dataloader_stratified_batching_user_set': NODES,
    r'test_dataset_no_shuffle\[.*-7\]': NODES,
    r'test_tiny_dataset_exception': NODES,
    r'test_dataset_no_shuffle\[random-.*-4\]': TAPES,
    r'test_dataset_no_shuffle\[stratified-2-.*-4\]': TAPES,
    r'test_stratified_batching_Exception': ANY_SIZE,
    r'test_custom_stream_name_and_kwargs': BATCH_SIZE,
    r'test_no_batch_size_exception': BATCH_SIZE,
    r'test_empty_shards_index_json_exception': OWN_ERROR,
    r'test_invalid_index_json_exception': OWN_ERROR,
    r'test_missing_index_json_local': OWN_ERROR,
    r'test_reader_download_fail': OWN_ERROR,
    r'test_same_local_diff_remote': OWN_ERROR,
    r'test_load_get_state_dict_(once|multiple)': OWN_STATE,
    r'test_state_dict_too_large': OWN_STATE,
}
"""Pattern of a test's name -> why it must fail."""


class AsStreaming(SkillStreamingDataset):
    """Takes StreamingDataset's arguments: every stream is a skill, an epoch a round of whole batches."""

    def __init__(
        self,
        *,
        streams: Sequence[Stream] | None = None,
        split: str | None = None,
        epoch_size: int | None = None,
        batch_size: int | None = None,
        batching_method: str = 'random',
        shuffle: bool = False,
        stream_name: str = 'stream',
        stream_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if streams is None:
            names = ('remote', 'local', 'download_retry', 'download_timeout', 'validate_hash', 'keep_zip')
            given = {name: kwargs.pop(name) for name in names if name in kwargs}
            config = {'split': split, **given, **(stream_config or {})}
            streams = [
                construct_from_registry(stream_name, streams_registry, partial_function=False, kwargs=config)
            ]
        weights = [stream.__dict__.pop('proportion', None) for stream in streams]
        skills = [str(number) for number in range(len(streams))]
        proportions = None
        if None not in weights:
            proportions = {
                skill: weight / sum(weights) for skill, weight in zip(skills, weights, strict=True)
            }
        batch = batch_size or 1
        samples = epoch_size or sum(_samples_of(stream, split) for stream in streams)
        super().__init__(
            streams=dict(zip(skills, streams, strict=True)),
            proportions=proportions,
            round_size=max(1, samples // batch) * batch,
            batch_size=batch_size,
            batching=batching_method,
            shuffle=shuffle,
            **({'split': split} if split else {}),
            **kwargs,
        )


def _samples_of(stream: Stream, split: str | None) -> int:
    """Samples of a stream, 0 where its index cannot be read."""
    for folder in filter(None, (stream.local, stream.remote)):
        index = Path(folder, stream.split or split or '', 'index.json')
        try:
            return sum(shard['samples'] for shard in json.loads(index.read_text())['shards'])
        except (OSError, ValueError):
            continue
    return 0


class Numbered:
    """Samples of Streaming's tests: a number in words of six digits, and three times it, from an offset on."""

    column_names: tuple[str, ...] = ('id', 'sample')
    column_encodings: tuple[str, ...] = ('str', 'int')

    def __init__(self, size: int, offset: int = 0) -> None:
        self._size, self._offset = size, offset

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in range(self._size):
            yield {'id': f'{number:06}', 'sample': 3 * number + self._offset}


class NumbersAndWords:
    """Samples of Streaming's tests: a number and a text."""

    column_names: tuple[str, ...] = ('number', 'words')
    column_encodings: tuple[str, ...] = ('int', 'str')

    def __init__(self, size: int) -> None:
        self._size = size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({'number': number, 'words': f'number {number}'} for number in range(self._size))


def write_mds(
    out_root: str,
    columns: Mapping[str, str],
    samples: Iterable[dict[str, Any]],
    size_limit: int,
    **options: Any,
) -> None:
    """Write samples to an MDS folder."""
    with MDSWriter(out=out_root, columns=dict(columns), size_limit=size_limit, **options) as out:
        for sample in samples:
            out.write(sample)


def convert_to_mds(
    *,
    out_root: str,
    dataset_name: str,
    num_samples: int = 117,
    offset: int = 0,
    size_limit: int = 256,
    **options: Any,
) -> None:
    """Write the samples of one of the two to an MDS folder."""
    samples = (
        Numbered(num_samples, offset) if dataset_name == 'sequencedataset' else NumbersAndWords(num_samples)
    )
    columns = dict(zip(samples.column_names, samples.column_encodings, strict=True))
    write_mds(out_root, columns, samples, size_limit, **options)


def copy_all_files(source: str, destination: str) -> None:
    """Copy the files of a folder, those below it left out."""
    Path(destination).mkdir(exist_ok=True)
    for path in Path(source).iterdir():
        if path.is_file():
            shutil.copy2(path, destination)


@pytest.fixture
def local_remote_dir(tmp_path: Path) -> tuple[str, str]:
    """Two folders that are not there."""
    return str(tmp_path / 'local'), str(tmp_path / 'remote')


@pytest.fixture
def compressed_local_remote_dir(tmp_path: Path) -> tuple[str, str, str]:
    """Three folders that are not there."""
    return str(tmp_path / 'compressed'), str(tmp_path / 'local'), str(tmp_path / 'remote')


def pytest_configure(config: pytest.Config) -> None:
    """Have what the files import be what is here."""
    config.addinivalue_line('markers', 'world_size(n): how many ranks a test is for; here it is one')
    # A dataset that a test deletes lives until its last shard is fetched, which takes longer on a machine under load.
    shared_memory._PATIENCE = 10.0
    for package in (streaming, streaming.base):
        package.StreamingDataset = AsStreaming  # pyright: ignore
    # The helpers that a source distribution leaves out.
    for name, found in (
        ('tests.common', {}),
        ('tests.common.utils', {'convert_to_mds': convert_to_mds, 'copy_all_files': copy_all_files}),
        ('tests.common.datasets', {'SequenceDataset': Numbered, 'write_mds_dataset': write_mds}),
    ):
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(found)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is expected to fail."""
    found = Counter()
    for item in items:
        for pattern, reason in EXPECTED.items():
            if re.match(pattern, item.name):
                found[pattern] += 1
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
                break
    if idle := [pattern for pattern in EXPECTED if not found[pattern]]:
        raise pytest.UsageError(f'Expected to fail, but no such test: {", ".join(idle)}')
