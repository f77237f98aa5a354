"""`skillit report`: one page, figures and numbers from run folders; or the page of a fork."""

import argparse
import os
import shlex
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import write_atomically
from skillit_stream.formats.fork_result import is_fork, read_fork_result
from skillit_stream.report.figures import png_files
from skillit_stream.report.fork_page import write_fork_page
from skillit_stream.report.methods import Method, group_runs
from skillit_stream.report.page import build_page
from skillit_stream.report.run_folder import RecordedRun, read_runs
from skillit_stream.report.summary import summarise, to_json
from skillit_stream.report.terminal import print_methods
from skillit_stream.report.verdict import compared
from skillit_stream.report.views import report_views
from skillit_stream.report.watch import watch_runs

PAGE = 'report.html'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `skillit report`."""
    parser.add_argument(
        'runs',
        nargs='+',
        metavar='RUN',
        help='a run folder (run.json and mixture.jsonl), or one folder of a fork',
    )
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='where to write (default: report/ inside the only RUN, or beside several)',
    )
    parser.add_argument(
        '--baseline',
        metavar='METHOD',
        help='compare the others with this one (default: the stratified one, else the only fixed mixture)',
    )
    parser.add_argument(
        '--watch',
        action='store_true',
        help='write the page anew whenever a round has ended, until the runs have ended or Ctrl-C; it reloads itself',
    )
    parser.add_argument('--open', action='store_true', help='open the page in a browser')


def run(args: argparse.Namespace) -> int:
    """Write the report, print the table and the path of the page."""
    args.runs = _without_reports(args.runs)
    if forks := [one for one in args.runs if is_fork(Path(one))]:
        return _show_fork(args, forks[0])
    if args.watch:
        _watch(args)
    runs = read_runs(args.runs)
    methods = group_runs(runs)
    page = write_methods(methods, _folder(args.runs, args.out), baseline=args.baseline)
    print_methods(methods, baseline=args.baseline)
    # Not through rich: a path that is wrapped cannot be copied.
    print(f'report: {page}')
    if args.open and not args.watch:
        _open(page)
    return 0


def _show_fork(args: argparse.Namespace, fork: str) -> int:
    """Write the page of a fork, print its verdict and the path of the page."""
    if len(args.runs) > 1 or args.baseline or args.watch:
        raise InputError(f'{fork} is the folder of a fork: name it alone, without --baseline and --watch.')
    page = write_fork_page(Path(fork), Path(args.out) if args.out else None)
    result = read_fork_result(Path(fork))
    print(f'{result.verdict}: {result.reason}')
    print(f'report: {page}')
    if args.open:
        _open(page)
    return 0


def _without_reports(folders: list[str]) -> list[str]:
    """Without the folders of earlier reports, which `runs/*` names too; as they are if there is nothing else."""
    runs = [one for one in folders if not Path(one, PAGE).is_file() or Path(one, 'run.json').is_file()]
    return runs or folders


def _watch(args: argparse.Namespace) -> None:
    """Keep the page current while the runs go on."""
    opened = False

    def write(runs: Sequence[RecordedRun], reloads: bool) -> Path:
        nonlocal opened
        page = write_methods(
            group_runs(runs), _folder(args.runs, args.out), baseline=args.baseline, reloads=reloads
        )
        if args.open and not opened:
            _open(page)
        opened = True
        return page

    folder = _folder(args.runs, args.out).resolve()
    print(f'from elsewhere: python -m http.server --bind 127.0.0.1 --directory {shlex.quote(str(folder))}')
    watch_runs([Path(run) for run in args.runs], write, say=lambda line: print(line, flush=True))


def _open(page: Path) -> None:
    if not webbrowser.open(page.resolve().as_uri()):
        print('note: no browser can be opened here', file=sys.stderr)


def write_report(
    runs: Sequence[str | Path], out: str | Path | None = None, *, baseline: str | None = None
) -> Path:
    """Write report.html, mixture.png, losses.png, accuracy.png, reach.png, graph.png and summary.json.

    losses.png needs an evaluation, accuracy.png one that measured accuracy, reach.png a baseline with one, and
    graph.png a graph; without those the file is left out.

    Args:
        runs: Run folders.
        out: Folder to write to; None: `report` inside the only run, or beside several.
        baseline: The method to compare the others with; None: see `verdict.chosen_baseline`.

    Returns:
        Path of report.html.

    Raises:
        InputError: A folder is no run folder, or the report cannot be written.
    """
    read = read_runs(runs)
    return write_methods(group_runs(read), _folder(runs, out), baseline=baseline)


def _folder(runs: Sequence[str | Path], out: str | Path | None) -> Path:
    """`out`, else `report` inside the only run, or in the folder that several have in common."""
    if out:
        return Path(out)
    if len(runs) == 1:
        return Path(runs[0]) / 'report'
    return Path(os.path.commonpath([Path(run).resolve() for run in runs])) / 'report'


def write_methods(
    methods: Sequence[Method], folder: Path, *, baseline: str | None = None, reloads: bool = False
) -> Path:
    """Write the report of runs that are read already; returns the path of report.html.

    Args:
        methods: The runs, grouped.
        folder: Where to write.
        baseline: The method to compare the others with.
        reloads: The runs go on: the page reloads itself, and the PNG files are left to the last report.

    Raises:
        InputError: The folder cannot be written to, or `baseline` is none of the methods.
    """
    methods, baseline = compared(methods, baseline)
    views = report_views(methods, baseline)
    files = {
        'summary.json': to_json(summarise(methods, baseline)),
        **({} if reloads else png_files(views, methods)),
        PAGE: build_page(methods, views, baseline, reloads=reloads).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if content is None:
                # A figure left by an earlier report of other runs would pass for one of these.
                (folder / name).unlink(missing_ok=True)
            else:
                write_atomically(folder / name, lambda file, content=content: file.write(content))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            f'the report cannot be written to {str(folder)!r} ({reason}): choose another folder with --out'
        ) from None
    return folder / PAGE
