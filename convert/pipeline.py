"""All parts in a row: a corpus' files -> parts -> a finished streams folder."""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import is_url, number_of
from skillit_stream.base.tasks import task_of
from skillit_stream.convert.assemble import assemble_skills, unplaced
from skillit_stream.convert.corpus import Corpus
from skillit_stream.convert.destinations import Destination, ObjectStore
from skillit_stream.convert.existing import BOUNDS, Existing, bound_in_words
from skillit_stream.convert.grown_folder import GrownFolder
from skillit_stream.convert.history import grown_manifest
from skillit_stream.convert.inputs import InputFile, choosing_files
from skillit_stream.convert.job import Job
from skillit_stream.convert.merge import Assembly, DonePart
from skillit_stream.convert.options import min_samples_of, options_of, part_size_of, workers_of
from skillit_stream.convert.parts import Part, plan_parts
from skillit_stream.convert.progress import assembly_display, progress_display
from skillit_stream.convert.runners import (
    code_of,
    disk_in_one_line,
    load_module,
    prepare_processes,
    run_in_process,
    run_in_processes,
    run_on_ray,
)
from skillit_stream.convert.settings import custom_settings, settings_of
from skillit_stream.convert.shards import shard_bytes, token_columns
from skillit_stream.convert.staged_folder import StagedFolder
from skillit_stream.convert.tokenizer_process import save_named_tokenizer
from skillit_stream.convert.tokens import (
    DocumentTokenizer,
    reload_tokenizer,
    save_tokenizer,
    tokenizer_facts,
)
from skillit_stream.formats.manifest import LEFT_OUT, Manifest

# Less is done by one process before others have started.
ALONE_BYTES = 1 << 23


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
        passed_over: Input files that the streams had already.
        files: How many were read and how many passed over, in words.
        boundaries: What stands between documents, in words; empty where it is what the tokenizer puts there itself.
        called: Skill that was added to -> names that a corpus has for it, if there are others than its own.
        kept: Parts that an earlier command had done.
    """

    manifest: Manifest | None
    parts: int
    done: int
    encoder: str
    checked: int
    seconds: Mapping[str, float]
    passed_over: Sequence[str] = ()
    files: str = ''
    boundaries: str = ''
    called: Mapping[str, Sequence[str]] = field(default_factory=dict)
    kept: int = 0


def convert(module: str, args: argparse.Namespace) -> Conversion:
    """Convert a corpus, or do a share of it.

    Args:
        module: The corpus' module, or the path of its file.
        args: Its command line, with the options of
            :func:`~skillit_stream.convert.options.add_corpus_arguments`.

    Raises:
        InputError: Something is wrong with the options or the input. Parts that are done stay for the same
            command; there is nothing at ``--out``, or what was there before.
    """
    options, workers, part_size, task = options_of(args), workers_of(args), part_size_of(args), task_of(args)
    least = min_samples_of(args)
    corpus = load_module(module).corpus(args)
    destination = _destination_of(args, corpus)
    existing = destination.existing
    with choosing_files(args) as choice:
        files, passed_over = existing.unknown(corpus.inputs())
    in_words = choice.in_words(len(files), known=len(passed_over))
    if not files and existing.manifest:
        return _nothing_to_add(existing.manifest, passed_over, args, destination)
    if _in_processes(args, workers, sum(file.size for file in files)):
        prepare_processes()
    with destination.opened(shared=args.task is not None), ExitStack() as stopping:
        tokenizer, tokenizer_hash = _tokenizer_for(destination, corpus, args, options.special_tokens)
        if args.seq_len is None:
            options = replace(options, seq_len=corpus.sentence_tokens(tokenizer))
        shard_bytes(options.shard_size, np.dtype(tokenizer.dtype), options.seq_len)
        between = '' if corpus.generated else _boundaries(tokenizer)
        options = existing.settle(options, tokenizer_hash, args.tokenizer)
        settings = {
            **settings_of(corpus, options, tokenizer, tokenizer_hash, args.encoder),
            **(custom_settings(module, args, files) if module.endswith('.py') else {}),
            **existing.settings(),
        }
        parts = plan_parts(files, part_size, settings, corpus.by_line)
        job = Job(module, args, options, args.encoder, tokenizer.facts, destination, code_of(module))
        stopping.enter_context(_reporting_stop(job, parts))
        share = task.share(parts)
        missing = [part for part in share if job.load_record(part) is None]
        _run(job, missing, args, workers, tokenizer)
        records = ((job.part_folder(part), job.load_record(part)) for part in parts)
        done = [DonePart(folder, record) for folder, record in records if record is not None]
        if args.task is not None:
            return replace(
                _conversion(None, len(parts), done, passed_over), files=in_words, boundaries=between
            )
        assembly = Assembly(destination, options, tokenizer, done, corpus.generated, least)
        manifest = _published(assembly, tokenizer_hash, corpus, files, args)
    found = _conversion(manifest, len(parts), done, passed_over)
    return replace(
        found,
        files=in_words,
        boundaries=between,
        called=_called(existing, done),
        kept=len(share) - len(missing),
    )


def _published(
    assembly: Assembly,
    tokenizer_hash: str,
    corpus: Corpus,
    files: Sequence[InputFile],
    args: argparse.Namespace,
) -> Manifest:
    """Put the parts together and publish the streams folder."""
    destination = assembly.destination
    with disk_in_one_line(), destination.cleared_if_refused():
        destination.begin_assembly()
        made = _assemble(assembly, tokenizer_hash, corpus, files)
        manifest = grown_manifest(destination.existing, made, args)
    with disk_in_one_line():
        destination.publish(manifest, corpus.companions())
    return manifest


@contextmanager
def _reporting_stop(job: Job, parts: Sequence[Part]) -> Iterator[None]:
    """Within this context Ctrl-C says what is kept and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        done = sum(job.load_record(part) is not None for part in parts)
        kept = f'{done} of {number_of(len(parts), "part")} {"is" if len(parts) == 1 else "are"} done and kept'
        print(f'skillit: stopped; {kept}; run the same command again to go on', file=sys.stderr)
        raise


