"""From the streams that a saved state speaks of to the streams there are now.

A corpus changes while a model trains. State is by skill name, so each stream is carried over for itself:

- *same*: goes on where it was;
- *lengthened* (the shards it had, then new ones): goes on with what its pass has left and the new shards
  (:mod:`~skillit_stream.order.grown_tape`);
- *added*, *changed* in any other way, *reordered* (another curriculum) or *limited* (another part of it may be drawn):
  begins at its beginning;
- *removed*: forgotten.

All of it is a function of the state and the new indexes alone, so an audit repeats it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skillit_stream.mixture.sample_order import SampleOrder
from skillit_stream.order.cursor import Cursors
from skillit_stream.order.grown_tape import GrownTape
from skillit_stream.order.index import ShardList
from skillit_stream.order.paced_tape import make_tape
from skillit_stream.order.tape import Tape

StreamState = Mapping[str, Any]


def describe_stream(shards: ShardList, order: SampleOrder | None = None) -> dict[str, Any]:
    """What identifies a stream and the order of its samples, in plain Python."""
    described = {'samples': shards.samples, 'shards': len(shards.sizes), 'digest': shards.digest()}
    if order:
        described['curriculum'] = order.describe()
    if shards.subset is not None:
        described['subset'] = shards.subset
    return described


def describe_streams(
    streams: Mapping[str, ShardList], orders: Mapping[str, SampleOrder]
) -> dict[str, dict[str, Any]]:
    """Skill -> what identifies its stream and the order of its samples."""
    return {skill: describe_stream(shards, orders.get(skill)) for skill, shards in streams.items()}


def stream_states(
    shards: Mapping[str, ShardList], tapes: Sequence[Tape], cursors: Cursors
) -> dict[str, dict[str, Any]]:
    """The streams and how far their tapes have come, in plain Python by skill name."""
    states = {}
    for row, (skill, tape) in enumerate(zip(shards, tapes, strict=True)):
        number = int(cursors.passes[row])
        grown_at = tape.grown_at(number)
        columns = tape.canonical_nodes * (1 + len(grown_at))
        states[skill] = {
            **describe_stream(shards[skill], tape.order),
            'pass': number,
            'taken': cursors.taken[row, :columns].tolist(),
            'grown_at': list(grown_at),
            'drawn': int(cursors.drawn[row]),
            'owed': float(cursors.owed[row]),
        }
    return states


def find_changes(
    saved: Mapping[str, StreamState],
    present: Mapping[str, ShardList],
    orders: Mapping[str, SampleOrder] | None = None,
) -> dict[str, str]:
    """Skill -> how its stream differs from the saved one, if it does: 'removed', or a change of `carry_over`."""
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
    same_part = saved.get('subset') == shards.subset
    if saved['digest'] == shards.digest():
        return (None if same_part else 'limited') if same_order else 'reordered'
    if order or not same_order or shards.subset is not None or not same_part:
        # The losses of the new samples move all the others' ranks; a part of more samples is another part.
        return 'changed'
    had = int(saved['shards'])
    if had < len(shards.sizes) and saved['digest'] == shards.digest(had):
        return 'lengthened'
    return 'changed'


@dataclass(frozen=True)
class Continuation:
    """How the tape of a stream goes on in the pass that is under way; the default: as one that is new.

    Attributes:
        grown_in: The pass.
        grown_at: Shards that the stream had before it was lengthened in that pass, once for each time.
    """

    grown_in: int = 0
    grown_at: tuple[int, ...] = ()


def carry_over(
    saved: Mapping[str, StreamState],
    present: Mapping[str, ShardList],
    canonical_nodes: int,
    orders: Mapping[str, SampleOrder] | None = None,
) -> tuple[list[Continuation], Cursors]:
    """Where the tapes of the present streams go on.

    Returns:
        ([skills], cursors of [skills]): in the order of `present`.
    """
    continuations, taken = [], []
    cursors = Cursors.at_start(len(present), canonical_nodes)
    for row, (skill, shards) in enumerate(present.items()):
        change = _change(saved.get(skill), shards, (orders or {}).get(skill))
        if change in ('added', 'changed', 'reordered', 'limited'):
            continuations.append(Continuation())
            taken.append([])
            continue
        stream = saved[skill]
        grown_at = tuple(stream['grown_at'])
        if change == 'lengthened' and (grown_at or sum(stream['taken'])):
            grown_at = (*grown_at, int(stream['shards']))
        continuations.append(Continuation(int(stream['pass']), grown_at) if grown_at else Continuation())
        taken.append(stream['taken'])
        cursors.passes[row], cursors.drawn[row] = stream['pass'], stream['drawn']
        cursors.owed[row] = stream['owed']
    parts = 1 + max((len(one.grown_at) for one in continuations), default=0)
    cursors.taken = np.zeros((len(present), parts * canonical_nodes), np.int64)
    for row, own in enumerate(taken):
        cursors.taken[row, : len(own)] = own
    return continuations, cursors


def is_resumable_on(tapes: Sequence[Tape], saved: Mapping[str, StreamState]) -> bool:
    """Whether these tapes, with a cursor set, go on as the state says."""
    return all(
        tape.grown_at(saved[tape.skill]['pass']) == tuple(saved[tape.skill]['grown_at'])
        and (not isinstance(tape, GrownTape) or saved[tape.skill]['pass'] >= tape.grown_in)
        for tape in tapes
    )


def carry_proportions(saved: Mapping[str, float], sizes: Mapping[str, int]) -> NDArray[np.float64]:
    """Proportions for the present streams from those of a state.

    A stream that is new gets its part of all samples; the others divide the rest in the ratio they had.

    Args:
        saved: Skill -> proportion in the state.
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


def make_tapes(
    streams: Mapping[str, ShardList],
    orders: Mapping[str, SampleOrder],
    continuations: Sequence[Continuation] | None,
    **settings: Any,
) -> list[Tape]:
    """One tape a stream.

    Args:
        streams: Skill -> shards.
        orders: Skill -> order of its samples, of those that are not shuffled.
        continuations: How each stream's pass goes on, in the order of `streams`; None: none has grown.
        **settings: Tape's own.
    """
    continuations = continuations or [Continuation()] * len(streams)
    return [
        make_tape(
            skill,
            shards.sizes,
            order=orders.get(skill),
            subset=shards.subset,
            grown_in=continuation.grown_in,
            grown_at=continuation.grown_at,
            **settings,
        )
        for (skill, shards), continuation in zip(streams.items(), continuations, strict=True)
    ]
