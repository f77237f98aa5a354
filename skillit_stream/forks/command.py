"""`skillit fork RUN`: measure on branches of a checkpoint whether another mixture helps the run."""

import argparse
from pathlib import Path

from skillit_stream.base.errors import InputError
from skillit_stream.base.tasks import Task, leave_launcher, task_of

HELP = 'branch a checkpoint of a run, and say whether another mixture helps the run: take it, stay, or cannot tell'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `skillit fork`."""
    parser.add_argument('run', metavar='RUN', help='a run folder, finished or not; it is only read')
    parser.add_argument(
        '--checkpoint', metavar='C', help='a .pt file, or the name of one of the run (default: its newest)'
    )
    parser.add_argument('--steps', type=int, required=True, metavar='H', help='steps of each branch')
    parser.add_argument(
        '--max-steps',
        type=int,
        metavar='H',
        help='where the branches differ too little H is doubled up to this (default: 4 times --steps)',
    )
    parser.add_argument(
        '--targets',
        type=_names,
        default=(),
        metavar='A,B',
        help='eval skills whose mean loss shall fall (default: all that the run evaluates)',
    )
    parser.add_argument(
        '--repeats',
        type=int,
        default=3,
        metavar='N',
        help='of the present mixture, for the noise (default: 3)',
    )
    parser.add_argument(
        '--confirm',
        type=int,
        default=3,
        metavar='N',
        help='fresh pairs of the chosen and the present mixture that decide (default: 3)',
    )
    parser.add_argument(
        '--min-gain',
        type=float,
        default=0.0,
        metavar='G',
        help='nats per token that a gain must be clearly above (default: 0)',
    )
    parser.add_argument(
        '--max-passes',
        type=float,
        metavar='N',
        help="raise no skill beyond so many passes by the end of the run (default: the run's warn_passes, or 1 with "
        'on_exhausted: error)',
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='records, and what was found')
    parser.add_argument('--task', metavar='i/n', help='do share i (from 0) of n of the branches')


def run(args: argparse.Namespace) -> int:
    """Fork, or go on with a fork; print the verdict."""
    # Before torch is imported: each rank of a launcher gets a GPU of its own.
    task = leave_launcher(task_of(args))
    _fork(args, Path(args.run), Path(args.out), task)
    return 0


def _fork(args: argparse.Namespace, folder: Path, out: Path, task: Task) -> None:
    from skillit_stream.forks.forking import Fork
    from skillit_stream.forks.output import print_result, write_files
    from skillit_stream.forks.plan import ForkOptions
    from skillit_stream.forks.start import start_in

    options = ForkOptions(
        steps=args.steps,
        max_steps=args.max_steps,
        targets=args.targets,
        repeats=args.repeats,
        confirm=args.confirm,
        min_gain=args.min_gain,
        max_passes=args.max_passes,
    )
    if folder.resolve() in (out.resolve(), *out.resolve().parents):
        raise InputError(f'--out must be outside of the run, whose folder is only read, but got: {out}.')
    result = Fork(start_in(out, folder, args.checkpoint), options, out, task).result()
    if result is not None:
        write_files(result, out)
        print_result(result, out)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(',') if name.strip())
