"""transformers' collators take a gathered batch as a whole.

``DataCollatorForLanguageModeling`` and its like call ``tokenizer.pad`` with the samples. It makes a Python integer of
every token and a tensor of those, to find that nothing is to be padded: samples of one batch have one length. As soon
as this module is imported, as every dataset does, ``pad`` converts the columns of such a batch at once. What comes out
is the same; all other calls, and tokenizers with a padding of their own, are left alone.

The streams that ``skillit convert`` writes name their column ``tokens``: of samples ``pad`` takes it for what the
tokenizer calls its main input, ``input_ids``.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info
from transformers.tokenization_utils_base import BatchEncoding, PreTrainedTokenizerBase

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import Sample, find_batch

Pad = Callable[..., BatchEncoding]


class WorkerEncoding(BatchEncoding):
    """A batch of tensors in a worker process: arrives in the main process as transformers' own, and equal.

    On the way an int64 is as wide as its values are: eight bytes for a token, its label and its mask each would take
    longer to travel than all else takes.
    """

    def __reduce__(self) -> tuple:
        return _arrived, ({name: _narrowed(value) for name, value in self.items()},)


def _narrowed(value: Any) -> Any:
    """A tensor as an array of the narrowest type that holds its values, or of one value, and its shape; or itself."""
    if (
        not isinstance(value, torch.Tensor)
        or value.dtype != torch.int64
        or value.is_cuda
        or not value.numel()
    ):
        return value
    numbers = value.numpy()
    low, high = int(numbers.min()), int(numbers.max())
    if low == high:
        return np.asarray(low), numbers.shape
    # Of signed numbers both ends as negative ones: NumPy gives a positive number an unsigned type.
    ends = (low, high) if low >= 0 else (low, -1 - max(0, high))
    kind = np.result_type(*map(np.min_scalar_type, ends))
    return numbers.astype(kind), numbers.shape


def _arrived(columns: Mapping[str, Any]) -> BatchEncoding:
    return BatchEncoding(
        {
            name: torch.from_numpy(np.broadcast_to(value[0], value[1]).astype(np.int64))
            if isinstance(value, tuple)
            else value
            for name, value in columns.items()
        }
    )


_MASK = 'attention_mask'
# Options of `pad` that say no more than: pad to the longest, to such a multiple, and make tensors.
_KNOWN_OPTIONS = {'padding', 'max_length', 'pad_to_multiple_of', 'return_tensors'}


def _pads_batches_whole(pad: Pad) -> Pad:
    """The method `pad` of tokenizers, quicker where it is given a gathered batch."""

    @wraps(pad)
    def padded(
        self: PreTrainedTokenizerBase, encoded_inputs: Any, *args: Any, **options: Any
    ) -> BatchEncoding:
        if (
            not isinstance(encoded_inputs, list)
            or not encoded_inputs
            or not isinstance(encoded_inputs[0], Sample)
        ):
            return pad(self, encoded_inputs, *args, **options)
        batch = find_batch(encoded_inputs)
        if batch is not None and not args:
            found = _pad_whole(pad, self, _with_main_input(self, batch), options)
            if found is not None:
                return found
        return pad(self, [_with_main_input(self, sample) for sample in encoded_inputs], *args, **options)

    return padded


def _with_main_input(tokenizer: PreTrainedTokenizerBase, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns under the names that the tokenizer knows: ``tokens`` is its main input if it has no other."""
    main = tokenizer.model_input_names[0]
    if main in columns or 'tokens' not in columns:
        return dict(columns)
    if 'loss_mask' in columns:
        raise InputError(
            "The streams have a `loss_mask`, which transformers' collators would not apply: collate with "
            '`causal_lm_inputs(collate(samples))` of skillit_stream.'
        )
    return {main if name == 'tokens' else name: column for name, column in columns.items()}


def _pad_whole(
    pad: Pad, tokenizer: PreTrainedTokenizerBase, columns: Mapping[str, NDArray], options: Mapping[str, Any]
) -> BatchEncoding | None:
    """The batch as `pad` returns it for its samples; None if it has to see them one by one.

    Args:
        pad: The method.
        tokenizer: What it is a method of.
        columns: Name -> array [batch, ...].
        options: Its arguments.
    """
    main = columns.get(tokenizer.model_input_names[0])
    if main is None or not _is_numeric(columns) or not _is_left_unpadded(tokenizer, main, options):
        return None
    # One sample of one token shows which entries there are to be, of which types, or raises what there is to raise.
    first = {name: column[0, :1] if column.ndim == 2 else column[0] for name, column in columns.items()}
    example = pad(tokenizer, [first], **{**options, 'pad_to_multiple_of': None})
    if not example.keys() <= {*columns, _MASK}:
        return None
    padded = {
        name: torch.from_numpy(columns[name]).to(tensor.dtype, copy=True)
        if name in columns
        else torch.ones(main.shape, dtype=tensor.dtype)
        for name, tensor in example.items()
    }
    return BatchEncoding(padded) if get_worker_info() is None else WorkerEncoding(padded)


def _is_numeric(columns: Mapping[str, NDArray]) -> bool:
    """Whether all columns are numbers, or rows of numbers, that fit into a tensor whatever their values."""
    return all(
        column.ndim <= 2 and column.dtype.kind in 'iuf' and column.dtype != np.uint64
        for column in columns.values()
    )


def _is_left_unpadded(tokenizer: PreTrainedTokenizerBase, main: NDArray, options: Mapping[str, Any]) -> bool:
    """Whether `pad` adds nothing to samples of this one length, and makes tensors of them."""
    multiple = options.get('pad_to_multiple_of')
    return (
        options.keys() <= _KNOWN_OPTIONS
        and options.get('return_tensors') == 'pt'
        and options.get('padding', True) in (True, 'longest')
        and options.get('max_length') is None
        and type(tokenizer)._pad is PreTrainedTokenizerBase._pad
        and main.ndim == 2
        and main.size > 0
        and (not multiple or main.shape[1] % multiple == 0)
    )


PreTrainedTokenizerBase.pad = _pads_batches_whole(PreTrainedTokenizerBase.pad)
