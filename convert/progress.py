"""What the terminal shows: a bar while it runs, a table when it is done."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from skillit_stream.streams.manifest import Manifest

# Where there is no terminal to ask, wide enough that no row is broken.
PLAIN_WIDTH = 140


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


def print_summary(manifest: Manifest, root: str, *, title: str = 'Streams') -> None:
    """Print a table of a streams folder: a row for each skill and split, and what was left out."""
    table = Table(title=f'{title}: {os.path.normpath(root)}', title_justify='left')
    table.add_column('skill')
    table.add_column('split')
    for name in ('documents', 'MB of text', 'samples', 'tokens', 'dropped'):
        table.add_column(name, justify='right')
    for name, skill in manifest.skills.items():
        dropped = ', '.join(f'{count:,} {reason}' for reason, count in skill.dropped.items() if count)
        for split, info in skill.splits.items():
            row = (f'{info.documents:,}', f'{info.bytes / 1e6:.2f}', f'{info.samples:,}', f'{info.tokens:,}')
            table.add_row(name, split, *row, dropped)
            name, dropped = '', ''  # noqa: PLW2901 - said once per skill
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(table)
    for reason, count in manifest.dropped.items():
        console.print(f'left out, of no known skill: {count:,} {reason}')
