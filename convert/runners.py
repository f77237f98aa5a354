"""Who converts the parts: this process, several, or a Ray cluster. The parts come out the same."""

import argparse
import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver, get_context, set_forkserver_preload
from multiprocessing.connection import Connection
from queue import Empty
from types import ModuleType
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.convert.conversion import Progress, Report, Target, convert_part
from skillit_stream.convert.corpus import Corpus
from skillit_stream.convert.options import ConvertOptions
from skillit_stream.convert.parts import Part
from skillit_stream.convert.tokens import DocumentTokenizer, TokenizerFacts, reload_tokenizer

# Processes are forked from one that has imported what they need, Streaming and torch above all, and has done
# nothing else: no thread and no connection of the command's is copied into them.
START_METHOD = 'forkserver'
PRELOADED = ['skillit_stream.convert.runners', 'skillit_stream.convert.shard_writer', 'gigatoken']
# How often the main process looks for news of the others, in seconds.
TICK = 0.2


@dataclass(frozen=True)
class Job:
    """What a process needs to convert a part: plain data, so that it can be sent anywhere.

    Attributes:
        module: The corpus' module, or the path of its file.
        args: The command line.
        options: Of the command.
        encoder: As in :class:`~skillit_stream.convert.tokens.DocumentTokenizer`.
        tokenizer: Folder with the tokenizer.
        facts: Of it.
        folder: Of the parts' folders.
        remote: Where train shards are uploaded to.
    """

    module: str
    args: argparse.Namespace
    options: ConvertOptions
    encoder: str
    tokenizer: str
    facts: TokenizerFacts
    folder: str
    remote: str | None = None

    def load_tokenizer(self) -> DocumentTokenizer:
        """The tokenizer, without transformers."""
        return reload_tokenizer(self.tokenizer, self.facts, self.encoder)

    def part_folder(self, part: Part) -> str:
        """The folder of a part."""
        return os.path.join(self.folder, part.name)


@dataclass(frozen=True)
class Task:
    """A part and the signature that its record gets."""

    part: Part
    signature: str


class StoppedError(Exception):
    """Another process failed; this one's work is of no use."""


@cache
def load_module(name: str) -> ModuleType:
    """A corpus' module by its name, or from a .py file.

    Raises:
        InputError: The file is missing or is no corpus.
    """
    if not name.endswith('.py'):
        return importlib.import_module(name)
    if not os.path.isfile(name):
        raise InputError(f'{name}: no such file; name the .py file of a corpus')
    stem = os.path.splitext(os.path.basename(name))[0]
    spec = importlib.util.spec_from_file_location(f'skillit_corpus_{stem}', name)
    if spec is None or spec.loader is None:
        raise InputError(f'{name}: cannot be loaded as a Python module')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not hasattr(module, 'corpus'):
        raise InputError(f'{name}: has no function corpus(args); see the README for what a corpus is')
    return module


def convert_here(job: Job, task: Task, corpus: Corpus, tokenizer: DocumentTokenizer, report: Report) -> None:
    """Convert a part in this process."""
    target = Target(job.options, job.part_folder(task.part), task.signature, job.remote)
    convert_part(task.part, corpus, tokenizer, target, report)


def run_in_process(
    job: Job, tasks: Sequence[Task], report: Report, tokenizer: DocumentTokenizer | None = None
) -> None:
    """Convert parts one after the other; gigatoken uses all cores."""
    corpus = load_module(job.module).corpus(job.args)
    tokenizer = tokenizer or job.load_tokenizer()
    for task in tasks:
        convert_here(job, task, corpus, tokenizer, report)


def prepare_processes() -> None:
    """Have what processes need imported in the background; they will start at once."""
    set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()