def _nothing_to_add(
    manifest: Manifest, passed_over: Sequence[str], args: argparse.Namespace, destination: Destination
) -> Conversion:
    """What becomes of a command whose files are all in the streams: it may have finished one that was killed.

    Raises:
        InputError: It has not.
    """
    if not destination.finished_earlier:
        raise InputError(
            f'--add: {args.out} has all of {number_of(len(passed_over), "input file")} already, the first '
            f'{passed_over[0]}; name what is new'
        )
    return _conversion(manifest, 0, [], passed_over)


def _destination_of(args: argparse.Namespace, corpus: Corpus) -> Destination:
    """The destination that ``--out``, ``--overwrite``, ``--add`` and ``--work`` name.

    Raises:
        InputError: The streams cannot be written there.
    """
    # A folder of its own: the one that is given may hold other things, and this one is removed.
    own = f'{os.path.basename(args.out.rstrip("/"))}.skillit-work'
    work = os.path.join(os.path.abspath(args.work), own) if args.work else None
    if args.add:
        if corpus.generated:
            raise InputError(
                f'--add: {corpus.name} is computed, and more of it may be what is there already; make it anew with '
                '--overwrite and more --train-samples'
            )
        if is_url(args.out):
            raise InputError(
                f'--add: --out {args.out} is in an object store, and only streams in a local folder can be added to; '
                'fetch them, add to them and upload them'
            )
        return GrownFolder(args.out, work)
    return (ObjectStore if is_url(args.out) else StagedFolder)(args.out, work, overwrite=args.overwrite)


def _tokenizer_for(
    destination: Destination, corpus: Corpus, args: argparse.Namespace, special_tokens: str
) -> tuple[DocumentTokenizer, str]:
    """The tokenizer, saved with the streams, and the hash of that."""
    if args.tokenizer is None:
        own = corpus.own_tokenizer()
        facts = tokenizer_facts(own, f'{corpus.name} words')
        digest = destination.keep_tokenizer(partial(save_tokenizer, own))
    else:
        facts, digest = destination.keep_tokenizer(partial(save_named_tokenizer, args.tokenizer))
    tokenizer = reload_tokenizer(destination.tokenizer, facts, args.encoder, special_tokens=special_tokens)
    return tokenizer, digest


def _boundaries(tokenizer: DocumentTokenizer) -> str:
    added = ' '.join(tokenizer.own_additions)
    if not added:
        return ''
    return f'each document ends in {tokenizer.eos}; {added}, which the tokenizer adds to a text by itself, is left out'


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
    skills = {skill for part in assembly.parts for skill in part.record.skills}
    with assembly_display(2 * len(skills)) as advance:
        made = assemble_skills(assembly, advance)
    assembled = made.skills
    if not assembled:
        bad = ', '.join(f'{count:,} {reason}' for reason, count in unplaced(assembly, ()).items())
        raise InputError(
            f'no documents in {number_of(len(files), "file")}{f" ({bad})" if bad else ""}; check the PATH'
        )
    bounds = {
        skill: bound_in_words(one.eval_below)
        for skill, one in assembled.items()
        if one.eval_below is not None
    }
    left_out: dict[str, Any] = {}
    if assembly.min_samples is not None:
        left_out = {name: amount._asdict() for name, amount in made.left_out.items()}
        left_out = {'min_samples': assembly.min_samples, LEFT_OUT: left_out}
    return Manifest(
        tokenizer_name=tokenizer.facts.name,
        tokenizer_hash=tokenizer_hash,
        vocab_size=tokenizer.facts.vocab_size,
        seq_len=options.seq_len,
        dtype=tokenizer.dtype.__name__,
        columns=token_columns(tokenizer.dtype, options.seq_len, masked=options.masked),
        skills={skill: one.info for skill, one in assembled.items()},
        dropped=unplaced(assembly, assembled),
        corpus={
            'name': corpus.name,
            **corpus.options(),
            **({} if corpus.generated else {**options.in_manifest(), **left_out, BOUNDS: bounds}),
        },
    )


def _called(existing: Existing, done: Sequence[DonePart]) -> dict[str, tuple[str, ...]]:
    """Skill that was added to -> the names that a corpus has for it, if there are others than its own."""
    known = existing.manifest.skills if existing.manifest else {}
    grown = sorted({skill for part in done for skill in part.record.skills})
    return {skill: known[skill].names for skill in grown if skill in known and known[skill].names}


def _conversion(
    manifest: Manifest | None, parts: int, done: list[DonePart], passed_over: Sequence[str]
) -> Conversion:
    seconds: dict[str, float] = {}
    for part in done:
        for stage, value in part.record.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + value
    encoders = sorted({part.record.encoder for part in done})
    checked = sum(part.record.checked for part in done)
    return Conversion(manifest, parts, len(done), ' and '.join(encoders), checked, seconds, passed_over)
