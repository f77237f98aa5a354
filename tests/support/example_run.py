"""Runs an example's `main` as a rank, and writes down which samples each of its steps got."""

import json
import os
import runpy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from skillit_stream import MixtureDriver


def main(arguments: Sequence[str]) -> int:
    """`EXAMPLE FOLDER ARGUMENTS...`: FOLDER gets a file a rank, with a line of sample ids a batch."""
    example, folder, *rest = arguments
    file = Path(folder) / f'{os.environ["RANK"]}.jsonl'
    file.parent.mkdir(parents=True, exist_ok=True)
    handed_out = MixtureDriver.batches

    def batches(self: MixtureDriver, loader: Iterable[Any]) -> Iterator[Any]:
        for batch in handed_out(self, loader):
            with file.open('a') as lines:
                lines.write(json.dumps(batch['sample_id'].tolist()) + '\n')
            yield batch

    MixtureDriver.batches = batches
    return runpy.run_path(example)['main'](rest)


def read_batches(folder: Path) -> list[list[int]]:
    """The global batches of a run, each the ranks' in order."""
    ranks = [
        [json.loads(line) for line in (folder / f'{rank}.jsonl').read_text().splitlines()]
        for rank in range(len(list(folder.iterdir())))
    ]
    return [[one for part in parts for one in part] for parts in zip(*ranks, strict=True)]
