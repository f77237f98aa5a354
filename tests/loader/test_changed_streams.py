"""A run goes on while its corpus grows, gains and loses streams."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from skillit_stream.base.errors import InputError
from skillit_stream.loader.batches import collate
from skillit_stream.loader.dataset import SkillStreamingDataset
from tests.support.mds import SHARES, SIZES, ids_of, mixed_dataset, owners, write_streams

# `a` grows, `b` stays, `c` goes, `d` comes.
AFTER = {'b': SIZES['b'], 'd': [5, 6], 'a': [*SIZES['a'], 9, 4]}


@pytest.fixture(scope='module')
def changed_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('changed')
    write_streams(root, {'a': AFTER['a'], 'b': AFTER['b'], 'd': AFTER['d']})
    return root


def changed_dataset(root: Path, **options: Any) -> SkillStreamingDataset:
    return mixed_dataset(root, **{'streams': AFTER, 'proportions': None, 'on_changed': 'allow', **options})


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(state))


def after_rounds(root: Path, rounds: int, **options: Any) -> tuple[list[int], dict[str, Any]]:
    """Ids of some rounds over the old streams, and the state at their end."""
    dataset = mixed_dataset(root, **options)
    ids = [one for _ in range(rounds) for one in ids_of(dataset)]
    return ids, through_a_file(dataset.state_dict(0, True))


def by_skill(ids: list[int], sizes: dict[str, list[int]]) -> dict[str, list[int]]:
    names = list(sizes)
    found: dict[str, list[int]] = {name: [] for name in names}
    for stream, number in owners(ids, sizes):
        found[names[stream]].append(number)
    return found


def test_streams_keep_their_place_by_name(streams_root: Path, changed_root: Path):
    # Of one canonical node: the order of a stream is then the same whatever the others are.
    before, state = after_rounds(streams_root, 1, num_canonical_nodes=1)
    old = by_skill(before, SIZES)
    dataset = changed_dataset(changed_root, num_canonical_nodes=1)
    dataset.load_state_dict(state)
    assert dataset.changes == {'c': 'removed', 'd': 'added', 'a': 'lengthened'}
    new = by_skill([one for _ in range(3) for one in ids_of(dataset)], AFTER)
    for skill, shards in AFTER.items():
        size = sum(shards)
        drawn = old.get(skill, []) + new[skill]
        # The pass under way is finished over what is there now, and so is each after it.
        first = drawn[:size]
        assert sorted(first) == list(range(size)), skill
        counts = Counter(drawn[size:])
        assert max(counts.values()) - min(counts[one] for one in range(size)) <= 1
    undisturbed = by_skill(after_rounds(streams_root, 2, num_canonical_nodes=1)[0], SIZES)
    seen = len(old['b'])
    assert new['b'][:3] == undisturbed['b'][seen : seen + 3]


def test_samples_seen_go_on_counting(streams_root: Path, changed_root: Path):
    before, state = after_rounds(streams_root, 2)
    dataset = changed_dataset(changed_root)
    dataset.load_state_dict(state)
    seen = {skill: len(ids) for skill, ids in by_skill(before, SIZES).items()}
    assert dataset.samples_seen == {'b': seen['b'], 'd': 0, 'a': seen['a']}


def test_the_mixture_gives_new_streams_their_size_and_keeps_the_ratio_of_the_others(
    streams_root: Path, changed_root: Path
):
    _, state = after_rounds(streams_root, 1)
    dataset = changed_dataset(changed_root)
    dataset.load_state_dict(state)
    shares = dataset.next_proportions
    assert shares['d'] == pytest.approx(11 / 71)
    assert shares['a'] / shares['b'] == pytest.approx(SHARES['a'] / SHARES['b'])
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize('workers', [0, 2])
def test_the_grown_run_resumes_anywhere_to_the_same_order(
    streams_root: Path,
    changed_root: Path,
    workers: int,
    become_rank: Callable[[int, int], None],
):
    _, state = after_rounds(streams_root, 1)
    dataset = changed_dataset(changed_root)
    dataset.load_state_dict(state)
    foretold = [dataset.sample_ids(number).tolist() for number in (1, 2, 3)]
    for number, order in enumerate(foretold, start=1):
        for done, _ in enumerate(DataLoader(dataset, batch_size=4), start=1):
            if done % 5:
                continue
            saved = through_a_file(dataset.state_dict(4 * done, True))
            again = changed_dataset(changed_root, on_changed='error')
            again.load_state_dict(saved)
            loader = DataLoader(again, batch_size=4, num_workers=workers, collate_fn=collate)
            assert ids_of(loader) == order[4 * done :], (number, done)
    # Two ranks of half the batch, from the old state.
    halves = []
    for rank in (0, 1):
        become_rank(rank, 2)
        half = changed_dataset(changed_root, batch_size=2)
        half.load_state_dict(state)
        halves.append(ids_of(half))
    woven = [one for pair in range(12) for half in halves for one in half[2 * pair : 2 * pair + 2]]
    assert woven == foretold[0]


def test_it_may_grow_again_before_anything_was_drawn(streams_root: Path, changed_root: Path, tmp_path: Path):
    before, state = after_rounds(streams_root, 1)
    dataset = changed_dataset(changed_root)
    dataset.load_state_dict(state)
    once_more = {**AFTER, 'a': [*AFTER['a'], 2]}
    write_streams(tmp_path, {'a': once_more['a'], 'b': AFTER['b'], 'd': AFTER['d']})
    again = changed_dataset(tmp_path, streams=once_more)
    again.load_state_dict(through_a_file(dataset.state_dict(0, True)))
    assert again.changes == {'a': 'lengthened'}
    drawn = by_skill(before, SIZES)['a']
    while len(drawn) < sum(once_more['a']):
        drawn += by_skill(ids_of(again), once_more)['a']
    assert sorted(drawn[: sum(once_more['a'])]) == list(range(sum(once_more['a'])))


def test_a_stream_that_may_not_repeat_has_its_new_samples_to_give(streams_root: Path, changed_root: Path):
    dataset = mixed_dataset(streams_root, proportions={'a': 0.5, 'b': 0.4, 'c': 0.1}, round_size=20)
    ids_of(dataset)
    state = through_a_file(dataset.state_dict(0, True))
    grown = changed_dataset(changed_root, on_exhausted='error', round_size=20)
    grown.load_state_dict(state)
    # `a` had 27 samples, gave 10, and has 40 now.
    grown.set_proportions({'a': 1.0, 'b': 0.0, 'd': 0.0})
    assert len(set(ids_of(grown))) == 20
    with pytest.raises(InputError, match=r'^Skill a runs out in round 2: it has 10 samples left'):
        ids_of(grown)


def test_changes_are_refused_by_name_unless_allowed(streams_root: Path, changed_root: Path):
    _, state = after_rounds(streams_root, 1)
    message = (
        r'^The streams must be those of the saved state, but c \(3 samples\) is missing, d \(11 samples\) was not '
        r"among them, a has grown from 27 samples to 40 samples: .* pass on_changed='allow'"
    )
    with pytest.raises(InputError, match=message):
        changed_dataset(changed_root, on_changed='error').load_state_dict(state)


def test_other_shards_of_the_same_number_of_samples_are_noticed(
    streams_root: Path, changed_root: Path, tmp_path: Path
):
    _, state = after_rounds(streams_root, 1)
    write_streams(tmp_path, {**SIZES, 'b': [9, 11]})
    with pytest.raises(InputError, match=r'b has other shards than its 20 samples had'):
        mixed_dataset(tmp_path, streams={**SIZES, 'b': [9, 11]}).load_state_dict(state)


def test_streams_do_not_change_in_the_middle_of_a_round(streams_root: Path, changed_root: Path):
    state = mixed_dataset(streams_root).state_dict(8, True)
    message = (
        r'^Streams can change between rounds, but round 0 was interrupted at sample 8 and c .* is missing'
    )
    with pytest.raises(InputError, match=message):
        changed_dataset(changed_root).load_state_dict(state)


def test_on_changed_is_checked(streams_root: Path):
    with pytest.raises(InputError, match=r"^`on_changed` must be one of error, allow, but got: 'maybe'"):
        mixed_dataset(streams_root, on_changed='maybe')
