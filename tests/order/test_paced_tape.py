"""Paced tapes: samples let in by their loss, stage after stage, without a second order of the shards."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from streaming import Stream

from skillit_stream import SkillStreamingDataset
from skillit_stream.base.errors import InputError
from skillit_stream.formats.sample_losses import RankedLosses, losses_folder, save_losses
from skillit_stream.mixture import Pace, SampleOrder
from skillit_stream.order.cursor import Cursors, draw
from skillit_stream.order.index import ShardList
from skillit_stream.order.paced_tape import PacedTape
from tests.support.mds import SHARES, SIZES, write_stream
from tests.support.ranked_samples import ranked

quick = settings(max_examples=60, deadline=None)


@st.composite
def paced(draw_: st.DrawFn) -> tuple[PacedTape, list[float]]:
    """A tape over shards of 0 to 9 samples with losses that often tie, and the losses."""
    sizes = draw_(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(lambda sizes: sum(sizes) > 0))
    losses = draw_(st.lists(st.integers(0, 6).map(float), min_size=sum(sizes), max_size=sum(sizes)))
    hardest_first = draw_(st.booleans())
    begins = [0, *sorted(draw_(st.sets(st.integers(1, 60), max_size=4)))]
    keys = sorted(draw_(st.lists(st.integers(-1, 7), min_size=len(begins), max_size=len(begins))))
    one = ranked(losses, sizes)
    keys = [float(key - 7 if hardest_first else key) for key in keys]
    order = SampleOrder(one.reversed() if hardest_first else one, Pace(tuple(begins), tuple(keys)))
    tape = PacedTape(
        'a',
        np.array(sizes, np.int64),
        order=order,
        seed=draw_(st.integers(0, 99)),
        canonical_nodes=draw_(st.integers(1, 4)),
        block_size=draw_(st.integers(1, 12)),
        shuffle=draw_(st.booleans()),
    )
    return tape, [-loss if hardest_first else loss for loss in losses]


def drawn(tape: PacedTape, count: int, nodes: int) -> tuple[list[int], list[int]]:
    """The first draws, one node after the other, and the pass of each."""
    cursors = Cursors.at_start(1, nodes)
    passes, line = draw(tape, cursors, 0, np.arange(count) % nodes)
    assert cursors.drawn.tolist() == [count]
    return tape.local_ids(passes, line).tolist(), passes.tolist()


@quick
@given(case=paced())
def test_draws_lie_within_their_stage_and_no_pass_repeats_a_sample(case: tuple[PacedTape, list[float]]):
    tape, keys = case
    assert tape.order is not None
    pace = tape.order.pace
    ids, passes = drawn(tape, 120, tape.spans)
    for place, sample in enumerate(ids):
        stage = int(np.searchsorted(pace.begins, place, side='right')) - 1
        admitted = max(pace.keys[stage], min(keys))
        assert keys[sample] <= admitted
    for number in set(passes):
        own = [sample for sample, its in zip(ids, passes, strict=True) if its == number]
        assert len(own) == len(set(own))


@quick
@given(case=paced())
def test_a_whole_pass_of_a_stage_is_all_that_it_admits(case: tuple[PacedTape, list[float]]):
    tape, keys = case
    assert tape.order is not None
    last = max(tape.order.pace.keys[-1], min(keys))
    first = tape.order.pace.begins[-1]
    number = int(np.searchsorted(np.cumsum([0, *(tape.draws_in(one) for one in range(200))]), first))
    size = tape.draws_in(number)
    ids = tape.local_ids(np.full(size, number), np.arange(size))
    assert sorted(ids.tolist()) == [sample for sample, key in enumerate(keys) if key <= last]


@quick
@given(case=paced(), cut=st.integers(0, 119))
def test_draws_from_one_span_do_not_depend_on_how_they_are_grouped(
    case: tuple[PacedTape, list[float]], cut: int
):
    # Which of several spans gives to a draw whose own is used up depends on the draws planned with it.
    tape, _ = case
    assume(tape.spans == 1)
    nodes = np.zeros(120, np.int64)
    cursors = Cursors.at_start(1, 1)
    parts = [draw(tape, cursors, 0, nodes[:cut]), draw(tape, cursors, 0, nodes[cut:])]
    ids = [tape.local_ids(*part).tolist() for part in parts]
    assert ids[0] + ids[1] == drawn(tape, 120, 1)[0]


def test_hand_worked_counts_and_ids():
    one = ranked([3.0, 1.0, 2.0, 2.0, 5.0], [3, 2])
    assert one.counts(2.0).tolist() == [2, 1]
    assert one.ids(np.array([0, 0, 1]), np.array([0, 2, 1])).tolist() == [1, 0, 4]
    hardest = one.reversed()
    assert hardest.counts(-3.0).tolist() == [1, 1]
    assert hardest.ids(np.array([0, 0, 1]), np.array([0, 2, 1])).tolist() == [0, 1, 3]
    assert one.some_keys(2).tolist() == [1.0, 5.0]


def test_a_shard_is_read_once_a_pass_though_the_order_is_by_loss():
    sizes = np.full(40, 100, np.int64)
    rng = np.random.default_rng(0)
    order = SampleOrder(ranked(rng.random(4000).tolist(), sizes.tolist()), Pace((0, 400), (0.1, 1.0)))
    tape = PacedTape('a', sizes, order=order, seed=1, block_size=200)
    shards = np.array(drawn(tape, 400, 1)[0]) // 100
    # A block holds a tenth of two shards' samples: what is left behind is not come back to.
    last_seen = {int(shard): place for place, shard in enumerate(shards)}
    first_seen = {int(shard): place for place, shard in reversed(list(enumerate(shards)))}
    spans = [last_seen[shard] - first_seen[shard] for shard in first_seen]
    assert max(spans) < 60


def streams_with_losses(root: Path) -> dict[str, Stream]:
    """Three small streams whose samples have their number, turned around, as loss."""
    for number, (skill, sizes) in enumerate(SIZES.items()):
        folder = root / skill / 'train'
        write_stream(folder, sizes, number)
        losses = np.arange(sum(sizes), 0, -1, dtype=np.float32)
        files = json.loads((folder / 'index.json').read_text())['shards']
        assert [file['samples'] for file in files] == sizes
        dataset = SkillStreamingDataset(
            streams={skill: Stream(local=str(root / skill), split='train')}, round_size=4, batch_size=4
        )
        shards = ShardList.of(dataset.shards)
        save_losses(
            losses_folder(folder, 'x'), losses, shards.sizes, stream=shards.digest(), about={'weights': 'w'}
        )
    return {skill: Stream(local=str(root / skill), split='train') for skill in SIZES}


def mixed(root: Path, pace: Pace, *, streams: Any = None, **options: Any) -> SkillStreamingDataset:
    orders = {
        skill: SampleOrder(RankedLosses.load(losses_folder(root / skill / 'train', 'x'), skill), pace)
        for skill in SIZES
    }
    streams = streams or {skill: Stream(local=str(root / skill), split='train') for skill in SIZES}
    settings_ = {'round_size': 20, 'batch_size': 4, 'proportions': SHARES, 'sample_orders': orders}
    return SkillStreamingDataset(streams=streams, **{**settings_, **options})


PACE = Pace((0, 15), (6.0, 100.0))


@pytest.mark.parametrize('nodes', [1, 2])
def test_a_round_draws_the_samples_that_the_pace_admits(tmp_path: Path, nodes: int):
    streams = streams_with_losses(tmp_path)
    dataset = mixed(tmp_path, PACE, streams=streams, num_canonical_nodes=nodes)
    assert [sample['sample_id'] for sample in dataset] == dataset.sample_ids(0).tolist()
    ends = np.cumsum([sum(sizes) for sizes in SIZES.values()])
    for sample in dataset.sample_ids(0):
        skill = int(np.searchsorted(ends, sample, side='right'))
        assert ends[skill] - sample <= 6
    dataset.set_proportions({'a': 1.0, 'b': 0.0, 'c': 0.0})
    later = dataset.sample_ids(1)
    assert (ends[0] - later > 6).any()


@pytest.mark.parametrize('nodes', [1, 2])
@pytest.mark.parametrize('sample', [0, 8, 20])
def test_a_state_goes_on_in_the_middle_of_a_stage(tmp_path: Path, nodes: int, sample: int):
    streams_with_losses(tmp_path)
    steady = mixed(tmp_path, PACE, num_canonical_nodes=nodes)
    drawn_ids = [list(steady), list(steady), list(steady)]
    state = json.loads(json.dumps(mixed(tmp_path, PACE, num_canonical_nodes=nodes).state_dict(sample, True)))
    resumed = mixed(tmp_path, PACE, num_canonical_nodes=nodes)
    resumed.load_state_dict(state)
    # After its last sample a round is over: the next one begins.
    rest = [one['sample_id'] for one in drawn_ids[0]][sample:]
    assert not rest or [one['sample_id'] for one in resumed] == rest
    assert [one['sample_id'] for one in resumed] == [one['sample_id'] for one in drawn_ids[1]]


def test_a_state_of_another_pace_is_refused_or_begins_anew(tmp_path: Path):
    streams_with_losses(tmp_path)
    before = mixed(tmp_path, PACE)
    list(before)
    state = before.state_dict(0, True)
    other = Pace((0, 30), (6.0, 100.0))
    with pytest.raises(InputError, match='a was drawn in another order'):
        mixed(tmp_path, other).load_state_dict(state)
    anew = mixed(tmp_path, other, on_changed='allow')
    anew.load_state_dict(state)
    assert anew.changes == dict.fromkeys(SIZES, 'reordered')
    assert anew.samples_seen == dict.fromkeys(SIZES, 0)


def test_orders_that_do_not_fit_are_refused(tmp_path: Path):
    streams_with_losses(tmp_path)
    with pytest.raises(InputError, match=r"draws the first samples of an order again.*on_exhausted='repeat'"):
        mixed(tmp_path, PACE, on_exhausted='error')
    order = SampleOrder(ranked([1.0] * 27, SIZES['a']), PACE)
    with pytest.raises(InputError, match='are of other shards than its stream has now'):
        mixed(tmp_path, PACE, sample_orders={'a': order})
    with pytest.raises(InputError, match="names skill 'z', but the streams are: a, b, c"):
        mixed(tmp_path, PACE, sample_orders={'z': order})
    with pytest.raises(InputError, match='begin at 0 and go up'):
        Pace((0, 0), (1.0, 2.0))


def test_broken_or_missing_losses_name_the_remedy(tmp_path: Path):
    streams_with_losses(tmp_path)
    folder = losses_folder(tmp_path / 'a' / 'train', 'x')
    with pytest.raises(InputError, match=r'no losses of its samples at .*score YAML --name y'):
        RankedLosses.load(folder.with_name('y'), 'a')
    (folder / 'rows.npy').write_bytes(b'not an array')
    with pytest.raises(InputError, match=r'losses of skill a at .* are broken .*--overwrite'):
        RankedLosses.load(folder, 'a')
