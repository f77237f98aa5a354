"""What downloads that were killed leave behind."""

import contextlib
import os
import re
from pathlib import Path

# Beside a shard: Streaming's own and those of the S3 client.
_UNFINISHED = re.compile(r'shard\..+\.(tmp|[0-9a-fA-F]{8})')


def remove_unfinished(folder: Path, shard: str = 'shard.') -> None:
    """Remove what downloads that were killed left in a folder, beside one shard or beside all of them.

    Nothing else would, and every kill adds to it.
    """
    with contextlib.suppress(FileNotFoundError):
        for file in list(os.scandir(folder)):
            if file.name.startswith(shard) and _UNFINISHED.fullmatch(file.name):
                Path(file.path).unlink(missing_ok=True)
