"""mixture.jsonl: one writer and one reader, which agree; nothing that cannot be read is lost."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.formats.run_log import (
    Evaluation,
    RoundRecord,
    RunLog,
    Trained,
    find_round,
    has_rounds,
    parse_line,
    read_rounds,
)

SKILLS = st.dictionaries(st.text(min_size=1, max_size=4), st.floats(0, 9), max_size=3)


def write(path: Path, rounds: int) -> list[bytes]:
    """A log of some rounds; its lines."""
    log = RunLog(path)
    log.start(-1)
    for number in range(rounds):
        log.append(RoundRecord(round=number, step=6 * number + 6, proportions={'a': 1.0}, losses={'a': 2.5}))
    return path.read_bytes().splitlines(keepends=True)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(-1, 99),
    st.integers(0, 999),
    SKILLS,
    SKILLS,
    st.lists(st.builds(Evaluation, step=st.integers(0, 9), losses=SKILLS), max_size=2),
    st.none() | st.fixed_dictionaries({'epoch': st.integers(0, 9)}),
)
def test_a_line_is_read_as_it_was_written(number, step, proportions, losses, within, state):
    record = RoundRecord(
        round=number,
        step=step,
        version=2,
        proportions=proportions,
        losses=losses,
        within=tuple(within),
        state=state,
        train_losses=losses or None,
        notes=('a note',),
        trained=Trained(loss=2.5, learning_rate=0.001, tokens=4096) if losses else None,
    )
    assert parse_line(record.to_line().encode(), where='x:1') == record


def test_a_damaged_line_is_refused_with_file_line_and_remedy_and_nothing_is_lost(tmp_path: Path):
    path = tmp_path / 'mixture.jsonl'
    lines = write(path, 6)
    damaged = b''.join([*lines[:2], b'{"round": 2, "st\n', *lines[3:]])
    path.write_bytes(damaged)
    message = rf'^{path}:3 is not JSON .*: restore the file, or remove the line'
    for refused in (lambda: RunLog(path).start(6), lambda: read_rounds(path), lambda: has_rounds(path)):
        with pytest.raises(InputError, match=message):
            refused()
        assert path.read_bytes() == damaged
    assert [file.name for file in tmp_path.iterdir()] == ['mixture.jsonl']


def test_a_last_line_that_breaks_off_is_passed_over_and_written_again(tmp_path: Path):
    path = tmp_path / 'mixture.jsonl'
    lines = write(path, 3)
    path.write_bytes(b''.join(lines[:2]) + lines[2][:20])
    found = read_rounds(path)
    assert [record.round for record in found.records] == [0, 1]
    assert found.half_written == 1
    RunLog(path).start(2)
    assert path.read_bytes() == b''.join(lines[:2])


def test_a_last_line_that_is_whole_and_broken_is_refused(tmp_path: Path):
    path = tmp_path / 'mixture.jsonl'
    lines = write(path, 2)
    path.write_bytes(lines[0] + b'{"round": 1\n')
    with pytest.raises(InputError, match=rf'^{path}:2 is not JSON'):
        read_rounds(path)


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path):
    path = tmp_path / 'mixture.jsonl'
    lines = write(path, 2)
    path.write_bytes(b'\xef\xbb\xbf' + b''.join(lines))
    assert has_rounds(path)
    assert [record.round for record in read_rounds(path).records] == [0, 1]
    RunLog(path).start(1)
    assert path.read_bytes() == lines[0]


def test_rounds_that_are_trained_again_are_dropped_and_the_others_kept_to_the_byte(tmp_path: Path):
    path = tmp_path / 'mixture.jsonl'
    lines = write(path, 4)
    RunLog(path).start(2)
    assert path.read_bytes() == b''.join(lines[:2])


def test_a_round_written_again_counts_as_the_newer_one_says(tmp_path: Path):
    path = tmp_path / 'mixture.jsonl'
    write(path, 3)
    RunLog(path).append(RoundRecord(round=1, step=12, losses={'a': 1.0}))
    found = read_rounds(path)
    assert [record.round for record in found.records] == [0, 1]
    assert found.replaced == 2
    again = find_round(path, 1)
    assert again is not None
    assert again.losses == {'a': 1.0}
    assert find_round(path, 7) is None


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('', 'is an empty line'),
        ('[1]', 'must be a JSON object'),
        ('{"step": 1}', "'round' is missing"),
        ('{"round": true, "step": 1}', "'round' must be a whole number, but got: True"),
        ('{"round": 1, "step": "x"}', "'step' must be a whole number, but got: 'x'"),
        ('{"round": 1, "step": 1, "losses": [2]}', "'losses' must be a mapping of names"),
        ('{"round": 1, "step": 1, "losses": {"a": "x"}}', "'losses.a' must be a number"),
        ('{"round": 1, "step": 1, "within": 3}', "'within' must be a list"),
        ('{"round": 1, "step": 1, "within": [{"losses": {}}]}', r"'within\[0\].step' is missing"),
    ],
)
def test_lines_that_are_no_rounds_are_refused(line: str, message: str):
    with pytest.raises(InputError, match=rf'^f:9:? ?.*{message}.*restore the file'):
        parse_line(line.encode(), where='f:9')


def test_null_stands_for_a_loss_that_is_not_a_number_and_later_keys_are_passed_over():
    record = parse_line(b'{"round": 1, "step": 1, "losses": {"a": null}, "of_later": 1}', where='f:1')
    assert math.isnan(record.losses['a'])
    assert record.version == 1


def test_losses_that_are_no_numbers_are_written_as_strict_json():
    within = (Evaluation(step=3, losses={'a': math.inf}),)
    record = RoundRecord(round=1, step=6, losses={'a': math.nan, 'b': 2.0}, within=within)
    line = record.to_line()
    assert 'NaN' not in line
    assert 'Infinity' not in line
    read = parse_line(line.encode(), where='f:1')
    assert math.isnan(read.losses['a'])
    assert read.losses['b'] == 2.0
    assert math.isnan(read.within[0].losses['a'])


def test_lines_hold_no_more_than_there_is():
    line = json.loads(RoundRecord(round=0, step=6).to_line())
    figures = {'proportions', 'realised', 'samples', 'passes', 'losses'}
    assert set(line) == {'version', 'round', 'step', *figures, 'seconds', 'stalled_seconds', 'eval_seconds'}
