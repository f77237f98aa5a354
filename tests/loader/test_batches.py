"""Batches cross from loader to model whole, in small types."""

import copy
import pickle
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from skillit_stream.loader.batches import (
    IGNORE_INDEX,
    Sample,
    WorkerBatch,
    causal_lm_inputs,
    collate,
    samples_of,
)
from skillit_stream.loader.shards import Gathered
from tests.support.mds import gathered_from


@pytest.fixture
def batch() -> Gathered:
    """A gathered batch of three samples."""
    return gathered_from(
        {
            'tokens': np.arange(12, dtype=np.uint16).reshape(3, 4) + 65000,
            'loss_mask': np.array([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], np.uint8),
            'skill': np.array([0, 2, 1], np.int32),
            'sample_id': np.array([7, 2**40, 9]),
        }
    )


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Equal names, types, shapes and values."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        np.testing.assert_array_equal(tensor.numpy(), other[name].numpy())


def test_samples_are_the_rows_in_order(batch: Gathered):
    samples = list(samples_of(batch))
    assert len(samples) == 3
    for row, sample in enumerate(samples):
        assert sample.keys() == batch.keys()
        for name, column in batch.items():
            np.testing.assert_array_equal(sample[name], column[row])


def test_a_whole_batch_is_handed_on_without_a_copy(batch: Gathered):
    tensors = collate(list(samples_of(batch)))
    for name, column in batch.items():
        assert tensors[name].data_ptr() == column.__array_interface__['data'][0], name


def test_both_collations_agree_and_keep_the_types(batch: Gathered):
    samples = list(samples_of(batch))
    assert_same(collate(samples), default_collate(samples))
    assert {name: tensor.dtype for name, tensor in collate(samples).items()} == {
        'tokens': torch.uint16,
        'loss_mask': torch.uint8,
        'skill': torch.int32,
        'sample_id': torch.int64,
    }


@pytest.mark.parametrize(
    'rows', [[0], [0, 1], [1, 2], [2, 1, 0], [0, 0, 0], [0, 2, 1], [0, 1, 2, 0], [0, 1, 2, 0, 1, 2]]
)
def test_any_other_choice_of_samples_is_collated_by_value(batch: Gathered, rows: list[int]):
    samples = list(samples_of(batch))
    chosen = [samples[row] for row in rows]
    expected = {name: torch.from_numpy(column[rows]) for name, column in batch.items()}
    assert_same(collate(chosen), expected)


def test_samples_of_different_batches_are_collated_by_value(batch: Gathered):
    other = gathered_from(batch)
    mixed = [*list(samples_of(batch))[:2], list(samples_of(other))[2]]
    expected = {name: torch.from_numpy(column) for name, column in batch.items()}
    tensors = collate(mixed)
    assert_same(tensors, expected)
    assert tensors['tokens'].data_ptr() != batch['tokens'].__array_interface__['data'][0]


def test_plain_mappings_collate_too(batch: Gathered):
    plain = [dict(sample) for sample in samples_of(batch)]
    assert_same(collate(plain), default_collate(plain))


def test_a_changed_value_is_not_lost_by_copying(batch: Gathered):
    # What a user's transform makes of a sample is a plain dict, which collates by value.
    samples = [{**sample, 'skill': np.int32(5)} for sample in samples_of(batch)]
    assert collate(samples)['skill'].tolist() == [5, 5, 5]


@pytest.mark.parametrize('duplicate', [copy.copy, lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy])
def test_a_sample_travels_as_a_plain_dict_without_its_batch(batch: Gathered, duplicate: Any):
    sample = next(samples_of(batch))
    assert isinstance(sample, Sample)
    twin = duplicate(sample)
    assert type(twin) is dict
    np.testing.assert_array_equal(twin['tokens'], sample['tokens'])
    assert len(pickle.dumps(sample)) < 2000


def test_a_batch_from_a_worker_arrives_as_one_string_of_bytes_and_is_the_same(batch: Gathered):
    sent = WorkerBatch(batch)
    assert_same(sent, collate(list(samples_of(batch))))
    arrived = pickle.loads(pickle.dumps(sent))
    assert type(arrived) is dict
    assert_same(arrived, sent)
    arrived['tokens'][0, 0] = 1  # it can be written to, and is nobody else's
    assert int(sent['tokens'][0, 0]) == 65000
    assert len(pickle.dumps(sent)) < batch.buffer.nbytes + 600


def test_what_is_changed_in_a_worker_arrives_changed(batch: Gathered):
    sent = WorkerBatch(batch)
    sent['tokens'][1, 1] = 7
    assert int(pickle.loads(pickle.dumps(sent))['tokens'][1, 1]) == 7
    sent['more'] = torch.ones(3)
    assert_same(pickle.loads(ForkingPickler.dumps(sent)), dict(sent))


def test_labels_are_the_tokens_where_the_mask_is_set():
    tokens = torch.tensor([[65535, 1, 2], [3, 4, 5]], dtype=torch.uint16)
    mask = torch.tensor([[1, 0, 1], [0, 0, 1]], dtype=torch.uint8)
    inputs = causal_lm_inputs({'tokens': tokens, 'loss_mask': mask, 'skill': torch.tensor([1, 0])})
    assert inputs.keys() == {'input_ids', 'labels', 'attention_mask', 'skill'}
    assert inputs['attention_mask'].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert inputs['input_ids'].tolist() == [[65535, 1, 2], [3, 4, 5]]
    assert inputs['labels'].tolist() == [[65535, IGNORE_INDEX, 2], [IGNORE_INDEX, IGNORE_INDEX, 5]]
    assert inputs['input_ids'].dtype == inputs['labels'].dtype == torch.int64
    assert inputs['skill'].tolist() == [1, 0]


def test_without_a_mask_every_token_is_a_label():
    tokens = torch.tensor([[1, 2]], dtype=torch.int32)
    inputs = causal_lm_inputs({'tokens': tokens})
    assert inputs['labels'].tolist() == [[1, 2]]
    assert tokens.dtype == torch.int32


@pytest.mark.parametrize('name', ['int64', 'uint16'])
def test_labels_changed_in_place_leave_the_inputs_alone(name: str):
    # Composer shifts labels in place when it evaluates.
    inputs = causal_lm_inputs({'tokens': torch.tensor([[1, 2]], dtype=getattr(torch, name))})
    inputs['labels'][:] = IGNORE_INDEX
    assert inputs['input_ids'].tolist() == [[1, 2]]