def run_in_processes(job: Job, tasks: Sequence[Task], report: Report, workers: int) -> None:
    """Convert parts in several processes, the largest first.

    Raises:
        InputError: A part cannot be converted; the others are stopped.
    """
    context = get_context(START_METHOD)
    news, stop = context.Queue(), context.Event()
    threads = max(1, (os.cpu_count() or 1) // workers)
    # Nobody else holds the other end: where it is closed, the command is no more.
    lifeline, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _begin_worker, (job, news, stop, threads, lifeline))
    try:
        largest_first = sorted(tasks, key=lambda task: (-task.part.size, task.part.number))
        futures = [pool.submit(_convert_in_worker, task) for task in largest_first]
        for future in _as_completed(futures, lambda: _pass_on(news, report)):
            failure = future.result()
            if failure is not None:
                raise InputError(failure)
    except BrokenProcessPool:
        raise InputError(
            'a process that converted was killed, perhaps for want of memory; run the same command again to go '
            'on, with fewer --workers'
        ) from None
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        held.close()


def _as_completed(futures: Sequence[Future], meanwhile: Callable[[], None]) -> Iterator[Future]:
    pending = set(futures)
    while pending:
        done, pending = wait(pending, TICK, FIRST_COMPLETED)
        meanwhile()
        yield from done


def _pass_on(news: Any, report: Report) -> None:
    while True:
        try:
            report(news.get_nowait())
        except Empty:
            return


class _Worker:
    """What a worker process keeps from part to part."""

    job: Job
    corpus: Corpus
    tokenizer: DocumentTokenizer
    report: Report


def _begin_worker(job: Job, news: Any, stop: Any, threads: int, lifeline: Connection) -> None:
    # Only the fallback encoder has threads of its own here.
    os.environ['RAYON_NUM_THREADS'] = str(threads)
    threading.Thread(target=_end_with_command, args=(lifeline,), daemon=True).start()

    def report(progress: Progress) -> None:
        if stop.is_set():
            raise StoppedError
        news.put(progress)

    _Worker.job, _Worker.report = job, staticmethod(report)
    _Worker.corpus = load_module(job.module).corpus(job.args)
    _Worker.tokenizer = job.load_tokenizer()


def _end_with_command(lifeline: Connection) -> None:
    """A killed command must not leave processes behind that go on writing.

    Their parent is no sign of it: it is a server that stays for as long as one of them does.
    """
    with suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)


def _convert_in_worker(task: Task) -> str | None:
    """Convert a part; the message of what is wrong with the input, if something is."""
    try:
        convert_here(_Worker.job, task, _Worker.corpus, _Worker.tokenizer, _Worker.report)
    except InputError as error:
        return str(error)
    except OSError as error:
        if error.errno is None:
            raise
        return disk_message(error)
    except StoppedError:
        pass
    return None


def disk_message(error: OSError) -> str:
    """What the disk has against it, on one line."""
    where = f' ({error.filename})' if error.filename else ''
    return f'cannot go on: {error.strerror}{where}; make room or mend it, then run the same command again'


def run_on_ray(job: Job, tasks: Sequence[Task], report: Report, address: str) -> None:
    """Convert parts as tasks of a Ray cluster, whose machines see the same folders.

    Raises:
        InputError: Ray is not installed, the cluster cannot be reached, or a part cannot be converted.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError('--ray: Ray is not installed; pip install "skillit-stream[ray]"') from None
    try:
        ray.init(
            address=None if address == 'local' else address, ignore_reinit_error=True, log_to_driver=False
        )
    except ConnectionError as error:
        raise InputError(
            f'--ray {address}: cannot be reached ({error}); name a running cluster, or local'
        ) from None
    convert = ray.remote(_convert_on_ray)
    pending = {convert.remote(job, task): task for task in tasks}
    while pending:
        done, _ = ray.wait(list(pending), num_returns=1)
        task = pending.pop(done[0])
        failure = ray.get(done[0])
        if failure is not None:
            raise InputError(failure)
        report(Progress(task.part.size))


def _convert_on_ray(job: Job, task: Task) -> str | None:
    try:
        run_in_process(job, [task], lambda _: None)
    except InputError as error:
        return str(error)
    return None
