"""What short runs say of themselves while they go on, on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol


class Shown(Protocol):
    """What is shown of short runs while they go on."""

    def begin(self, name: str) -> None:
        """A run has begun: `on arxiv`, `branch arxiv raised`."""
        ...

    def step(self) -> None:
        """One of its steps is done."""
        ...

    def end(self) -> None:
        """It is done."""
        ...


class _RunLines:
    """A line a run, for logs."""

    def __init__(self, runs: int) -> None:
        self._runs, self._done = runs, 0
        self._began = monotonic()
        self._name = ''

    def begin(self, name: str) -> None:
        self._name = name

    def step(self) -> None:
        pass

    def end(self) -> None:
        self._done += 1
        left = (monotonic() - self._began) / self._done * (self._runs - self._done)
        say(f'Trained {self._name} ({self._done} of {self._runs}), {duration(left)} left')


@contextmanager
def progress(runs: int, steps: int) -> Iterator[Shown]:
    """A bar over the steps of all runs on a terminal, elsewhere a line a run."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _RunLines(runs)
        return
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task('', total=runs * steps)

        class Bar:
            def begin(self, name: str) -> None:
                bars.update(bar, description=f'Training {name}')

            def step(self) -> None:
                bars.advance(bar)

            def end(self) -> None:
                pass

        yield Bar()


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'


def say(line: str) -> None:
    """A line for whoever waits."""
    print(line, file=sys.stderr, flush=True)
