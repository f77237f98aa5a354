"""The shared numbers of a rank's processes: claimed by one at a time, never half read."""

import multiprocessing
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.loader.ledger import CLAIMS, MAX_WORKERS, Ledger, RoundStart
from skillit_stream.order.cursor import Cursors

SHARES = np.array([0.25, 0.75])


def cursors_of(number: int) -> Cursors:
    """Cursors that tell which round they were made for."""
    return Cursors(np.array([number, number + 1]), np.array([[number, 0, 1], [2, 3, number]]))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger of two skills and three canonical nodes at round 5, sample 16."""
    made = Ledger(2, 3, tmp_path / 'lock')
    made.restart(RoundStart(5, cursors_of(5), SHARES), 16)
    return made


def test_a_restart_can_be_read_back(ledger: Ledger):
    assert ledger.base == (5, 16)
    assert ledger.iterations == 0
    assert ledger.proportions(5).tolist() == SHARES.tolist()
    assert ledger.proportions(9).tolist() == SHARES.tolist()
    number, cursors = ledger.latest_cursors(7)
    assert number == 5
    assert cursors.passes.tolist() == cursors_of(5).passes.tolist()
    assert cursors.taken.tolist() == cursors_of(5).taken.tolist()


def test_a_restart_forgets_what_was_before(ledger: Ledger):
    ledger.claim(1)
    ledger.publish_dealt_out(0, 1, 2)
    ledger.publish_proportions(6, np.array([1.0, 0.0]))
    ledger.publish_cursors(6, cursors_of(6))
    ledger.restart(RoundStart(2, cursors_of(2), SHARES), 0)
    assert ledger.iterations == 0
    assert not ledger.is_dealt_out(2, batches=9)
    assert ledger.proportions(6).tolist() == SHARES.tolist()
    assert ledger.latest_cursors(6)[0] == 2


@pytest.mark.parametrize('order', list(permutations('aab')))
def test_those_with_one_key_join_one_iteration_in_whatever_order_they_come(
    ledger: Ledger, order: tuple[str, ...]
):
    keys = {'a': 11, 'b': -22}
    claims = [(one, ledger.claim(keys[one])) for one in order]
    assert len({claim for one, claim in claims if one == 'a'}) == 1
    assert {claim.before for _, claim in claims} == {0, 1}
    assert ledger.iterations == 2
    newest = max(claim for _, claim in claims)
    assert [ledger.is_current(claim) for _, claim in claims] == [claim == newest for _, claim in claims]


def test_claims_without_a_key_are_iterations_of_their_own(ledger: Ledger):
    assert [ledger.claim().before for _ in range(3)] == [0, 1, 2]
    assert ledger.claim(7).before == 3
    assert ledger.claim().before == 4
    assert ledger.claim(7).before == 3


def test_the_newest_iterations_are_remembered_and_the_oldest_forgotten(ledger: Ledger):
    for number in range(CLAIMS + 5):
        assert ledger.claim(number + 1).before == number
    assert ledger.claim(6).before == 5
    assert ledger.claim(5).before == CLAIMS + 5


def test_a_process_that_ends_between_the_stores_of_a_claim_has_claimed_nothing(ledger: Ledger):
    ledger.claim(1)
    ledger._claims[1] = 2
    assert ledger.claim(3).before == 1
    assert ledger.claim(2).before == 2


def test_a_restart_ends_what_was_claimed(ledger: Ledger):
    before = ledger.claim(1)
    ledger.restart(RoundStart(5, cursors_of(5), SHARES), 16)
    assert not ledger.is_current(before)
    assert ledger.claim(1).before == 0
    assert not ledger.is_current(before)


def test_too_many_workers_are_refused(ledger: Ledger):
    with pytest.raises(InputError, match=r'^`num_workers` must be at most 128, but got: 129\.$'):
        ledger.publish_dealt_out(0, MAX_WORKERS + 1, 5)


def test_a_round_is_dealt_out_when_all_its_workers_say_so(ledger: Ledger):
    for worker in (2, 0):
        ledger.publish_dealt_out(worker, 3, 5)
        assert not ledger.is_dealt_out(5, batches=9)
    ledger.publish_dealt_out(1, 3, 4)
    assert not ledger.is_dealt_out(5, batches=9)
    ledger.publish_dealt_out(1, 3, 5)
    assert ledger.is_dealt_out(5, batches=9)
    assert not ledger.is_dealt_out(4, batches=9)
    assert not ledger.is_dealt_out(6, batches=9)


def test_a_round_shorter_than_its_workers_waits_only_for_those_with_batches(ledger: Ledger):
    ledger.publish_dealt_out(0, 3, 5)
    assert not ledger.is_dealt_out(5, batches=2)
    ledger.publish_dealt_out(1, 3, 5)
    assert ledger.is_dealt_out(5, batches=2)


def test_proportions_of_the_round_in_play_stay_readable_while_the_next_are_set(ledger: Ledger):
    for number in range(5, 12):
        current = ledger.proportions(number).tolist()
        for _ in range(2):
            following = np.array([number / 100, 1 - number / 100])
            ledger.publish_proportions(number + 1, following)
            assert ledger.proportions(number).tolist() == current
            assert ledger.proportions(number + 1).tolist() == following.tolist()


def test_cursors_of_two_rounds_stay_readable(ledger: Ledger):
    for number in (6, 7, 8):
        ledger.publish_cursors(number, cursors_of(number))
    assert ledger.latest_cursors(7)[0] == 7
    assert ledger.latest_cursors(100)[0] == 8
    assert ledger.latest_cursors(7)[1].passes.tolist() == [7, 8]


def test_cursors_read_are_a_copy(ledger: Ledger):
    ledger.latest_cursors(5)[1].taken[:] = -1
    assert ledger.latest_cursors(5)[1].taken.tolist() == cursors_of(5).taken.tolist()


def test_rounds_before_the_start_are_an_internal_error(ledger: Ledger):
    with pytest.raises(RuntimeError, match=r'^Internal error: no proportions are known for round 4\.$'):
        ledger.proportions(4)
    with pytest.raises(RuntimeError, match=r'^Internal error: no cursors are known for round 4\.$'):
        ledger.latest_cursors(4)


def tear(ledger: Ledger, number: int) -> None:
    """Leave the records of a round as a writer leaves them that is stopped halfway."""
    for record in (*ledger._proportions, *ledger._cursors):
        if record[0] == number:
            record[-1] += 1


def test_a_half_written_record_is_not_used(ledger: Ledger):
    ledger.publish_proportions(6, np.array([0.5, 0.5]))
    ledger.publish_cursors(6, cursors_of(6))
    tear(ledger, 6)
    assert ledger.proportions(6).tolist() == SHARES.tolist()
    assert ledger.latest_cursors(6)[0] == 5


def test_a_half_written_record_is_written_over(ledger: Ledger):
    ledger.publish_proportions(6, np.array([0.5, 0.5]))
    tear(ledger, 6)
    ledger.publish_proportions(6, np.array([0.1, 0.9]))
    assert ledger.proportions(5).tolist() == SHARES.tolist()
    assert ledger.proportions(6).tolist() == [0.1, 0.9]


def test_what_a_forked_process_publishes_is_seen(ledger: Ledger):
    def publish() -> None:
        ledger.claim(1)
        ledger.publish_cursors(6, cursors_of(6))
        ledger.publish_dealt_out(0, 1, 5)

    process = multiprocessing.get_context('fork').Process(target=publish)
    process.start()
    process.join()
    assert process.exitcode == 0
    assert ledger.iterations == 1
    assert ledger.latest_cursors(6)[0] == 6
    assert ledger.is_dealt_out(5, batches=9)
