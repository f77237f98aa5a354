"""From the streams that a saved state speaks of to the streams there are now.

A corpus changes while a model trains. State is by skill name, so each stream is carried over for itself:

- *same*: goes on where it was;
- *lengthened* (the shards it had, then new ones): goes on with what its pass has left and the new shards,
  shuffled together (:mod:`~skillit_stream.order.tape`);
- *added*, *changed* in any other way, or *reordered* (another curriculum): begins at its beginning;
- *removed*: forgotten.

All of it is a function of the state and the new indexes alone, so an audit repeats it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.mixture.sample_order import SampleOrder
from skillit_stream.order.cursor import Cursors
from skillit_stream.order.index import ShardList
from skillit_stream.order.tape import Growth, Tape, TapeStart

StreamState = Mapping[str, Any]


def describe_stream(shards: ShardList, order: SampleOrder | None = None) -> dict[str, Any]:
    """What identifies a stream and the order of its samples, in plain Python."""
    curriculum = {'curriculum': order.describe()} if order else {}
    return {'samples': shards.samples, 'shards': len(shards.sizes), 'digest': shards.digest(), **curriculum}


def stream_states(
    shards: Mapping[str, ShardList], tapes: Sequence[Tape], cursors: Cursors
) -> dict[str, dict[str, Any]]:
    """The streams and how far their tapes have come, in plain Python by skill name."""
    states = {}
    for row, (skill, tape) in enumerate(zip(shards, tapes, strict=True)):
        number, taken = int(cursors.passes[row]), cursors.taken[row].tolist()
        states[skill] = {
            **describe_stream(shards[skill], tape.order),
            'pass': number,
            'taken': taken,
            'drawn': tape.drawn(number, sum(taken)),
            'growths': [{'shards': one.shards, 'taken': list(one.taken)} for one in tape.growths_in(number)],
        }
    return states


def find_changes(
    saved: Mapping[str, StreamState],
    present: Mapping[str, ShardList],
    orders: Mapping[str, SampleOrder] | None = None,
) -> dict[str, str]:
    """Skill -> 'removed', 'added', 'lengthened', 'changed' or 'reordered', for streams that are not as saved."""
    changes = {skill: 'removed' for skill in saved if skill not in present}
    for skill, shards in present.items():
        change = _change(saved.get(skill), shards, (orders or {}).get(skill))
        if change:
            changes[skill] = change
    return changes


def _change(saved: StreamState | None, shards: ShardList, order: SampleOrder | None) -> str | None:
    if saved is None:
        return 'added'
    same_order = saved.get('curriculum') == (order.describe() if order else None)
    if saved['digest'] == shards.digest():
        return None if same_order else 'reordered'
    if order or not same_order:
        # The losses of the new samples move all the others' ranks.
        return 'changed'
    had = int(saved['shards'])
    if had < len(shards.sizes) and saved['digest'] == shards.digest(had):
        return 'lengthened'
    return 'changed'


def carry_over(
    saved: Mapping[str, StreamState],
    present: Mapping[str, ShardList],
    canonical_nodes: int,
    orders: Mapping[str, SampleOrder] | None = None,
) -> tuple[list[TapeStart], Cursors]:
    """Where the tapes of the present streams go on.

    Returns:
        ([skills], cursors of [skills]): in the order of `present`.
    """
    cursors = Cursors.at_start(len(present), canonical_nodes)
    starts = []
    for row, (skill, shards) in enumerate(present.items()):
        order = (orders or {}).get(skill)
        change = _change(saved.get(skill), shards, order)
        if change in ('added', 'changed', 'reordered'):
            starts.append(TapeStart())
            continue
        cursors.passes[row] = saved[skill]['pass']
        if change == 'lengthened':
            starts.append(_lengthened(saved[skill]))
        else:
            # A paced tape never grows, so it always starts as a new one.
            starts.append(TapeStart() if order else _as_it_was(saved[skill]))
            cursors.taken[row] = saved[skill]['taken']
    return starts, cursors


def _as_it_was(saved: StreamState) -> TapeStart:
    before = saved['drawn'] - sum(saved['taken'])
    if not saved['growths'] and before == saved['pass'] * saved['samples']:
        return TapeStart()
    return TapeStart(saved['pass'], before, _growths(saved))


def _lengthened(saved: StreamState) -> TapeStart:
    growths = _growths(saved)
    if growths or sum(saved['taken']):
        growths = (*growths, Growth(saved['shards'], tuple(saved['taken'])))
    return TapeStart(saved['pass'], saved['drawn'], growths)


def _growths(saved: StreamState) -> tuple[Growth, ...]:
    return tuple(Growth(one['shards'], tuple(one['taken'])) for one in saved['growths'])


def are_on(tapes: Sequence[Tape], saved: Mapping[str, StreamState]) -> bool:
    """Whether these tapes, with a cursor set, go on as the state says."""
    return all(
        tape.drawn(saved[tape.skill]['pass'], sum(saved[tape.skill]['taken'])) == saved[tape.skill]['drawn']
        and tape.growths_in(saved[tape.skill]['pass']) == _growths(saved[tape.skill])
        for tape in tapes
    )


def carry_shares(saved: Mapping[str, float], sizes: Mapping[str, int]) -> NDArray[np.float64]:
    """Proportions for the present streams from those of a state.

    A stream that is new gets its share of all samples; the others share the rest in the ratio they had.

    Args:
        saved: Skill -> share in the state.
        sizes: Skill -> samples now.

    Returns:
        float64 [skills], in the order of `sizes`.
    """
    by_size = np.array(list(sizes.values()), np.float64) / sum(sizes.values())
    kept = np.array([saved.get(skill, 0.0) for skill in sizes])
    is_new = np.array([skill not in saved for skill in sizes])
    if not kept.sum():
        return by_size
    if not is_new.any() and len(saved) == len(sizes):
        return kept
    return np.where(is_new, by_size, kept * (1 - by_size[is_new].sum()) / kept.sum())
