"""Streaming's own tests of its dataset, run on this loader: what passes and what is meant to fail."""

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.paths import IMPORTABLE

# Those that draw samples through a dataset. Of the others most are of what stays Streaming's (writers, readers,
# compression, upload, download, hashes, shared arrays, barriers, registries) or of what tapes and plan take the place
# of (partition, shuffle, sampling, spanner); test_mixing.py is of weights that streams carry, which are refused, and
# test_streaming_remote.py needs a public bucket.
FILES = ('streaming', 'reader', 'hashing', 'laziness', 'shared', 'stream', 'unsafe_types')
# Thousands of shards, eight workers, or many combinations of the same: STREAMING_TESTS=whole adds them, and minutes.
LONG_FILES = ('eviction', 'compression')
LONG_TESTS = (
    'test_dataloader_single_device',
    'test_dataloader_fixed_balanced_sampling',
    'test_dataset_no_shuffle',
)
# It gives a process five seconds to start and to end.
TIMED = 'test_dataloader_mid_epoch_exit'


@pytest.fixture(scope='module')
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Streaming's test files, of the release that is installed.

    They come with its source distribution, which pip fetches; ``STREAMING_SOURCE`` names one, or a checkout.
    """
    folder = tmp_path_factory.mktemp('suite')
    if source := os.environ.get('STREAMING_SOURCE'):
        return Path(source, 'tests').resolve()
    command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--no-binary', ':all:']
    wanted = f'mosaicml-streaming=={version("mosaicml-streaming")}'
    fetched = subprocess.run(
        [*command, '--dest', str(folder), wanted], check=False, capture_output=True, text=True, timeout=200
    )
    archives = list(folder.glob('*.tar.gz'))
    if fetched.returncode or not archives:
        reason = (fetched.stderr.strip().splitlines() or ['no archive'])[-1]
        pytest.skip(f'The source distribution of {wanted} cannot be had: {reason}')
    with tarfile.open(archives[0]) as archive:
        archive.extractall(folder, filter='data')
    return next(folder.glob('*/tests'))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_streamings_own_tests_pass_but_for_what_is_meant_otherwise(suite: Path, tmp_path: Path):
    whole = os.environ.get('STREAMING_TESTS') == 'whole'
    left_out = [TIMED] if whole else [TIMED, *LONG_TESTS]
    for name in (*FILES, *LONG_FILES) if whole else FILES:
        file = f'test_{name}.py'
        # Beside their own conftest they would find their own helpers.
        (tmp_path / file).write_text((suite / file).read_text())
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'tests.support.as_streaming']
    options = [
        '-c',
        os.devnull,
        '--rootdir',
        str(tmp_path),
        '--import-mode=importlib',
        '--timeout=120',
        '-rfE',
    ]
    run = subprocess.run(
        [*command, *options, '-k', f'not ({" or ".join(left_out)})', str(tmp_path)],
        env={**os.environ, **IMPORTABLE},
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    passed = re.search(r'(\d+) passed', run.stdout)
    assert passed
    assert int(passed[1]) > 100, run.stdout[-500:]
