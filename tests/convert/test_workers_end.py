"""A worker process ends once its parts are done, whatever of its reports was not read."""

import multiprocessing
import time
from types import SimpleNamespace
from typing import Any

import pytest

from skillit_stream.convert import runners

MUCH = 'x' * 1_000_000  # more than a pipe holds


def _work(news: Any, stop: Any, lifeline: Any) -> None:
    job = SimpleNamespace(module='', args=None, load_tokenizer=lambda: None)
    runners._begin_worker(job, news, stop, 1, lifeline)  # pyright: ignore[reportArgumentType, reportPrivateUsage]
    runners._Worker.report(MUCH)  # pyright: ignore[reportArgumentType, reportPrivateUsage]
    time.sleep(0.5)  # until the queue's thread writes


def test_a_worker_ends_though_nobody_reads_its_reports(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runners, 'load_module', lambda _: SimpleNamespace(corpus=lambda _: None))
    context = multiprocessing.get_context('fork')
    news, stop = context.Queue(), context.Event()
    lifeline, held = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(news, stop, lifeline))
    worker.start()
    worker.join(20)
    ended = worker.exitcode
    worker.kill()
    worker.join()
    held.close()
    assert ended == 0
