"""What the short runs of a graph start from: scratch, a pretrained model, or a checkpoint and its part of its run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.base.names import is_url
from skillit_stream.mixture.graph_measurement import CHECKPOINT, PRETRAINED, SCRATCH, StartOfRuns
from skillit_stream.training.config import TrainConfig, load_config
from skillit_stream.training.export import checkpoint_time

# A run folder holds config.yaml, and its checkpoints in a folder of their own.
_LEVELS_UP_TO_CONFIG = 2


def start_of(config: TrainConfig) -> StartOfRuns:
    """The weights that a configuration starts from, named.

    The length of a checkpoint's run is that of the config.yaml beside its folder; where there is none, that of
    this configuration.

    Raises:
        InputError: `load_path` cannot be read.
    """
    if config.load_path:
        time = checkpoint_time(config.load_path)
        step = time.get('batch')
        duration = _duration_of_run(config.load_path) or config.max_duration
        return StartOfRuns(
            weights=CHECKPOINT,
            path=config.load_path if is_url(config.load_path) else str(Path(config.load_path).resolve()),
            step=None if step is None else int(step),
            of_steps=_steps(duration, time),
        )
    model = config.model
    if model.pretrained_model_name_or_path and model.pretrained:
        return StartOfRuns(weights=PRETRAINED, path=model.pretrained_model_name_or_path)
    return StartOfRuns(weights=SCRATCH)


def _duration_of_run(checkpoint: str) -> str | None:
    """The `max_duration` of the run that wrote a checkpoint; None where its config.yaml is not beside it."""
    if is_url(checkpoint):
        return None
    # Composer's link to the newest checkpoint may lie elsewhere than the run.
    for folder in list(Path(checkpoint).resolve().parents)[:_LEVELS_UP_TO_CONFIG]:
        if (folder / 'config.yaml').is_file():
            try:
                return load_config(folder / 'config.yaml').max_duration
            except InputError:
                return None  # of another program, or of a version of this one with other keys
    return None


def _steps(duration: str, time: Mapping[str, Any]) -> int | None:
    """Steps of a run of this duration whose checkpoint was taken at this time; None where that cannot be told."""
    from composer.core import Time, TimeUnit

    units = {
        TimeUnit.EPOCH: 'epoch',
        TimeUnit.BATCH: 'batch',
        TimeUnit.SAMPLE: 'sample',
        TimeUnit.TOKEN: 'token',
    }
    whole = Time.from_timestring(duration)
    done = time.get(units.get(whole.unit, ''))
    if not done or not time.get('batch'):
        return None
    return round(time['batch'] * whole.value / done)
