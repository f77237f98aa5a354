"""A log that cannot be read is refused before anything is trained, and nothing of it is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def log(trained: Callable[..., None], run_folder: Path) -> Path:
    """mixture.jsonl of a run of two rounds, and an evaluation before them."""
    trained()
    return run_folder / 'mixture.jsonl'


def test_a_byte_order_mark_does_not_make_a_run_no_run(log: Path, refused: Callable[..., str]):
    marked = b'\xef\xbb\xbf' + log.read_bytes()
    log.write_bytes(marked)
    assert 'There is a run in' in refused()
    assert log.read_bytes() == marked


@pytest.mark.parametrize('override', [(), ('autoresume=true', 'max_duration=3ep')])
def test_a_damaged_line_is_refused_with_its_number_by_a_fresh_run_and_a_resumed_one(
    log: Path, refused: Callable[..., str], override: tuple[str, ...]
):
    lines = log.read_bytes().splitlines(keepends=True)
    damaged = b''.join([lines[0], lines[1][:30] + b'\n', *lines[2:]])
    log.write_bytes(damaged)
    assert f'{log}:2 is not JSON' in refused(*override)
    assert log.read_bytes() == damaged


def test_starting_over_needs_no_log_that_can_be_read(log: Path, trained: Callable[..., None]):
    log.write_bytes(b'no JSON\n')
    trained('save_overwrite=true')
    assert log.read_bytes().count(b'\n') == 3


def test_a_last_line_that_breaks_off_is_trained_again(log: Path, trained: Callable[..., None]):
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"version": 2, "round": 2, "st')
    trained('autoresume=true', 'max_duration=3ep')
    assert log.read_bytes().startswith(whole)
    assert log.read_bytes().count(b'\n') == 4
