"""What is kept of the branches: a file each, whole or not there."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote_plus

from skillit_stream.base.errors import as_input_error
from skillit_stream.base.files import from_plain, write_json
from skillit_stream.mixture.trials import Branch

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class BranchRecord:
    """A branch that is done."""

    signature: str
    losses: dict[str, float]
    """Eval skill -> nats per token."""


class BranchRecords:
    """The folder of them.

    Args:
        folder: Where.
        start: Bytes that change when anything does that all branches start from.
    """

    def __init__(self, folder: Path, start: bytes) -> None:
        self._folder, self._start = folder, start

    def load(self, branch: Branch) -> dict[str, float] | None:
        """The losses of a branch; None if it is not done, or was done otherwise."""
        try:
            record = from_plain(BranchRecord, json.loads(self._path(branch).read_bytes()))
        except (OSError, ValueError):
            return None
        return record.losses if record.signature == self._sign(branch) else None

    def save(self, branch: Branch, losses: dict[str, float]) -> None:
        """Write a record whole or not at all; raises InputError where the folder cannot be written to."""
        record = BranchRecord(signature=self._sign(branch), losses=losses)
        with as_input_error(f'{self._folder} cannot be written to', OSError):
            write_json(self._path(branch), {**asdict(branch), **asdict(record)})

    def missing(self, branches: list[Branch]) -> list[Branch]:
        """Those of them that are not done."""
        return [branch for branch in branches if self.load(branch) is None]

    def done(self, branch: Branch) -> dict[str, float]:
        """The losses of a branch that is done."""
        losses = self.load(branch)
        if losses is None:
            raise RuntimeError(f'Internal error: {self._path(branch)} is gone.')
        return losses

    def _path(self, branch: Branch) -> Path:
        return self._folder / f'{branch.steps}-{quote_plus(branch.name)}.json'

    def _sign(self, branch: Branch) -> str:
        text = json.dumps([VERSION, asdict(branch)], sort_keys=True)
        return hashlib.blake2b(self._start + text.encode(), digest_size=16).hexdigest()
