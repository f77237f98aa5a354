"""What downloads that were killed leave behind."""

import contextlib
import os
import re
import time
from pathlib import Path

# Beside a shard: Streaming's own and those of the S3 client.
_UNFINISHED = re.compile(r'shard\..+\.(tmp|[0-9a-fA-F]{8})')


def remove_unfinished(folder: Path, shard: str = 'shard.', *, min_age: float = 0.0) -> None:
    """Remove what downloads that were killed left in a folder, beside one shard or beside all of them.

    Nothing else would, and every kill adds to it.

    Args:
        folder: That they were fetched to, or unpacked in; one that cannot be written to stays as it is.
        shard: Beginning of their names.
        min_age: Seconds; what was written to since may be another job's, where several share the folder.
    """
    with contextlib.suppress(FileNotFoundError):
        for file in list(os.scandir(folder)):
            if file.name.startswith(shard) and _UNFINISHED.fullmatch(file.name):
                with contextlib.suppress(OSError):
                    if time.time() - file.stat().st_mtime >= min_age:
                        Path(file.path).unlink(missing_ok=True)
