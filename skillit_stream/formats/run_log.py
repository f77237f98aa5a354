"""mixture.jsonl, the log of a run: a line a round, written while it trains, read by reports and audits.

Lines may differ in their skills: streams come and go in a run. Version 2 of a line holds the dataset's state at the
start of its round, from which the round's order of samples follows; lines without a version are of before that, and
all but the order can be read from them.
"""

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from weakref import finalize

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import finite_or_null, from_plain, write_atomically

VERSION = 2
BEFORE_TRAINING = -1
"""The round of an evaluation before training."""
FIGURES = ('bits_per_byte', 'accuracy', 'exact_match')
REMEDY = 'restore the file, or remove the line if its round may be trained again'


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an evaluation measured; skill -> value."""

    step: int
    """Batches trained before it."""
    losses: dict[str, float] = field(default_factory=dict)
    """Nats per token per eval skill; empty where no evaluation ran."""
    bits_per_byte: dict[str, float] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    """Part of the target tokens that were predicted."""
    exact_match: dict[str, float] = field(default_factory=dict)
    """Part of the samples all of whose target tokens were predicted."""

    @property
    def figures(self) -> dict[str, dict[str, float]]:
        """What else was measured along with the losses: figure, of `FIGURES`, -> eval skill -> value."""
        return {name: values for name in FIGURES if (values := getattr(self, name))}

    def to_plain(self) -> dict[str, Any]:
        """In plain Python, without what there is not."""
        return _without_nothing(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How the steps of a round went."""

    loss: float
    """Mean over the steps of the training loss of their batches, nats per token."""
    learning_rate: float
    """Of the last step."""
    tokens: int
    """That the steps took, all ranks together; 0 where the trainer does not count them."""


@dataclass(frozen=True, kw_only=True)
class RoundRecord(Evaluation):
    """One line of the log: a round and the evaluation at its end, or (round -1) an evaluation before training."""

    round: int
    version: int = 1
    proportions: dict[str, float] = field(default_factory=dict)
    """Asked for, per train skill, in the order of the run's streams."""
    objective: dict[str, float] = field(default_factory=dict)
    """Trained for, per train skill, where tokens were weighed: the loss of each by this over its skill's proportion."""
    realised: dict[str, float] = field(default_factory=dict)
    samples: dict[str, float] = field(default_factory=dict)
    """Drawn in this round per train skill."""
    passes: dict[str, float] = field(default_factory=dict)
    """Walks over each stream since the start of the run."""
    train_losses: dict[str, float] | None = None
    """Nats per token per train skill that was drawn; None where the policy does not ask for them."""
    ended_after: int | None = None
    """Steps of the round that were trained, where training ended inside it; `samples` and `realised` are of these.
    None: all of them."""
    trained: Trained | None = None
    """None where the trainer does not say, and in logs from before it was written."""
    stalled_seconds: float = 0.0
    """Waiting for data."""
    seconds: float = 0.0
    """Of the whole round, waiting for data and evaluating included."""
    eval_seconds: float = 0.0
    within: tuple[Evaluation, ...] = ()
    """The evaluations inside the round, before its end."""
    notes: tuple[str, ...] = ()
    """What the policy has to say of the mixture that it made after the round."""
    decided: dict[str, float] = field(default_factory=dict)
    """What the policy decided besides: ``eta``, where Skill-It's `tilt` asks for it."""
    next_proportions: dict[str, float] = field(default_factory=dict)
    """The mixture that was made after the round: of the one that follows; empty in logs from before it was written."""
    applied: dict[str, Any] | None = None
    """What `skillit apply` gave the run after the round: ``from_round``, ``policy`` (its description), ``graph``."""
    trial: dict[str, Any] | None = None
    """What the policy found in branches that it had trained after the round: ``verdict``, ``reason``, ``branches``,
    ``steps``, ``steps_so_far`` of ``most_steps``, ``seconds``, and ``mixture`` where it moved."""
    state: dict[str, Any] | None = None
    """The dataset's state at the start of the round (``SkillStreamingDataset.round_state``)."""
    where: str = field(default='', compare=False)
    """``file:line``, for error messages."""

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Those inside the round and the one at its end, where it ran."""
        return (*self.within, self) if self.losses else self.within

    def to_line(self) -> str:
        """The line, without what there is not; a loss that is no finite number is null."""
        line = {key: value for key, value in asdict(self).items() if key not in ('where', 'version')}
        line['within'] = [one.to_plain() for one in self.within]
        first = {'version': VERSION, 'round': line.pop('round')}
        plain = finite_or_null({**first, **_without_nothing(line, keep=_ALWAYS)})
        return json.dumps(plain, allow_nan=False)


_ALWAYS = ('proportions', 'realised', 'samples', 'passes', 'losses')


def _without_nothing(line: dict[str, Any], keep: tuple[str, ...] = ('losses',)) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key in keep or value not in (None, {}, [], ())}


@dataclass(frozen=True, slots=True)
class RecordedRounds:
    """The rounds of one run in order, and what had to be left out to get there."""

    records: tuple[RoundRecord, ...]
    half_written: int
    """1 where the last line breaks off (the run was killed while writing it), else 0."""
    replaced: int
    """Lines a resumed run wrote again: the newer ones count."""

    @property
    def rounds(self) -> tuple[RoundRecord, ...]:
        """Those of rounds, without an evaluation before training."""
        return tuple(record for record in self.records if record.round >= 0)


class RunLog:
    """Appends rounds to a file and forgets those that are about to be trained again.

    Args:
        path: The file; its folder is made when it is started.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._release: Callable[[], Any] | None = None

    def start(self, number: int) -> None:
        """Drop the lines of round `number` and later: they were not in the checkpoint that is resumed.

        Raises:
            InputError: A line is broken; the file stays as it is.
        """
        kept = (
            [line for line, record in read_lines(self.path) if record.round < number]
            if self.path.exists()
            else []
        )
        write_atomically(self.path, lambda file: file.writelines(line + b'\n' for line in kept))
        self._hold()

    def _hold(self) -> None:
        """Let others see that a process writes here, for as long as it lives (`is_written`)."""
        if self._release is not None:
            return
        descriptor = os.open(self.path.parent, os.O_RDONLY)
        self._release = finalize(self, os.close, descriptor)
        with suppress(OSError):  # a file system without locks: then it is not known
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def append(self, record: RoundRecord) -> None:
        """Add a line, which is on the disk afterwards."""
        with open(self.path, 'a', encoding='utf-8') as file:
            file.write(record.to_line() + '\n')
            file.flush()
            os.fsync(file.fileno())


