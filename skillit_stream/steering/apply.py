"""`skillit apply`: another mixture, or another policy, for a run that is under way."""

import argparse
from datetime import datetime
from pathlib import Path
from typing import Any

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.formats.applied import (
    Request,
    digest_of_request,
    pending_request,
    remove_request,
    write_request,
)
from skillit_stream.mixture.from_options import policy_inside_run, written_out
from skillit_stream.steering.run_facts import RunFacts

FILES = ('.json', '.npy')  # of the options that may name one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `skillit apply`."""
    parser.add_argument(
        'run', metavar='RUN', help='the folder of a run (`save_folder`), under way or stopped'
    )
    parser.add_argument(
        'mixture',
        nargs='?',
        metavar='MIXTURE.yaml',
        help='a line `skill: proportion` each, or options as of algorithms.data_mixing (policy, graph, ...)',
    )
    parser.add_argument(
        '--from-round',
        type=int,
        metavar='N',
        help='the first round (from 0) with it (default: the first whose mixture is not decided yet)',
    )
    parser.add_argument('--cancel', action='store_true', help='take back what the run has not taken yet')


def run(args: argparse.Namespace) -> int:
    """Check the mixture against the run, and leave it there; prints what will happen."""
    if args.cancel and (args.mixture or args.from_round is not None):
        raise InputError('`--cancel` takes back what is pending: leave the mixture and --from-round out.')
    if not args.cancel and args.mixture is None:
        raise InputError('MIXTURE.yaml is missing: name the mixture to apply, or pass --cancel.')
    facts = RunFacts(args.run)
    print(_cancel(facts) if args.cancel else _apply(facts, Path(args.mixture), args.from_round))
    return 0


def _apply(facts: RunFacts, path: Path, from_round: int | None) -> str:
    earliest, rounds = facts.under_way + 1, facts.about.rounds
    if rounds is not None and earliest >= rounds:
        raise InputError(
            f'{facts.folder} has {rounds} rounds, and the mixture of the last is decided: a run that goes on with a '
            f'longer max_duration can be given another.'
        )
    if from_round is not None and from_round < earliest:
        raise InputError(
            f'`--from-round` must be at least {earliest}, the first round whose mixture is not decided yet, but got: '
            f'{from_round}.'
        )
    if from_round is not None and rounds is not None and from_round >= rounds:
        raise InputError(
            f'`--from-round` must be a round of the run, {earliest} to {rounds - 1}, but got: {from_round}.'
        )
    begins = earliest if from_round is None else from_round
    mixing = _absolute(read_mixing(path, list(facts.sizes)))
    with as_input_error(str(path)):
        try:
            policy, graph = policy_inside_run(facts.build, mixing, begins=begins, evaluated=facts.eval_skills)
        except InputError as error:
            raise InputError(f'{path}: {error}') from None
    replaced = _pending_text(facts)
    write_request(
        facts.folder,
        Request(
            mixing=written_out(mixing, graph),
            from_round=from_round,
            written=datetime.now().astimezone().isoformat(),
        ),
    )
    when = (
        f'from round {begins}'
        if from_round is not None
        else f'from the next round that it decides ({begins} by its log)'
    )
    instead = f', in place of {replaced}' if replaced else ''
    return (
        f'{facts.folder}: {policy.describe()["name"]} {when}{instead}; a stopped run takes it when it goes on. '
        f'`skillit status {facts.folder}` says when it is taken, `skillit apply {facts.folder} --cancel` takes it back.'
    )


def _cancel(facts: RunFacts) -> str:
    last = facts.taken[-1] if facts.taken else None
    digest = digest_of_request(facts.folder)
    if digest is None or (last and last.digest == digest):
        since = (
            f'; since round {last.from_round} it has what it was given, another apply changes it'
            if last
            else ''
        )
        raise InputError(f'{facts.folder}: nothing is pending{since}.')
    remove_request(facts.folder)
    # The run may have read it a moment before.
    if any(one.digest == digest for one in RunFacts(facts.folder).taken):
        raise InputError(f'{facts.folder}: the run has just taken it; another apply changes it.')
    return f'{facts.folder}: cancelled; the run goes on as it does.'


def _pending_text(facts: RunFacts) -> str | None:
    try:
        pending = pending_request(facts.folder)
    except InputError:
        return 'a malformed request'
    if pending is None:
        return None
    when = 'the next round' if pending.from_round is None else f'round {pending.from_round}'
    return f'{pending.mixing.get("policy", "what was")} for {when}'


def read_mixing(path: Path, skills: list[str]) -> dict[str, Any]:
    """Options as of `data_mixing` from a YAML of them, of ``skill: proportion`` lines, or of `skillit mix fit`.

    Args:
        path: Of the YAML.
        skills: Of the run.

    Raises:
        InputError: It cannot be read, or holds neither.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not path.is_file():
        raise InputError(
            f'There is no YAML at {path}: name a file with a mixture, or with options of data_mixing.'
        )
    with as_input_error(f'{path} cannot be read as YAML', OSError, YAMLError, OmegaConfBaseException):
        plain: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    for key in ('algorithms', 'data_mixing'):
        if isinstance(plain, dict) and key in plain:
            if others := [one for one in plain if one != key]:
                raise InputError(
                    f'{path}: a run can be given another mixture alone, but the file has {others[0]!r}.'
                )
            plain = plain[key]
    if not isinstance(plain, dict) or not plain:
        raise InputError(
            f'{path} must hold `skill: proportion` lines, or options of data_mixing such as `policy`.'
        )
    plain = {str(key): value for key, value in plain.items()}
    if 'policy' not in plain and (set(plain) & set(skills) or not any(map(_is_option, plain.values()))):
        return {'policy': 'static', 'proportions': plain}
    return plain


def _is_option(value: Any) -> bool:
    """Whether a value cannot be a proportion."""
    return isinstance(value, bool) or not isinstance(value, int | float)


def _absolute(mixing: dict[str, Any]) -> dict[str, Any]:
    """Files that options name from here, named from anywhere: the run may have been started elsewhere."""
    found = dict(mixing)
    for key, value in mixing.items():
        if not isinstance(value, str):
            continue
        place, colon, attribute = value.rpartition(':')
        if key == 'policy' and place.endswith('.py') and Path(place).is_file():
            found[key] = f'{Path(place).resolve()}{colon}{attribute}'
        elif key != 'policy' and value.endswith(FILES) and Path(value).is_file():
            found[key] = str(Path(value).resolve())
    return found
