"""Times of a YAML that can be known to be wrong before anything is trained."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from composer.callbacks import EarlyStopper, ThresholdStopper
from composer.core import Callback, Time, TimeUnit

from skillit_stream.base.errors import InputError, as_input_error
from skillit_stream.base.names import nearest
from skillit_stream.mixture import MixturePolicy
from skillit_stream.training.config import TrainConfig


def check_times(config: TrainConfig) -> None:
    """Before Composer reads them: it makes folders first.

    Raises:
        InputError: One is no time string, or is of nothing.
    """
    for key in ('max_duration', 'eval_interval', 'save_interval'):
        read_time(key, getattr(config, key))
    for key, value in config.scheduler.items():
        if key == 'milestones' and isinstance(value, list):
            for one in value:
                read_time('scheduler.milestones', one)
        elif key.startswith('t_') and value != '0ba':
            read_time(f'scheduler.{key}', value, least=0)


def read_time(key: str, value: Any, *, least: float = 1e-12) -> Time:
    """A time string as Composer's Time.

    Raises:
        InputError: It is none, or below `least`.
    """
    if not isinstance(value, str):
        raise InputError(f'`{key}` must be a time string such as 10ep or 1000ba, but got: {value!r}.')
    with as_input_error(f'`{key}` must be a time string such as 10ep or 1000ba'):
        time = Time.from_timestring(value)
    if time.value < least:
        raise InputError(f'`{key}` must be more than nothing, but got: {value!r}.')
    return time


def check_evaluated_rounds(config: TrainConfig, policy: MixturePolicy, seq_len: int) -> None:
    """Refuse an `eval_interval` that passes over the end of a round, where the policy needs losses.

    Raises:
        InputError: It does.
    """
    size, batch = config.train_loader.round_size, config.global_train_batch_size
    if policy.eval_skills and not meets_rounds(config, seq_len):
        raise InputError(
            f'`eval_interval` must meet the end of every round ({size // batch} steps), for the policy {policy.name} '
            f'needs its losses, but got: {config.eval_interval!r}; take 1ep, or as many steps (ba) as divide '
            f'{size // batch}.'
        )


def meets_rounds(config: TrainConfig, seq_len: int) -> bool:
    """Whether an evaluation ends every round."""
    size, batch = config.train_loader.round_size, config.global_train_batch_size
    interval, duration = Time.from_timestring(config.eval_interval), Time.from_timestring(config.max_duration)
    value, unit = interval.value, interval.unit
    if unit == TimeUnit.DURATION:
        # As Composer counts: in steps where the run is in rounds, else in the unit of the run.
        in_rounds = duration.unit == TimeUnit.EPOCH
        unit = TimeUnit.BATCH if in_rounds else duration.unit
        value = math.ceil(value * duration.value * (size // batch if in_rounds else 1))
    if unit == TimeUnit.EPOCH:
        return value == 1
    # What a step and a round are in that unit; an interval below a step is passed in every step.
    sizes = {TimeUnit.BATCH: (1, size // batch), TimeUnit.SAMPLE: (batch, size)}
    sizes[TimeUnit.TOKEN] = (batch * seq_len, size * seq_len)
    if unit not in sizes or value < 1:
        return False
    step, whole = sizes[unit]
    return value <= step or whole % value == 0


def check_stoppers(callbacks: Sequence[Callback], metrics: Mapping[str, Sequence[str]]) -> None:
    """Refuse a stopper that watches what will never be there.

    Args:
        callbacks: Of the run.
        metrics: Names of the metrics, by label of the loader that they are of.

    Raises:
        InputError: Its loader or its metric has another name.
    """
    for callback in callbacks:
        if not isinstance(callback, EarlyStopper | ThresholdStopper):
            continue
        label, monitor = callback.dataloader_label, callback.monitor
        if label not in metrics:
            raise InputError(
                f'A stopper has no `dataloader_label` {label!r} to watch: {nearest(label, metrics)}'
            )
        if monitor not in metrics[label]:
            raise InputError(
                f'A stopper has no `monitor` {monitor!r} of {label} to watch: {nearest(monitor, metrics[label])}'
            )
