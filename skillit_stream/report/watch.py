"""`skillit report --watch`: the page is written anew whenever a run has ended a round, and reloads itself."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from skillit_stream.formats.run_log import has_rounds
from skillit_stream.report.methods import plural
from skillit_stream.report.run_folder import RecordedRun, read_runs

LOG = 'mixture.jsonl'
POLL = 1.0  # seconds between two looks at the logs
Stamp = tuple[tuple[int, int] | None, ...]


def watch_runs(
    folders: Sequence[Path],
    write: Callable[[Sequence[RecordedRun], bool], Path],
    *,
    say: Callable[[str], None] = print,
    poll: float = POLL,
) -> None:
    """Write the report whenever a log changes, until all runs have ended or Ctrl-C; the last page stays as it is.

    A run that has only begun is waited for.

    Args:
        folders: Run folders.
        write: Writes the report of runs; its second argument is whether the page is to reload itself. Returns the
            page's path.
        say: Prints a line.
        poll: Seconds between two looks at the logs.

    Raises:
        InputError: A folder is no run folder, or a log is broken.
    """
    runs: list[RecordedRun] = []
    try:
        _wait_for_first_rounds(folders, say, poll)
        seen: Stamp = ()
        while not runs or not all(run.is_finished for run in runs):
            # Looked at before it is read: what is written meanwhile is seen the next time.
            if (now := _stamp(folders)) == seen:
                time.sleep(poll)
                continue
            seen, runs = now, read_runs(folders)
            page = write(runs, True)
            say(f'{time.strftime("%H:%M:%S")}  {_progress(runs)}  {page}')
    except KeyboardInterrupt:
        say('')
    if runs:
        # Also of what was logged while the last page was drawn.
        write(read_runs(folders), False)


def _wait_for_first_rounds(folders: Sequence[Path], say: Callable[[str], None], poll: float) -> None:
    waiting = [folder for folder in folders if _has_only_begun(folder)]
    if waiting:
        say(f'waiting for the first round of {", ".join(map(str, waiting))}')
    while any(_has_only_begun(folder) for folder in waiting):
        time.sleep(poll)


def _has_only_begun(folder: Path) -> bool:
    """Whether training has written what the run is, and no round yet."""
    return (folder / 'run.json').is_file() and not has_rounds(folder / LOG)


def _stamp(folders: Sequence[Path]) -> Stamp:
    """What changes when a log does."""
    return tuple(_stamp_of(folder / LOG) for folder in folders)


def _stamp_of(log: Path) -> tuple[int, int] | None:
    try:
        state = log.stat()
    except FileNotFoundError:
        return None
    return state.st_mtime_ns, state.st_size


def _progress(runs: Sequence[RecordedRun]) -> str:
    if len(runs) > 1:
        ended = sum(bool(run.is_finished) for run in runs)
        return f'{ended} of {plural(len(runs), "run")} ended'
    ended, planned = runs[0].rounds[-1].round + 1, runs[0].planned_rounds
    return f'round {ended:,}' + ('' if planned is None else f' of {planned:,}')
