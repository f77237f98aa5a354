"""SampleLog: a callback that writes down which samples every step trained on."""

import json
from pathlib import Path
from typing import IO, Any

from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist

from skillit_stream.base.errors import InputError
from skillit_stream.loader.skill_shards import SAMPLE_ID_COLUMN


class SampleLog(Callback):
    """Writes a line per rank and step: the step and the ids of the rank's samples, in order.

    A resumed run appends to the same files; a step that stands there twice was trained again.

    Args:
        folder: Where ``samples-rank<rank>.jsonl`` is written.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._file: IO[str] | None = None

    def init(self, state: State, logger: Logger) -> None:
        """See that the folder can be made, before anything is trained."""
        del state, logger
        nearest = next(one for one in (self.folder, *self.folder.absolute().parents) if one.exists())
        if not nearest.is_dir():
            raise InputError(
                f'`callbacks.sample_log.folder`: {self.folder} cannot be made: {nearest} is a file.'
            )

    def after_dataloader(self, state: State, logger: Logger) -> None:
        """Write the line of the batch that has just arrived."""
        del logger
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f'samples-rank{dist.get_global_rank()}.jsonl'
            self._file = open(path, 'a', encoding='utf-8')  # noqa: SIM115 (open for the whole run)
        batch: Any = state.batch
        line = {'step': int(state.timestamp.batch), 'samples': batch[SAMPLE_ID_COLUMN].tolist()}
        self._file.write(json.dumps(line) + '\n')
        self._file.flush()

    def close(self, state: State, logger: Logger) -> None:
        """Close the file."""
        del state, logger
        if self._file is not None:
            self._file.close()
            self._file = None
