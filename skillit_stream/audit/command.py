"""`skillit audit`: when a sample was trained on, or what a round or a step trained on."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.audit.past_round import PastRound
from skillit_stream.audit.replay import Draw, Replay, format_spans
from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.files import write_array

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
        action='append',
        default=[],
        metavar='DIR',
        help='the streams folder (default: the one config.yaml names); for rounds from before streams were '
        'changed or removed: the folder as it was then; may be repeated',
    )
    parser.add_argument('--json', action='store_true', help='print one JSON object')


def run(args: argparse.Namespace) -> int:
    """Answer the question; prints lines, or one JSON object."""
    if args.out and args.round is None:
        raise InputError(f"`--out` {args.out} takes a round's ids: name the round with --round.")
    replay = Replay(args.run, streams=args.streams)
    if args.sample:
        answer, lines = _about_samples(replay, list(dict.fromkeys(args.sample)))
    elif args.round is not None:
        answer, lines = _about_round(replay, args.round, args.out)
    else:
        answer, lines = _about_step(replay, args.step)
    print(json.dumps(answer) if args.json else '\n'.join(lines))
    return 0


def _about_samples(replay: Replay, samples: list[int]) -> tuple[Answer, list[str]]:
    # Before the walk: an id that does not exist is refused at once.
    homes = replay.homes(samples, replay.last)
    ids_of = replay.rounds_of_these_ids(replay.last)
    draws: dict[int, list[dict[str, int]]] = {sample: [] for sample in samples}
    for draw in replay.draws(samples):
        draws[draw.sample].append(_about_draw(draw, ids_of[0]))
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
                f'  in {format_spans(others)} skill {home.skill} had other shards: none of their samples is this'
            )
    first_step = replay.round(replay.first).first_step
    covered = {'rounds': [replay.first, replay.rounds - 1], 'steps': [first_step, replay.steps - 1]}
    answer = {'covered': covered, 'ids_of_rounds': list(ids_of), 'samples': answers}
    return answer, [*lines, *_whose_ids(replay, replay.last), _what_is_covered(replay, first_step)]


def _about_draw(draw: Draw, first_of_ids: int) -> dict[str, int]:
    about = {'round': draw.round, 'step': draw.step, 'place': draw.place, 'pass': draw.tape_pass}
    return about if draw.round >= first_of_ids else {**about, 'id': draw.id_then}


def _whose_ids(replay: Replay, past: PastRound) -> list[str]:
    """In a run whose streams changed: a line that says for which rounds the ids stand."""
    first, last = replay.rounds_of_these_ids(past)
    if (first, last) == (replay.first, replay.rounds - 1):
        return []
    return [
        f'ids: as of {format_spans([(first, last)])}; where streams changed, a sample may have another before or after'
    ]


def _what_is_covered(replay: Replay, first_step: int) -> str:
    return (
        f'covered: rounds {replay.first} to {replay.rounds - 1}, steps {first_step} to {replay.steps - 1}; a round '
        f'begun at step {replay.steps} would not be: its state is not in {replay.log} before it ends'
    )


def _about_round(replay: Replay, number: int, out: str | None) -> tuple[Answer, list[str]]:
    past = replay.round(number)
    ids = replay.sample_ids(number)
    first = past.first_step
    last = first + past.steps - 1
    skills = _by_skill(past, ids)
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
        lines += [f'ids: {out}', *_whose_ids(replay, past)]
    return answer, lines


def _by_skill(past: PastRound, ids: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """Per skill: draws, different samples among them, and the shards they lie in."""
    found, offsets = {}, past.offsets
    for skill, stream in past.streams.items():
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
    past = replay.round_of(step)
    number, batch = past.number, step - past.first_step
    ids = replay.step_ids(step)
    samples = [
        {'place': place, 'sample': int(sample), 'skill': home.skill, 'shard': str(home.file), 'row': home.row}
        for place, (sample, home) in enumerate(zip(ids, replay.homes(ids, past), strict=True))
    ]
    head = f'step {step}: global batch {batch} of round {number}, {len(ids)} samples'
    lines = [
        f'  place {one["place"]}  sample {one["sample"]}  {one["skill"]}, {one["shard"]} row {one["row"]}'
        for one in samples
    ]
    answer = {'step': step, 'round': number, 'batch': batch, 'samples': samples}
    return answer, [head, *lines, *_whose_ids(replay, past)]


def _save(path: Path, ids: NDArray[np.int64]) -> None:
    """Write the ids; a write that fails leaves nothing behind, and an older file as it was."""
    if not path.parent.is_dir():
        raise InputError(f'`--out` cannot be written to {path}: there is no folder {path.parent}.')
    with as_input_error(f'`--out` cannot be written to {path}', OSError):
        write_array(path, ids)


def _times(count: int) -> str:
    if not count:
        return 'never drawn'
    return f'drawn {_plural(count, "time")}'


def _plural(count: int, what: str) -> str:
    return f'{count} {what}{"" if count == 1 else "s"}'
