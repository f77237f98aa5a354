"""The eval streams: shards that are missing or damaged are mended or named, as in training."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from streaming import Stream

from skillit_stream.base.errors import InputError
from skillit_stream.loader.eval_streams import EvalStreams
from tests.support.jobs import FIND_HELPERS, fetched_streams
from tests.support.mds import SIZES, mixed_dataset, open_streams, tokens_of, write_streams


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    write_streams(tmp_path / 'remote', SIZES)
    return tmp_path / 'remote'


def test_a_missing_shard_is_the_same_error_at_the_first_read_and_at_the_second(remote: Path, tmp_path: Path):
    (remote / 'b' / 'shard.00001.mds').unlink()
    evals = EvalStreams(fetched_streams(remote, tmp_path / 'local', download_retry=1))
    message = rf'^Skill b cannot get its shard {remote}/b/shard.00001.mds: '
    for _ in range(2):
        with pytest.raises(RuntimeError, match=message):
            list(evals.samples_by_id(np.array([27 + 10])))
    # The others are read all the same.
    [sample] = evals.samples_by_id(np.array([27 + 9]))
    assert sample['tokens'].tolist() == tokens_of(1, 9).tolist()


_READ_TWICE = """
import os
from pathlib import Path
import numpy as np
import torch.distributed as dist
from skillit_stream.loader.eval_streams import EvalStreams
from tests.support.jobs import fetched_streams
dist.init_process_group('gloo')
evals = EvalStreams(fetched_streams(Path({remote!r}), Path({local!r}), download_retry=1))
for _ in range(2):
    try:
        list(evals.samples_by_id(np.array([37])))
    except RuntimeError as error:
        print(str(error).split(':')[0])
"""


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_missing_shard_ends_in_the_error_on_every_rank(remote: Path, tmp_path: Path):
    from tests.support.jobs import printed_by_ranks

    (remote / 'b' / 'shard.00001.mds').unlink()
    printed = printed_by_ranks(_READ_TWICE.format(remote=str(remote), local=str(tmp_path / 'local')))
    line = f'Skill b cannot get its shard {remote}/b/shard.00001.mds\n'
    assert printed == [line * 2] * 2


@pytest.mark.slow
def test_a_cached_shard_that_was_cut_in_half_is_fetched_anew(remote: Path, tmp_path: Path):
    local = tmp_path / 'local'
    code = FIND_HELPERS + _READ_ALL.format(remote=str(remote), local=str(local))
    subprocess.run([sys.executable, '-c', code], capture_output=True, check=True)
    shard = local / 'a' / 'shard.00002.mds'
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == '50', done.stderr
    assert shard.read_bytes() == (remote / 'a' / 'shard.00002.mds').read_bytes()


_READ_ALL = """
from pathlib import Path
import numpy as np
from skillit_stream.loader.eval_streams import EvalStreams
from tests.support.jobs import fetched_streams
evals = EvalStreams(fetched_streams(Path({remote!r}), Path({local!r})))
print(len(list(evals.samples_by_id(np.arange(50)))))
"""


def test_a_damaged_shard_without_a_remote_is_named(remote: Path):
    shard = remote / 'a' / 'shard.00000.mds'
    shard.write_bytes(shard.read_bytes()[:-9])
    evals = EvalStreams(open_streams(remote, SIZES))
    for _ in range(2):
        with pytest.raises(RuntimeError, match=rf'^Skill a has a damaged shard, {shard}: '):
            list(evals.samples_by_id(np.array([0])))


@pytest.mark.parametrize('kind', ['train', 'eval'])
def test_only_what_an_index_is_to_blame_for_is_blamed_on_it(remote: Path, tmp_path: Path, kind: str):
    def build(**options) -> None:
        streams = fetched_streams(remote, tmp_path / 'local', **options)
        if kind == 'eval':
            EvalStreams(streams)
        else:
            mixed_dataset(tmp_path, streams=streams)

    with pytest.raises(InputError, match=r'^`download_retry` of stream a must be at least 1, the first try'):
        build(download_retry=0)
    index = remote / 'b' / 'index.json'
    for text in (
        '{"version": 2, "shards": [{"samples": 3}]}',
        '{"version": 2, "shards": 3}',
        '{',
        '{"version": 3}',
    ):
        index.write_text(text)
        (tmp_path / 'local' / 'b' / 'index.json').unlink(missing_ok=True)
        with pytest.raises(InputError, match=r'^Stream b has a broken index at .*/local/b/index.json'):
            build()


def test_a_stream_that_leaves_its_retries_to_the_dataset_is_named_too(remote: Path, tmp_path: Path):
    stream = Stream(remote=str(remote / 'a'), local=str(tmp_path / 'local'))
    with pytest.raises(InputError, match=r'^`download_retry` of stream a must be at least 1'):
        EvalStreams({'a': stream}, download_retry=0)
