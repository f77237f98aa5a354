"""Checks of what comes into the loader: arguments, indexes, proportions and saved states."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from streaming import Stream

from skillit_stream.base.errors import InputError
from skillit_stream.mixture.apportion import checked_proportions
from skillit_stream.mixture.sample_order import SampleOrder
from skillit_stream.order.index import ShardList
from skillit_stream.order.subset_tape import subset_size

ON_EXHAUSTED = ('repeat', 'error')
ON_CHANGED = ('error', 'allow')
STATE_KEYS = (
    'epoch',
    'sample_in_epoch',
    'proportions',
    'next_proportions',
    'streams',
    'round_size',
    'global_batch_size',
    'batching',
    'shuffle',
    'shuffle_seed',
    'shuffle_block_size',
    'num_canonical_nodes',
)
WITHIN_EPOCH = 'within_epoch'
"""Of a state of the end of a round: what differs for Composer, which is still in the epoch that was this round."""
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
    streams: Mapping[str, Stream],
    round_size: int,
    on_exhausted: str,
    on_changed: str,
    options: Mapping[str, Any],
) -> None:
    """Refuse what a SkillStreamingDataset cannot be built from; raises InputError."""
    if not streams:
        raise InputError('`streams` must name at least one skill, but got: none.')
    for name, value, known in (
        ('on_exhausted', on_exhausted, ON_EXHAUSTED),
        ('on_changed', on_changed, ON_CHANGED),
    ):
        if value not in known:
            raise InputError(f'`{name}` must be one of {", ".join(known)}, but got: {value!r}.')
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


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f'`{name}` must be a positive whole number, but got: {value!r}.')


def proportions_by_skill(proportions: Mapping[str, float], skills: Sequence[str]) -> NDArray[np.float64]:
    """Proportions by name as float64 [skills], in the order of `skills`.

    Raises:
        InputError: A skill is missing or unknown, or the values are not proportions that sum to 1.
    """
    missing = [skill for skill in skills if skill not in proportions]
    unknown = [name for name in proportions if name not in skills]
    if missing or unknown:
        problem = f'none for {missing[0]!r}' if missing else f'one for unknown skill {unknown[0]!r}'
        raise InputError(
            f'`proportions` must name every skill once ({_shortened(skills)}), but has {problem}.'
        )
    try:
        values = [float(proportions[skill]) for skill in skills]
    except (TypeError, ValueError) as error:
        raise InputError(f'`proportions` must be numbers by skill, but got: {dict(proportions)}.') from error
    return checked_proportions(values)


def limited(shards: Mapping[str, ShardList], fraction: float) -> dict[str, ShardList]:
    """Streams of which a fraction of the samples may be drawn.

    Raises:
        InputError: The fraction is not above 0 and at most 1.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise InputError(f'`stream_fraction` must be above 0 and at most 1, but got: {fraction!r}.')
    if fraction == 1:
        return dict(shards)
    return {skill: replace(one, subset=subset_size(one.samples, fraction)) for skill, one in shards.items()}


def check_orders(
    orders: Mapping[str, SampleOrder], shards: Mapping[str, ShardList], on_exhausted: str
) -> None:
    """Refuse orders that are not of these streams; raises InputError."""
    unknown = [skill for skill in orders if skill not in shards]
    if unknown:
        raise InputError(
            f'`sample_orders` names skill {unknown[0]!r}, but the streams are: {_shortened(list(shards))}.'
        )
    if orders and on_exhausted == 'error':
        raise InputError(
            "`sample_orders` draws the first samples of an order again and again: pass on_exhausted='repeat'."
        )
    for skill, order in orders.items():
        if shards[skill].subset is not None:
            raise InputError(
                f'Skill {skill} has an order of its samples and is limited to a part of them (`stream_fraction`, '
                f'`match_passes`): a curriculum over samples goes through all of a stream; leave one of them out.'
            )
        order.ranked.check_stream(skill, shards[skill].digest())


