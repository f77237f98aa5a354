"""The `skillit` command: one module a subcommand, imported only when it is called.

A command module offers ``add_arguments(parser)`` and ``run(args) -> int``. Input at fault
(:class:`~skillit_stream.base.errors.InputError`) ends in one line and exit code 2, anything else in one
line and exit code 1; ``--debug`` shows the traceback.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from skillit_stream import __version__
from skillit_stream.base.errors import OneLineParser, run_guarded

# command -> (its module in the package, one line of help)
COMMANDS = {
    'convert': ('convert.command', 'shard a corpus into one MDS stream per skill'),
    'verify': ('convert.verify', 're-read a streams folder and check it against its manifest'),
    'streams': ('convert.streams', 'list, rename, drop or merge the skills of a streams folder'),
    'tokenizer': ('convert.tokenizer_training', 'train a small tokenizer on text and JSON lines'),
    'mix': ('mixture_fit.command', 'a static mixture fitted to a table of runs'),
    'graph': ('graphs.command', 'learn a skills graph from short runs, or look at one'),
    'fork': ('forks.command', 'measure on branches of a checkpoint whether another mixture helps a run'),
    'score': ('training.score', 'the loss of a model on every sample, for curricula over samples'),
    'train': (
        'train',
        'train from a YAML, in one process (or several: composer -n N -m skillit_stream.train)',
    ),
    'status': ('steering.status', 'how far a run is, what it mixes and why, and what is pending'),
    'apply': ('steering.apply', 'give a run that is under way another mixture or policy'),
    'export': ('training.export', 'a checkpoint as a folder that transformers loads'),
    'audit': ('audit.command', 'when a sample was trained on; what a round or a step drew'),
    'report': ('report.command', 'one HTML page and PNGs from one or more run folders'),
    'experiment': ('experiments.command', 'methods x seeds: run them, table them, report them'),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one `skillit` command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = OneLineParser(
        prog='skillit', description='Change the data mixture while you pre-train: convert, train, report.'
    )
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    parser.add_argument('--version', action='version', version=f'skillit {__version__}')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, (module, help_line) in COMMANDS.items():
        # Only the command that was asked for is imported: `skillit --help` must not wait for torch.
        command = commands.add_parser(name, help=help_line, description=help_line)
        command.add_argument(
            '--debug', action='store_true', default=argparse.SUPPRESS, help='show tracebacks'
        )
        if name in arguments:
            _load(module).add_arguments(command)
    args = parser.parse_args(arguments)
    return run_guarded(lambda: _load(COMMANDS[args.command][0]).run(args), args.debug)


def _load(module: str) -> ModuleType:
    return importlib.import_module(f'skillit_stream.{module}')


if __name__ == '__main__':
    sys.exit(main())
