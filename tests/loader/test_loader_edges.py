"""The loader's edges: late workers, refused states, changed samples, wrong values, bad streams."""

import time
from itertools import islice

import numpy as np
import pytest
from streaming import Stream
from torch.utils.data import DataLoader

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import collate, samples_of
from skillit_stream.loader.ledger import Ledger
from skillit_stream.loader.shards import BatchReader, sample_dtype
from skillit_stream.order.keys import random_words
from skillit_stream.order.tape import Tape
from tests.support.mds import SHARES, gathered_from, ids_of, mixed_dataset, write_stream

ONLY_A = {'a': 1.0, 'b': 0.0, 'c': 0.0}


def test_epoch_end_state_with_a_late_worker_that_had_no_batch(streams_root, monkeypatch):
    publish = Ledger.publish_dealt_out

    def late(self, worker, workers, number):
        if worker == 2:
            time.sleep(1)
        publish(self, worker, workers, number)

    monkeypatch.setattr(Ledger, 'publish_dealt_out', late)
    dataset = mixed_dataset(streams_root, round_size=8)  # two batches, three workers
    loader = DataLoader(dataset, batch_size=4, num_workers=3, persistent_workers=True)
    assert len(list(islice(loader, len(loader)))) == 2  # as Composer does with dataloader_len
    assert dataset.state_dict(0, True)['epoch'] == 1


def test_audit_ahead_then_another_mixture(streams_root):
    dataset = mixed_dataset(streams_root)
    dataset.sample_ids(2)  # caches the cursors of rounds 1 and 2 for the present mixture
    dataset.set_proportions(ONLY_A)
    foretold = dataset.sample_ids(1).tolist()
    ids_of(dataset)
    assert ids_of(dataset) == foretold


def test_rounds_begun_but_not_drawn_from(streams_root):
    dataset = mixed_dataset(streams_root)
    for share in (1.0, 0.9, 0.8):
        dataset.set_proportions({'a': share, 'b': 1 - share, 'c': 0.0})
        iter(dataset)
    # 43.2 and 38.4 of 48: what the second round rounded off, the third makes up for.
    assert dataset.samples_seen == {'a': 48 + 43 + 39, 'b': 0 + 5 + 9, 'c': 0}


def test_evicted_shard_message(tmp_path):
    import json

    from streaming.base.format.mds.reader import MDSReader

    write_stream(tmp_path / 's', [4, 1])
    index = json.loads((tmp_path / 's' / 'index.json').read_text())
    shards = [MDSReader.from_json(str(tmp_path / 's'), '', shard) for shard in index['shards']]
    (tmp_path / 's' / 'shard.00001.mds').unlink()
    dtype = sample_dtype(shards[0])
    assert dtype is not None
    reader = BatchReader(shards, dtype=dtype, prepare=lambda shard: None)
    with pytest.raises(
        RuntimeError, match=r'shard\.00001\.mds.* was evicted 8 times .*: raise `cache_limit`'
    ):
        reader.read(np.array([1]), np.array([0]))


def test_key_and_counters_broadcast():
    random_words(np.array([1, 2], np.uint64)[:, None], np.arange(3)[None])


def test_shards_at_names_no_shard_of_another_block():
    # Empty shards only, which no writer makes: shard 5 is empty and not in that block.
    tape = Tape('a', np.array([5, 1, 1, 1, 5, 0]), seed=2975, block_size=8, canonical_nodes=2)
    assert set(tape.shards_at(0, 5).tolist()) == {0, 1, 3}


def test_finished_run_loads_with_on_exhausted_error(streams_root):
    options = {'round_size': 20, 'on_exhausted': 'error', 'proportions': {'a': 0.0, 'b': 1.0, 'c': 0.0}}
    dataset = mixed_dataset(streams_root, **options)
    list(dataset)
    mixed_dataset(streams_root, **options).load_state_dict(dataset.state_dict(0, True))


def test_samples_seen_after_a_mid_round_resume(streams_root):
    dataset = mixed_dataset(streams_root)
    next(iter(dataset))
    resumed = mixed_dataset(streams_root)
    resumed.load_state_dict(dataset.state_dict(8, True))
    assert resumed.samples_seen == dataset.samples_seen


def test_a_refused_state_leaves_the_dataset_as_it_was(streams_root):
    state = mixed_dataset(streams_root, num_canonical_nodes=4, shuffle_seed=1).state_dict(0, True)
    dataset = mixed_dataset(streams_root, batch_size=6)
    with pytest.raises(InputError):
        dataset.load_state_dict(state)
    assert (dataset.num_canonical_nodes, dataset.shuffle_seed) == (2, 9176)


def test_collate_of_samples_and_plain_dicts():
    one, two = samples_of(gathered_from({'t': np.zeros((2, 1), np.uint16)}))
    assert collate([one, dict(two)])['t'].shape == (2, 1)


def test_a_change_in_place_is_not_lost():
    samples = list(samples_of(gathered_from({'t': np.zeros((2, 1), np.uint16)})))
    for sample in samples:
        sample['t'] = np.ones(1, np.uint16)
    assert collate(samples)['t'].tolist() == [[1], [1]]


@pytest.mark.parametrize(
    'change',
    [
        {'num_canonical_nodes': -2},
        {'shuffle_block_size': -3},
        {'round_size': '48'},
        {'round_size': 48.0},
        {'round_size': -4},
        {'proportions': {**SHARES, 'a': None}},
        {'proportions': {**SHARES, 'a': 'half'}},
        {'batch_size': True, 'num_canonical_nodes': 1},
    ],
)
def test_wrong_values_are_input_errors(streams_root, change):
    with pytest.raises(InputError):
        mixed_dataset(streams_root, **change)


@pytest.mark.parametrize('problem', ['empty', 'corrupt', 'missing shard'])
def test_bad_streams_are_input_errors_that_name_the_skill(tmp_path, problem):
    write_stream(tmp_path / 'a', [0] if problem == 'empty' else [3, 3])
    if problem == 'corrupt':
        (tmp_path / 'a' / 'index.json').write_text('{"vers')
    if problem == 'missing shard':
        (tmp_path / 'a' / 'shard.00001.mds').unlink()
    streams = {'a': Stream(local=str(tmp_path / 'a'))}
    with pytest.raises(InputError, match=r'(Stream|Skill) a '):
        list(mixed_dataset(tmp_path, streams=streams, proportions=None))


def test_states_without_their_keys_are_input_errors(streams_root):
    with pytest.raises(InputError):
        mixed_dataset(streams_root).load_state_dict({'version': 1})


def test_the_order_in_which_streams_are_listed_does_not_change_what_is_drawn(streams_root):
    shares = {'a': 0.375, 'b': 0.25, 'c': 0.375}  # ties, of a round of 20
    drawn = []
    for skills in ('abc', 'cab'):
        streams = {skill: Stream(local=str(streams_root / skill)) for skill in skills}
        dataset = mixed_dataset(streams_root, streams=streams, proportions=shares, round_size=20)
        drawn.append([sample['tokens'].tolist() for _ in range(2) for sample in dataset])
    assert drawn[0] == drawn[1]
