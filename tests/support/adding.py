"""For the tests of `skillit convert --add`: rows of a skill, and what lies in a streams folder."""

import hashlib
import json
from pathlib import Path
from typing import Any

from tests.support.streams_reading import EOS, read_tokens


def rows_of(kind: str, first: int, count: int) -> list[dict[str, Any]]:
    return [
        {'text': f'{kind} {number}: ' + f'line {number} of it, ' * (1 + number % 5), 'kind': kind}
        for number in range(first, first + count)
    ]


def digests(root: Path) -> dict[str, str]:
    """Hash of every file; of the manifest without the date of its last conversion and paths of this test."""
    found = {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*'))
        if path.is_file()
    }
    manifest = json.loads((root / 'skills.json').read_text())
    for entry in manifest.get('history', ()):
        del entry['date'], entry['arguments']
    found['skills.json'] = json.dumps(manifest)
    return found


def documents_of(root: Path, skill: str, split: str) -> set[str]:
    """The whole documents that a split holds."""
    from transformers import AutoTokenizer

    decoder = AutoTokenizer.from_pretrained(str(root / 'tokenizer'))
    return set(decoder.decode(read_tokens(root, skill, split)).split(EOS))
