"""What the branches of a fork start from: copies of a checkpoint and of its run's configuration.

A live run removes its older checkpoints and writes new ones. What is forked is therefore copied into the fork's own
folder first, and a command that is typed again goes on from the same.
"""

import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.files import from_plain, read_json, read_text, write_json, write_text
from skillit_stream.base.names import is_url
from skillit_stream.formats.fork_result import ORIGIN, START, WRITTEN
from skillit_stream.training.checkpoints import SHARDED, checkpoint_at
from skillit_stream.training.config import TrainConfig, load_config
from skillit_stream.training.run_files import CONFIG, checkpoint_folder

CHECKPOINT = 'checkpoint.pt'
_UNFINISHED = '.start-'


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the copies are from."""

    run: str
    """The run folder."""
    checkpoint: str
    """A path or a URL."""
    asked: str | None
    """As it was named; None: the newest was meant."""


@dataclass(frozen=True)
class Start:
    """A checkpoint and its run's configuration, in the folder of the fork."""

    origin: Origin
    checkpoint: Path
    text: str
    """Of the configuration."""
    config: TrainConfig


def start_in(out: Path, run: Path, checkpoint: str | None) -> Start:
    """What was copied to `out` before, or a copy made now. Several tasks may call it at once: one copy counts.

    Args:
        out: The fork's folder.
        run: The run's, which is only read.
        checkpoint: A path, a URL, or the name of one of the run's; None: its newest.

    Raises:
        InputError: There is no such run or checkpoint, or `out` has a fork of another.
    """
    folder = out / START
    if not folder.is_dir():
        if foreign := [name for name in WRITTEN if (out / name).exists()]:
            raise InputError(f'--out {out} holds a {foreign[0]} that is of no fork: name another folder.')
        _copy(out, run, checkpoint)
    origin = _origin(folder)
    # By its name, first: a live run's may be gone by now.
    other = checkpoint not in (None, origin.asked, origin.checkpoint)
    if origin.run != str(run.resolve()) or (other and _found(run, checkpoint) != origin.checkpoint):
        raise InputError(
            f'--out {out} has a fork of {origin.checkpoint}: name another folder for another checkpoint.'
        )
    return Start(origin, folder / CHECKPOINT, read_text(folder / CONFIG), load_config(folder / CONFIG))


def remove_unfinished(out: Path) -> None:
    """Copies that were begun by processes that were killed."""
    for left in out.glob(f'{_UNFINISHED}*'):
        shutil.rmtree(left, ignore_errors=True)


def _origin(folder: Path) -> Origin:
    with as_input_error(f'{folder / ORIGIN} is damaged'):
        return from_plain(Origin, read_json(folder / ORIGIN))


def _copy(out: Path, run: Path, checkpoint: str | None) -> None:
    text = _config_of(run)
    found = _found(run, checkpoint)
    with as_input_error(f'--out {out} cannot be written to', OSError):
        out.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=out))
    try:
        with as_input_error(f'{found} cannot be copied to {out}', Exception):
            _fetch(found, scratch / CHECKPOINT)
        write_text(scratch / CONFIG, text)
        write_json(
            scratch / ORIGIN, asdict(Origin(run=str(run.resolve()), checkpoint=found, asked=checkpoint))
        )
        try:
            os.rename(scratch, out / START)
        except OSError:
            if not (out / START).is_dir():
                raise  # another task was not first: something else is wrong
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _config_of(run: Path) -> str:
    if not (run / CONFIG).is_file():
        raise InputError(f'RUN must be the folder of a run, with its {CONFIG}, but got: {run}.')
    return read_text(run / CONFIG)


def _found(run: Path, checkpoint: str | None) -> str:
    """Path or URL of the checkpoint.

    Raises:
        InputError: There is none, or it is a folder of shards.
    """
    place = checkpoint or str(run)
    if checkpoint and not is_url(checkpoint) and not Path(checkpoint).exists():
        place = f'{checkpoint_folder(load_config(run / CONFIG)).rstrip("/")}/{checkpoint}'
    try:
        found = checkpoint_at(place)
    except InputError as error:
        raise InputError(f'No checkpoint of {run} can be forked: {error}') from None
    if is_url(found):
        return found
    if not Path(found).exists():
        raise InputError(f'--checkpoint: there is no {checkpoint}, here or among the checkpoints of {run}.')
    if (Path(found) / SHARDED).exists():
        raise InputError(
            f'{found} is sharded over ranks, and a branch is trained on one device: name a .pt file.'
        )
    return str(Path(found).resolve())


def _fetch(place: str, target: Path) -> None:
    if not is_url(place):
        shutil.copyfile(place, target)
        return
    from composer.utils import get_file

    get_file(place, str(target), progress_bar=False)
