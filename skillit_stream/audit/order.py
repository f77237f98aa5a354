"""The section `order` of a line of mixture.jsonl, checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skillit_stream.base.errors import InputError
from skillit_stream.order.plan import RoundShape

# A run takes these from its checkpoint: they are what they were in its first round.
_FOR_GOOD = ('num_canonical_nodes', 'shuffle', 'shuffle_seed', 'shuffle_block_size')


@dataclass(frozen=True, kw_only=True)
class RecordedStream:
    """What identifies a stream of the run."""

    samples: int
    shards: int
    digest: str
    curriculum: Mapping[str, Any] | None = None
    """The order of its samples, as ``SampleOrder.describe`` has it; None: shuffled."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the order of samples depends on besides the proportions."""

    shape: RoundShape
    block_size: int
    shuffle: bool
    streams: dict[str, RecordedStream]
    """By skill, in the order of the run: sample ids count through them."""


def parse_order(order: Mapping[str, Any], *, where: str, before: Mapping[str, Any] | None) -> Order:
    """Check what a line says.

    Args:
        order: As ``SkillStreamingDataset.describe`` has it.
        where: ``file:line``, for error messages.
        before: The order that it replaces; None: it is the run's first.

    Raises:
        InputError: Something is missing, wrong, or changed that cannot change in a run.
    """
    reader = _Reader(order, where)
    for key in _FOR_GOOD if before else ():
        if reader.fact(key) != (before or {}).get(key):
            raise InputError(
                f'{where} says `order.{key}` is {order[key]}, but the lines before it say {(before or {}).get(key)}, '
                f'and it cannot change in a run: these are the lines of two runs.'
            )
    try:
        shape = RoundShape(
            reader.positive('round_size'),
            reader.positive('global_batch_size'),
            reader.positive('num_canonical_nodes'),
            str(reader.fact('batching')),
            reader.whole('shuffle_seed'),
        )
    except InputError as error:
        raise InputError(str(error) if where in str(error) else f'{where}: {error}') from None
    return Order(
        shape=shape,
        block_size=reader.positive('shuffle_block_size'),
        shuffle=reader.flag('shuffle'),
        streams=_streams(reader),
    )


def _streams(reader: '_Reader') -> dict[str, RecordedStream]:
    streams = reader.fact('streams')
    if (
        not isinstance(streams, dict)
        or not streams
        or not all(isinstance(one, dict) for one in streams.values())
    ):
        raise InputError(
            f'{reader.where}: `order.streams` must map skills to their samples, but got: {streams!r}; restore the '
            f'file.'
        )
    flat = {f'streams.{skill}.{key}': value for skill, one in streams.items() for key, value in one.items()}
    own = _Reader(flat, reader.where)
    return {
        skill: RecordedStream(
            samples=own.positive(f'streams.{skill}.samples'),
            shards=own.positive(f'streams.{skill}.shards'),
            digest=str(own.fact(f'streams.{skill}.digest')),
            curriculum=_curriculum(streams[skill], skill, reader.where),
        )
        for skill in streams
    }


def _curriculum(stream: Mapping[str, Any], skill: str, where: str) -> Mapping[str, Any] | None:
    curriculum = stream.get('curriculum')
    if curriculum is None:
        return None
    missing = {'losses', 'digest', 'hardest_first', 'begins', 'keys'} - set(curriculum)
    if missing:
        raise InputError(
            f'{where}: `order.streams.{skill}.curriculum` does not say {min(missing)!r}: restore the file.'
        )
    return curriculum


class _Reader:
    """Takes values out of an `order`; an error names file, line and key."""

    def __init__(self, facts: Mapping[str, Any], where: str) -> None:
        self._facts = facts
        self.where = where

    def fact(self, key: str) -> Any:
        if key not in self._facts:
            raise InputError(
                f'{self.where} does not say `order.{key}`, which the order of samples depends on: restore the file.'
            )
        return self._facts[key]

    def whole(self, key: str) -> int:
        value = self.fact(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, 'a whole number', value)
        return value

    def positive(self, key: str) -> int:
        value = self.whole(key)
        if value < 1:
            raise self._wrong(key, 'positive', value)
        return value

    def flag(self, key: str) -> bool:
        value = self.fact(key)
        if not isinstance(value, bool):
            raise self._wrong(key, 'true or false', value)
        return value

    def _wrong(self, key: str, what: str, value: Any) -> InputError:
        return InputError(
            f'{self.where}: `order.{key}` must be {what}, but got: {value!r}; restore the file.'
        )
