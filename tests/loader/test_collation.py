"""Collate functions that are not ours get the batch as a whole, and make of it what they make of plain dicts."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.utils.data import DataLoader, IterableDataset, default_collate
from torch.utils.data._utils.collate import collate as collate_by_map
from torch.utils.data._utils.collate import default_collate_fn_map
from transformers import BatchEncoding, DataCollatorForLanguageModeling, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from skillit_stream.base.errors import InputError
from skillit_stream.loader import padding
from skillit_stream.loader.batches import samples_of
from skillit_stream.loader.shards import Gathered
from tests.support.mds import gathered_from

NUMBERS = ('u1', 'u2', 'u4', 'i1', 'i2', 'i4', 'i8', 'f2', 'f4', 'f8')


def tokenizer(**options: Any) -> Any:
    """A tokenizer that can pad, with 0."""
    words = Tokenizer(WordLevel({'<pad>': 0}, unk_token='<pad>'))
    return PreTrainedTokenizerFast(tokenizer_object=words, **{'pad_token': '<pad>', **options})


def plain(batch: Gathered) -> list[dict[str, Any]]:
    """The samples as dicts that know of no batch."""
    return [dict(sample) for sample in samples_of(batch)]


def assert_same(found: Any, expected: Any) -> None:
    """Equal types, names in the same order, types, shapes and values."""
    assert type(found) is type(expected)
    assert list(found) == list(expected)
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype, name
        assert tensor.is_contiguous()
        assert tensor.shape == expected[name].shape
        np.testing.assert_array_equal(tensor.numpy(), expected[name].numpy())


@some.composite
def batches(draw: some.DrawFn, *, main: str | None = None) -> Gathered:
    """Batches of any columns of numbers; with a `main` one of that name that holds rows of integers."""
    rows = draw(some.integers(1, 4))
    random = np.random.default_rng(draw(some.integers(0, 2**32)))

    def column(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        numbers = random.integers(0, 100, (rows, *shape)).astype(dtype)
        return numbers if dtype[0] == 'u' else (numbers - random.integers(0, 100)).astype(dtype)

    shapes = some.one_of(some.just(()), some.tuples(some.integers(1, 5)))
    columns = {
        f'column{number}': column(draw(some.sampled_from(NUMBERS)), draw(shapes))
        for number in range(draw(some.integers(0 if main else 1, 4)))
    }
    if main:
        columns[main] = column(
            draw(some.sampled_from(('u1', 'u2', 'u4', 'i4', 'i8'))), (draw(some.integers(1, 8)),)
        )
    return gathered_from(columns)


@pytest.fixture
def batch() -> Gathered:
    """Three samples of four tokens."""
    return gathered_from(
        {
            'input_ids': np.arange(12, dtype=np.uint16).reshape(3, 4),
            'skill': np.array([0, 2, 1], np.int32),
            'sample_id': np.array([7, 2**40, 9]),
        }
    )


@settings(max_examples=60, deadline=None)
@given(batches())
def test_default_collate_makes_of_samples_what_it_makes_of_plain_dicts(batch: Gathered):
    assert_same(default_collate(list(samples_of(batch))), default_collate(plain(batch)))


def test_default_collate_copies_the_batch_once_and_as_a_whole(batch: Gathered):
    samples = list(samples_of(batch))
    tensors = default_collate(samples)
    places = [tensor.data_ptr() for tensor in tensors.values()]
    assert max(places) - min(places) < batch.buffer.nbytes
    tensors['input_ids'].fill_(9)
    assert samples[1]['input_ids'].tolist() == [4, 5, 6, 7]


def test_default_collate_sees_what_was_changed(batch: Gathered):
    samples = list(samples_of(batch))
    samples[1]['skill'] = np.int32(6)
    assert default_collate(samples)['skill'].tolist() == [0, 6, 1]
    assert default_collate(samples[::-1])['skill'].tolist() == [1, 6, 0]
    assert default_collate([samples[0], dict(samples[2])])['skill'].tolist() == [0, 1]


@pytest.mark.parametrize('kind', [np.ndarray, np.integer, torch.Tensor, dict])
def test_collation_that_somebody_has_registered_goes_first(
    batch: Gathered, kind: type, monkeypatch: pytest.MonkeyPatch
):
    def refuse(parts: Any, *, collate_fn_map: Any) -> Any:
        raise LookupError(len(parts))

    others = {other: function for other, function in default_collate_fn_map.items() if other is not kind}
    own = {kind: refuse, **others}
    with pytest.raises(LookupError, match='3'):
        collate_by_map(list(samples_of(batch)), collate_fn_map=own)
    monkeypatch.setitem(default_collate_fn_map, str, refuse)
    assert len(default_collate(list(samples_of(batch)))) == 3


@settings(max_examples=60, deadline=None)
@given(batches(main='input_ids'), some.sampled_from([None, 1, 3]), some.booleans())
def test_transformers_collator_makes_of_samples_what_it_makes_of_plain_dicts(
    batch: Gathered, multiple: int | None, has_mask: bool
):
    names = ['input_ids', 'attention_mask'] if has_mask else ['input_ids']
    collator = DataCollatorForLanguageModeling(
        tokenizer(model_input_names=names), mlm=False, pad_to_multiple_of=multiple
    )
    assert_same(collator(list(samples_of(batch))), collator(plain(batch)))


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'return_tensors': 'np'},
        {'return_tensors': 'pt', 'padding': 'max_length', 'max_length': 6},
        {'return_tensors': 'pt', 'padding': True, 'max_length': None},
        {'return_tensors': 'pt', 'return_attention_mask': False},
        {'return_tensors': 'pt', 'padding_side': 'left', 'pad_to_multiple_of': 5},
        {'return_tensors': 'pt', 'padding': False},
    ],
)
def test_every_option_of_padding_does_what_it_did(batch: Gathered, options: dict[str, Any]):
    found, expected = (
        tokenizer().pad(samples, **options) for samples in (list(samples_of(batch)), plain(batch))
    )
    assert type(found) is type(expected) is BatchEncoding
    assert {name: np.asarray(value).tolist() for name, value in found.items()} == {
        name: np.asarray(value).tolist() for name, value in expected.items()
    }


def test_nothing_is_padded_sample_by_sample(batch: Gathered, monkeypatch: pytest.MonkeyPatch):
    padded = []
    pad = PreTrainedTokenizerBase._pad
    monkeypatch.setattr(
        PreTrainedTokenizerBase,
        '_pad',
        lambda self, *args, **more: padded.append(1) or pad(self, *args, **more),
    )
    samples = list(samples_of(batch))
    tokenizer().pad(samples, return_tensors='pt')
    assert len(padded) == 1
    # One of them changed: by itself.
    samples[1]['skill'] = np.int32(6)
    assert tokenizer().pad(samples, return_tensors='pt')['skill'].tolist() == [0, 6, 1]
    assert len(padded) == 4


def test_a_tokenizer_that_pads_in_its_own_way_does(batch: Gathered):
    class Own(PreTrainedTokenizerFast):
        def _pad(self, encoded_inputs: Any, *args: Any, **more: Any) -> Any:
            return {
                **super()._pad(encoded_inputs, *args, **more),
                'position': int(encoded_inputs['skill']) + 5,
            }

    own: Any = Own(tokenizer_object=tokenizer().backend_tokenizer, pad_token='<pad>')
    assert own.pad(list(samples_of(batch)), return_tensors='pt')['position'].tolist() == [5, 7, 6]


def test_a_tokenizer_that_cannot_pad_says_so(batch: Gathered):
    with pytest.raises(ValueError, match='padding token'):
        tokenizer(pad_token=None).pad(list(samples_of(batch)), return_tensors='pt')


def test_tokens_of_converted_streams_are_the_input(batch: Gathered):
    renamed = gathered_from(
        {'tokens' if name == 'input_ids' else name: column for name, column in batch.items()}
    )
    collator = DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    expected = collator(plain(batch))
    assert_same(collator(list(samples_of(renamed))), expected)
    # Also where the samples are not a whole batch.
    samples = list(samples_of(renamed))
    assert collator(samples[:2])['input_ids'].tolist() == expected['input_ids'][:2].tolist()


def test_a_loss_mask_that_would_not_be_applied_is_refused(batch: Gathered):
    masked = gathered_from({'tokens': batch['input_ids'], 'loss_mask': np.ones((3, 4), np.uint8)})
    with pytest.raises(InputError, match=r'loss_mask.*causal_lm_inputs'):
        DataCollatorForLanguageModeling(tokenizer(), mlm=False)(list(samples_of(masked)))


class Batches(IterableDataset):
    """The samples of two batches."""

    def __iter__(self) -> Any:
        for start in (0, 60_000):
            tokens = np.arange(start, start + 12, dtype=np.uint16).reshape(3, 4)
            yield from samples_of(
                gathered_from({'input_ids': tokens, 'skill': np.full(3, 2, np.int32), 'weight': np.ones(3)})
            )


@pytest.mark.parametrize('by', ['torch', 'transformers'])
def test_what_a_worker_sends_arrives_equal(by: str):
    function = default_collate if by == 'torch' else DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    expected = [
        function([dict(sample) for sample in batch]) for batch in DataLoader(Batches(), 3, collate_fn=list)
    ]
    for workers in (0, 1):
        found = list(DataLoader(Batches(), 3, collate_fn=function, num_workers=workers))
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)


def test_integers_travel_narrow_and_arrive_wide():
    sent = padding.WorkerEncoding(
        {
            'ids': torch.tensor([[1, 65535], [3, 4]]),
            'labels': torch.tensor([[1, -100], [3, 65535]]),
            'far': torch.tensor([-(2**63), 2**40]),
            'mask': torch.ones(2, 2, dtype=torch.int64),
            'none': torch.zeros(0, 2, dtype=torch.int64),
            'scalar': torch.tensor(7),
            'strided': torch.arange(8).reshape(2, 4)[:, ::2],
            'weight': torch.rand(2),
        }
    )
    rebuild, (columns,) = sent.__reduce__()
    arrived = rebuild(columns)
    kinds = {'ids': np.uint16, 'labels': np.int32, 'far': np.int64}
    assert {name: columns[name][0].dtype for name in kinds} == kinds
    assert type(arrived) is BatchEncoding
    received: dict[str, Any] = dict(arrived)
    for name, tensor in sent.data.items():
        assert received[name].dtype == tensor.dtype, name
        assert torch.equal(received[name], tensor), name
    received['mask'][0, 0] = 5
    assert received['mask'].tolist() == [[5, 1], [1, 1]]
