"""What the commands print their tables to."""

from rich.console import Console
from rich.text import Text

WIDTH_OF_A_FILE = 120  # columns where the output is no terminal


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command, as of what is printed without rich, which would end the process here."""
        raise BrokenPipeError


def default_console() -> Console:
    """Standard output; wider than rich's 80 columns where it goes to a file."""
    console = _Console()
    return console if console.is_terminal else _Console(width=WIDTH_OF_A_FILE)


def print_line(text: str) -> None:
    """Print a line, which a terminal gets broken between words: a name that it broke itself could not be read."""
    console = default_console()
    if console.is_terminal:
        console.print(Text(text))
    else:
        print(text)
