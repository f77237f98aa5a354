"""`skillit status`: how far a run is, what it mixes now and next and why, and what `skillit apply` has pending."""

import argparse
import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from shutil import get_terminal_size
from typing import Any

import numpy as np

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import finite_or_null
from skillit_stream.formats.applied import Request, pending_request
from skillit_stream.formats.run_log import RoundRecord, is_written
from skillit_stream.mixture import SkillsGraph
from skillit_stream.mixture.explain import Explanation, MovePart, explain_rounds, largest_parts
from skillit_stream.steering.run_facts import LOG, RunFacts
from skillit_stream.training.progress_text import LABEL, WIDTH, duration_text, labelled, mean_text, named

PARTS = 3  # of the last move
NAMED = 6  # skills in a line
NARROWEST = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `skillit status`."""
    parser.add_argument('run', metavar='RUN', help='the folder of a run (`save_folder`), under way or ended')
    parser.add_argument('--json', action='store_true', help='print one JSON object')


def run(args: argparse.Namespace) -> int:
    """Print where the run is."""
    status = status_of(RunFacts(args.run))
    if args.json:
        print(json.dumps(finite_or_null(status), allow_nan=False))
    else:
        width = max(NARROWEST, min(WIDTH, get_terminal_size((WIDTH, 24)).columns))
        print('\n'.join(status_lines(status, width)))
    return 0


def status_of(facts: RunFacts) -> dict[str, Any]:
    """What is known of a run, in plain Python.

    Raises:
        InputError: A file of it is broken.
    """
    records, ended, rounds = facts.log.records, facts.ended, facts.about.rounds
    last = facts.rounds[-1] if facts.rounds else None
    finished = rounds is not None and bool(ended) and facts.under_way >= rounds
    before, now = _last_move(ended, finished=finished)
    evaluated = next((one for one in reversed(records) if one.losses), None)
    log = facts.folder / LOG
    taken = facts.taken[-1] if facts.taken else None
    return {
        'run': str(facts.folder),
        'name': facts.name,
        'policy': _deciding(facts, last).get('name'),
        'finished': finished,
        'running': is_written(facts.folder),
        'written_seconds_ago': time.time() - log.stat().st_mtime if log.is_file() else None,
        'round_seconds': last.seconds if last else None,
        'rounds_ended': facts.under_way,
        'rounds': rounds,
        'step': records[-1].step if records else 0,
        'mixture': {'round': now.round, 'proportions': now.proportions} if now else None,
        'previous': {'round': before.round, 'proportions': before.proportions} if before else None,
        'losses': {'step': evaluated.step, 'by_skill': evaluated.losses} if evaluated else None,
        'passes': last.passes if last else {},
        'notes': list(ended[-1].notes) if ended else [],
        'moved': _why(facts, before, now) if before and now else None,
        'branches': _branches(records),
        'pending': _pending(facts),
        'applied': {'from_round': taken.from_round, 'policy': taken.mixing.get('policy')} if taken else None,
    }


def _branches(records: Sequence[RoundRecord]) -> dict[str, Any] | None:
    """What the branches of the last look have shown, and what all of them have cost."""
    looks = [(one.round, one.trial) for one in records if one.trial]
    if not looks:
        return None
    number, last = looks[-1]
    last = {key: value for key, value in last.items() if key != 'graph'}
    return {'round': number, **last, 'seconds': sum(float(found['seconds']) for _, found in looks)}


def _deciding(facts: RunFacts, last: RoundRecord | None) -> Mapping[str, Any]:
    """The description of the policy that decides."""
    given = [one.applied for one in facts.rounds if one.applied] if last else []
    return given[-1]['policy'] if given else facts.about.policy or {}


def _last_move(
    ended: Sequence[RoundRecord], *, finished: bool
) -> tuple[RoundRecord | None, RoundRecord | None]:
    """The two rounds whose mixtures were decided last; that under way, of which there is no line yet, among them."""
    if not ended:
        return None, None
    last = ended[-1]
    if finished or not last.next_proportions:
        return (ended[-2] if len(ended) > 1 else None), last
    return last, RoundRecord(round=last.round + 1, step=last.step, proportions=last.next_proportions)


def _pending(facts: RunFacts) -> dict[str, Any] | None:
    """What waits to be taken, or why it will not be."""
    try:
        request = pending_request(facts.folder)
    except InputError as error:
        return {'problem': str(error)}
    return None if request is None else _about(request, facts)


def _about(request: Request, facts: RunFacts) -> dict[str, Any]:
    policy = request.mixing.get('policy', 'skill_it')
    begins = max(request.from_round or 0, facts.under_way + 1)
    about = {'policy': policy, 'from_round': begins, 'proportions': request.mixing.get('proportions')}
    refused = [
        note for note in (facts.ended[-1].notes if facts.ended else ()) if note.startswith('apply: refused')
    ]
    late = facts.about.rounds is not None and begins >= facts.about.rounds
    if late:
        about['problem'] = f'the run has {facts.about.rounds} rounds: none is left to take it'
    elif refused:
        about['problem'] = refused[0]
    return about


def _why(facts: RunFacts, before: RoundRecord, now: RoundRecord) -> dict[str, Any]:
    """Why the mixture moved from one round to the next, and the largest parts of it."""
    about = {'from_round': before.round, 'to_round': now.round, 'parts': [], 'reason': None, 'rest': False}
    if before.applied:
        return {
            **about,
            'reason': f'`skillit apply` gave the run the policy {before.applied["policy"]["name"]}',
        }
    graph = facts.about.graph
    shown = [one for one in facts.log.records if one.round <= before.round]
    try:
        found = explain_rounds(
            facts.about.policy or {}, SkillsGraph.from_dict(graph) if graph else None, [*shown, now]
        )
    except (InputError, KeyError) as error:
        found = Explanation(missing=(f'not explained: {error}',))
    move = next((one for one in reversed(found.moves) if one.round == now.round), None)
    if move is None:
        return {**about, 'reason': found.missing[-1] if found.missing else 'The policy begins with it.'}
    parts = [_plain(part, before) for part in largest_parts(move, PARTS)]
    return {**about, 'parts': parts, 'rest': bool(np.any(np.nan_to_num(move.rest)))}


def _plain(part: MovePart, last: RoundRecord) -> dict[str, Any]:
    return {**asdict(part), 'loss': last.losses.get(part.eval_skill)}


def status_lines(status: Mapping[str, Any], width: int) -> list[str]:
    """The same for people, at most `width` columns wide but for commands, which must be copied whole."""
    rows = [
        ('run', f'{status["name"]}; {_running(status)}'),
        ('round', _round_text(status)),
        *_mixture_rows(status),
    ]
    if losses := status['losses']:
        worst = named(sorted(losses['by_skill'].items(), key=lambda one: -one[1]), '{} {:.3f}', NAMED)
        rows.append(('losses', f'at step {losses["step"]:,}, mean {mean_text(losses["by_skill"])}: {worst}'))
    if passes := status['passes']:
        most = sorted(passes.items(), key=lambda one: -one[1])
        rows.append(('passes', named(most, '{} {:.2f}', NAMED)))
    rows += _why_rows(status)
    rows += _branches_rows(status)
    rows += [('note', note) for note in status['notes']]
    rows += _applied_rows(status)
    lines = [line for label, text in rows for line in labelled(label, text, width)]
    run = shlex.quote(status['run'])
    if status['rounds_ended']:
        lines.append(f'{"drawn":<{LABEL}}skillit audit {run} --round {status["rounds_ended"] - 1}')
    if status['pending']:
        lines.append(f'{"take back":<{LABEL}}skillit apply {run} --cancel')
    return lines


def _running(status: Mapping[str, Any]) -> str:
    if status['finished']:
        state = 'finished'
    else:
        state = {
            True: 'running',
            False: 'no process of this machine trains it',
            None: 'running or not: not known',
        }[status['running']]
    ago = status['written_seconds_ago']
    return state if ago is None else f'{state}, last written {duration_text(max(0.0, ago))} ago'


def _round_text(status: Mapping[str, Any]) -> str:
    total = f' of {status["rounds"]}' if status['rounds'] else ''
    seconds = status['round_seconds']
    each = f'; the last took {duration_text(seconds)}' if seconds else ''
    return f'{status["rounds_ended"]}{total} ended, step {status["step"]:,}{each}'


def _mixture_rows(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    now, before, policy = status['mixture'], status['previous'], status['policy'] or 'policy not known'
    if now is None:
        return [('mixture', f'{policy}; no round has ended yet')]
    changes = before['proportions'] if before else {}
    entries = [
        f'{skill} {100 * value:.1f} %{_change(value - changes[skill]) if skill in changes else ""}'
        for skill, value in sorted(now['proportions'].items(), key=lambda one: -one[1])
    ]
    more = f' and {len(entries) - NAMED} more' if len(entries) > NAMED else ''
    rows = [('mixture', f'{policy}; round {now["round"]} (from 0): {", ".join(entries[:NAMED])}{more}')]
    if not status['finished']:
        under_way = status['rounds_ended']
        rows.append(('next', f'round {under_way + 1}: decided when round {under_way} ends'))
    return rows


def _change(change: float) -> str:
    text = f' ({100 * change:+.1f})'
    return '' if text in (' (+0.0)', ' (-0.0)') else text


def _why_rows(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    moved = status['moved']
    if moved is None:
        return []
    where = f'round {moved["from_round"]} to {moved["to_round"]}'
    if not moved['parts']:
        return [('why', f'{where}: {moved["reason"]}')]
    parts = '; '.join(
        f'{part["skill"]} {100 * part["to_proportion"]:+.1f} points by the loss on {part["eval_skill"]}'
        f'{_loss_text(part["loss"])}'
        for part in moved['parts']
    )
    limits = '; limits moved it too' if moved['rest'] else ''
    return [('why', f'{where}, the largest parts, to first order: {parts}{limits}')]


def _branches_rows(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    if (found := status['branches']) is None:
        return []
    most = found.get('most_steps')
    cost = f'{found["steps_so_far"]:,} {f"of at most {most:,} " if most else ""}steps'
    when = f'after round {found["round"]}' if found['round'] >= 0 else 'before training'
    text = f'{when}: {found["verdict"]}: {found["reason"]}; so far {cost}'
    return [('branches', f'{text}, {duration_text(found["seconds"])}')]


def _applied_rows(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if applied := status['applied']:
        rows.append(
            (
                'applied',
                f'{applied["policy"] or "skill_it"}, which decides from round {applied["from_round"]} on',
            )
        )
    if pending := status['pending']:
        if 'policy' not in pending:
            rows.append(('pending', f'malformed: {pending["problem"]}'))
        else:
            proportions = pending['proportions']
            text = f'{pending["policy"]} from round {pending["from_round"]}'
            if proportions:
                largest = sorted(proportions.items(), key=lambda one: -one[1])
                text += ': ' + named([(name, 100 * one) for name, one in largest], '{} {:.1f} %', NAMED)
            if problem := pending.get('problem'):
                text += f'; {problem}'
            rows.append(('pending', text))
    return rows


def _loss_text(loss: float | None) -> str:
    return '' if loss is None else f' ({loss:.3f})'
