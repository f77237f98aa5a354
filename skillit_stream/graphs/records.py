"""What is kept of finished short runs: one file a run, so that any process can do any of them.

``start.json`` holds the losses before training, ``on-<skill>.json`` and ``on-<skill>+<skill>.json`` those after;
repeats with other orders of the samples are in ``repeat-2/``, ``repeat-3/`` and so on. A file counts if its signature
fits; it is written under another name first and is never half there.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote

from skillit_stream.base.errors import InputError
from skillit_stream.base.files import from_plain, write_text
from skillit_stream.mixture.graph_formulas import MeasuredLosses, Mix, format_mix
from skillit_stream.training.config import TrainConfig

VERSION = 1
BEFORE_TRAINING: Mix = ()
START_ROW = 'start'

# Keys of a training YAML that change nothing of what a short run learns.
_WITHOUT_EFFECT = frozenset(
    {
        'algorithms',
        'autoresume',
        'callbacks',
        'checkpoint_folder',
        'compile_config',
        'device',
        'device_train_microbatch_size',
        'dist_timeout',
        'eval_interval',
        'log_to_console',
        'loggers',
        'max_duration',
        'method',
        'progress_bar',
        'run_name',
        'save_folder',
        'save_interval',
        'save_num_checkpoints_to_keep',
        'save_overwrite',
        'streams',
        'streams_local',
        'variables',
    }
)
_WITHOUT_EFFECT_IN_LOADER = frozenset({'num_workers', 'prefetch_factor', 'pin_memory', 'warn_passes'})


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished run, or the evaluation before all of them."""

    signature: str
    """Of configuration, streams and steps: another one means that the run must be done again."""
    trained_on: Mix
    steps: int
    starting_weights: str
    """Hash of the weights it started from."""
    losses: dict[str, float]
    """Nats per token by eval skill."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Where the time went: training, evaluation."""
    version: int = VERSION


def sign(config: TrainConfig, manifest: bytes, steps: int) -> str:
    """Changes when anything does that the losses of a short run depend on."""
    settings = {key: value for key, value in asdict(config).items() if key not in _WITHOUT_EFFECT}
    for key in _WITHOUT_EFFECT_IN_LOADER:
        settings['train_loader'].pop(key)
    settings['eval_loader'].pop('before_training')
    groups = config.data_mixing.get('groups')
    if groups is not None:
        settings['groups'] = groups
    text = json.dumps([VERSION, settings, steps, hashlib.blake2b(manifest).hexdigest()], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Records:
    """The folder of the records of one signature."""

    def __init__(self, folder: Path, signature: str) -> None:
        self.folder = folder
        self.signature = signature

    def path(self, mix: Mix) -> Path:
        """The file of a run; names of skills are quoted, so that no two mixes share one."""
        name = f'on-{"+".join(quote(skill, safe="") for skill in mix)}' if mix else 'start'
        return self.folder / f'{name}.json'

    def load(self, mix: Mix) -> Record | None:
        """The record of a run; None if it is not done, or was done under another signature."""
        try:
            record = from_plain(Record, json.loads(self.path(mix).read_bytes()))
        except (OSError, ValueError):
            return None
        fits = (record.version, record.signature, record.trained_on) == (VERSION, self.signature, mix)
        return record if fits else None

    def save(self, record: Record) -> None:
        """Write a record whole or not at all.

        Raises:
            InputError: The folder cannot be written to.
        """
        text = json.dumps(asdict(record), indent=1) + '\n'
        try:
            write_text(self.path(record.trained_on), text)
        except OSError as error:
            raise InputError(
                f'{self.folder} cannot be written to ({error.strerror}): choose another folder with --work.'
            ) from None

    def missing(self, mixes: Sequence[Mix]) -> list[Mix]:
        """The runs of these that are not done."""
        return [mix for mix in mixes if self.load(mix) is None]

    def losses(self, mixes: Sequence[Mix], start: Record) -> MeasuredLosses:
        """The losses before training, which are those of `start`, and after these runs, which must be done.

        Raises:
            InputError: They did not start from the same weights.
        """
        after = {mix: self.done(mix) for mix in mixes}
        for mix, record in after.items():
            if record.starting_weights != start.starting_weights:
                raise InputError(
                    f'{self.path(mix)} is of a run from other starting weights than the evaluation before training: '
                    f'remove {self.folder} and learn again, with the same versions of all packages on every machine.'
                )
        return MeasuredLosses(start.losses, {mix: record.losses for mix, record in after.items()})

    def done(self, mix: Mix) -> Record:
        """The record of a run that is done."""
        record = self.load(mix)
        if record is None:
            raise RuntimeError(f'Internal error: {self.path(mix)} is gone.')
        return record


def write_table(path: Path, losses: MeasuredLosses) -> None:
    """Write measured losses as the table that `skillit graph from-runs --losses` reads."""
    rows: list[tuple[str, Mapping[str, float]]] = [(START_ROW, losses.start)]
    rows += [(format_mix(mix), after) for mix, after in losses.after.items()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['trained on', *losses.start])
    writer.writerows([name, *(row[skill] for skill in losses.start)] for name, row in rows)
    write_text(path, text.getvalue())
