"""What is kept of a branch: a file of its own, which counts for this branch alone."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from skillit_stream.forks.records import BranchRecords
from skillit_stream.mixture.trials import Branch

BRANCH = Branch(name='a raised', mixture={'a': 0.75, 'b': 0.25}, steps=20, shuffle_seed=17, half=0)
LOSSES = {'a': 2.0123456789012345, 'b': 1.0}


def test_losses_come_back_as_they_were(tmp_path: Path):
    records = BranchRecords(tmp_path, b'start')
    assert records.missing([BRANCH]) == [BRANCH]
    records.save(BRANCH, LOSSES)
    assert records.load(BRANCH) == LOSSES
    assert records.missing([BRANCH]) == []


@pytest.mark.parametrize(
    'change', [{'mixture': {'a': 0.5, 'b': 0.5}}, {'shuffle_seed': 18}, {'half': 1}, {'steps': 40}]
)
def test_another_branch_of_the_same_name_is_not_taken_for_it(tmp_path: Path, change: dict):
    records = BranchRecords(tmp_path, b'start')
    records.save(BRANCH, LOSSES)
    assert records.load(replace(BRANCH, **change)) is None


def test_a_branch_of_another_start_or_half_written_is_not_done(tmp_path: Path):
    BranchRecords(tmp_path, b'start').save(BRANCH, LOSSES)
    assert BranchRecords(tmp_path, b'another').load(BRANCH) is None
    [path] = tmp_path.iterdir()
    path.write_text(path.read_text()[:20])
    assert BranchRecords(tmp_path, b'start').load(BRANCH) is None


def test_no_two_names_share_a_file(tmp_path: Path):
    names = [
        'a b raised',
        'a-b raised',
        'a+b raised',
        'a/b raised',
        'a%2Fb raised',
        'A B raised',
        '../a raised',
    ]
    for one, other in combinations(names, 2):
        records = BranchRecords(tmp_path / 'records', b'start')
        for number, name in enumerate((one, other)):
            records.save(replace(BRANCH, name=name), {'a': float(number)})
        assert records.load(replace(BRANCH, name=one)) == {'a': 0.0}
    assert [path.name for path in tmp_path.iterdir()] == ['records']
