"""Audits: the order of past rounds from the run folder and the indexes alone."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streaming import Stream

from skillit_stream.audit.replay import Replay
from skillit_stream.base.errors import InputError
from skillit_stream.cli import main
from skillit_stream.formats.run_log import RoundRecord, RunLog
from skillit_stream.loader.dataset import SkillStreamingDataset
from tests.support.audit_runs import asked, change_line, record_of, refused
from tests.support.mds import SIZES, mixed_dataset, write_stream

MIXTURES = [
    {'a': 0.5, 'b': 0.3, 'c': 0.2},
    {'a': 0.1, 'b': 0.9, 'c': 0.0},
    {'a': 1 / 3, 'b': 1 / 3, 'c': 1 / 3},
    {'a': 0.0, 'b': 0.0, 'c': 1.0},
    {'a': 0.9, 'b': 0.05, 'c': 0.05},
]
ROUND, BATCH = 48, 4
STEPS = ROUND // BATCH


@pytest.fixture(scope='module')
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A streams folder; tests must not change it."""
    root = tmp_path_factory.mktemp('audited')
    for index, (skill, sizes) in enumerate(SIZES.items()):
        write_stream(root / skill / 'train', sizes, index)
    return root


def play(streams: Path, **options: Any) -> tuple[SkillStreamingDataset, list[list[int]], list[RoundRecord]]:
    """Play `MIXTURES` round after round; the dataset, the ids of every round in the order they came, its lines."""
    opened = {skill: Stream(local=str(streams / skill), split='train') for skill in SIZES}
    dataset = mixed_dataset(streams, streams=opened, **options)
    rounds, lines = [], []
    for number, proportions in enumerate(MIXTURES, start=1):
        dataset.set_proportions(proportions)
        rounds.append([int(sample['sample_id']) for sample in dataset])
        lines.append(record_of(dataset, number * dataset.round_size // dataset.global_batch_size))
    return dataset, rounds, lines


def write_run(folder: Path, lines: list[RoundRecord], streams: Path) -> Path:
    """The files of a run that finished the rounds of `MIXTURES`."""
    log = RunLog(folder / 'mixture.jsonl')
    log.start(-1)
    for line in [RoundRecord(round=-1, step=0, losses={'a': 2.5}), *lines]:
        log.append(line)
    (folder / 'config.yaml').write_text(f'streams: {streams}\nseed: 17\n')
    return folder


@pytest.fixture
def played(tmp_path: Path, streams: Path) -> tuple[Path, list[list[int]]]:
    """A run folder with stratified batches, and the ids its rounds drew."""
    _, rounds, lines = play(streams, batching='stratified')
    return write_run(tmp_path / 'run', lines, streams), rounds


@pytest.fixture
def run(played: tuple[Path, list[list[int]]]) -> Path:
    """The run folder alone."""
    return played[0]


def change(path: Path, number: int = 2, **values: Any) -> None:
    """Change keys of the `state` in a line of mixture.jsonl, counted from 1; None takes one out."""
    state = {**json.loads(path.read_text().splitlines()[number - 1])['state'], **values}
    change_line(path, number, state={name: value for name, value in state.items() if value is not None})


@pytest.mark.parametrize('batching', ['random', 'stratified'])
@pytest.mark.parametrize('nodes', [1, 2, 4])
def test_replay_is_the_order_that_was_played(tmp_path: Path, streams: Path, batching: str, nodes: int):
    dataset, rounds, lines = play(streams, batching=batching, num_canonical_nodes=nodes)
    run = write_run(tmp_path / 'run', lines, streams)
    replay = Replay(run)
    # Backwards too: a round must not depend on which were asked for before it.
    for number in (*range(len(rounds)), *reversed(range(len(rounds)))):
        assert replay.sample_ids(number).tolist() == rounds[number]
        assert Replay(run).sample_ids(number).tolist() == dataset.sample_ids(number).tolist()


@pytest.mark.parametrize(
    'options',
    [
        {'shuffle': False},
        {'shuffle_seed': 5, 'shuffle_block_size': 3},
        {'round_size': 36, 'batch_size': 12, 'num_canonical_nodes': 3},
        {'num_canonical_nodes': 1, 'shuffle_block_size': 1 << 15},
        {'stream_fraction': 0.4},
    ],
)
def test_replay_takes_every_setting_from_the_run(tmp_path: Path, streams: Path, options: Mapping[str, Any]):
    _, rounds, lines = play(streams, **options)
    run = write_run(tmp_path / 'run', lines, streams)
    last = len(rounds) - 1
    assert Replay(run).sample_ids(last).tolist() == rounds[last]


def test_every_draw_of_every_sample_is_found_where_it_was(played: tuple[Path, list[list[int]]]):
    run, rounds = played
    flat = np.concatenate(rounds)
    replay = Replay(run)
    draws = list(replay.draws(range(replay.last.samples)))
    assert [draw.step * BATCH + draw.place for draw in draws] == list(range(len(flat)))
    assert [draw.sample for draw in draws] == flat.tolist()
    assert [draw.round for draw in draws] == (np.arange(len(flat)) // ROUND).tolist()
    # No sample comes twice in one pass over its stream.
    assert len({(draw.sample, draw.tape_pass) for draw in draws}) == len(draws)


def test_samples_are_where_the_indexes_say(run: Path, streams: Path):
    # Streams a, b, c of shards of 7, 5, 12, 3 / 10, 10 / 3 samples lie end to end.
    replay = Replay(run)
    homes = replay.homes([0, 7, 26, 27, 46, 47, 49], replay.last)
    assert [(home.skill, home.file.name, home.row) for home in homes] == [
        ('a', 'shard.00000.mds', 0),
        ('a', 'shard.00001.mds', 0),
        ('a', 'shard.00003.mds', 2),
        ('b', 'shard.00000.mds', 0),
        ('b', 'shard.00001.mds', 9),
        ('c', 'shard.00000.mds', 0),
        ('c', 'shard.00000.mds', 2),
    ]
    assert all(home.file.is_file() for home in homes)


def test_a_sample_is_told_with_rounds_and_steps(played: tuple[Path, list[list[int]]], capsys):
    run, rounds = played
    flat = np.concatenate(rounds)
    rare, often = 30, 48
    answer = asked(capsys, run, '--sample', str(often), '--sample', str(rare), '--sample', str(often))
    assert [one['sample'] for one in answer['samples']] == [often, rare]
    assert answer['covered'] == {'rounds': [0, 4], 'steps': [0, 59]}
    for one in answer['samples']:
        at = np.flatnonzero(flat == one['sample'])
        assert one['drawn'] == len(at) > 0
        assert [(draw['step'], draw['place']) for draw in one['draws']] == [divmod(int(i), BATCH) for i in at]
    assert main(['audit', str(run), '--sample', str(rare)]) == 0
    printed = capsys.readouterr().out.splitlines()
    first = answer['samples'][1]['draws'][0]
    assert printed[0].startswith(f'sample {rare}: b, ')
    assert printed[0].endswith(f'shard.00000.mds row 3, drawn {answer["samples"][1]["drawn"]} times')
    assert printed[1] == f'  round {first["round"]}  step {first["step"]}  place {first["place"]}  pass 0'
    assert printed[-1].startswith(
        'covered: rounds 0 to 4, steps 0 to 59; a round begun at step 60 would not be'
    )


def test_a_sample_that_was_not_drawn_is_said_to_be_so(run: Path, capsys: pytest.CaptureFixture[str]):
    log = run / 'mixture.jsonl'
    log.write_text(''.join(log.read_text().splitlines(keepends=True)[:2]))
    drawn = set(Replay(run).sample_ids(0).tolist())
    missed = next(sample for sample in range(50) if sample not in drawn)
    assert main(['audit', str(run), '--sample', str(missed)]) == 0
    assert 'never drawn' in capsys.readouterr().out


def test_a_round_is_summed_up_and_saved(played: tuple[Path, list[list[int]]], tmp_path: Path, capsys):
    run, rounds = played
    out = tmp_path / 'ids.npy'
    answer = asked(capsys, run, '--round', '3', '--out', out)
    assert (answer['first_step'], answer['last_step'], answer['samples']) == (36, 47, 48)
    assert answer['shards'] == 1
    nothing = {'samples': 0, 'different': 0, 'shards': 0}
    assert answer['skills'] == {'a': nothing, 'b': nothing, 'c': {'samples': 48, 'different': 3, 'shards': 1}}
    saved = np.load(out)
    assert saved.dtype == np.int64
    assert saved.tolist() == rounds[3]
    assert [path.name for path in tmp_path.glob('ids*')] == ['ids.npy']
    assert main(['audit', str(run), '--round', '3']) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == 'round 3: steps 36 to 47, 48 samples from 1 shard'
    assert [line.split() for line in printed[1:]][::3] == [
        ['skill', 'samples', 'different', 'shards'],
        ['c', '48', '3', '1'],
    ]


def test_a_step_lists_its_global_batch(played: tuple[Path, list[list[int]]], capsys):
    run, rounds = played
    answer = asked(capsys, run, '--step', '17')
    assert (answer['round'], answer['batch']) == (1, 5)
    assert [one['sample'] for one in answer['samples']] == rounds[1][5 * BATCH : 6 * BATCH]
    assert main(['audit', str(run), '--step', '17']) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == 'step 17: global batch 5 of round 1, 4 samples'
    assert len(printed) == 1 + BATCH


def test_only_the_indexes_are_read_and_another_folder_may_hold_them(run: Path, streams: Path, tmp_path: Path):
    for skill in SIZES:
        (tmp_path / 'indexes' / skill / 'train').mkdir(parents=True)
        index = Path(skill, 'train', 'index.json')
        (tmp_path / 'indexes' / index).write_bytes((streams / index).read_bytes())
    (run / 'config.yaml').unlink()
    found = Replay(run, streams=tmp_path / 'indexes').sample_ids(2)
    assert found.tolist() == Replay(run, streams=streams).sample_ids(2).tolist()


def test_an_audit_needs_neither_torch_nor_streaming(run: Path):
    code = (
        'import sys; from skillit_stream.cli import main\n'
        f'main(["audit", {str(run)!r}, "--round", "1"])\n'
        'print(sorted({"torch", "composer", "streaming"} & set(sys.modules)))'
    )
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip().endswith('[]')


def test_a_half_line_and_a_round_trained_again_do_not_disturb(played: tuple[Path, list[list[int]]]):
    run, rounds = played
    log = run / 'mixture.jsonl'
    lines = log.read_text().splitlines(keepends=True)
    # Rounds 1 and 2 were trained, lost with a crash, and trained again with the mixtures that count.
    lost = [{**json.loads(line), 'proportions': {'a': 1.0, 'b': 0.0, 'c': 0.0}} for line in lines[2:4]]
    counted = [{**line, 'samples': {'a': 48, 'b': 0, 'c': 0}} for line in lost]
    log.write_text(
        ''.join([*lines[:2], *(json.dumps(line) + '\n' for line in counted), *lines[2:], lines[3][:40]])
    )
    assert [Replay(run).sample_ids(number).tolist() for number in range(5)] == rounds


def test_rounds_and_steps_that_have_not_ended_are_refused(run: Path, capsys: pytest.CaptureFixture[str]):
    assert 'must be a round from 0 to 4 (a round' in refused(capsys, run, '--round', '5')
    assert 'once it has ended), but got: -1' in refused(capsys, run, '--round', '-1')
    assert 'must be a step from 0 to 59' in refused(capsys, run, '--step', '60')
    assert '0 to 49, but got: 50' in refused(capsys, run, '--sample', '50')
    assert '0 to 49, but got: -3' in refused(capsys, run, '--sample', '3', '--sample', '-3')
    (run / 'mixture.jsonl').write_text('')
    assert 'none has' in refused(capsys, run, '--round', '0')
    assert 'none has' in refused(capsys, run, '--step', '0')
    assert 'no round that has ended' in refused(capsys, run, '--sample', '0')


def test_wrong_usage_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert 'name the round with --round' in refused(capsys, run, '--step', '0', '--out', 'x.npy')
    nowhere = tmp_path / 'nowhere' / 'x.npy'
    assert f'`--out` cannot be written to {nowhere}' in refused(capsys, run, '--round', '0', '--out', nowhere)
    assert '`--out` cannot be written' in refused(capsys, run, '--round', '0', '--out', run)
    assert not list(tmp_path.glob('*.tmp'))
    with pytest.raises(SystemExit):
        main(['audit', str(run)])
    assert 'one of the arguments --sample --round --step is required' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('name', 'told'),
    [('mixture.jsonl', 'no round'), ('config.yaml', 'as --streams')],
)
def test_missing_files_are_named(run: Path, capsys: pytest.CaptureFixture[str], name: str, told: str):
    (run / name).unlink()
    line = refused(capsys, run, '--round', '0')
    assert name in line
    assert told in line
    assert 'There is no run folder' in refused(capsys, run / 'other', '--round', '0')


def test_broken_files_are_named(run: Path, capsys: pytest.CaptureFixture[str]):
    config = run / 'config.yaml'
    for text, told in [('streams: [', 'is not YAML'), ('seed: 1', 'does not name'), ('- a', 'does not name')]:
        config.write_text(text)
        assert told in refused(capsys, run, '--round', '0')
    config.write_text('streams: s3://bucket/streams')
    assert 'pass a local copy' in refused(capsys, run, '--round', '0')
    change_line(run / 'mixture.jsonl', 2, state=None, version=1)
    told = refused(capsys, run, '--round', '0', '--streams', run)
    assert 'mixture.jsonl:2 has no `state`: lines of version 1' in told
    change_line(run / 'mixture.jsonl', 2, state=[1])
    assert "mixture.jsonl:2: 'state' must be" in refused(capsys, run, '--round', '0', '--streams', run)


@pytest.mark.parametrize(
    ('values', 'told'),
    [
        ({'shuffle': None}, "'state.shuffle' is missing"),
        ({'shuffle': 1}, "'state.shuffle' must be true or false"),
        ({'shuffle_seed': '17'}, "'state.shuffle_seed' must be a whole number"),
        ({'streams': {'a': {}}}, "'state.streams.a.samples' is missing"),
        ({'streams': {'a': {'samples': '27'}}}, "'state.streams.a.samples' must be a whole number"),
        ({'batching': 'sorted'}, '`batching` must be one of random, stratified'),
        ({'round_size': 50}, '`round_size` must be a positive multiple'),
        ({'round_size': 96}, 'ended at step 12 with other samples'),
        ({'proportions': {'a': 0.5, 'b': 0.5}}, 'lacks the proportion or the pass of skill c'),
        ({'proportions': {'a': 0.5, 'b': 0.5, 'c': 0.5}}, 'must sum to 1'),
    ],
)
def test_a_state_that_does_not_fit_is_refused(run: Path, capsys, values: Mapping[str, Any], told: str):
    change(run / 'mixture.jsonl', **values)
    line = refused(capsys, run, '--round', '0')
    assert told in line
    assert 'mixture.jsonl:2' in line


@pytest.mark.parametrize(
    ('values', 'told'),
    [
        ({'proportions': [1]}, "'proportions' must be a mapping of names"),
        ({'samples': {'a': 48, 'b': 0, 'c': 0}}, 'its order cannot be recomputed'),
        ({'step': 'x'}, "'step' must be a whole number"),
        ({'state': {}}, "'state.proportions' is missing"),
    ],
)
def test_a_line_that_does_not_fit_is_refused(run: Path, capsys, values: Mapping[str, Any], told: str):
    change_line(run / 'mixture.jsonl', 3, **values)
    line = refused(capsys, run, '--round', '1')
    assert told in line
    assert 'mixture.jsonl:3' in line


def test_a_round_is_answered_from_its_line_alone(played: tuple[Path, list[list[int]]], capsys):
    run, rounds = played
    lines = (run / 'mixture.jsonl').read_text().splitlines(keepends=True)
    (run / 'mixture.jsonl').write_text('no JSON at all\n' + lines[4])
    assert Replay(run).sample_ids(3).tolist() == rounds[3]
    told = refused(capsys, run, '--sample', '3')
    assert 'mixture.jsonl:1 is not JSON' in told


def test_a_log_that_lacks_a_round_cannot_say_when_a_sample_was_drawn(run: Path, capsys):
    lines = (run / 'mixture.jsonl').read_text().splitlines(keepends=True)
    (run / 'mixture.jsonl').write_text(''.join([*lines[:3], *lines[4:]]))
    assert 'is round 3, but round 2 is not in the file' in refused(capsys, run, '--sample', '3')


def test_changed_streams_are_refused_by_name(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for index, (skill, sizes) in enumerate({**SIZES, 'b': [10, 9]}.items()):
        write_stream(tmp_path / 'other' / skill / 'train', sizes, index)
    told = refused(capsys, run, '--round', '0', '--streams', tmp_path / 'other')
    assert 'Skill b had 20 samples in the run' in told
    assert 'has 19' in told
    index = tmp_path / 'other' / 'a' / 'train' / 'index.json'
    for text in ('{', '{}', '{"shards": [{"samples": -1}]}', '{"shards": [3]}'):
        index.write_text(text)
        assert 'Skill a has a broken index' in refused(
            capsys, run, '--round', '0', '--streams', tmp_path / 'other'
        )
    index.unlink()
    assert 'Skill a has no index at' in refused(capsys, run, '--round', '0', '--streams', tmp_path / 'other')


def test_the_library_raises_what_the_command_prints(run: Path):
    with pytest.raises(InputError, match=r'a round from 0 to 4'):
        Replay(run).sample_ids(7)
