"""`skillit graph learn | from-runs | show`: skills graphs from short runs or finished ones, and what they are like."""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from skillit_stream.base.errors import InputError
from skillit_stream.base.tasks import add_task_arguments, leave_launcher, ray_cluster, task_of
from skillit_stream.mixture.graph_formulas import BRUTE_FORCE, METHODS

_METHODS_HELP = (
    'approximate: a run on each train skill (k); brute-force: one on each skill and one on each pair, which '
    'serves both directions (k + k(k-1)/2)'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `skillit graph`."""
    actions = parser.add_subparsers(dest='action', metavar='learn|from-runs|show', required=True)
    learn = actions.add_parser('learn', help='train short runs from the same weights', description=__doc__)
    learn.add_argument('yaml', help='a training YAML: model, streams, optimizer, batch')
    learn.add_argument('overrides', nargs='*', metavar='key=value', help='as for skillit train')
    learn.add_argument('--method', choices=METHODS, required=True, help=_METHODS_HELP)
    learn.add_argument('--steps', type=int, required=True, metavar='H', help='steps of each run')
    learn.add_argument(
        '--repeats',
        type=int,
        default=1,
        metavar='N',
        help='do each run N times with other orders of the samples: standard errors for the edges (3 or more)',
    )
    learn.add_argument('--out', required=True, metavar='GRAPH', help='the graph, .json or .npy')
    learn.add_argument(
        '--work', metavar='DIR', help='records of finished runs, which are kept (default: GRAPH with .runs)'
    )
    add_task_arguments(learn, 'the runs')
    learn.add_argument('--seed', type=int, metavar='S', help='the same as the override seed=S')
    finished = actions.add_parser('from-runs', help='from the losses of runs that are there already')
    finished.add_argument(
        'runs', nargs='*', metavar='RUN', help='a run folder: one skill, or two in equal proportions'
    )
    finished.add_argument('--out', required=True, metavar='GRAPH', help='the graph, .json or .npy')
    finished.add_argument('--losses', metavar='CSV', help='instead of runs: a row a run, and a row start')
    finished.add_argument('--start-losses', metavar='JSON', help='losses before training, by eval skill')
    finished.add_argument('--steps', type=int, metavar='H', help='compare the runs at this step')
    finished.add_argument(
        '--method', choices=METHODS, help='default: brute-force if there are runs on two skills'
    )
    show = actions.add_parser('show', help='a table, how dense it is, and warnings in words')
    show.add_argument('graph', help='a .json or .npy file')
    show.add_argument('--out', metavar='PNG', help='draw it as a heat map')
    show.add_argument('--json', action='store_true', help='print one JSON object instead of the table')
    for action in (learn, finished, show):
        action.add_argument('--debug', action='store_true', default=argparse.SUPPRESS, help='show tracebacks')


def run(args: argparse.Namespace) -> int:
    """Do what was asked for."""
    if args.action == 'learn':
        _learn(args)
    elif args.action == 'from-runs':
        _from_runs(args)
    else:
        _show(args)
    return 0


def _learn(args: argparse.Namespace) -> None:
    _check_out(args.out)
    # Before torch is imported: each rank of a launcher gets a GPU of its own.
    task = leave_launcher(task_of(args))
    from skillit_stream.graphs.learning import assemble, do_runs, names_of_missing, plan_learning
    from skillit_stream.mixture.graph_formulas import not_learned
    from skillit_stream.training.config import load_config

    seed = [] if args.seed is None else [f'seed={args.seed}']
    # The mixture plays no part, and its graph may be the one that is still to be learned: `graph: ???`.
    config = load_config(args.yaml, [*args.overrides, *seed, 'algorithms.data_mixing.graph=null'])
    if config.load_path:
        from skillit_stream.training.checkpoints import checkpoint_at

        config.load_path = checkpoint_at(config.load_path)
    work = Path(args.work) if args.work else Path(args.out).with_suffix('.runs')
    plan = plan_learning(config, args.method, args.steps, work, repeats=args.repeats)
    if args.ray:
        with ray_cluster(args.ray) as cluster:
            cluster.run_tasks(partial(do_runs, plan), task, len(plan.items), _warn)
    else:
        do_runs(plan, task)
    done = assemble(plan)
    if done is None:
        _warn(f'Not done yet, by other tasks: {names_of_missing(plan)}. The last task writes {args.out}.')
        return
    graph, losses = done
    graph.save(args.out)
    _print_written(args.out, not_learned(losses, plan.eval_skills))


def _from_runs(args: argparse.Namespace) -> None:
    from skillit_stream.graphs.finished_runs import losses_of_runs, losses_of_table
    from skillit_stream.mixture.graph_formulas import APPROXIMATE, graph_of, not_learned

    _check_out(args.out)
    if args.losses:
        for name in ('runs', 'start_losses', 'steps'):
            if getattr(args, name):
                option = 'RUN' if name == 'runs' else f'--{name.replace("_", "-")}'
                raise InputError(f'`--losses` is a table of its own: leave out {option}.')
        found = losses_of_table(args.losses)
    else:
        found = losses_of_runs(args.runs, start_losses=args.start_losses, steps=args.steps)
    paired = any(len(mix) == 2 for mix in found.losses.after)
    method = args.method or (BRUTE_FORCE if paired else APPROXIMATE)
    graph_of(
        method,
        [found.losses],
        found.train_skills,
        found.eval_skills,
        steps=found.steps,
        start=found.started_from,
    ).save(args.out)
    _print_written(args.out, not_learned(found.losses, found.eval_skills))


def _show(args: argparse.Namespace) -> None:
    from skillit_stream.graphs.look import as_facts, load_graph, print_graph, write_picture

    graph = load_graph(args.graph)
    if args.out:
        write_picture(graph, Path(args.graph).stem, args.out)
    if args.json:
        print(json.dumps(as_facts(graph), indent=1, ensure_ascii=False))
    else:
        print_graph(graph, args.graph)


def _print_written(path: str, not_learned: list[str]) -> None:
    """Show a graph that has just been written, and which of its columns say nothing."""
    from skillit_stream.graphs.look import load_graph, print_graph, warnings_of_losses

    print_graph(load_graph(path), path)
    for line in warnings_of_losses(not_learned):
        _warn(f'warning: {line}')


def _check_out(path: str) -> None:
    """Before hours of training: a graph is written as .json or .npy."""
    if Path(path).suffix not in ('.json', '.npy'):
        raise InputError(f'`--out` must be a .json or .npy file, but got: {path}.')


def _warn(line: str) -> None:
    print(line, file=sys.stderr)
