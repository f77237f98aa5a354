"""What training did, from its run folders: one self-contained HTML page, PNG figures, tables.

    run folders → run_folder, mixture_log → methods → tables, views → figures, hover, page, terminal, summary

Runs of one method (``method`` in run.json, else its ``name``) are seeds of each other: their losses become a
mean with a spread, and two methods are compared on the seeds both have. Only NumPy, matplotlib and rich are
needed, so a report can be made far from the machine that trained.
"""

from collections.abc import Sequence
from pathlib import Path

__all__ = ['print_summary', 'write_report']


def write_report(
    runs: Sequence[str | Path], out: str | Path | None = None, *, baseline: str | None = None
) -> Path:
    """Write the report of `runs` into `out`: see :func:`skillit_stream.report.writing.write_report`."""
    from skillit_stream.report import writing

    return writing.write_report(runs, out, baseline=baseline)


def print_summary(runs: Sequence[str | Path], *, baseline: str | None = None) -> None:
    """Print final losses and paired wins: see :func:`skillit_stream.report.terminal.print_summary`."""
    from skillit_stream.report import terminal

    terminal.print_summary(runs, baseline=baseline)