def is_written(folder: Path) -> bool | None:
    """Whether a process of this machine has a log in this folder open; None where the file system does not say."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def has_rounds(path: Path) -> bool:
    """Whether a log holds a round; one that is not there holds none. Raises InputError if a line is broken."""
    return path.exists() and bool(read_rounds(path).rounds)


def read_rounds(path: Path) -> RecordedRounds:
    """Read a log; one without any line has no records.

    Args:
        path: The file. Its last line may break off; any other broken line is an error.

    Raises:
        InputError: The file is missing, or a line is not a round.
    """
    records: list[RoundRecord] = []
    replaced = lines = 0
    for _, record in read_lines(path):
        lines += 1
        # A resumed run goes on from its checkpoint: what the log held from there on did not happen.
        while records and records[-1].round >= record.round:
            records.pop()
            replaced += 1
        records.append(record)
    return RecordedRounds(tuple(records), len(_split(path)) - lines, replaced)


def find_round(path: Path, number: int) -> RoundRecord | None:
    """The line of one round, without checking the others; None if there is none.

    Raises:
        InputError: The file is missing, or the line is broken.
    """
    marker = re.compile(rb'"round"\s*:\s*%d\b' % number)
    lines = _split(path)
    # The last first: a line that was written again stands behind the old one.
    for at in range(len(lines), 0, -1):
        line = lines[at - 1]
        if marker.search(line) and (at < len(lines) or _is_whole(line)):
            record = parse_line(line, where=f'{path}:{at}')
            if record.round == number:
                return record
    return None


def read_lines(path: Path) -> Iterator[tuple[bytes, RoundRecord]]:
    """The lines of a log as they are and as records, but for a last line that breaks off."""
    lines = _split(path)
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and not _is_whole(line):
            return
        yield line.rstrip(b'\r\n'), parse_line(line, where=f'{path}:{number}')


def parse_line(line: bytes, *, where: str) -> RoundRecord:
    """Parse one line of a log.

    Args:
        line: UTF-8, with or without its newline.
        where: ``file:line``, for error messages.

    Raises:
        InputError: The line is empty, no JSON object, or a field has the wrong type.
    """
    if not line.strip():
        raise InputError(f'{where} is an empty line: {REMEDY}')
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise InputError(f'{where} is not JSON ({error}): {REMEDY}') from None
    try:
        return from_plain(RoundRecord, {**entry, 'where': where} if isinstance(entry, dict) else entry)
    except ValueError as error:
        raise InputError(f'{where}: {error}; {REMEDY}') from None


def _split(path: Path) -> list[bytes]:
    try:
        # A byte-order mark is an editor's, and no part of the first line.
        return path.read_bytes().removeprefix(b'\xef\xbb\xbf').splitlines(keepends=True)
    except OSError:
        raise InputError(f'{path.parent} has no {path.name}: no round of this run has ended yet.') from None


def _is_whole(line: bytes) -> bool:
    """Whether the last line of a log does not break off: a write that was cut short is no JSON."""
    if line.endswith(b'\n'):
        return True
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
