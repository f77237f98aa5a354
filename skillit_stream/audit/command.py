"""`skillit audit`: when a sample was trained on, or what a round or a step trained on."""

import argparse
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.audit.record import RunRecord, Stretch, read_run, told
from skillit_stream.audit.replay import Draw, Replay
from skillit_stream.base.errors import InputError, blaming

Answer = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `skillit audit`."""
    parser.add_argument('run', metavar='RUN', help='a run folder: mixture.jsonl and config.yaml')
    question = parser.add_mutually_exclusive_group(required=True)
    question.add_argument(
        '--sample',
        type=int,
        action='append',
        metavar='ID',
        help="when this sample was drawn; an id as of the run's last rounds, should its streams have changed; "
        'may be repeated',
    )
    question.add_argument(
        '--round', type=int, metavar='N', help='what round N drew (from 0), by the ids of that round'
    )
    question.add_argument(
        '--step',
        type=int,
        metavar='N',
        help='the samples of training step N (from 0), by the ids of its round',
    )
    parser.add_argument('--out', metavar='FILE.npy', help="with --round: write the round's sample ids, int64")
    parser.add_argument(
        '--streams',
        metavar='DIR',
        help='the streams folder (default: the one config.yaml names); for rounds from before streams were '
        'changed or removed: the folder as it was then',
    )
    parser.add_argument('--json', action='store_true', help='print one JSON object')


def run(args: argparse.Namespace) -> int:
    """Answer the question; prints lines, or one JSON object."""
    if args.out and args.round is None:
        raise InputError(f"`--out` {args.out} takes a round's ids: name the round with --round.")
    replay = Replay(read_run(args.run, streams=args.streams))
    if args.sample:
        answer, lines = _about_samples(replay, list(dict.fromkeys(args.sample)))
    elif args.round is not None:
        answer, lines = _about_round(replay, args.round, args.out)
    else:
        answer, lines = _about_step(replay, args.step)
    print(json.dumps(answer) if args.json else '\n'.join(lines))
    return 0


def _about_samples(replay: Replay, samples: list[int]) -> tuple[Answer, list[str]]:
    record = replay.run
    if not record.rounds:
        raise InputError(f'{record.folder / "mixture.jsonl"} has no round that has ended: train on first.')
    # Before the walk: an id that does not exist is refused at once.
    homes = replay.homes(samples)
    draws: dict[int, list[dict[str, int]]] = {sample: [] for sample in samples}
    for draw in replay.draws(samples):
        draws[draw.sample].append(_about_draw(record, draw))
    answers, lines = [], []
    for sample, home in zip(samples, homes, strict=True):
        stored = {'sample': sample, 'skill': home.skill, 'shard': str(home.file), 'row': home.row}
        others = replay.rounds_of_other_shards(home.skill)
        answers.append(
            {
                **stored,
                'drawn': len(draws[sample]),
                'draws': draws[sample],
                'rounds_of_other_shards': [list(span) for span in others],
            }
        )
        lines.append(
            f'sample {sample}: {home.skill}, {home.file} row {home.row}, {_times(len(draws[sample]))}'
        )
        lines += ['  ' + '  '.join(f'{name} {value}' for name, value in one.items()) for one in draws[sample]]
        if others:
            lines.append(
                f'  in {told(others)} skill {home.skill} had other shards: none of their samples is this'
            )
    ids_of = [record.stretches[-1].first_round, record.rounds - 1]
    covered = {'rounds': [0, record.rounds - 1], 'steps': [0, record.steps - 1]}
    answer = {'covered': covered, 'ids_of_rounds': ids_of, 'samples': answers}
    return answer, [*lines, *_whose_ids(record, record.stretches[-1]), _what_is_covered(record)]


def _about_draw(record: RunRecord, draw: Draw) -> dict[str, int]:
    about = {'round': draw.round, 'step': draw.step, 'place': draw.place, 'pass': draw.tape_pass}
    return about if draw.round >= record.stretches[-1].first_round else {**about, 'id': draw.id_then}


def _whose_ids(record: RunRecord, stretch: Stretch) -> list[str]:
    """In a run whose streams or settings changed: a line that says for which rounds the ids stand."""
    if len(record.stretches) == 1:
        return []
    first, last = stretch.first_round, stretch.end_round - 1
    return [
        f'ids: as of {told([(first, last)])}; where streams changed, a sample may have another before or after'
    ]


def _what_is_covered(record: RunRecord) -> str:
    return (
        f'covered: rounds 0 to {record.rounds - 1}, steps 0 to {record.steps - 1}; a round begun at step '
        f'{record.steps} would not be: its proportions are not in {record.folder / "mixture.jsonl"} before it ends'
    )


def _about_round(replay: Replay, number: int, out: str | None) -> tuple[Answer, list[str]]:
    stretch = replay.stretch_of(number)
    ids = replay.sample_ids(number)
    first = stretch.first_step_of(number)
    last = first + stretch.shape.batches - 1
    skills = _by_skill(stretch, ids)
    shards = sum(one['shards'] for one in skills.values())
    answer: Answer = {
        'round': number,
        'first_step': first,
        'last_step': last,
        'samples': len(ids),
        'shards': shards,
        'skills': skills,
    }
    lines = [f'round {number}: steps {first} to {last}, {len(ids)} samples from {_plural(shards, "shard")}']
    widths = [max(map(len, column)) for column in zip(*_rows(skills), strict=True)]
    for skill, *numbers in _rows(skills):
        cells = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
        lines.append('  '.join(['', skill.ljust(widths[0]), *cells]))
    if out:
        _save(Path(out), ids)
        answer['out'] = out
        lines += [f'ids: {out}', *_whose_ids(replay.run, stretch)]
    return answer, lines


def _by_skill(stretch: Stretch, ids: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """Per skill: draws, different samples among them, and the shards they lie in."""
    found, offsets = {}, stretch.offsets
    for skill, stream in stretch.streams.items():
        begin = offsets[skill]
        own = ids[(ids >= begin) & (ids < begin + stream.samples)] - begin
        different = np.unique(own)
        shards = np.unique(np.searchsorted(stream.sizes.cumsum(), different, side='right'))
        found[skill] = {'samples': len(own), 'different': len(different), 'shards': len(shards)}
    return found


def _rows(skills: dict[str, dict[str, int]]) -> list[list[str]]:
    rows = [[skill, *map(str, numbers.values())] for skill, numbers in skills.items()]
    return [['skill', 'samples', 'different', 'shards'], *rows]


def _about_step(replay: Replay, step: int) -> tuple[Answer, list[str]]:
    number, batch = replay.batch_of(step)
    ids = replay.step_ids(step)
    samples = [
        {'place': place, 'sample': int(sample), 'skill': home.skill, 'shard': str(home.file), 'row': home.row}
        for place, (sample, home) in enumerate(zip(ids, replay.homes(ids, number), strict=True))
    ]
    head = f'step {step}: global batch {batch} of round {number}, {len(ids)} samples'
    lines = [
        f'  place {one["place"]}  sample {one["sample"]}  {one["skill"]}, {one["shard"]} row {one["row"]}'
        for one in samples
    ]
    notes = _whose_ids(replay.run, replay.stretch_of(number))
    return {'step': step, 'round': number, 'batch': batch, 'samples': samples}, [head, *lines, *notes]


def _save(path: Path, ids: NDArray[np.int64]) -> None:
    """Write the ids; a write that fails leaves nothing behind, and an older file as it was."""
    scratch = path.with_name(f'{path.name}.tmp')
    with blaming(f'`--out` cannot be written to {path}', OSError):
        try:
            with open(scratch, 'wb') as file:
                np.save(file, ids)
            os.replace(scratch, path)
        except OSError:
            with suppress(OSError):
                scratch.unlink()
            raise


def _times(count: int) -> str:
    if not count:
        return 'never drawn'
    return f'drawn {_plural(count, "time")}'


def _plural(count: int, what: str) -> str:
    return f'{count} {what}{"" if count == 1 else "s"}'
