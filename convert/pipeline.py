"""All parts in a row: a corpus' files -> parts -> a finished streams folder."""

import argparse
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.convert.merge import Assembly, DonePart, assemble_skills, unplaced
from skillit_stream.convert.options import options_of, part_size_of, workers_of
from skillit_stream.convert.parts import PartRecord, plan_parts
from skillit_stream.convert.progress import progress_display
from skillit_stream.convert.remote import Remote
from skillit_stream.convert.runners import (
    Job,
    Task,
    disk_message,
    load_module,
    prepare_processes,
    run_in_process,
    run_in_processes,
    run_on_ray,
)
from skillit_stream.convert.staging import TOKENIZER_FOLDER, Staging, is_remote
from skillit_stream.convert.tokens import (
    DocumentTokenizer,
    called,
    find_tokenizer,
    save_tokenizer,
    tokenizer_facts,
)
from skillit_stream.convert.writer import shard_bytes, token_columns
from skillit_stream.formats.manifest import Manifest

# Less is done by one process before others have started.
ALONE_BYTES = 1 << 25
WORK_FOLDER = '.work'


@dataclass(frozen=True)
class Conversion:
    """What a command has done.

    Attributes:
        manifest: Of the streams folder; None if only a share of the work was done.
        parts: Parts there are.
        done: Parts that are done.
        encoder: Who encoded.
        checked: Documents that both encoders have encoded.
        seconds: Where the time went, all processes together.
    """

    manifest: Manifest | None
    parts: int
    done: int
    encoder: str
    checked: int
    seconds: Mapping[str, float]


def convert(module: str, args: argparse.Namespace) -> Conversion:
    """Convert a corpus, or do a share of it.

    Args:
        module: The corpus' module, or the path of its file.
        args: Its command line, with the options of
            :func:`~skillit_stream.convert.options.add_corpus_arguments`.

    Raises:
        InputError: Something is wrong with the options or the input. Parts that are done stay for the same
            command; there is nothing at ``--out``.
    """
    options = options_of(args)
    workers, part_size = workers_of(args), part_size_of(args)
    corpus = load_module(module).corpus(args)
    place = _Place(args)
    files = corpus.inputs()
    if _in_processes(args, workers, sum(file.size for file in files)):
        prepare_processes()
    with place.opened(shared=args.task is not None) as folder:
        found = find_tokenizer(options.tokenizer)
        facts = tokenizer_facts(found, called(options.tokenizer))
        tokenizer = DocumentTokenizer(found.backend_tokenizer, facts, args.encoder)
        shard_bytes(options.shard_size, np.dtype(tokenizer.dtype), options.seq_len)
        tokenizer_hash = place.save_tokenizer(found)
        parts = plan_parts(files, part_size)
        settings = {
            'corpus': [corpus.name, dict(corpus.options())],
            'options': {**options.to_plain(), 'tokenizer': tokenizer_hash, 'encoder': args.encoder},
        }
        job = Job(
            module,
            args,
            options,
            args.encoder,
            os.path.join(folder, TOKENIZER_FOLDER),
            facts,
            os.path.join(place.work, 'parts'),
            place.remote.root if place.remote else None,
        )
        tasks = [Task(part, part.signature(settings)) for part in parts]
        _run(job, _missing(job, tasks, args.task), args, workers, tokenizer)
        done = [
            DonePart(job.part_folder(task.part), record)
            for task in tasks
            if (record := PartRecord.load(job.part_folder(task.part), task.signature)) is not None
        ]
        if args.task is not None:
            return _conversion(None, len(parts), done)
        assembly = Assembly(
            folder, place.work, options, tokenizer, done, place.remote.root if place.remote else None
        )
        with place.of_no_use():
            manifest = _assemble(assembly, tokenizer_hash, corpus, files)
        place.publish(manifest)
    return _conversion(manifest, len(parts), done)


def _missing(job: Job, tasks: list[Task], share: tuple[int, int] | None) -> list[Task]:
    """The tasks of a share that are not done."""
    index, count = share or (0, 1)
    return [
        task
        for task in tasks
        if task.part.number % count == index
        and PartRecord.load(job.part_folder(task.part), task.signature) is None
    ]


def _in_processes(args: argparse.Namespace, workers: int, size: int) -> bool:
    """Whether several processes are worth their start."""
    return not args.ray and workers > 1 and (bool(args.workers) or size > ALONE_BYTES)


def _run(
    job: Job, tasks: list[Task], args: argparse.Namespace, workers: int, tokenizer: DocumentTokenizer
) -> None:
    total = sum(task.part.size for task in tasks)
    workers = min(workers, len(tasks))
    with progress_display(total) as report:
        try:
            if args.ray:
                run_on_ray(job, tasks, report, args.ray)
            elif _in_processes(args, workers, total):
                run_in_processes(job, tasks, report, workers)
            else:
                run_in_process(job, tasks, report, tokenizer)
        except OSError as error:
            if error.errno is None:
                raise
            raise InputError(disk_message(error)) from error


