"""The folder of a fork: what `skillit fork` has found, in ``result.json``, and the names of what lies beside it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import finite_or_null, from_plain, read_json, write_json

START, ORIGIN = 'start', 'origin.json'
"""The folder of the copied checkpoint, and what is in it of every fork."""
BRANCHES = 'branches'
"""The folder of the branches' records."""
MIXTURE, GRAPH, RESULT, PAGE = 'mixture.yaml', 'graph.json', 'result.json', 'fork.html'
WRITTEN = (MIXTURE, GRAPH, RESULT, PAGE, BRANCHES)
"""Beside the folder of the checkpoint."""
VERSION = 1
TAKE, STAY, CANNOT_TELL = 'take it', 'stay', 'cannot tell'
"""Verdicts."""


@dataclass(frozen=True, kw_only=True)
class PredictedGain:
    """By the law; nats per token."""

    gain: float
    standard_error: float
    interval: list[float]
    """Of 95 %: the lower end and the upper one."""


@dataclass(frozen=True, kw_only=True)
class ConfirmedGain:
    """Of the pairs, the present mixture's loss less the chosen one's; nats per token."""

    gain: float
    interval: list[float]
    """Of 95 %: the lower end and the upper one."""
    gains: list[float]
    """Of each pair."""
    t: float
    """Student's, of the gains less `min_gain`; NaN where all pairs gain the same."""
    bound: float
    """Which t must exceed."""
    min_gain: float = 0.0
    """Nats per token; less is no gain."""


@dataclass(frozen=True, kw_only=True)
class PresentLosses:
    """After the present mixture, by eval skill, nats per token."""

    present: Mapping[str, float]
    """Mean over the orders."""
    noise: Mapping[str, float]
    """Standard deviation over the orders."""


@dataclass(frozen=True, kw_only=True)
class ForkCost:
    """What was trained."""

    branches: int
    steps: int
    """Of all branches together."""


@dataclass(frozen=True, kw_only=True)
class ForkResult:
    """What a fork has found."""

    verdict: str
    reason: str
    more_pairs: int
    """With as many more the gain would be clear, if it stayed as it is."""
    run: str
    """The run folder."""
    checkpoint: str
    step: int
    """Of the checkpoint."""
    of_steps: int | None
    """Of the run; None: not known beforehand."""
    steps: int
    """Of each branch."""
    spread: float
    """How many times the branches differ by what the order alone does; NaN: the order does nothing."""
    targets: list[str]
    max_passes: float | None
    present: Mapping[str, float]
    """Train skill -> proportion."""
    mixture: Mapping[str, float]
    """The chosen one."""
    predicted: PredictedGain
    confirmed: ConfirmedGain | None
    losses: PresentLosses
    cost: ForkCost

    def __post_init__(self) -> None:
        if set(self.mixture) != set(self.present):
            raise ValueError("'mixture' must name the skills of the present one")
        if not set(self.targets) <= set(self.losses.present) or set(self.losses.noise) != set(
            self.losses.present
        ):
            raise ValueError("'losses' must name the targets, and the same skills with their noise")
        for gain in (self.predicted, self.confirmed):
            if gain is not None and len(gain.interval) != 2:
                raise ValueError(f"'interval' must hold two numbers, but got: {gain.interval}")


def write_fork_result(folder: Path, result: ForkResult) -> None:
    """Write ``result.json``, whole or not at all."""
    write_json(folder / RESULT, {'version': VERSION, **finite_or_null(asdict(result))})


def read_fork_result(folder: Path) -> ForkResult:
    """Read ``result.json``.

    Raises:
        InputError: There is none yet, or it is damaged or of another version.
    """
    path = folder / RESULT
    if not path.is_file():
        raise InputError(f'{folder} is a fork that has not ended: type its `skillit fork` again to go on.')
    plain = read_json(path)
    try:
        if isinstance(plain, dict) and plain.get('version') != VERSION:
            raise ValueError(f"'version' must be {VERSION}, but got: {plain.get('version')!r}")
        return from_plain(ForkResult, plain)
    except ValueError as error:
        raise InputError(
            f'{path}: {error}; type `skillit fork` again, which writes it anew from its branches.'
        ) from None


def is_fork(folder: Path) -> bool:
    """Whether `skillit fork` has begun to write a folder, or has ended there."""
    return (folder / START / ORIGIN).is_file() or ((folder / RESULT).is_file() and (folder / GRAPH).is_file())
