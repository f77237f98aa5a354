"""What the terminal shows while a conversion runs: a bar, or a line now and then."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from skillit_stream.convert.conversion import Done, Report

SECONDS_BETWEEN_LINES = 30.0
SKILLS_SHOWN = 7


@contextmanager
def bytes_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar over `total` bytes; call what it gives with the bytes just done. Silent without a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)


@contextmanager
def progress_display(total: int) -> Iterator[Report]:
    """Show what has been done of `total` bytes: a bar on a terminal, elsewhere a line every half minute."""
    console = Console(stderr=True)
    state = _State(total)
    if not console.is_terminal:
        yield _LogLines(state).report
        return
    columns = (BarColumn(20), DownloadColumn(), TextColumn('{task.description}'), TimeRemainingColumn())
    progress = Progress(*columns, console=console)
    task = progress.add_task('', total=total)

    def report(done: Done) -> None:
        state.add(done)
        progress.update(task, completed=state.bytes, description=state.rate())

    with Live(get_renderable=lambda: Group(progress, Text(state.skills())), console=console, transient=True):
        yield report


@contextmanager
def assembly_display(total: int) -> Iterator[Callable[[], None]]:
    """Show how far the streams are put together, of `total` steps; call what it gives after each.

    A bar on a terminal, elsewhere a line every half minute.
    """
    console = Console(stderr=True)
    title = 'putting the streams together'
    if console.is_terminal:
        columns = (
            TextColumn('{task.description}'),
            BarColumn(20),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(title, total=total)
            yield lambda: progress.advance(task)
        return
    done, last = 0, monotonic()

    def advance() -> None:
        nonlocal done, last
        done += 1
        if monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = monotonic()
            print(f'{title}: {done / total:.0%}', file=sys.stderr)

    yield advance


class _State:
    """Sums of what was reported."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.began = monotonic()
        self.bytes = self.text_bytes = self.tokens = 0
        self.documents: Counter[str] = Counter()

    def add(self, done: Done) -> None:
        self.bytes += done.bytes
        self.text_bytes += done.text_bytes
        self.tokens += done.tokens
        self.documents.update(done.documents or {})

    def rate(self) -> str:
        """Text and tokens a second."""
        seconds = max(monotonic() - self.began, 1e-3)
        return f'{self.text_bytes / seconds / 1e6:.0f} MB of text/s, {self.tokens / seconds / 1e6:.1f} Mtok/s'

    def skills(self) -> str:
        """Documents of the skills that have most."""
        largest = ', '.join(f'{skill} {count:,}' for skill, count in self.documents.most_common(SKILLS_SHOWN))
        more = len(self.documents) - SKILLS_SHOWN
        return f'{largest}{f", {more} more" if more > 0 else ""}'


class _LogLines:
    """A line now and then, for logs."""

    def __init__(self, state: _State) -> None:
        self._state = state
        self._last = monotonic()

    def report(self, done: Done) -> None:
        self._state.add(done)
        now = monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = now
        state = self._state
        share = state.bytes / max(state.total, 1)
        left = (now - state.began) * (1 - share) / max(share, 1e-9)
        amount = f'{share:.0%} of {state.total / 1e9:.2f} GB'
        print(f'{amount}; {state.rate()}; {state.skills()}; {left:.0f} s left', file=sys.stderr)
