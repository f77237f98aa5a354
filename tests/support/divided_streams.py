"""One streams folder divided into several, each with some of its skills."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from skillit_stream.formats.manifest import MANIFEST_NAME


def divided(streams: Path, into: Path, *groups: Sequence[str]) -> list[Path]:
    """Copies of parts of a streams folder.

    Args:
        streams: The folder.
        into: Where the parts go, named `part-0`, `part-1`, ...; only the first gets the graph.
        *groups: The skills of each part.
    """
    parts = []
    for number, skills in enumerate(groups):
        part = into / f'part-{number}'
        for skill in skills:
            shutil.copytree(streams / skill, part / skill, ignore=shutil.ignore_patterns('losses'))
        shutil.copytree(streams / 'tokenizer', part / 'tokenizer')
        manifest = json.loads((streams / MANIFEST_NAME).read_text())
        change_manifest(part, {**manifest, 'skills': {skill: manifest['skills'][skill] for skill in skills}})
        if not number:
            shutil.copy(streams / 'graph.json', part)
        parts.append(part)
    return parts


def change_manifest(folder: Path, data: dict) -> None:
    """Write a manifest's plain data over what is there."""
    (folder / MANIFEST_NAME).write_text(json.dumps(data))
