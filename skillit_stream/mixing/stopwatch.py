"""Seconds between starts and stops."""

from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True)
class Clocks:
    """Seconds of a round."""

    seconds: float = 0.0
    """The whole of it, the others included."""
    stalled_seconds: float = 0.0
    """Waiting for data."""
    eval_seconds: float = 0.0


class Stopwatch:
    """Adds up the seconds between starts and stops."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin at nothing, stopped."""
        self.seconds = 0.0
        self._since: float | None = None

    @property
    def runs(self) -> bool:
        """Whether it was started and not stopped."""
        return self._since is not None

    def start(self) -> None:
        """Begin to count, anew if it runs."""
        self._since = monotonic()

    def stop(self) -> None:
        """Add what has passed since the start, if it runs."""
        if self._since is not None:
            self.seconds += monotonic() - self._since
        self._since = None


class RoundWatches:
    """The stopwatches of a round."""

    def __init__(self) -> None:
        self.whole, self.waiting, self.evaluation = Stopwatch(), Stopwatch(), Stopwatch()

    def begin(self) -> None:
        """A round begins."""
        for watch in (self.whole, self.waiting, self.evaluation):
            watch.reset()
        self.whole.start()

    def clocks(self) -> Clocks:
        """What they show."""
        return Clocks(*(round(one.seconds, 3) for one in (self.whole, self.waiting, self.evaluation)))
