"""Who converts the parts: this process, several, or a Ray cluster. The parts come out the same."""

import hashlib
import importlib
import importlib.util
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cache, partial
from multiprocessing import forkserver, get_context, set_forkserver_preload
from multiprocessing.connection import Connection
from queue import Empty
from typing import Any

from skillit_stream.base.errors import InputError, first_line
from skillit_stream.base.tasks import ray_cluster
from skillit_stream.convert.conversion import Done, Report, convert_part
from skillit_stream.convert.corpus import Corpus
from skillit_stream.convert.job import Job
from skillit_stream.convert.own_rows import FUNCTION, line_in, make_corpus
from skillit_stream.convert.parts import Part
from skillit_stream.convert.tokens import DocumentTokenizer

# Processes are forked from one that has imported what they need and has done nothing else: no thread and no connection
# of the command's is copied into them.
START_METHOD = 'forkserver'
PRELOADED = ['skillit_stream.convert.runners', 'gigatoken', 'tokenizers']
# How often the main process looks for news of the others, in seconds.
TICK = 0.2


class StoppedError(Exception):
    """Another process has failed."""


@cache
def load_module(name: str) -> Any:
    """What has a corpus' HELP, options and `corpus`: ``module``, ``module:object`` in it, or a .py file.

    Raises:
        InputError: The file is missing or is no corpus.
    """
    if not name.endswith('.py'):
        module, _, inside = name.partition(':')
        found = importlib.import_module(module)
        return getattr(found, inside) if inside else found
    if not os.path.isfile(name):
        raise InputError(f'{name}: no such file; name the .py file of a corpus')
    stem = os.path.splitext(os.path.basename(name))[0]
    spec = importlib.util.spec_from_file_location(f'skillit_corpus_{stem}', name)
    if spec is None or spec.loader is None:
        raise InputError(f'{name}: cannot be loaded as a Python module')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with open(name, 'rb') as file:
        module.source_hash = hashlib.blake2b(file.read()).hexdigest()  # type: ignore[attr-defined]
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code trips over
        where = f'{name}:{line_in(error, name)}'
        cause = f'{type(error).__name__}: {first_line(error)}'
        raise InputError(f'{where}: cannot be loaded ({cause}); mend the file') from error
    if not callable(getattr(module, 'corpus', None)):
        if not hasattr(module, FUNCTION):
            raise InputError(
                f'{name}: has neither a function {FUNCTION}(row) nor corpus(args); see docs/extending.md for what a '
                'corpus is'
            )
        make_corpus(module, name)
    return module


def code_of(name: str) -> str:
    """Hash of the file that a module was loaded from; empty if it is one of the package."""
    return getattr(load_module(name), 'source_hash', '')


def run_in_process(
    job: Job, parts: Sequence[Part], report: Report, tokenizer: DocumentTokenizer | None = None
) -> None:
    """Convert parts one after the other; gigatoken uses all cores."""
    corpus = load_module(job.module).corpus(job.args)
    _check_code(job)
    tokenizer = tokenizer or job.load_tokenizer()
    for part in parts:
        convert_part(part, job, corpus, tokenizer, report)


def prepare_processes() -> None:
    """Have what processes need imported in the background; they will start at once."""
    set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()


def run_in_processes(job: Job, parts: Sequence[Part], report: Report, workers: int) -> None:
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
        futures = [pool.submit(_convert_in_worker, part) for part in largest_first(parts)]
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


def largest_first(parts: Sequence[Part]) -> list[Part]:
    """The order in which several processes are done soonest."""
    return sorted(parts, key=lambda part: (-part.size, part.number))


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
    # Ctrl-C reaches all processes of a terminal; the command stops the others itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_command, args=(lifeline,), daemon=True).start()
    # After the last part nobody reads the news: what does not fit into the pipe must not keep the process.
    news.cancel_join_thread()

    def report(done: Done) -> None:
        if stop.is_set():
            raise StoppedError
        news.put(done)

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


def _convert_in_worker(part: Part) -> str | None:
    """Convert a part; the message of what is wrong with the input, if something is."""
    try:
        with disk_in_one_line():
            _check_code(_Worker.job)
            convert_part(part, _Worker.job, _Worker.corpus, _Worker.tokenizer, _Worker.report)
    except InputError as error:
        return str(error)
    except StoppedError:
        pass
    return None


def _check_code(job: Job) -> None:
    """Refuse a corpus of one's own that was edited since the command began: its documents would be of two kinds."""
    if code_of(job.module) != job.code:
        raise InputError(f'{job.module}: was edited while it was at work; run the same command again')


@contextmanager
def disk_in_one_line() -> Iterator[None]:
    """Within this context an error of the disk becomes an InputError."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        where = f' ({error.filename})' if error.filename else ''
        raise InputError(
            f'cannot go on: {error.strerror}{where}; make room or mend it, then run the same command again'
        ) from error


def run_on_ray(job: Job, parts: Sequence[Part], report: Report, address: str) -> None:
    """Convert parts on a Ray cluster, whose machines see the same folders.

    Raises:
        InputError: Ray is not installed, the cluster cannot be reached, or a part cannot be converted.
    """
    with ray_cluster(address) as cluster:
        cluster.run(partial(_convert_on_ray, job), largest_first(parts), lambda part: report(Done(part.size)))


def _convert_on_ray(job: Job, part: Part) -> None:
    with disk_in_one_line():
        run_in_process(job, [part], lambda _: None)
