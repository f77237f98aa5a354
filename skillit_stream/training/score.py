"""The loss of a model on every sample of the train streams, for curricula over samples: `skillit score YAML`.

The model is that of the YAML before its first step, or of its `load_path`. The losses are saved beside each
stream, under a name; `policy: sample_curriculum` orders the samples by them. A command that was stopped goes on
where it was when it is typed again.
"""

import argparse
import sys
from functools import partial

from skillit_stream.base.errors import InputError
from skillit_stream.base.tasks import Task, add_task_arguments, leave_launcher, ray_cluster, task_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `skillit score`."""
    parser.add_argument('yaml', help='the YAML of a training run, e.g. yamls/addition/sample_curriculum.yaml')
    parser.add_argument('overrides', nargs='*', metavar='key=value', help='as for skillit train')
    parser.add_argument('--name', default='initial', help='name of the losses (default: initial)')
    add_task_arguments(parser, 'the work')
    parser.add_argument('--overwrite', action='store_true', help='take losses of that name anew')


def run(args: argparse.Namespace) -> int:
    """Score what is missing."""
    if not args.name.replace('-', '').replace('_', '').isalnum():
        raise InputError(f'`--name` must be letters, digits, - and _, but got: {args.name!r}.')
    # Before torch is imported: each rank of a launcher gets a GPU of its own.
    task = leave_launcher(task_of(args))
    if args.overwrite and task.count > 1:
        raise InputError('`--overwrite` would throw away the work of other tasks: remove the losses first.')
    from skillit_stream.training.config import load_config
    from skillit_stream.training.scoring import ScoringPass

    scoring = ScoringPass(load_config(args.yaml, args.overrides), args.name, overwrite=args.overwrite)
    if args.ray:
        with ray_cluster(args.ray) as cluster:
            work = partial(_score_share, args.yaml, args.overrides, args.name)
            cluster.run_tasks(work, task, len(scoring.parts()), _say)
    else:
        scoring.do_share(task)
    lacking = scoring.finish()
    done = [skill for skill in scoring.streams if skill not in lacking]
    _say(f'Losses {args.name!r}: {len(done)} of {len(scoring.streams)} skills are whole.')
    if lacking:
        _say(f'Not done yet, by other tasks: {", ".join(lacking)}. The last task puts them together.')
    return 0


def _score_share(yaml: str, overrides: list[str], name: str, task: Task) -> None:
    from skillit_stream.training.config import load_config
    from skillit_stream.training.scoring import ScoringPass

    ScoringPass(load_config(yaml, overrides), name).do_share(task)


def _say(line: str) -> None:
    print(line, file=sys.stderr)
