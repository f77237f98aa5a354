"""mixture.jsonl: a line per round, for reports, audits and eyes."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


class MixtureLog:
    """Appends rounds to a file and forgets those that are about to be trained again.

    A round's line says, as ``order``, what its order of samples depends on besides the proportions, unless
    that is as in the rounds before it: most runs say it once.

    Args:
        path: The file; its folder is made.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._order: Mapping[str, Any] = {}
        self._written: Mapping[str, Any] = {}

    def start(self, number: int, order: Mapping[str, Any]) -> None:
        """Drop the lines of round `number` and later: they were not in the checkpoint that is resumed.

        Args:
            number: The round that is trained next.
            order: What ``SkillStreamingDataset.describe`` says.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in self._lines() if line['round'] < number]
        scratch = self.path.with_suffix('.tmp')
        scratch.write_text(''.join(json.dumps(line) + '\n' for line in kept), encoding='utf-8')
        os.replace(scratch, self.path)
        self._order = order
        self._written = next((line['order'] for line in reversed(kept) if 'order' in line), {})

    def append(self, line: Mapping[str, Any]) -> None:
        """Add one round, or an evaluation before training (a negative round)."""
        if line['round'] >= 0 and self._order != self._written:
            line = {**line, 'order': self._order}
            self._written = self._order
        with open(self.path, 'a', encoding='utf-8') as file:
            file.write(json.dumps(line) + '\n')

    def last_round(self) -> int:
        """Number of the last round written; -1 if there is none."""
        return max((line['round'] for line in self._lines()), default=-1)

    def _lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        lines = []
        with suppress(ValueError):
            # Stops at the half line of a run that was killed while writing: its round is trained again.
            for text in self.path.read_text(encoding='utf-8').splitlines():
                lines.append(json.loads(text))  # noqa: PERF401 (the lines before a bad one are kept)
        return lines
