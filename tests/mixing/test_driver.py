"""The driver of a mixture in a loop of one's own: no Composer, no torch.distributed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from skillit_stream import InputError, MixtureDriver, SkillIt, SkillsGraph, StaticMixture
from skillit_stream.formats.run_log import read_rounds
from tests.support.jobs import loader_of
from tests.support.mds import SIZES, ids_of, mixed_dataset

SKILLS = tuple(SIZES)
STEPS = 48 // 4


def losses_of(number: int) -> dict[str, float]:
    return {'a': 3.0 - number / 4, 'b': 2.0 + number / 8, 'c': 1.0}


def driver_of(root: Path, log: Path | None = None, **options: Any) -> MixtureDriver:
    graph = SkillsGraph(SKILLS, SKILLS, [[1, 0.5, 0], [0, 1, 0.25], [0.1, 0, 1]])
    return MixtureDriver(mixed_dataset(root, **options), SkillIt(graph, eta=0.5), log)


def test_a_loop_of_ones_own_is_driven_and_written_down(streams_root: Path, tmp_path: Path):
    driver = driver_of(streams_root, tmp_path / 'mixture.jsonl')
    driver.start(losses_of(0))
    mixtures = [driver.dataset.next_proportions]
    for number in range(3):
        assert len(ids_of(driver.dataset)) == 48
        mixtures.append(driver.end_round(losses_of(number + 1)))
    before, *rounds = read_rounds(tmp_path / 'mixture.jsonl').records
    assert (before.round, before.losses) == (-1, losses_of(0))
    assert [record.proportions for record in rounds] == mixtures[:3]
    assert [record.step for record in rounds] == [STEPS, 2 * STEPS, 3 * STEPS]
    assert all(record.state and record.state['epoch'] == record.round for record in rounds)
    assert len({tuple(one.values()) for one in mixtures}) == 4


def test_the_eta_that_a_tilt_asks_for_is_in_the_log_and_the_state(streams_root: Path, tmp_path: Path):
    def driver(log: str) -> MixtureDriver:
        policy = SkillIt(SkillsGraph(SKILLS, SKILLS, [[1, 0.5, 0], [0, 1, 0.25], [0.1, 0, 1]]), tilt=2)
        return MixtureDriver(mixed_dataset(streams_root), policy, tmp_path / log)

    def play(driver: MixtureDriver, rounds: range) -> None:
        for number in rounds:
            ids_of(driver.dataset)
            driver.end_round(losses_of(number + 1))

    whole, first, second = (driver(log) for log in ('whole.jsonl', 'parts.jsonl', 'parts.jsonl'))
    whole.start()
    play(whole, range(5))
    first.start()
    play(first, range(2))
    second.dataset.load_state_dict(first.dataset.state_dict(0, True))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    second.start()
    play(second, range(2, 5))
    expected, found = (read_rounds(tmp_path / log).rounds for log in ('whole.jsonl', 'parts.jsonl'))
    assert [one.proportions for one in found] == [one.proportions for one in expected]
    etas = [one.decided['eta'] for one in expected]
    assert [one.decided['eta'] for one in found] == etas
    assert etas == sorted(etas, reverse=True)
    assert etas[0] > etas[2] > 0


@pytest.mark.parametrize('stop', [0, 1, 2, 3])
def test_saved_and_loaded_after_any_round_it_goes_on_the_same(streams_root: Path, tmp_path: Path, stop: int):
    def play(driver: MixtureDriver, rounds: range) -> list[list[int]]:
        drawn = []
        for number in rounds:
            drawn.append(ids_of(driver.dataset))
            driver.observe(losses_of(number))
            driver.end_round(losses_of(number + 1))
        return drawn

    whole = driver_of(streams_root, tmp_path / 'whole.jsonl')
    whole.start()
    expected = play(whole, range(4))
    first = driver_of(streams_root, tmp_path / 'parts.jsonl')
    first.start()
    drawn = play(first, range(stop))
    state = json.loads(json.dumps([first.state_dict(), first.dataset.state_dict(0, True)]))
    second = driver_of(streams_root, tmp_path / 'parts.jsonl')
    second.load_state_dict(state[0])
    second.dataset.load_state_dict(state[1])
    second.start()
    assert drawn + play(second, range(stop, 4)) == expected
    assert (tmp_path / 'parts.jsonl').read_text() == (tmp_path / 'whole.jsonl').read_text()


def loop(driver: MixtureDriver, workers: int = 0) -> Iterator[list[int]]:
    """Two rounds in a loop of one's own: the ids of each batch; none after a round's last batch and after its end."""
    while driver.dataset.next_round < 2 or driver.round < 2:
        for batch in driver.batches(loader_of(driver.dataset, workers)):
            yield ids_of([batch])
        yield []
        driver.end_round(losses_of(driver.round + 1))
        if driver.dataset.next_round == 2:
            return
        yield []


@pytest.mark.parametrize(('before', 'after'), [(0, 0), (1, 2)])
def test_a_state_of_any_moment_goes_on_the_same(
    streams_root: Path, tmp_path: Path, before: int, after: int, release_datasets: Any
):
    whole = driver_of(streams_root, tmp_path / 'whole.jsonl')
    whole.start(losses_of(0))
    expected = list(loop(whole))
    assert len(expected) == 2 * STEPS + 3
    # With workers every process costs: the moments that differ are tried alone.
    stops = range(len(expected)) if before == after == 0 else [1, STEPS, STEPS + 1, STEPS + 5]
    for stop in stops:
        log = tmp_path / f'{stop}.jsonl'
        first = driver_of(streams_root, log)
        first.start(losses_of(0))
        played = loop(first, before)
        drawn = [next(played) for _ in range(stop)]
        state = json.loads(json.dumps(first.state_dict()))
        del played
        second = driver_of(streams_root, log)
        second.load_state_dict(state)
        assert json.loads(json.dumps(second.state_dict())) == state
        second.start()
        rest = list(loop(second, after))
        assert [*filter(None, drawn), *filter(None, rest)] == [*filter(None, expected)], stop
        assert log.read_text() == (tmp_path / 'whole.jsonl').read_text(), stop
        release_datasets()


def test_a_trainer_that_iterates_by_itself_says_how_far_it_is(streams_root: Path):
    first = driver_of(streams_root)
    first.start()
    drawn = ids_of(first.dataset)
    second = driver_of(streams_root)
    second.load_state_dict(first.state_dict(steps=5))
    second.start()
    assert ids_of(second.dataset) == drawn[5 * 4 :]
    with pytest.raises(InputError, match=r'^`steps` must be from 0 to the 12 of a round, but got: 13'):
        first.state_dict(steps=13)


def test_a_round_cannot_end_while_batches_are_left(streams_root: Path):
    driver = driver_of(streams_root)
    driver.start()
    for number, _ in enumerate(driver.batches(loader_of(driver.dataset, 0))):
        if number == 4:
            break
    with pytest.raises(InputError, match=r'^Round 0 cannot end after 5 of its 12 batches: train on all'):
        driver.end_round(losses_of(1))


def test_a_loader_of_another_batch_size_is_refused(streams_root: Path):
    driver = driver_of(streams_root)
    driver.start()
    loader = DataLoader(driver.dataset, batch_size=8)
    with pytest.raises(
        InputError, match=r'^`batch_size` of the DataLoader must be that of the dataset, 4, but got: 8'
    ):
        next(driver.batches(loader))


def test_a_first_mixture_that_comes_too_late_for_the_first_round_is_reported(streams_root: Path):
    driver = driver_of(streams_root)
    iterator = iter(loader_of(driver.dataset, 0))
    with pytest.warns(UserWarning, match=r'^Round 0 has begun with the proportions .* that of round 1\.'):
        driver.start()
    assert len(ids_of(iterator)) == 48
    assert driver.dataset.round == 0


def test_a_loss_that_is_missing_at_the_end_of_a_round_is_named(streams_root: Path):
    driver = driver_of(streams_root)
    driver.start()
    ids_of(driver.dataset)
    with pytest.raises(
        InputError, match=r'^The policy needs the loss of b, but none was measured at the end of round 0'
    ):
        driver.end_round({'a': 1.0, 'c': 1.0})


def test_other_skills_than_the_streams_are_refused_at_once(streams_root: Path):
    with pytest.raises(InputError, match=r'^There is a stream c, but the policy does not name it'):
        MixtureDriver(mixed_dataset(streams_root), StaticMixture({'a': 0.5, 'b': 0.5}))


def test_an_evaluation_inside_a_round_is_written_down_where_it_belongs(streams_root: Path, tmp_path: Path):
    driver = driver_of(streams_root, tmp_path / 'mixture.jsonl')
    driver.start()
    ids_of(driver.dataset)
    driver.observe(losses_of(0))
    driver.observe(losses_of(1), step=5, figures={'accuracy': {'a': 0.5}})
    driver.end_round(losses_of(2))
    [record] = read_rounds(tmp_path / 'mixture.jsonl').records
    # One whose step nobody named has no place in the log.
    assert [(one.step, one.losses, one.accuracy) for one in record.within] == [(5, losses_of(1), {'a': 0.5})]
