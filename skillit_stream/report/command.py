"""`skillit report`: one page, figures and numbers from run folders."""

import argparse
import os
import sys
import webbrowser
from pathlib import Path

from skillit_stream.report.methods import group_runs
from skillit_stream.report.run_folder import read_runs
from skillit_stream.report.terminal import print_methods
from skillit_stream.report.writing import default_folder, write_methods


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `skillit report`."""
    parser.add_argument('runs', nargs='+', metavar='RUN', help='a run folder: run.json and mixture.jsonl')
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='where to write (default: report/ inside the only RUN, or beside several)',
    )
    parser.add_argument('--baseline', metavar='METHOD', help='compare the others with this one')
    parser.add_argument('--open-nothing', action='store_true', help='do not open the page in a browser')


def run(args: argparse.Namespace) -> int:
    """Write the report, print the table and the path of the page."""
    runs = read_runs(args.runs)
    methods = group_runs(runs)
    folder = Path(args.out) if args.out else default_folder(runs)
    page = write_methods(methods, folder, baseline=args.baseline)
    print_methods(methods, baseline=args.baseline)
    # Not through rich: a path that is wrapped cannot be copied.
    print(f'report: {page}')
    if not args.open_nothing and _on_a_desktop():
        webbrowser.open(page.resolve().as_uri())
    return 0


def _on_a_desktop() -> bool:
    """Whether someone sits in front of a screen: a terminal, and a display to open a browser on."""
    if not sys.stdout.isatty() or os.environ.get('SSH_CONNECTION'):
        return False
    return sys.platform == 'darwin' or bool(os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY'))
