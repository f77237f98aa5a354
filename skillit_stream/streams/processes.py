"""Whether a process is alive, by a mark that no later process with the same number shares."""

import os
from pathlib import Path


def process_mark(pid: int | None = None) -> str:
    """Number and start time of a process (default: this one); without the time where the system has no /proc.

    A process that has ended, or ended but is not yet reaped by its parent, has an empty mark.
    """
    pid = pid or os.getpid()
    try:
        # The name in parentheses may hold spaces; behind it: state, ..., and as 20th the start time.
        fields = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    except OSError:
        return '' if Path('/proc/self/stat').exists() or not _answers(pid) else str(pid)
    return '' if fields[0] in 'ZX' else f'{pid} {fields[19]}'


def is_running(mark: str) -> bool:
    """Whether the process that had this mark is alive."""
    return bool(mark) and process_mark(int(mark.split(maxsplit=1)[0])) == mark


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