def upgrade_state(state: Mapping[str, Any], version: int) -> dict[str, Any]:
    """A state as the present version has it.

    Args:
        state: As saved by ``SkillStreamingDataset.state_dict`` of this version, of the one before, where the end of a
            round may be the whole of it, or of version 2, which counted every round for itself: nothing is owed.
        version: The present version.

    Raises:
        InputError: It is of another version, something is missing, or a stream had been lengthened in its pass,
            which version 2 went on with in another order.
    """
    found = state.get('version')
    if found not in (2, 3, version):
        raise InputError(
            f'The dataset state must be of version {version}, but got: {found}; it may come from another kind of '
            f'dataset.'
        )
    missing = [name for name in STATE_KEYS if name not in state]
    if missing:
        raise InputError(f'The dataset state must hold {missing[0]!r}, but holds: {", ".join(state)}.')
    if found != 2:
        return {**state, 'version': version}
    streams = {}
    for skill, stream in state['streams'].items():
        if stream['growths']:
            raise InputError(
                f'The dataset state is of version {found}, and {skill} had been lengthened in the pass that was under '
                f'way: train to the end of that pass with the release that saved it.'
            )
        rest = {key: value for key, value in stream.items() if key != 'growths'}
        streams[skill] = {**rest, 'grown_at': [], 'owed': 0.0}
    return {**state, 'version': version, 'streams': streams}


def check_state(
    state: Mapping[str, Any], present: Mapping[str, Any], changes: Mapping[str, str], on_changed: str
) -> None:
    """Refuse a dataset state that does not fit the present dataset.

    Args:
        state: As saved by ``SkillStreamingDataset.state_dict``.
        present: What ``SkillStreamingDataset.describe`` gives of it.
        changes: Skill -> how its stream differs from the one in the state.
        on_changed: Whether such changes are an 'error' or to 'allow'.
    """
    if changes and on_changed == 'error':
        raise InputError(
            f'The streams must be those of the saved state, but {_format_changes(changes, state, present)}: resume '
            f"with the same streams folder, or pass on_changed='allow' to go on with the streams as they are now."
        )
    if state['shuffle'] != present['shuffle']:
        raise InputError(
            f'`shuffle` must stay {state["shuffle"]}, as in the saved state, but got: {present["shuffle"]}.'
        )
    in_the_middle = state['sample_in_epoch'] > 0
    if changes and in_the_middle:
        raise InputError(
            f'Streams can change between rounds, but round {state["epoch"]} was interrupted at sample '
            f'{state["sample_in_epoch"]} and {_format_changes(changes, state, present)}: resume from a '
            f'checkpoint of the end of a round, or finish the round with the old streams.'
        )
    for name in ('round_size', 'global_batch_size', 'batching'):
        if in_the_middle and state[name] != present[name]:
            raise InputError(
                f'`{name}` must stay {state[name]} until the round that was interrupted at sample '
                f'{state["sample_in_epoch"]} is over, but got: {present[name]}: finish that round first.'
            )


def _format_changes(changes: Mapping[str, str], state: Mapping[str, Any], present: Mapping[str, Any]) -> str:
    """The changes in words."""

    def samples(of: Mapping[str, Any], skill: str) -> str:
        return f'{of["streams"][skill]["samples"]} samples'

    def part(of: Mapping[str, Any], skill: str) -> str:
        subset = of['streams'][skill].get('subset')
        return f'{subset if subset is not None else "all"} of its {samples(of, skill)}'

    parts = []
    renamed = _new_names(changes, state, present)
    for skill, change in changes.items():
        if skill in renamed:
            parts.append(f'{skill} is called {renamed[skill]} now')
        elif skill in renamed.values():
            continue
        elif change == 'added':
            parts.append(f'{skill} ({samples(present, skill)}) was not among them')
        elif change == 'removed':
            parts.append(f'{skill} ({samples(state, skill)}) is missing')
        elif change == 'lengthened':
            parts.append(f'{skill} has grown from {samples(state, skill)} to {samples(present, skill)}')
        elif change == 'reordered':
            parts.append(
                f'{skill} was drawn in another order (by the losses of its samples: name, pacing and length of the '
                f'run must stay)'
            )
        elif change == 'limited':
            parts.append(
                f'{skill} was drawn from {part(state, skill)}, and now from {part(present, skill)} (`match_passes` or '
                f'`stream_fraction`, and the length of the run must stay)'
            )
        else:
            parts.append(f'{skill} has other shards than its {samples(state, skill)} had')
    return _shortened(parts, most=3)


def _new_names(
    changes: Mapping[str, str], state: Mapping[str, Any], present: Mapping[str, Any]
) -> dict[str, str]:
    """Missing stream -> the new one that has its shards."""
    added = {present['streams'][one]['digest']: one for one, change in changes.items() if change == 'added'}
    digests = {one: state['streams'][one]['digest'] for one, change in changes.items() if change == 'removed'}
    return {one: added[digest] for one, digest in digests.items() if digest in added}


def _shortened(names: Sequence[str], most: int = 8) -> str:
    shown = ', '.join(names[:most])
    return shown if len(names) <= most else f'{shown}, ... {len(names) - most} more'
