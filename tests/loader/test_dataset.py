"""SkillStreamingDataset in one process: what it draws, what it says, what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streaming import Stream
from torch.utils.data import DataLoader, default_collate

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import collate
from skillit_stream.loader.dataset import SkillStreamingDataset
from tests.support.mds import (
    SHARES,
    SIZES,
    ids_of,
    mixed_dataset,
    open_streams,
    owners,
    tokens_of,
    write_stream,
)

ONLY_A = {'a': 1.0, 'b': 0.0, 'c': 0.0}
EVEN = {'a': 0.25, 'b': 0.5, 'c': 0.25}


def assert_contents(dataset: SkillStreamingDataset, samples: list[dict[str, Any]]) -> None:
    """Every sample holds what was written under its id."""
    for sample, (stream, number) in zip(samples, owners(ids_of(samples)), strict=True):
        np.testing.assert_array_equal(sample['tokens'], tokens_of(stream, number))
        assert sample['skill'] == stream


@pytest.mark.parametrize('batching', ['random', 'stratified'])
@pytest.mark.parametrize('shuffle', [True, False])
def test_samples_are_the_ones_their_ids_name_in_the_order_foretold(
    streams_root: Path, batching: str, shuffle: bool
):
    dataset = mixed_dataset(streams_root, batching=batching, shuffle=shuffle)
    foretold = dataset.sample_ids(0).tolist()
    samples = list(dataset)
    assert ids_of(samples) == foretold
    assert_contents(dataset, samples)


def test_several_rounds_draw_exact_counts_and_repeat_nothing_within_a_pass(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    drawn, counts = [], []
    for number, shares in enumerate([SHARES, ONLY_A, EVEN, EVEN]):
        dataset.set_proportions(shares)
        ids = ids_of(dataset)
        assert dataset.round == number
        counts.append([sum(stream == skill for stream, _ in owners(ids)) for skill in range(3)])
        drawn += owners(ids)
        assert dataset.sample_ids(number).tolist() == ids
    assert counts == [[24, 14, 10], [48, 0, 0], [12, 24, 12], [12, 24, 12]]
    for skill, shards in enumerate(SIZES.values()):
        own, size = [number for stream, number in drawn if stream == skill], sum(shards)
        for begin in range(0, len(own) - size + 1, size):
            assert sorted(own[begin : begin + size]) == list(range(size))


def test_without_proportions_the_first_round_follows_the_sizes(streams_root: Path):
    dataset = mixed_dataset(streams_root, proportions=None, round_size=100, batch_size=10)
    assert dataset.samples == {'a': 54, 'b': 40, 'c': 6}


def test_the_same_arguments_give_the_same_order_and_another_seed_another(streams_root: Path):
    orders = [ids_of(mixed_dataset(streams_root, shuffle_seed=seed)) for seed in (1, 1, 2)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_another_skill_does_not_change_the_tapes_of_the_others(streams_root: Path):
    many = owners(ids_of(mixed_dataset(streams_root, num_canonical_nodes=1, proportions=EVEN)))
    pair = {'a': SIZES['a'], 'b': SIZES['b']}
    halves = {'a': 0.5, 'b': 0.5}
    few = owners(
        ids_of(mixed_dataset(streams_root, num_canonical_nodes=1, streams=pair, proportions=halves)), pair
    )
    for skill in (0, 1):
        one, other = ([number for stream, number in order if stream == skill] for order in (many, few))
        assert one[:12] == other[:12]


def test_both_collations_give_the_same_batches(streams_root: Path):
    batches = []
    for function in (collate, default_collate):
        dataset = mixed_dataset(streams_root)
        batches.append(list(DataLoader(dataset, batch_size=4, collate_fn=function)))
    assert len(batches[0]) == len(batches[1]) == 12
    for ours, theirs in zip(*batches, strict=True):
        assert ours.keys() == theirs.keys() == {'tokens', 'skill', 'sample_id'}
        for name in ours:
            assert ours[name].dtype == theirs[name].dtype
            np.testing.assert_array_equal(ours[name].numpy(), theirs[name].numpy())


def test_proportions_take_effect_at_the_next_round_even_if_set_during_one(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    undisturbed = dataset.sample_ids(0).tolist()
    samples = iter(dataset)
    drawn = ids_of(next(samples) for _ in range(10))
    dataset.set_proportions(ONLY_A)
    assert dataset.proportions == SHARES
    assert dataset.sample_ids(0).tolist() == undisturbed
    drawn += ids_of(samples)
    assert drawn == undisturbed
    foretold = dataset.sample_ids(1).tolist()
    assert ids_of(dataset) == foretold
    assert dataset.proportions == ONLY_A
    assert {stream for stream, _ in owners(foretold)} == {0}


def test_the_last_proportions_set_before_a_round_count(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    dataset.set_proportions(ONLY_A)
    dataset.set_proportions(EVEN)
    list(dataset)
    assert dataset.samples == {'a': 12, 'b': 24, 'c': 12}
    dataset.set_proportions(ONLY_A)
    dataset.set_proportions(SHARES)
    list(dataset)
    assert dataset.proportions == SHARES


def test_what_is_seen_counts_the_running_round_as_a_whole(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    assert dataset.round == 0
    assert dataset.samples_seen == {'a': 0, 'b': 0, 'c': 0}
    assert dataset.passes == {'a': 0.0, 'b': 0.0, 'c': 0.0}
    samples = iter(dataset)
    next(samples)
    assert dataset.round == 0
    assert dataset.samples_seen == dataset.samples == {'a': 24, 'b': 14, 'c': 10}
    list(samples)
    assert dataset.round == 0
    dataset.set_proportions(ONLY_A)
    list(dataset)
    assert dataset.round == 1
    assert dataset.samples_seen == {'a': 72, 'b': 14, 'c': 10}
    assert dataset.passes == {'a': 72 / 27, 'b': 14 / 20, 'c': 10 / 3}


def test_sizes_are_told(streams_root: Path, become_rank: Callable[[int, int], None]):
    become_rank(1, 2)
    dataset = mixed_dataset(streams_root, batching='stratified')
    assert (dataset.round_size, dataset.global_batch_size, len(dataset), dataset.size) == (48, 8, 24, 50)
    assert dataset.describe()['batching'] == 'stratified'
    assert dataset.skills == ('a', 'b', 'c')


@pytest.mark.parametrize('batching', ['random', 'stratified'])
def test_the_global_order_does_not_depend_on_the_number_of_ranks(
    streams_root: Path, become_rank: Callable[[int, int], None], batching: str
):
    whole = mixed_dataset(streams_root, batch_size=8, batching=batching)
    expected = [np.array(ids_of(whole)).reshape(-1, 8) for _ in range(2)]
    for ranks in (2, 4):
        size = 8 // ranks
        for rank in range(ranks):
            become_rank(rank, ranks)
            dataset = mixed_dataset(streams_root, batch_size=size, batching=batching)
            for number in range(2):
                own = np.array(ids_of(dataset)).reshape(-1, size)
                np.testing.assert_array_equal(own, expected[number][:, rank * size : (rank + 1) * size])
                np.testing.assert_array_equal(dataset.sample_ids(number).reshape(-1, 8), expected[number])


def test_replicas_get_the_same_samples(streams_root: Path, become_rank: Callable[[int, int], None]):
    expected = ids_of(mixed_dataset(streams_root, batch_size=8))
    drawn = []
    for rank in range(4):
        become_rank(rank, 4)
        dataset = mixed_dataset(streams_root, batch_size=4, replication=2)
        assert (dataset.global_batch_size, len(dataset)) == (8, 24)
        drawn.append(np.array(ids_of(dataset)).reshape(-1, 4))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[2], drawn[3])
    assert np.concatenate([drawn[0], drawn[2]], axis=1).ravel().tolist() == expected


def test_streams_with_columns_of_varying_size_are_decoded_one_by_one(tmp_path: Path):
    for stream, (skill, shards) in enumerate(SIZES.items()):
        write_stream(tmp_path / skill, shards, stream, extra={'text': ('str', skill * 3)})
    dataset = mixed_dataset(tmp_path)
    foretold = dataset.sample_ids(0).tolist()
    samples = list(dataset)
    assert ids_of(samples) == foretold
    assert_contents(dataset, samples)
    assert all(sample['text'] == 'abc'[sample['skill']] * 3 for sample in samples)


def test_shards_come_from_the_remote_and_are_decompressed(tmp_path: Path):
    for stream, (skill, shards) in enumerate(SIZES.items()):
        write_stream(tmp_path / 'remote' / skill, shards, stream, compression='zstd')
    streams = {
        skill: Stream(remote=str(tmp_path / 'remote' / skill), local=str(tmp_path / 'local' / skill))
        for skill in SIZES
    }
    dataset = mixed_dataset(tmp_path, streams=streams)
    foretold = dataset.sample_ids(0).tolist()
    samples = list(dataset)
    assert ids_of(samples) == foretold
    assert_contents(dataset, samples)


def test_a_cache_smaller_than_the_streams_evicts_and_fetches_again(tmp_path: Path):
    write_stream(tmp_path / 'remote' / 'a', [50] * 20)
    size = (tmp_path / 'remote' / 'a' / 'shard.00000.mds').stat().st_size
    index = (tmp_path / 'remote' / 'a' / 'index.json').stat().st_size
    stream = Stream(remote=str(tmp_path / 'remote' / 'a'), local=str(tmp_path / 'local' / 'a'))
    dataset = mixed_dataset(
        tmp_path,
        streams={'a': stream},
        proportions=None,
        round_size=2000,
        shuffle_block_size=50,
        cache_limit=index + 5 * size,
        num_canonical_nodes=1,
    )
    samples = list(dataset)
    assert sorted(ids_of(samples[:1000])) == list(range(1000))
    for sample in samples:
        np.testing.assert_array_equal(sample['tokens'], tokens_of(0, int(sample['sample_id'])))
    assert len(list((tmp_path / 'local' / 'a').glob('*.mds'))) <= 5


def test_an_audit_of_a_round_far_ahead_supposes_that_the_mixture_stays(streams_root: Path):
    audited = mixed_dataset(streams_root).sample_ids(3).tolist()
    dataset = mixed_dataset(streams_root)
    for _ in range(3):
        list(dataset)
    assert ids_of(dataset) == audited


def test_exhausted_streams_are_refused_before_the_round_that_needs_them(streams_root: Path):
    options = {'round_size': 16, 'on_exhausted': 'error', 'proportions': {'a': 0.5, 'b': 0.5, 'c': 0.0}}
    dataset = mixed_dataset(streams_root, **options)
    assert len({int(sample['sample_id']) for sample in dataset}) == 16
    message = (
        r'^Skill b runs out in round 1: it has 12 samples left and the round draws 16\. '
        r"Lower its proportion, add data, or pass on_exhausted='repeat'\.$"
    )
    with pytest.raises(InputError, match=message):
        dataset.set_proportions({'a': 0.0, 'b': 1.0, 'c': 0.0})
    # A refused mixture changes nothing.
    assert len(list(dataset)) == 16
    assert dataset.samples_seen == {'a': 16, 'b': 16, 'c': 0}
    with pytest.raises(InputError, match=r'^Skill b runs out in round 2: it has 4 samples left .* draws 8'):
        next(iter(dataset))


def test_the_last_sample_of_a_stream_may_be_drawn(streams_root: Path):
    dataset = mixed_dataset(
        streams_root, round_size=20, on_exhausted='error', proportions={'a': 0.0, 'b': 1.0, 'c': 0.0}
    )
    assert sorted(ids_of(dataset)) == list(range(27, 47))
    with pytest.raises(InputError, match=r'^Skill c runs out in round 1: it has 3 samples left'):
        dataset.set_proportions({'a': 0.0, 'b': 0.0, 'c': 1.0})


def test_an_exhausted_first_round_is_refused_at_once(streams_root: Path):
    with pytest.raises(InputError, match=r'^Skill c runs out in round 0: it has 3 samples left .* draws 10'):
        mixed_dataset(streams_root, on_exhausted='error')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'streams': {}}, r'^`streams` must name at least one skill, but got: none\.$'),
        ({'on_exhausted': 'stop'}, r"^`on_exhausted` must be one of repeat, error, but got: 'stop'\.$"),
        ({'batching': 'per_stream'}, r"^`batching` must be one of random, stratified, but got: 'per_stream'"),
        ({'round_size': 50}, r'multiple of the global batch of 4 samples, but got: 50; the nearest is 48\.$'),
        ({'round_size': 0}, r'^`round_size` must be a positive whole number, but got: 0\.$'),
        ({'batch_size': None}, r'^`batch_size` must be a positive whole number, but got: None'),
        ({'batch_size': 0}, r'^`batch_size` must be a positive .* but got: 0'),
        ({'num_canonical_nodes': 3}, r'must divide evenly over the canonical nodes, .*num_canonical_nodes=3'),
        (
            {'proportions': {'a': 1.0}},
            r"^`proportions` must name every skill once \(a, b, c\), .* for 'b'\.$",
        ),
        ({'proportions': {**SHARES, 'd': 0.0}}, r"but has one for unknown skill 'd'\.$"),
        ({'proportions': {'a': 0.5, 'b': 0.4, 'c': 0.0}}, r'must sum to 1, but got: 0\.9'),
        ({'proportions': {'a': 1.5, 'b': -0.5, 'c': 0.0}}, r'finite and not negative, but got: -0\.5'),
        ({'proportions': {'a': 1.0, 'b': float('nan'), 'c': 0.0}}, r'finite and not negative, but got: nan'),
        (
            {'epoch_size': 9},
            r'^`epoch_size` has no meaning for a SkillStreamingDataset: pass `round_size`\.$',
        ),
        ({'batching_method': 'random'}, r'^`batching_method` has no meaning .*: pass `batching`\.$'),
        ({'shuffle_algo': 'py1e'}, r'^`shuffle_algo` has no meaning'),
        ({'sampling_method': 'fixed'}, r'^`sampling_method` has no meaning'),
        ({'sampling_granularity': 2}, r'^`sampling_granularity` has no meaning'),
        ({'partition_algo': 'orig'}, r'^`partition_algo` has no meaning'),
        ({'remote': 's3://x'}, r'^`remote` has no meaning .*: give every Stream its own\.$'),
        ({'local': '/x'}, r'^`local` has no meaning .*: give every Stream its own\.$'),
    ],
)
def test_wrong_arguments_get_a_sentence(streams_root: Path, change: dict, message: str):
    with pytest.raises(InputError, match=message) as caught:
        mixed_dataset(streams_root, **change)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('weight', ['proportion', 'repeat', 'choose'])
def test_streams_with_weights_of_their_own_are_refused(streams_root: Path, weight: str):
    weights: dict[str, Any] = {weight: 1}
    streams = open_streams(streams_root, 'ac') | {'b': Stream(local=str(streams_root / 'b'), **weights)}
    with pytest.raises(
        InputError, match=r'^Stream b must not carry a proportion, repeat or choose of its own'
    ):
        mixed_dataset(streams_root, streams=streams)


def test_stream_objects_cannot_serve_twice(streams_root: Path):
    streams = open_streams(streams_root, SIZES)
    mixed_dataset(streams_root, streams=streams)
    with pytest.raises(InputError, match=r'^Stream a must not carry .* used before does: make a new one'):
        mixed_dataset(streams_root, streams=streams)


@pytest.mark.parametrize('split', [None, 'train'])
def test_a_stream_without_an_index_is_named_with_its_path(tmp_path: Path, split: str | None):
    write_stream(tmp_path / 'a', [3])
    shutil.rmtree(tmp_path / 'a')
    with pytest.raises(InputError, match=r'^Stream a has no index at .*a(/train)?/index\.json: convert it'):
        mixed_dataset(tmp_path, streams={'a': Stream(local=str(tmp_path / 'a'), split=split)})


def test_streams_of_different_columns_are_refused(tmp_path: Path, streams_root: Path):
    write_stream(tmp_path / 'x', [3], extra={'loss_mask': ('ndarray:uint8:8', np.ones(8, np.uint8))})
    streams = open_streams(streams_root, 'a') | {'x': Stream(local=str(tmp_path / 'x'))}
    with pytest.raises(InputError, match=r'^Streams must have the same columns, but a has .* and x has'):
        mixed_dataset(tmp_path, streams=streams, proportions=None)


def test_a_refused_mixture_leaves_the_old_one(streams_root: Path):
    dataset = mixed_dataset(streams_root)
    with pytest.raises(InputError, match=r'must sum to 1'):
        dataset.set_proportions({'a': 0.5, 'b': 0.4, 'c': 0.0})
    list(dataset)
    assert dataset.proportions == SHARES


def test_rounds_before_the_first_are_not_known(streams_root: Path):
    with pytest.raises(
        InputError, match=r'^`round` must be at least 0, where this process resumed, .*: -1\.$'
    ):
        mixed_dataset(streams_root).sample_ids(-1)


def test_a_source_of_less_than_half_a_sample_a_round_is_drawn_when_its_time_comes(streams_root: Path):
    dataset = mixed_dataset(streams_root, proportions={'a': 0.5 - 1 / 384, 'b': 0.5 - 1 / 384, 'c': 1 / 192})
    drawn = []
    for _ in range(8):
        ids_of(dataset)
        drawn.append(dataset.samples_seen['c'])
    # A quarter of a sample a round.
    assert drawn[3] == 1
    assert drawn[7] == 2
    assert all(abs(count - number / 4) < 1 for number, count in enumerate(drawn, start=1))


def test_what_rounding_owes_is_in_the_state(streams_root: Path):
    proportions = {'a': 0.51, 'b': 0.3, 'c': 0.19}
    dataset = mixed_dataset(streams_root, proportions=proportions)
    straight = [ids_of(dataset) for _ in range(6)]
    resumed = mixed_dataset(streams_root, proportions=proportions)
    for number in range(6):
        state = json.loads(json.dumps(resumed.state_dict(0, True)))
        resumed = mixed_dataset(streams_root)
        resumed.load_state_dict(state)
        assert resumed.sample_ids(number).tolist() == straight[number]
        assert ids_of(resumed) == straight[number]
