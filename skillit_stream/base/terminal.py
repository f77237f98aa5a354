"""What the commands print their tables to."""

from rich.console import Console

WIDTH_OF_A_FILE = 120  # columns where the output is no terminal


def default_console() -> Console:
    """Standard output; wider than rich's 80 columns where it goes to a file."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_OF_A_FILE)
