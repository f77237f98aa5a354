"""Write a report: the page, its figures as PNG, and its numbers."""

import os
from collections.abc import Sequence
from pathlib import Path

from skillit_stream.base.errors import InputError
from skillit_stream.report.figures import graph_png, losses_png, mixture_png, reach_png
from skillit_stream.report.methods import Method, group_runs
from skillit_stream.report.page import build_page
from skillit_stream.report.reach import reach_view
from skillit_stream.report.run_folder import RecordedRun, read_runs
from skillit_stream.report.summary import summarise, to_json
from skillit_stream.report.views import accuracy_panels, graph_panels, loss_panels, mixture_view

PAGE = 'report.html'


def write_report(
    runs: Sequence[str | Path], out: str | Path | None = None, *, baseline: str | None = None
) -> Path:
    """Write report.html, mixture.png, losses.png, accuracy.png, reach.png, graph.png and summary.json.

    losses.png needs an evaluation, accuracy.png one that measured accuracy, reach.png a baseline with one, and
    graph.png a graph; without those the file is left out.

    Args:
        runs: Run folders.
        out: Folder to write to; None: `report` inside the only run, or beside several.
        baseline: The method to compare the others with; None: every two.

    Returns:
        Path of report.html.

    Raises:
        InputError: A folder is no run folder, or the report cannot be written.
    """
    read = read_runs(runs)
    folder = default_folder(read) if out is None else Path(out)
    return write_methods(group_runs(read), folder, baseline=baseline)


def default_folder(runs: Sequence[RecordedRun]) -> Path:
    """`report` inside the only run, or in the folder that several have in common."""
    if len(runs) == 1:
        return runs[0].folder / 'report'
    return Path(os.path.commonpath([run.folder.resolve() for run in runs])) / 'report'


def write_methods(methods: Sequence[Method], folder: Path, *, baseline: str | None = None) -> Path:
    """Write the report of runs that are read already; returns the path of report.html.

    Raises:
        InputError: The folder cannot be written to, or `baseline` is none of the methods.
    """
    names = [method.name for method in methods]
    if baseline is not None and baseline not in names:
        raise InputError(
            f'the baseline must be one of the methods, {", ".join(names)}, but got: {baseline!r}'
        )
    mixture, losses, graphs = mixture_view(methods), loss_panels(methods), graph_panels(methods)
    accuracies, reaches = accuracy_panels(methods), reach_view(methods, baseline)
    page = build_page(
        methods, mixture=mixture, losses=losses, accuracies=accuracies, graphs=graphs, baseline=baseline
    )
    files = {
        'summary.json': to_json(summarise(methods, baseline)),
        'mixture.png': mixture_png(mixture),
        'losses.png': losses_png(losses, methods) if losses else None,
        'accuracy.png': losses_png(accuracies, methods) if accuracies else None,
        'reach.png': reach_png(reaches) if reaches else None,
        'graph.png': graph_png(graphs) if graphs else None,
        PAGE: page.encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if content is None:
                # A figure left by an earlier report of other runs would pass for one of these.
                (folder / name).unlink(missing_ok=True)
            else:
                _write(folder / name, content)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            f'the report cannot be written to {str(folder)!r} ({reason}): choose another folder with --out'
        ) from None
    return folder / PAGE


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
