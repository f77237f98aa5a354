"""The files of a run beside its checkpoints, and where the checkpoints go.

Where they go to an object store, mixture.jsonl, config.yaml and run.json are copied there too, always before
the checkpoint that they belong to: a machine that has never seen the run goes on with the whole of its log.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import (
    ObjectStoreTransientError,
    dist,
    maybe_create_object_store_from_uri,
    parse_uri,
    retry,
)

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.files import read_text, write_atomically, write_text
from skillit_stream.base.names import is_url
from skillit_stream.formats.applied import TAKEN, parse_taken, read_taken, remove_all
from skillit_stream.formats.remote_folder import listed_objects
from skillit_stream.formats.run_log import has_rounds
from skillit_stream.loader.dataset import SkillStreamingDataset
from skillit_stream.mixture import MixturePolicy, SkillsGraph
from skillit_stream.training.config import TrainConfig, dump_config
from skillit_stream.training.intervals import meets_rounds
from skillit_stream.training.kernels import Kernels
from skillit_stream.training.progress_text import RunPlan

LOG, CONFIG, ABOUT = 'mixture.jsonl', 'config.yaml', 'run.json'
LEARNED = 'graph.json'
"""The skills graph that the run has learned by itself."""
RUN_VERSION = 1


def checkpoint_folder(config: TrainConfig) -> str:
    """Where the checkpoints of a run are written to and looked for."""
    return config.checkpoint_folder or str(Path(config.save_folder) / 'checkpoints')


def prepare_folder(config: TrainConfig) -> None:
    """Refuse to write over a run that is there; with `autoresume` bring the log of one that is elsewhere.

    Raises:
        InputError: There is a run already, or the remote folder cannot be reached.
    """
    path = Path(config.save_folder) / LOG
    with _remote_log(config) as remote:
        if config.autoresume:
            # The checkpoint that Composer goes on from is the remote one: so must the log be.
            if remote and dist.get_global_rank() == 0:
                write_atomically(path, lambda file: file.write(remote.read_bytes()))
                _bring_taken(path.parent, checkpoint_folder(config))
            return
        for log, key in ((path, 'save_folder'), (remote, 'checkpoint_folder')):
            # A run that was refused in its first round has left a log without rounds: nothing is lost with it.
            if log and not config.save_overwrite and has_rounds(log):
                raise InputError(
                    f'There is a run in {getattr(config, key)} already: pass autoresume=true to go on with it, '
                    f'save_overwrite=true to start over, or another {key}.'
                )


def _bring_taken(folder: Path, remote: str) -> None:
    """Copy what was applied to the run from its remote folder, unless here is what was taken after that copy."""
    text = read_run_file(remote, TAKEN)
    if text is not None and len(parse_taken(text, f'{remote}/{TAKEN}')) > len(read_taken(folder)):
        write_text(folder / TAKEN, text)


def clear_run(config: TrainConfig) -> None:
    """Remove the log of a run that is started over, once nothing of the new one is refused any more."""
    if not config.autoresume:
        for name in (LOG, LEARNED):
            (Path(config.save_folder) / name).unlink(missing_ok=True)
        remove_all(Path(config.save_folder))


@contextmanager
def _remote_log(config: TrainConfig) -> Iterator[Path | None]:
    """A copy of the log in a remote checkpoint folder; None where there is none."""
    folder = config.checkpoint_folder
    if folder is None or not is_url(folder):
        yield None
        return
    with TemporaryDirectory() as scratch:
        path, remote = Path(scratch, LOG), _Remote(folder)
        remote.check()
        yield path if remote.download(path) else None


class _Remote:
    """A folder of files in an object store."""

    def __init__(self, folder: str) -> None:
        self._folder, (_, _, prefix) = folder, parse_uri(folder)
        self._prefix = prefix.strip('/')
        with as_input_error(
            f'`checkpoint_folder` must be in an object store of Composer, but got: {folder}', Exception
        ):
            self._store: Any = maybe_create_object_store_from_uri(folder)

    def _name(self, path: Path) -> str:
        return '/'.join(filter(None, [self._prefix, path.name]))

    def check(self) -> None:
        """See that it can be reached: to a download, a bucket that is missing is a file that is."""
        with as_input_error(f'`checkpoint_folder`: {self._folder} cannot be reached', Exception):
            listed_objects(self._store, self._name(Path(LOG)))

    def download(self, path: Path) -> bool:
        """Fetch the file of the same name; False if there is none."""
        with as_input_error(f'`checkpoint_folder`: {self._folder} cannot be reached', Exception):
            try:
                self._store.download_object(self._name(path), str(path))
            except FileNotFoundError:
                return False
        return True

    @retry(ObjectStoreTransientError, num_attempts=4)
    def upload(self, path: Path) -> None:
        """Put a file there under its own name, over what is there."""
        self._store.upload_object(self._name(path), str(path))


def read_run_file(folder: str, name: str) -> str | None:
    """The text of a file of a run that lies in a folder, a path or a URL; None where there is none.

    Raises:
        InputError: The folder or the file cannot be read.
    """
    if not is_url(folder):
        path = Path(folder, name)
        return read_text(path) if path.is_file() else None
    with TemporaryDirectory() as scratch:
        path, remote = Path(scratch, name), _Remote(folder)
        return read_text(path) if remote.download(path) else None


def about_run(
    config: TrainConfig,
    policy: MixturePolicy,
    graph: SkillsGraph | None,
    dataset: SkillStreamingDataset,
    *,
    kernels: Kernels | None,
    plan: RunPlan,
) -> dict[str, Any]:
    """run.json: what a reader of the run folder needs to know about the run."""
    return {
        'version': RUN_VERSION,
        'name': config.run_name,
        'method': config.method or config.run_name,
        'policy': policy.describe(),
        'seed': config.seed,
        'rounds': plan.rounds,
        'eval_skills': list(plan.eval_skills),
        'evaluates_rounds': meets_rounds(config, plan.seq_len),
        'dataset': dataset.describe(),
        'kernels': kernels.describe() if kernels else None,
        'graph': graph.to_dict() if graph else None,
    }


def write_run_files(config: TrainConfig, about: Mapping[str, Any]) -> None:
    """The resolved YAML and what a reader of the run folder needs to know about the run."""
    folder = Path(config.save_folder)
    write_text(folder / CONFIG, dump_config(config))
    write_text(folder / ABOUT, json.dumps(about, indent=1))


class RunFilesUpload(Callback):
    """Copies the files of a run to a remote folder when training starts, when a round ends and at the end.

    Composer runs it before the callback that writes the checkpoint of that round, and after DataMixing, which
    writes the round's line.

    Args:
        folder: The run folder.
        remote: The URL.
    """

    def __init__(self, folder: str | Path, remote: str) -> None:
        self._folder, self._remote = Path(folder), remote

    def fit_start(self, state: State, logger: Logger) -> None:
        """Copy what there is."""
        del state, logger
        self._upload()

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:
        """Copy the log with the round's line."""
        del state, logger
        self._upload()

    def close(self, state: State, logger: Logger) -> None:
        """Copy the log with the line of a round that was trained in part."""
        del state, logger
        self._upload()

    def _upload(self) -> None:
        if dist.get_global_rank() != 0:
            return
        remote = _Remote(self._remote)
        for name in (LOG, CONFIG, ABOUT, TAKEN, LEARNED):
            if (self._folder / name).exists():
                remote.upload(self._folder / name)
