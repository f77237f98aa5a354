"""Whether a process is alive."""

from pathlib import Path


def is_running(pid: int) -> bool:
    """Whether a process is alive; one that has ended but is not yet reaped by its parent is not."""
    try:
        status = Path(f'/proc/{pid}/stat').read_bytes()
    except OSError:
        return False
    # The state follows the name, which stands in parentheses and may hold some itself.
    return status.rpartition(b')')[2].split()[0] not in (b'Z', b'X')
