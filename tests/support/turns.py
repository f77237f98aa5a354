"""Tests of several processes, xdist's workers, take turns where one of them needs the machine to itself."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.paths import ROOT, SUPPORT

# Directories can be locked, and nothing is left of it.
DOOR, ROOM = SUPPORT, ROOT / 'tests'


@contextmanager
def turn(*, alone: bool) -> Iterator[None]:
    """Wait until no test runs that has to be alone or, if this one has to, until none runs at all."""
    with ExitStack() as opened:
        room = _opened(ROOM, opened)
        with ExitStack() as while_waiting:
            # Who waits for the room holds the door: nobody else comes in before.
            fcntl.flock(_opened(DOOR, while_waiting), fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def _opened(folder: Path, stack: ExitStack) -> int:
    """A descriptor to lock. Closing is not enough: what the test has forked, and lives on, has it too."""
    descriptor = os.open(folder, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    stack.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)
    return descriptor
