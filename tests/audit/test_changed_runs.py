"""Audits of runs that were resumed with other settings, or on streams that had changed."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streaming import Stream

from skillit_stream.audit.replay import Replay
from skillit_stream.base.errors import InputError
from skillit_stream.cli import main
from skillit_stream.formats.run_log import RunLog
from skillit_stream.loader.dataset import SkillStreamingDataset
from tests.support.audit_runs import asked, record_of, refused
from tests.support.mds import mixed_dataset, owners, write_stream

Sizes = dict[str, list[int]]

A, B, C, D = [7, 5, 12, 3], [10, 10], [3], [5, 6, 2]
LONGER, LONGEST = [*A, 9, 4], [*A, 9, 4, 2, 6]
ALL = {'a': LONGEST, 'b': B, 'c': C, 'd': D}


@dataclass(frozen=True)
class Launch:
    """One launch of the run, up to the end of a round or to a sample in it."""

    streams: Sizes
    rounds: int
    batch: int = 4
    round_size: int = 48
    batching: str = 'random'
    a_share: float | None = 1 / 8
    """None: the same share for every skill."""
    stop_at: int = 0
    """Samples played of one more round."""


@dataclass
class Played:
    """What the rounds of a run drew."""

    ids: list[list[int]] = field(default_factory=list)
    streams: list[Sizes] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def drawn(self) -> list[tuple[int, int, int, int, tuple[str, int]]]:
        """Round, step, place, id, and (skill, number in the stream) of every draw."""
        found, step = [], 0
        for number, (ids, streams, batch) in enumerate(
            zip(self.ids, self.streams, self.batches, strict=True)
        ):
            names = list(streams)
            for at, (one, (stream, inside)) in enumerate(zip(ids, owners(ids, streams), strict=True)):
                found.append((number, step + at // batch, at % batch, one, (names[stream], inside)))
            step += len(ids) // batch
        return found


# `a` is lengthened twice within its first pass; `c` goes and comes back; then only settings change.
LAUNCHES = [
    Launch({'a': A, 'b': B, 'c': C}, 1),
    Launch({'a': A, 'b': B, 'c': C}, 1, stop_at=20),
    Launch({'a': A, 'b': B, 'c': C}, 0),
    Launch({'d': D, 'b': B, 'a': LONGER}, 2, batch=8, round_size=24, batching='stratified'),
    Launch({'b': B, 'a': LONGEST, 'c': C, 'd': D}, 3, batch=8, a_share=0.5),
    Launch({'b': B, 'a': LONGEST, 'c': C, 'd': D}, 2, batch=12, round_size=36, a_share=0.5),
]


def write_all(root: Path, streams: Mapping[str, Sequence[int]]) -> None:
    """A streams folder; a stream has the same samples in every one."""
    for skill, sizes in streams.items():
        write_stream(root / skill / 'train', sizes, 'abcd'.index(skill))


def open_launch(root: Path, launch: Launch, nodes: int) -> SkillStreamingDataset:
    streams = {skill: Stream(local=str(root / skill), split='train') for skill in launch.streams}
    return mixed_dataset(
        root,
        streams=streams,
        proportions=None,
        batch_size=launch.batch,
        round_size=launch.round_size,
        batching=launch.batching,
        num_canonical_nodes=nodes,
        on_changed='allow',
    )


def shares_of(launch: Launch, random: np.random.Generator) -> dict[str, float]:
    if launch.a_share is None:
        return dict.fromkeys(launch.streams, 1 / len(launch.streams))
    others = [skill for skill in launch.streams if skill != 'a']
    rest = random.dirichlet(np.ones(len(others))) * (1 - launch.a_share)
    return {**dict(zip(others, rest.tolist(), strict=True)), 'a': launch.a_share}


def play(folder: Path, launches: Sequence[Launch], *, nodes: int = 2, seed: int = 0) -> Played:
    """Train nothing, but draw and log as training does; streams and run folder are made in `folder`.

    Returns:
        What was drawn. The streams folder is left as the last launch had it.
    """
    random, log = np.random.default_rng(seed), RunLog(folder / 'run' / 'mixture.jsonl')
    played, state, begun, step = Played(), None, [], 0
    for number, launch in enumerate(launches):
        root = folder / f'streams.{number}'
        write_all(root, launch.streams)
        dataset = open_launch(root, launch, nodes)
        if state:
            dataset.load_state_dict(json.loads(json.dumps(state)))
        log.start(dataset.round if state else -1)
        if not begun:
            dataset.set_proportions(shares_of(launch, random))
        for _ in range(launch.rounds + bool(begun)):
            played.ids.append(begun + [int(sample['sample_id']) for sample in dataset])
            played.streams.append(launch.streams)
            played.batches.append(launch.batch)
            begun, step = [], step + launch.round_size // launch.batch
            log.append(record_of(dataset, step))
            dataset.set_proportions(shares_of(launch, random))
        if launch.stop_at:
            samples = iter(dataset)
            begun = [int(next(samples)['sample_id']) for _ in range(launch.stop_at)]
        state = dataset.state_dict(launch.stop_at, True)
    (folder / 'run' / 'config.yaml').write_text(f'streams: {folder / f"streams.{len(launches) - 1}"}\n')
    return played


@pytest.fixture(scope='module')
def changed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Played]:
    """A folder with run and streams, which tests must not change, and what was drawn."""
    folder = tmp_path_factory.mktemp('changed_run')
    return folder, play(folder, LAUNCHES)


def last_ids(streams: Sizes) -> dict[tuple[str, int], int]:
    """Id of each (skill, number in the stream)."""
    places = owners(range(sum(map(sum, streams.values()))), streams)
    return {(list(streams)[stream], inside): number for number, (stream, inside) in enumerate(places)}


@pytest.mark.parametrize(('nodes', 'seed'), [(1, 1), (2, 2), (4, 3), (4, 4)])
def test_replay_and_draws_are_what_was_played(tmp_path: Path, nodes: int, seed: int):
    played = play(tmp_path, LAUNCHES, nodes=nodes, seed=seed)
    replay = Replay(tmp_path / 'run')
    for number in (*range(replay.rounds), *reversed(range(replay.rounds))):
        assert replay.sample_ids(number).tolist() == played.ids[number]
    # The first question may be about the end.
    assert Replay(tmp_path / 'run').sample_ids(replay.rounds - 1).tolist() == played.ids[-1]
    # Sample ids stand for the same samples as long as the streams do.
    of_ids = [replay.rounds_of_these_ids(replay.round(number)) for number in (0, 3, 5, 9)]
    assert of_ids == [(0, 2), (3, 4), (5, 9), (5, 9)]

    now = last_ids(LAUNCHES[-1].streams)
    expected = [
        (number, step, place, id_then, now[where])
        for number, step, place, id_then, where in played.drawn()
        if where in now
    ]
    draws = list(replay.draws(range(replay.last.samples)))
    assert [(one.round, one.step, one.place, one.id_then, one.sample) for one in draws] == expected
    for step in {one.step for one in draws[::7]}:
        batch = [id_then for _, at, _, id_then, _ in played.drawn() if at == step]
        assert replay.step_ids(step).tolist() == batch
    # `a` was lengthened twice in its first pass, which still draws everything once.
    begin, size = now['a', 0], sum(LONGEST)
    of_a = [one for one in draws if begin <= one.sample < begin + size]
    assert sum(one.round < 5 for one in of_a) < sum(A)
    assert sorted(one.sample - begin for one in of_a if one.tape_pass == 0) == list(range(size))


@st.composite
def launch_lists(draw: st.DrawFn) -> list[Launch]:
    """Launches between which anything that may change does, or does not."""
    launches, grown = [], 0
    for _ in range(draw(st.integers(2, 4))):
        grown = draw(st.integers(grown, 2))
        others = draw(st.lists(st.sampled_from('bcd'), min_size=1, unique=True))
        streams = {'a': (A, LONGER, LONGEST)[grown], **{skill: ALL[skill] for skill in others}}
        listed = draw(st.permutations(list(streams)))
        batch = draw(st.sampled_from([4, 8, 12]))
        launches.append(
            Launch(
                {skill: streams[skill] for skill in listed},
                draw(st.integers(1, 2)),
                batch,
                batch * draw(st.integers(1, 4)),
                draw(st.sampled_from(['random', 'stratified'])),
                draw(st.sampled_from([0.0, 1 / 8, 0.75, None])),
            )
        )
    return launches


@settings(max_examples=25, deadline=None)
@given(launches=launch_lists(), nodes=st.sampled_from([1, 2, 4]), seed=st.integers(0, 99))
def test_any_run_of_changes_is_replayed(launches: list[Launch], nodes: int, seed: int):
    with TemporaryDirectory() as folder:
        root = Path(folder)
        played = play(root, launches, nodes=nodes, seed=seed)
        # Streams that the run has left, and `a` longer than it knew it: the digests tell what was.
        write_all(root / 'all', ALL)
        replay = Replay(root / 'run', streams=root / 'all')
        assert [replay.sample_ids(number).tolist() for number in range(replay.rounds)] == played.ids
        now = last_ids(launches[-1].streams)
        drawn = [(one[1], one[2], now[one[4]]) for one in played.drawn() if one[4] in now]
        found = replay.draws(range(replay.last.samples))
        assert [(one.step, one.place, one.sample) for one in found] == drawn


def test_streams_listed_in_another_order_are_counted_in_that_order(tmp_path: Path):
    launches = [Launch({'a': A, 'b': B, 'c': C}, 2), Launch({'c': C, 'a': A, 'b': B}, 2)]
    played = play(tmp_path, launches)
    replay = Replay(tmp_path / 'run')
    assert [replay.sample_ids(number).tolist() for number in range(4)] == played.ids
    now = last_ids(launches[-1].streams)
    drawn = [now[where] for *_, where in played.drawn()]
    assert [one.sample for one in replay.draws(range(replay.last.samples))] == drawn


def test_a_sample_is_told_with_the_ids_it_had(changed: tuple[Path, Played], capsys):
    folder, played = changed
    sample = last_ids(LAUNCHES[-1].streams)['a', 2]
    drawn = [one for one in played.drawn() if one[4] == ('a', 2)]
    answer = asked(capsys, folder / 'run', '--sample', str(sample))
    assert answer['ids_of_rounds'] == [5, 9]
    assert answer['covered'] == {'rounds': [0, 9], 'steps': [0, 65]}
    draws = answer['samples'][0]['draws']
    assert [(one['round'], one['step'], one['place']) for one in draws] == [one[:3] for one in drawn]
    assert [one.get('id') for one in draws] == [one[3] if one[0] < 5 else None for one in drawn]
    assert any('id' in one for one in draws)
    assert answer['samples'][0]['rounds_of_other_shards'] == []
    assert main(['audit', str(folder / 'run'), '--sample', str(sample)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].endswith(f'id {drawn[0][3]}')
    assert printed[-2].startswith('ids: as of rounds 5 to 9; where streams changed')


def test_a_round_and_a_step_keep_the_ids_of_their_time(changed: tuple[Path, Played], tmp_path: Path, capsys):
    folder, played = changed
    out = tmp_path / 'ids.npy'
    answer = asked(capsys, folder / 'run', '--round', '3', '--out', out)
    assert (answer['first_step'], answer['last_step'], answer['samples']) == (36, 38, 24)
    assert list(answer['skills']) == ['d', 'b', 'a']
    assert np.load(out).tolist() == played.ids[3]
    answer = asked(capsys, folder / 'run', '--step', '37')
    assert (answer['round'], answer['batch']) == (3, 1)
    assert [one['sample'] for one in answer['samples']] == played.ids[3][8:16]
    owner = [where for _, step, _, _, where in played.drawn() if step == 37]
    assert [one['skill'] for one in answer['samples']] == [skill for skill, _ in owner]
    assert main(['audit', str(folder / 'run'), '--step', '37']) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith('ids: as of rounds 3 to 4;')


@pytest.fixture
def lost(tmp_path: Path) -> tuple[Path, Played]:
    """A run whose `c` was removed for good, with its index, and whose `b` was written anew, as long as before."""
    launches = [
        Launch({'a': A, 'b': B, 'c': C}, 2),
        Launch({'a': A, 'b': B}, 1),
        Launch({'a': LONGER, 'b': [9, 11]}, 2, a_share=0.5),
    ]
    return tmp_path, play(tmp_path, launches)


def test_streams_that_are_gone_are_refused_by_name_where_they_are_needed(lost: tuple[Path, Played], capsys):
    folder, played = lost
    run = folder / 'run'
    told = refused(capsys, run, '--round', '2')
    assert 'Skill b had 20 samples in the run (rounds 0 to 2)' in told
    assert 'has 20, in other shards: pass the streams folder as it was then as --streams' in told
    shutil.rmtree(folder / 'streams.2' / 'b')
    told = refused(capsys, run, '--round', '4')
    assert f'Skill b has no index at {folder / "streams.2"}' in told
    assert 'which rounds 3 to 4 of the run drew from' in told
    # With `b` as it was, what only lacks `c` or the newest `b` is answered.
    shutil.copytree(folder / 'streams.0' / 'b', folder / 'streams.2' / 'b')
    assert Replay(run).sample_ids(2).tolist() == played.ids[2]
    told = refused(capsys, run, '--round', '1')
    assert 'Skill c has no index at' in told
    assert 'which rounds 0 to 1 of the run drew from' in told
    replay = Replay(run, streams=folder / 'streams.0')
    assert [replay.sample_ids(number).tolist() for number in (0, 1)] == played.ids[:2]


def test_what_does_not_need_a_lost_stream_is_answered(lost: tuple[Path, Played]):
    folder, played = lost
    replay = Replay(folder / 'run')
    of_c = {step for _, step, _, _, (skill, _) in played.drawn() if skill == 'c'}
    of_b = {number for number, *_, (skill, _) in played.drawn() if skill == 'b'}
    assert of_b == set(range(5))
    # Draws of `a` do not depend on what the others had.
    now = last_ids({'a': LONGER, 'b': [9, 11]})
    drawn = [(step, place, now[at]) for _, step, place, _, at in played.drawn() if at[0] == 'a']
    found = replay.draws([number for (skill, _), number in now.items() if skill == 'a'])
    assert [(one.step, one.place, one.sample) for one in found] == drawn
    # Steps without `c`, by the streams of the first launch but `c`.
    shutil.rmtree(folder / 'streams.0' / 'c')
    replay = Replay(folder / 'run', streams=folder / 'streams.0')
    batches = [played.ids[step // 12][step % 12 * 4 : step % 12 * 4 + 4] for step in range(24)]
    without = [step for step in range(24) if step not in of_c]
    assert without
    assert [replay.step_ids(step).tolist() for step in without] == [batches[step] for step in without]
    with pytest.raises(InputError, match='Skill c has no index'):
        replay.step_ids(min(of_c))


def test_a_stream_that_was_written_anew_has_other_samples(lost: tuple[Path, Played], capsys):
    folder, played = lost
    sample = last_ids({'a': LONGER, 'b': [9, 11]})['b', 4]
    answer = asked(capsys, folder / 'run', '--sample', str(sample))['samples'][0]
    drawn = [one for one in played.drawn() if one[4] == ('b', 4) and one[0] >= 3]
    assert [(one['step'], one['place']) for one in answer['draws']] == [one[1:3] for one in drawn]
    assert answer['draws']
    assert answer['rounds_of_other_shards'] == [[0, 2]]
    assert main(['audit', str(folder / 'run'), '--sample', str(sample)]) == 0
    assert 'in rounds 0 to 2 skill b had other shards' in capsys.readouterr().out
