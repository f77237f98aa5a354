"""Reads streams back, shard by shard, without the loader under test elsewhere."""

import json
import os
from pathlib import Path

import numpy as np

EOS = '<|endoftext|>'


def samples_in(folder: Path) -> list[dict[str, np.ndarray]]:
    """All samples of a stream in the order they were written."""
    from streaming.base.format import reader_from_json

    index = json.loads((folder / 'index.json').read_text())
    return [
        reader[i]
        for shard in index['shards']
        for reader in [reader_from_json(str(folder), '', shard)]
        for i in range(shard['samples'])
    ]


def read_split(root: Path, skill: str, split: str) -> list[dict[str, np.ndarray]]:
    """All samples of a split in the order they were written."""
    return samples_in(root / skill / split)


def read_tokens(root: Path, skill: str, split: str) -> np.ndarray:
    """The tokens of a split end to end."""
    return np.concatenate([sample['tokens'] for sample in read_split(root, skill, split)])


def left_in(folder: Path) -> list[str]:
    """Names in a folder, hidden ones included."""
    return sorted(os.listdir(folder))
