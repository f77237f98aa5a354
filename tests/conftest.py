"""Fixtures for all tests."""

import atexit
import gc
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support.turns import turn

if TYPE_CHECKING:
    from tests.support.launching import RankServer
    from tests.support.object_store import Store

# How long an example takes says nothing on a machine with other work.
settings.register_profile('suite', deadline=None)
settings.load_profile('suite')

# Streaming opens all shared memory of the process's other datasets whenever it makes one, and keeps it.
_SOFT, _HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_HARD, _HARD))


def pytest_collection_finish() -> None:
    """Keep the garbage collector off what the test files import: Composer asks for whole collections."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test marked `alone` waits until those of xdist's other workers have ended, and they for it."""
    with turn(alone=item.get_closest_marker('alone') is not None):
        return (yield)


@pytest.fixture(scope='session')
def streams_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The streams of `mds.SIZES`, written once; tests must not change them."""
    from tests.support.mds import SIZES, write_streams

    root = tmp_path_factory.mktemp('streams')
    write_streams(root, SIZES)
    return root


@pytest.fixture(autouse=True)
def release_datasets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Closes and removes the shared memory of all datasets made in the test so far; runs after it too.

    Streaming does so when the process ends. Until then every new dataset costs some handles for each one
    before it, and a test run would need tens of thousands.
    """
    module = sys.modules.get('streaming.base.shared.memory')
    if module is None:
        yield lambda: None
        return
    made = []
    initialise = module.SharedMemory.__init__

    def keep(self, *args, **kwargs) -> None:
        made.append(self)
        initialise(self, *args, **kwargs)

    def release() -> None:
        while made:
            memory = made.pop()
            memory.cleanup()
            atexit.unregister(memory.cleanup)

    monkeypatch.setattr(module.SharedMemory, '__init__', keep)
    yield release
    release()


@pytest.fixture
def become_rank(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Make datasets built from now on believe that they are rank `rank` of `ranks`, each on its own node.

    One process can so play all ranks in turn. Each rank is a node, because the ranks of one node find each
    other's shared memory by name.
    """
    from streaming.base.world import World

    def become(rank: int, ranks: int) -> None:
        monkeypatch.setattr(World, 'detect', staticmethod(lambda: World(ranks, 1, 1, rank)))

    return become


@pytest.fixture(scope='session')
def object_store_server() -> Iterator['Store']:
    """An S3 server for the whole session."""
    from tests.support.object_store import Store

    # moto asks for credentials too.
    os.environ.setdefault('AWS_ACCESS_KEY_ID', 'test')
    os.environ.setdefault('AWS_SECRET_ACCESS_KEY', 'test')
    server = Store()
    yield server
    server.close()


@pytest.fixture
def store(object_store_server: 'Store', monkeypatch: pytest.MonkeyPatch) -> 'Store':
    """The S3 server, which everything in the test that asks for `s3://` finds."""
    monkeypatch.setenv('S3_ENDPOINT_URL', object_store_server.url)
    monkeypatch.setenv('AWS_DEFAULT_REGION', 'us-east-1')
    object_store_server.failures.clear()
    return object_store_server


@pytest.fixture(scope='session')
def rank_server() -> Iterator['RankServer']:
    """Imports everything while the first test that asks for it goes on."""
    from tests.support.launching import RankServer

    server = RankServer()
    yield server
    server.close()


@pytest.fixture
def forked_runs(rank_server: 'RankServer', monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of an experiment are forked from what has imported everything, if they are of one rank."""
    from skillit_stream.experiments import running
    from tests.support.launching import forking_subprocess

    monkeypatch.setattr(running, 'subprocess', forking_subprocess(rank_server))
