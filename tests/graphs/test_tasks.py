"""Shares of the runs: over machines by `--task`, over the ranks of a launcher."""

import os

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.base.tasks import Task, leave_launcher, parse_task


@pytest.fixture
def rank(monkeypatch: pytest.MonkeyPatch):
    """Be a rank of a launcher's job."""

    def become(rank: int, ranks: int, visible: str | None = None) -> None:
        world = {
            'RANK': rank,
            'LOCAL_RANK': rank,
            'WORLD_SIZE': ranks,
            'LOCAL_WORLD_SIZE': ranks,
            'NODE_RANK': 0,
        }
        world |= {'MASTER_ADDR': 'localhost', 'MASTER_PORT': 1, 'TORCHELASTIC_RUN_ID': 'x'}
        for name, value in world.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible or '')

    return become


def test_shares_are_disjoint_and_complete():
    items = list(range(7))
    shares = [Task(number, 3).share(items) for number in range(3)]
    assert sorted(item for share in shares for item in share) == items


def test_the_parts_of_a_task_have_its_items_and_no_others():
    items = list(range(23))
    for task in (Task(0, 3), Task(2, 3)):
        parts = [task.split(number, 4).share(items) for number in range(4)]
        assert sorted(item for part in parts for item in part) == task.share(items)


@pytest.mark.parametrize('text', ['2/2', '0/0', '1', '-1/2', 'a/b', '0/4/2'])
def test_a_task_that_is_none_is_refused(text: str):
    with pytest.raises(InputError, match='`--task` must be i/n'):
        parse_task(text)


def test_a_process_alone_keeps_its_task(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('WORLD_SIZE', '1')
    assert leave_launcher(Task(1, 3)) == Task(1, 3)


def test_ranks_share_a_task_and_are_on_their_own_afterwards(rank):
    rank(1, 2)
    assert leave_launcher(parse_task('2/3')) == Task(5, 6)
    assert os.environ['CUDA_VISIBLE_DEVICES'] == '1'
    left = {'RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT', 'TORCHELASTIC_RUN_ID'}
    assert not left & set(os.environ)


def test_ranks_take_the_devices_they_may_use(rank):
    rank(1, 2, visible='4,6')
    leave_launcher(Task())
    assert os.environ['CUDA_VISIBLE_DEVICES'] == '6'


def test_more_ranks_than_devices_are_refused(rank):
    rank(2, 3, visible='4,6')
    with pytest.raises(InputError, match='launch 2 ranks'):
        leave_launcher(Task())
