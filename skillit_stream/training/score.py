"""The loss of a model on every sample of the train streams, for curricula over samples: `skillit score YAML`.

The model is that of the YAML before its first step, or of its `load_path`. The losses are saved beside each
stream, under a name; `policy: sample_curriculum` orders the samples by them. A command that was stopped goes on
where it was when it is typed again.
"""

import argparse
import sys

from skillit_stream.base.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `skillit score`."""
    parser.add_argument('yaml', help='the YAML of a training run, e.g. yamls/addition/sample_curriculum.yaml')
    parser.add_argument('overrides', nargs='*', metavar='key=value', help='as for skillit train')
    parser.add_argument('--name', default='initial', help='name of the losses (default: initial)')
    parser.add_argument('--task', metavar='i/n', help='do share i (from 0) of n of the work')
    parser.add_argument('--overwrite', action='store_true', help='take losses of that name anew')


def run(args: argparse.Namespace) -> int:
    """Score what is missing."""
    from skillit_stream.base.tasks import Task, leave_launcher, parse_task

    if not args.name.replace('-', '').replace('_', '').isalnum():
        raise InputError(f'`--name` must be letters, digits, - and _, but got: {args.name!r}.')
    # Before torch is imported: each rank of a launcher gets a GPU of its own.
    task = leave_launcher(parse_task(args.task) if args.task else Task())
    if args.overwrite and task.count > 1:
        raise InputError('`--overwrite` would throw away the work of other tasks: remove the losses first.')
    from skillit_stream.training.config import load_config
    from skillit_stream.training.scoring import ScoringPass

    scoring = ScoringPass(load_config(args.yaml, args.overrides), args.name, overwrite=args.overwrite)
    scoring.do([part for part in task.share(scoring.parts()) if scoring.is_missing(part)])
    lacking = scoring.finish()
    done = [skill for skill in scoring.streams if skill not in lacking]
    _say(f'Losses {args.name!r}: {len(done)} of {len(scoring.streams)} skills are whole.')
    if lacking:
        _say(f'Not done yet, by other tasks: {", ".join(lacking)}. The last task puts them together.')
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)
