"""All parts in a row: a corpus' files -> parts -> a finished streams folder."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.base.tasks import task_of
from skillit_stream.convert.corpus import Corpus
from skillit_stream.convert.destinations import destination_of
from skillit_stream.convert.job import Job
from skillit_stream.convert.merge import Assembly, DonePart, assemble_skills, unplaced
from skillit_stream.convert.options import options_of, part_size_of, workers_of
from skillit_stream.convert.parts import Part, plan_parts
from skillit_stream.convert.progress import progress_display
from skillit_stream.convert.readers import InputFile
from skillit_stream.convert.runners import (
    disk_in_one_line,
    load_module,
    prepare_processes,
    run_in_process,
    run_in_processes,
    run_on_ray,
)
from skillit_stream.convert.shards import shard_bytes, token_columns
from skillit_stream.convert.tokens import DocumentTokenizer, called, find_tokenizer, tokenizer_facts
from skillit_stream.formats.manifest import Manifest

# Less is done by one process before others have started.
ALONE_BYTES = 1 << 25


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
    options, workers, part_size, task = options_of(args), workers_of(args), part_size_of(args), task_of(args)
    corpus = load_module(module).corpus(args)
    destination = destination_of(args)
    files = corpus.inputs()
    if _in_processes(args, workers, sum(file.size for file in files)):
        prepare_processes()
    with destination.opened(shared=args.task is not None):
        found, name = _find_tokenizer(args.tokenizer, corpus)
        facts = tokenizer_facts(found, name)
        tokenizer = DocumentTokenizer(found.backend_tokenizer, facts, args.encoder)
        if args.seq_len is None:
            options = replace(options, seq_len=corpus.sentence_tokens(tokenizer))
        shard_bytes(options.shard_size, np.dtype(tokenizer.dtype), options.seq_len)
        tokenizer_hash = destination.save_tokenizer(found)
        settings = {
            'corpus': [corpus.name, dict(corpus.options())],
            'options': {**asdict(options), 'tokenizer': tokenizer_hash, 'encoder': args.encoder},
        }
        parts = plan_parts(files, part_size, settings)
        job = Job(module, args, options, args.encoder, facts, destination)
        missing = [part for part in task.share(parts) if job.load_record(part) is None]
        _run(job, missing, args, workers, tokenizer)
        done = [
            DonePart(job.part_folder(part), record)
            for part in parts
            if (record := job.load_record(part)) is not None
        ]
        if args.task is not None:
            return _conversion(None, len(parts), done)
        with destination.cleared_if_refused():
            assembly = Assembly(destination, options, tokenizer, done, corpus.generated)
            manifest = _assemble(assembly, tokenizer_hash, corpus, files)
        destination.publish(manifest, corpus.companions())
    return _conversion(manifest, len(parts), done)


def _find_tokenizer(asked: str | None, corpus: Corpus) -> tuple[Any, str]:
    """The tokenizer and what to call it."""
    if asked is None:
        return corpus.own_tokenizer(), f'{corpus.name} words'
    return find_tokenizer(asked), called(asked)


def _in_processes(args: argparse.Namespace, workers: int, size: int) -> bool:
    """Whether several processes are worth their start."""
    return not args.ray and workers > 1 and (bool(args.workers) or size > ALONE_BYTES)


def _run(
    job: Job, parts: list[Part], args: argparse.Namespace, workers: int, tokenizer: DocumentTokenizer
) -> None:
    total = sum(part.size for part in parts)
    workers = min(workers, len(parts))
    with progress_display(total) as report, disk_in_one_line():
        if args.ray:
            run_on_ray(job, parts, report, args.ray)
        elif _in_processes(args, workers, total):
            run_in_processes(job, parts, report, workers)
        else:
            run_in_process(job, parts, report, tokenizer)


def _assemble(
    assembly: Assembly, tokenizer_hash: str, corpus: Corpus, files: Sequence[InputFile]
) -> Manifest:
    options, tokenizer = assembly.options, assembly.tokenizer
    skills = assemble_skills(assembly)
    if not skills:
        raise InputError(f'no documents in {len(files)} file(s); check the PATH')
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
            **({} if corpus.generated else options.in_manifest()),
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