def _assemble(assembly: Assembly, tokenizer_hash: str, corpus: Any, files: list[Any]) -> Manifest:
    options, tokenizer = assembly.options, assembly.tokenizer
    skills = assemble_skills(assembly)
    if not skills:
        raise InputError(f'no documents in {len(files)} file(s); check the PATH')
    sizes = {'eval_fraction': options.eval_fraction}
    for name in ('eval_documents', 'eval_tokens'):
        if getattr(options, name) is not None:
            sizes = {name: getattr(options, name)}
    extra: dict[str, Any] = {'one_per_sample': True} if options.one_per_sample else {}
    if options.loss != 'all':
        extra['loss'] = options.loss
    return Manifest(
        tokenizer_name=tokenizer.facts.name,
        tokenizer_hash=tokenizer_hash,
        vocab_size=tokenizer.facts.vocab_size,
        seq_len=options.seq_len,
        dtype=tokenizer.dtype.__name__,
        columns=token_columns(tokenizer.dtype, options.seq_len, masked=options.masked),
        skills=skills,
        dropped=unplaced(assembly, skills),
        corpus={
            'name': corpus.name,
            **corpus.options(),
            **sizes,
            **extra,
            'bad_records': options.bad_records,
        },
    )


def _conversion(manifest: Manifest | None, parts: int, done: list[DonePart]) -> Conversion:
    seconds: dict[str, float] = {}
    for part in done:
        for stage, value in part.record.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + value
    encoders = sorted({part.record.encoder for part in done})
    checked = sum(part.record.checked for part in done)
    return Conversion(manifest, parts, len(done), ' and '.join(encoders), checked, seconds)


class _Place:
    """Where a command works and where the streams come to lie.

    Args:
        args: ``out``, ``overwrite`` and ``work`` of the command line.

    Raises:
        InputError: The streams cannot be written there.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.remote = Remote(args.out) if is_remote(args.out) else None
        self._staging = None if self.remote else Staging(args.out, overwrite=args.overwrite)
        # A folder of its own: the one that is given may hold other things, and this one is removed.
        own = f'{os.path.basename(args.out.rstrip("/"))}.skillit-work'
        work = os.path.join(os.path.abspath(args.work), own) if args.work else None
        if self.remote:
            if work is None:
                raise InputError(
                    f'--out {args.out}: needs a local folder for work in progress; pass one as --work'
                )
            self.remote.check(overwrite=args.overwrite)
            self.folder, self.work = os.path.join(work, 'streams'), work
        else:
            self.folder = self._staging.folder if self._staging else ''
            self.work = work or os.path.join(self.folder, WORK_FOLDER)

    @contextmanager
    def opened(self, *, shared: bool) -> Iterator[str]:
        """The folder to put the streams together in; nothing is left of it if no part was done."""
        if self._staging:
            self._staging.open()
        os.makedirs(os.path.join(self.work, 'parts'), exist_ok=True)
        os.makedirs(self.folder, exist_ok=True)
        lock = open(os.path.join(self.work, '.lock'), 'w')  # noqa: SIM115 (held to the end)
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise InputError(
                f'{self.work}: another command is at work there; wait for it to end, or end it'
            ) from None
        try:
            yield self.folder
        except BaseException:
            if not any(True for _ in self._done()):
                self.clear()
            raise
        finally:
            lock.close()

    @contextmanager
    def of_no_use(self) -> Iterator[None]:
        """Within this context an InputError means that the parts are of no use: the input has to change."""
        try:
            yield
        except InputError:
            self.clear()
            raise

    def _done(self) -> Iterator[str]:
        parts = os.path.join(self.work, 'parts')
        for name in os.listdir(parts) if os.path.isdir(parts) else ():
            if os.path.exists(os.path.join(parts, name, 'part.json')):
                yield name

    def save_tokenizer(self, tokenizer: Any) -> str:
        """Save the tokenizer with the streams and return its hash; several commands may do so at once."""
        scratch = os.path.join(self.work, f'tokenizer.{os.getpid()}')
        digest = save_tokenizer(tokenizer, scratch)
        folder = os.path.join(self.folder, TOKENIZER_FOLDER)
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(scratch):
            shutil.move(os.path.join(scratch, name), os.path.join(folder, name))
        os.rmdir(scratch)
        return digest

    def publish(self, manifest: Manifest) -> None:
        """Write the manifest: the streams are complete."""
        if self.remote:
            self.remote.upload(os.path.join(self.folder, TOKENIZER_FOLDER), TOKENIZER_FOLDER)
            manifest.save(self.folder)
            self.remote.upload_file(self.folder, 'skills.json')
            self.clear()
        elif self._staging:
            manifest.save(self.folder)
            shutil.rmtree(self.work)
            self._staging.publish()

    def clear(self) -> None:
        """Remove all that was made."""
        shutil.rmtree(self.work, ignore_errors=True)
        if self._staging:
            self._staging.clear()
