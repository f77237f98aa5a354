"""Checks of what comes into the loader: arguments, indexes, proportions and saved states."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming import Stream
from streaming.base.format import get_index_basename

from skillit_stream.errors import InputError
from skillit_stream.mixture.apportion import checked_proportions

ON_EXHAUSTED = ('repeat', 'error')
STATE_KEYS = (
    'epoch',
    'sample_in_epoch',
    'proportions',
    'next_proportions',
    'streams',
    'round_size',
    'global_batch_size',
    'batching',
    'shuffle_seed',
    'shuffle_block_size',
    'num_canonical_nodes',
)
# StreamingDataset's parameters that choose an order; here the tapes and the plan do.
REPLACED = {
    'epoch_size': 'pass `round_size`',
    'batching_method': 'pass `batching`',
    'sampling_method': 'every pass draws each sample once',
    'sampling_granularity': 'every pass draws each sample once',
    'shuffle_algo': 'tapes shuffle shards and blocks; see `shuffle_block_size`',
    'partition_algo': 'global batches are cut into ranks in order',
    'remote': 'give every Stream its own',
    'local': 'give every Stream its own',
}


def check_arguments(
    streams: Mapping[str, Stream], round_size: int, on_exhausted: str, options: Mapping[str, Any]
) -> None:
    """Refuse what a SkillStreamingDataset cannot be built from; raises InputError."""
    if not streams:
        raise InputError('`streams` must name at least one skill, but got: none.')
    if on_exhausted not in ON_EXHAUSTED:
        raise InputError(
            f'`on_exhausted` must be one of {", ".join(ON_EXHAUSTED)}, but got: {on_exhausted!r}.'
        )
    for name in REPLACED.keys() & options.keys():
        raise InputError(f'`{name}` has no meaning for a SkillStreamingDataset: {REPLACED[name]}.')
    _check_positive('round_size', round_size)
    _check_positive('batch_size', options.get('batch_size'))
    for name in ('num_canonical_nodes', 'shuffle_block_size'):
        if options.get(name) is not None:
            _check_positive(name, options[name])
    for skill, stream in streams.items():
        if any(hasattr(stream, name) for name in ('proportion', 'repeat', 'choose')):
            raise InputError(
                f'Stream {skill} must not carry a proportion, repeat or choose of its own (a Stream that was '
                f'used before does: make a new one); pass `proportions`.'
            )


@contextmanager
def naming_bad_index(streams: Mapping[str, Stream], split: str | None = None) -> Iterator[None]:
    """While a StreamingDataset of these streams is built, say which stream's index is missing or bad."""
    paths = {
        skill: Path(stream.local, stream.split or split or '', get_index_basename())
        for skill, stream in streams.items()
    }
    for skill, path in paths.items():
        if not streams[skill].remote and not path.is_file():
            raise InputError(f'Stream {skill} has no index at {path}: convert it, or correct its path.')
    try:
        yield
    except RuntimeError as error:
        for skill, path in paths.items():
            if str(path) in str(error) and 'no samples' in str(error):
                raise InputError(f'Stream {skill} has no samples ({path}): leave it out.') from error
        raise
    except (ValueError, KeyError) as error:
        for skill, path in paths.items():
            if not _is_index(path):
                raise InputError(f'Stream {skill} has a broken index at {path}: convert it again.') from error
        raise


def _is_index(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text(encoding='utf-8'))['shards'], list)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f'`{name}` must be a positive whole number, but got: {value!r}.')


def named_shares(proportions: Mapping[str, float], skills: Sequence[str]) -> NDArray[np.float64]:
    """Proportions by name as float64 [skills], in the order of `skills`.

    Raises:
        InputError: A skill is missing or unknown, or the shares are not shares that sum to 1.
    """
    missing = [skill for skill in skills if skill not in proportions]
    unknown = [name for name in proportions if name not in skills]
    if missing or unknown:
        problem = f'no share for {missing[0]!r}' if missing else f'a share for unknown skill {unknown[0]!r}'
        raise InputError(
            f'`proportions` must name every skill once ({_shortened(skills)}), but has {problem}.'
        )
    try:
        shares = [float(proportions[skill]) for skill in skills]
    except (TypeError, ValueError) as error:
        raise InputError(f'`proportions` must be numbers by skill, but got: {dict(proportions)}.') from error
    return checked_proportions(shares)


def check_state(state: Mapping[str, Any], present: Mapping[str, Any], version: int) -> None:
    """Refuse a dataset state that does not fit the present dataset.

    Args:
        state: As saved by ``SkillStreamingDataset.state_dict``.
        present: What ``SkillStreamingDataset.describe`` says of it.
        version: The version that can be read.
    """
    missing = [name for name in STATE_KEYS if name not in state]
    if state.get('version') == version and missing:
        raise InputError(f'The dataset state must hold {missing[0]!r}, but holds: {", ".join(state)}.')
    if state.get('version') != version:
        raise InputError(
            f'The dataset state must be of version {version}, but got: {state.get("version")}; it may come from '
            f'another kind of dataset.'
        )
    for skill in state['streams'].keys() | present['streams'].keys():
        before, now = (
            streams.get(skill, {}).get('samples') for streams in (state['streams'], present['streams'])
        )
        if before != now:
            raise InputError(
                f'The streams must be those of the saved state, but {skill} had '
                f'{before or "no"} samples and has {now or "none"} now: resume with the same streams folder.'
            )
    in_the_middle = state['sample_in_epoch'] > 0
    for name in ('round_size', 'global_batch_size', 'batching'):
        if in_the_middle and state[name] != present[name]:
            raise InputError(
                f'`{name}` must stay {state[name]} until the round that was interrupted at sample '
                f'{state["sample_in_epoch"]} is over, but got: {present[name]}.'
            )


def _shortened(names: Sequence[str], most: int = 8) -> str:
    shown = ', '.join(names[:most])
    return shown if len(names) <= most else f'{shown}, ... {len(names) - most} more'
