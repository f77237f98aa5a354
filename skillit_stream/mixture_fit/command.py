"""`skillit mix fit RATIOS METRICS` or `--runs RUN ...`: a static mixture fitted to a table of runs."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import read_json
from skillit_stream.formats.streams_folders import joined_manifest, source_folders
from skillit_stream.mixture_fit.fitting import fit_mixture
from skillit_stream.mixture_fit.laws import LAWS
from skillit_stream.mixture_fit.options import SEARCHES, FitOptions
from skillit_stream.mixture_fit.output import fragment, print_fit, save, to_json, training_yaml
from skillit_stream.mixture_fit.run_logs import read_run_logs
from skillit_stream.mixture_fit.tables import RunTable, read_runs

FIT_HELP = 'fit a law to a table of runs and print its mixture, how well it predicts, and a YAML'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `skillit mix`."""
    commands = parser.add_subparsers(dest='mix_command', metavar='COMMAND', required=True)
    fit = commands.add_parser('fit', help=FIT_HELP, description=FIT_HELP)
    fit.add_argument('--debug', action='store_true', default=argparse.SUPPRESS, help='show tracebacks')
    _add_table(fit)
    fit.add_argument('--law', choices=LAWS, default='log-linear', help='default: log-linear')
    fit.add_argument(
        '--target',
        default='mean',
        metavar='mean|METRIC|FILE.json',
        help='what to lower: the mean of all metrics (default), one of them, or a weight for each',
    )
    fit.add_argument(
        '--search',
        choices=SEARCHES,
        help="the minimum, the mean of RegMix's best simulated mixtures, or Olmix's simulation in steps "
        '(default: exact; regmix for regmix and regmix-trees)',
    )
    _add_limits(fit)
    _add_reuse(fit)
    fit.add_argument('--folds', type=int, default=5, metavar='N', help='of the cross-validation (default: 5)')
    fit.add_argument(
        '--seed', type=int, default=0, metavar='N', help='of folds and simulated mixtures (default: 0)'
    )
    fit.add_argument('--out', metavar='FILE.yaml', help='write the YAML there')
    fit.add_argument(
        '--base', metavar='FILE.yaml', help='with --out: a training YAML to write with this mixture in it'
    )
    fit.add_argument('--json', action='store_true', help='print one JSON object')


def _add_table(fit: argparse.ArgumentParser) -> None:
    fit.add_argument(
        'ratios',
        metavar='RATIOS',
        nargs='?',
        help='CSV: a row a run, its name, then a proportion for each skill',
    )
    fit.add_argument(
        'metrics',
        metavar='METRICS',
        nargs='?',
        help='CSV: the same runs, a column for each loss (lower is better)',
    )
    fit.add_argument(
        '--runs', metavar='RUN', nargs='+', help='in their place: run folders, whose mixture.jsonl has both'
    )
    fit.add_argument(
        '--from-round',
        type=int,
        metavar='N',
        help='with --runs: the first round that counts (default: their first)',
    )
    fit.add_argument(
        '--to-round',
        type=int,
        metavar='N',
        help='with --runs: the round at whose end losses are taken (default: the last that all have ended)',
    )


def _table(args: argparse.Namespace) -> RunTable:
    rounds = {'--from-round': args.from_round, '--to-round': args.to_round}
    if args.runs:
        if args.ratios:
            raise InputError(
                f'--runs is in the place of RATIOS and METRICS: leave out {args.ratios}, or --runs'
            )
        return read_run_logs(args.runs, from_round=args.from_round, to_round=args.to_round)
    for option, number in rounds.items():
        if number is not None:
            raise InputError(f'{option} {number} is a round of --runs: add them, or leave it out')
    if not args.metrics:
        raise InputError('the runs are missing: give RATIOS and METRICS, two CSV files, or --runs RUN ...')
    return read_runs(args.ratios, args.metrics)


def _add_limits(fit: argparse.ArgumentParser) -> None:
    sizes = fit.add_mutually_exclusive_group()
    sizes.add_argument('--natural', metavar='FILE.json', help='tokens that each skill has')
    sizes.add_argument(
        '--streams',
        action='append',
        metavar='DIR',
        help='take them from the skills.json of a streams folder; may be repeated',
    )
    fit.add_argument('--tokens', type=_tokens, metavar='N', help='training tokens of the real run')
    fit.add_argument(
        '--max-passes',
        type=float,
        metavar='N',
        help="no skill's tokens more often than this (needs --tokens)",
    )
    fit.add_argument(
        '--pull',
        type=float,
        metavar='LAMBDA',
        help='weight of the KL divergence from the natural mixture, in the unit of the target '
        '(default: 0.05 for log-linear and --search exact, else 0)',
    )


def _add_reuse(fit: argparse.ArgumentParser) -> None:
    fit.add_argument(
        '--keep',
        metavar='FILE.json',
        help='an old mixture, whose ratios hold for all skills that did not change',
    )
    fit.add_argument(
        '--changed',
        type=_names,
        default=(),
        metavar='A,B',
        help='with --keep: skills that changed or are new',
    )


def run(args: argparse.Namespace) -> int:
    """Fit, print, write."""
    if args.base and not args.out:
        raise InputError(f'--base {args.base} is written to another file: add --out')
    table = _table(args)
    target = args.target
    if target.endswith('.json') and target not in table.metrics:
        target = _numbers('--target', target)
    options = FitOptions(
        law=args.law,
        target=target,
        search=args.search,
        sizes=_sizes(args),
        tokens=args.tokens,
        max_passes=args.max_passes,
        pull=args.pull,
        keep=_numbers('--keep', args.keep) if args.keep else None,
        changed=args.changed,
        folds=args.folds,
        seed=args.seed,
    )
    fit = fit_mixture(table, options)
    if args.out:
        save(training_yaml(fit, Path(args.base)) if args.base else fragment(fit), Path(args.out))
    if args.json:
        print(json.dumps({**to_json(fit), 'out': args.out}))
        return 0
    print_fit(fit)
    if args.out:
        print(f'written: {args.out}')
    return 0


def _sizes(args: argparse.Namespace) -> Mapping[str, float] | None:
    if args.natural:
        return _numbers('--natural', args.natural)
    if not args.streams:
        return None
    skills = joined_manifest(source_folders(args.streams, None)).skills
    return {name: skill.splits['train'].tokens for name, skill in skills.items() if 'train' in skill.splits}


def _numbers(option: str, path: str) -> Mapping[str, float]:
    data = read_json(Path(path))
    if not isinstance(data, dict):
        raise InputError(f'{option} {path} must hold a JSON object, a number for each name')
    return data


def _tokens(text: str) -> int:
    """`1_000_000`, `1e9`: a whole number of tokens."""
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f'must be a number of tokens, but got: {text!r}') from None


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(',') if name.strip())
