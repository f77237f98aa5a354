"""What crosses from the loader to the model: a whole batch at a time, in the shards' own small types.

``DataLoader(dataset, batch_size=N)`` draws N samples and collates them. Here a batch has been gathered as
a whole before its first sample is drawn; each sample is a view of one row that remembers the batch, and
:func:`collate` hands the batch on as it is. torch's ``default_collate`` finds the batch too, by its registry of
types, and copies it as a whole; transformers' collators do in :mod:`~skillit_stream.loader.padding`.

From a worker process a batch travels as one string of bytes. Tensors would each travel as a file of shared
memory whose descriptor is passed over a socket: several times slower at these sizes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import default_collate, default_convert, get_worker_info
from torch.utils.data._utils.collate import collate as collate_by_map
from torch.utils.data._utils.collate import default_collate_fn_map

from skillit_stream.loader.shards import Gathered, columns_of

IGNORE_INDEX = -100
Entries = TypeVar('Entries', bound='type[dict]')


def _forgets_when_changed(cls: Entries) -> Entries:
    """Let a dict that stands for a gathered batch forget it when an entry is replaced."""

    def forgetting(name: str) -> Any:
        method = getattr(dict, name)

        @wraps(method)
        def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
            self.batch = None
            return method(self, *args, **kwargs)

        return changed

    for name in ('__setitem__', '__delitem__', '__ior__', 'clear', 'pop', 'popitem', 'setdefault', 'update'):
        setattr(cls, name, forgetting(name))
    return cls


@_forgets_when_changed
class Sample(dict):
    """One sample: a view of a row of a gathered batch; pickles and copies as a plain dict.

    A sample whose entries are replaced is a dict like any other: it is collated by itself.
    """

    __slots__ = ('batch', 'row')

    def __init__(self, batch: Gathered, row: int) -> None:
        super().__init__((name, column[row]) for name, column in batch.items())
        self.batch: Gathered | None = batch
        self.row = row

    def __reduce__(self) -> tuple:
        return dict, (dict(self),)

    __copy__ = dict.copy


@_forgets_when_changed
class WorkerBatch(dict):
    """A batch of tensors in a worker process: arrives in the main process as a plain dict of tensors."""

    __slots__ = ('batch',)

    def __init__(self, batch: Gathered) -> None:
        super().__init__(_tensors(batch))
        self.batch: Gathered | None = batch

    def __reduce__(self) -> tuple:
        if self.batch is None:
            return dict, (dict(self),)
        return _arrived, (self.batch.buffer.tobytes(), self.batch.layout)


def _arrived(data: bytes, layout: list) -> dict[str, torch.Tensor]:
    # Copied once, for bytes cannot be written to and a batch can.
    return _tensors(columns_of(np.frombuffer(data, np.uint8).copy(), layout))


def _tensors(columns: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def samples_of(batch: Gathered) -> Iterator[Sample]:
    """The samples of a gathered batch, in order."""
    for row in range(len(next(iter(batch.values())))):
        yield Sample(batch, row)


def collate(samples: Sequence[Any]) -> dict[str, torch.Tensor]:
    """Collate samples into one batch of tensors, without a copy when they are one gathered batch.

    Args:
        samples: Samples of a :class:`SkillStreamingDataset`, mappings of arrays, or whatever a subclass of it makes
            of them; or one of them alone.

    Returns:
        For every column a tensor [batch, ...] of the column's own type (tokens: uint16); of one sample [...].
    """
    if isinstance(samples, Mapping):
        # A DataLoader without a batch size hands on sample by sample.
        one: Any = default_convert(dict(samples))
        return one
    batch = find_batch(samples)
    if batch is None:
        return default_collate([dict(one) if isinstance(one, Mapping) else one for one in samples])
    return _as_tensors(batch)


def find_batch(samples: Sequence[Any]) -> Gathered | None:
    """The gathered batch whose rows these samples are, all of them, in order and unchanged; None if there is none."""
    batch = getattr(samples[0], 'batch', None)
    if batch is None or len(samples) != len(next(iter(batch.values()))):
        return None
    is_whole_batch = all(
        getattr(sample, 'batch', None) is batch and sample.row == row for row, sample in enumerate(samples)
    )
    return batch if is_whole_batch else None


def _as_tensors(batch: Gathered) -> dict[str, torch.Tensor]:
    return _tensors(batch) if get_worker_info() is None else WorkerBatch(batch)


def _collate_as_torch_does(
    samples: Sequence[Any], *, collate_fn_map: Mapping[Any, Callable[..., Any]]
) -> Any:
    """What ``default_collate`` makes of samples as plain dicts: tensors that share no memory with them."""
    batch = find_batch(samples)
    if batch is None or not _leaves_to_torch(collate_fn_map, batch):
        return collate_by_map([dict(samples[0]), *samples[1:]], collate_fn_map=dict(collate_fn_map))
    copied = Gathered({name: (column.dtype, column.shape) for name, column in batch.items()})
    copied.buffer[:] = batch.buffer
    return _as_tensors(copied)


def _leaves_to_torch(collate_fn_map: Mapping[Any, Callable[..., Any]], batch: Gathered) -> bool:
    """Whether nobody else has registered how dicts, arrays or numbers of these types are collated."""
    parts = (dict, np.ndarray, torch.Tensor, *(column.dtype.type for column in batch.values()))
    return all(
        function.__module__ in (collate_by_map.__module__, __name__)
        or not any(issubclass(part, kind) for part in parts)
        for kind, function in collate_fn_map.items()
    )


default_collate_fn_map[Sample] = _collate_as_torch_does


def causal_lm_inputs(batch: Mapping[str, Any], *, document_end: int | None = None) -> dict[str, Any]:
    """Widen a batch of token streams into what a causal language model takes.

    Meant to run where the batch is used: as Composer's ``DataSpec(microbatch_transforms=causal_lm_inputs)``
    it widens on the device, so that two bytes a token cross process and bus.

    Args:
        batch: ``tokens`` [batch, sequence] and, where the streams have one, ``loss_mask`` [batch,
            sequence], 1 where a token counts as a target. Other entries are passed on.
        document_end: The token that ends a document, for documents of a sample that must not see each other; None: a
            token sees all tokens of its sample before it.

    Returns:
        ``input_ids`` and ``labels`` int64 [batch, sequence] (labels -100 where the mask is 0; the model
        shifts them), ``attention_mask``, true everywhere (:func:`is_whole`), and the other entries. With a
        `document_end`, in place of the mask, ``position_ids`` int64 [batch, sequence] that begin again with every
        document, by which transformers tells documents apart; the first token of a document is no target.
    """
    tokens = batch['tokens'].to(torch.int64)
    # Not the same tensor as the inputs: Composer shifts labels in place when it evaluates.
    labels = tokens.clone()
    if 'loss_mask' in batch:
        labels.masked_fill_(batch['loss_mask'] == 0, IGNORE_INDEX)
    rest = {name: value for name, value in batch.items() if name not in ('tokens', 'loss_mask')}
    if document_end is not None:
        is_first = _document_starts(tokens, document_end)
        labels.masked_fill_(is_first, IGNORE_INDEX)
        return {'input_ids': tokens, 'labels': labels, 'position_ids': _positions(is_first), **rest}
    # Without a mask transformers looks for packed sequences and builds one that rules out fast attention.
    # A single element, seen from everywhere: that nothing is padding can be told without reading it off a GPU.
    mask = torch.ones((), dtype=torch.bool, device=tokens.device).expand(tokens.shape)
    return {'input_ids': tokens, 'labels': labels, 'attention_mask': mask, **rest}


def _document_starts(tokens: torch.Tensor, document_end: int) -> torch.Tensor:
    """Where a document begins behind another one, bool [batch, sequence]."""
    return functional.pad(tokens[:, :-1] == document_end, (1, 0))


def _positions(is_first: torch.Tensor) -> torch.Tensor:
    """The place of each token in its document, int64 [batch, sequence]."""
    places = torch.arange(is_first.shape[1], device=is_first.device).expand(is_first.shape)
    return places - torch.where(is_first, places, 0).cummax(dim=1).values


def count_targets(batch: Mapping[str, torch.Tensor], document_end: int | None = None) -> int:
    """Target tokens of a batch as :func:`causal_lm_inputs` takes it; a sample's first token never is one."""
    tokens = batch['tokens']
    if document_end is None and 'loss_mask' not in batch:
        return tokens.numel() - len(tokens)
    is_target = batch['loss_mask'] != 0 if 'loss_mask' in batch else torch.ones_like(tokens, dtype=torch.bool)
    if document_end is not None:
        is_target = is_target & ~_document_starts(tokens.to(torch.int64), document_end)
    return int(is_target[:, 1:].sum())


def is_whole(attention_mask: torch.Tensor) -> bool:
    """Whether a mask is one of :func:`causal_lm_inputs`, true everywhere; told by its strides alone."""
    return attention_mask.dtype == torch.bool and not any(attention_mask.stride())
