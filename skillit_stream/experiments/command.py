"""`skillit experiment`: methods x seeds, each a run of the normal training entry, then tables and report.

An experiment's YAML names a training YAML and, per method, the mixture policy to put into it. Runs are
processes of their own, several at a time; finished ones are kept and not trained again.
"""

import argparse
import os
from pathlib import Path

from skillit_stream.base.errors import InputError
from skillit_stream.experiments.config import ExperimentConfig, check, find_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `skillit experiment`."""
    parser.add_argument('name', help='one of yamls/experiments/, e.g. addition-cpu, or a YAML')
    parser.add_argument(
        'overrides', nargs='*', metavar='key=value', help="e.g. seeds='[1,2,3]' out=elsewhere"
    )
    parser.add_argument(
        '--import',
        dest='imported',
        action='append',
        default=[],
        metavar='FOLDER',
        help="take over the finished runs of another `out` of this experiment, e.g. another machine's; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    """Convert and learn a graph if needed, train what is not trained yet, write and print what came out."""
    from skillit_stream.experiments.importing import import_all
    from skillit_stream.experiments.learned_graph import graph_path, learn_graph
    from skillit_stream.experiments.planning import check_methods, mixture_drawn, plan_runs
    from skillit_stream.experiments.results import write_results
    from skillit_stream.experiments.running import train_all
    from skillit_stream.report import print_summary, write_report
    from skillit_stream.training.yaml_files import load_yaml

    path = find_yaml(args.name)
    experiment = load_yaml(path, ExperimentConfig, args.overrides)
    check(experiment, path)
    _make_streams(experiment)
    ranks = experiment.ranks
    jobs = experiment.jobs or (1 if ranks > 1 else os.cpu_count() or 1)
    runs = plan_runs(experiment, path.parent)
    if experiment.learn_graph is not None:
        check_methods(runs, graph_path(experiment))
        learn_graph(experiment, path.parent)
    check_methods(runs)
    import_all(runs, args.imported)
    train_all(runs, len(experiment.methods) * len(experiment.seeds), jobs=jobs, ranks=ranks)
    sources = {method.mixture_of for method in experiment.methods.values() if method.mixture_of}
    if sources:
        drawn = {
            source: mixture_drawn([planned.folder for planned in runs if planned.method == source])
            for source in sources
        }
        runs = plan_runs(experiment, path.parent, drawn)
        import_all(runs, args.imported)
        train_all(runs, len(runs), jobs=jobs, ranks=ranks)
    # By method, in the order of the YAML.
    order = list(experiment.methods)
    folders = [planned.folder for planned in sorted(runs, key=lambda one: order.index(one.method))]
    report = write_report(folders, Path(experiment.out) / 'report', baseline=experiment.baseline)
    results = write_results(
        experiment, folders, f'skillit experiment {" ".join([args.name, *args.overrides])}'
    )
    print_summary(folders, baseline=experiment.baseline)
    print(f'Results: {results}\nReport: {report}')
    if experiment.closing:
        print(experiment.closing.strip())
    return 0


def _make_streams(experiment: ExperimentConfig) -> None:
    if (Path(experiment.streams) / 'skills.json').exists():
        return
    if not experiment.convert:
        raise InputError(f'There are no streams in {experiment.streams}: convert them, or give `convert`.')
    from skillit_stream.cli import main

    if main(['convert', *experiment.convert]):
        raise InputError(f'The streams {experiment.streams} could not be made; see above.')
