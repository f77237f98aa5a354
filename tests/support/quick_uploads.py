"""Composer's uploads of checkpoints without its waiting: as a context, or as a script that trains in it.

Composer uploads from spawned processes, which import everything anew, and looks after its uploads every half minute.
Here threads of the run do the same calls, and look five times a second.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from composer.callbacks import CheckpointSaver
from composer.utils import remote_uploader

from skillit_stream import train

_initialise = CheckpointSaver.__init__


def _initialise_impatiently(self: CheckpointSaver, *args: Any, **kwargs: Any) -> None:
    _initialise(self, *args, **kwargs)
    self._symlink_upload_wait_before_next_try_in_seconds = 0.2


@contextmanager
def quick_looks() -> Iterator[None]:
    """Within it a run looks after its uploads at once."""
    with patch.object(CheckpointSaver, '__init__', _initialise_impatiently):
        yield


@contextmanager
def uploads_from_threads() -> Iterator[None]:
    """Within it runs upload without processes of their own."""
    context = SimpleNamespace(Manager=lambda: SimpleNamespace(Event=Event))
    threads = {
        'multiprocessing': SimpleNamespace(get_context=lambda method: context),
        'ProcessPoolExecutor': lambda max_workers, mp_context: ThreadPoolExecutor(max_workers),
    }
    with patch.multiple(remote_uploader, **threads):
        yield


def main(arguments: Sequence[str]) -> int:
    """`skillit_stream.train`, in both."""
    with quick_looks(), uploads_from_threads():
        return train.main(list(arguments))
