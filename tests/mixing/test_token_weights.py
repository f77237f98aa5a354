"""The weights of tokens belong to a round: they are written down, saved, and asked for by nobody who does not weigh."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skillit_stream import InputError, MixtureDriver, MixturePolicy, RoundObservation
from skillit_stream.formats.run_log import read_rounds
from skillit_stream.mixing.round_mixture import RoundMixture
from skillit_stream.mixture import LimitedPolicy, Limits
from tests.support.jobs import loader_of
from tests.support.mds import SIZES, ids_of, mixed_dataset

SKILLS = tuple(SIZES)
# What is wanted in each round, and what a ceiling of one half makes of it.
WANTED = [[0.8, 0.1, 0.1], [0.4, 0.3, 0.3], [0.2, 0.2, 0.6]]
DRAWN = [[0.5, 0.25, 0.25], [0.4, 0.3, 0.3], [0.25, 0.25, 0.5]]
WEIGHTS = [[1.6, 0.4, 0.4], None, [0.8, 0.8, 1.2]]


class Moving(MixturePolicy):
    """A mixture for each round."""

    def __init__(self) -> None:
        super().__init__(SKILLS)

    def initial(self) -> NDArray[np.float64]:
        return np.array(WANTED[0])

    def update(self, observation: RoundObservation) -> NDArray[np.float64]:
        return np.array(WANTED[(observation.round + 1) % 3])


def driver_of(root: Path, log: Path | None = None, *, max_weight: float | None = 4.0) -> MixtureDriver:
    policy = LimitedPolicy(Moving(), Limits.build(SKILLS, ceiling=0.5), max_weight=max_weight)
    return MixtureDriver(mixed_dataset(root), policy, log, weighs_tokens=True)


def state_after(driver: MixtureDriver, rounds: int, steps: int) -> dict[str, Any]:
    """Of a driver that has trained so many rounds and steps."""
    driver.start()
    loader = loader_of(driver.dataset, 0)
    for _ in range(rounds):
        list(driver.batches(loader))
        driver.end_round({})
    for _ in zip(range(steps), driver.batches(loader), strict=False):
        pass
    return driver.state_dict()


def weights(driver: MixtureDriver) -> list[float] | None:
    found = driver.token_weights
    return None if found is None else [found[skill] for skill in SKILLS]


def resumed(root: Path, state: dict[str, Any], log: Path | None = None, **options: Any) -> MixtureDriver:
    driver = driver_of(root, log, **options)
    driver.load_state_dict(json.loads(json.dumps(state)))
    driver.start()
    return driver


def test_each_round_has_its_own_and_the_log_says_the_objective(streams_root: Path, tmp_path: Path):
    driver = driver_of(streams_root, tmp_path / 'mixture.jsonl')
    driver.start()
    for number in range(3):
        expected = WEIGHTS[number]
        before = weights(driver)
        ids_of(driver.dataset)
        assert before == weights(driver) == (expected and pytest.approx(expected))
        assert list(driver.dataset.proportions.values()) == pytest.approx(DRAWN[number])
        driver.end_round({})
    rounds = read_rounds(tmp_path / 'mixture.jsonl').rounds
    assert [list(one.objective.values()) for one in rounds] == [
        pytest.approx(WANTED[0]),
        [],
        pytest.approx(WANTED[2]),
    ]
    assert 'objective' not in json.loads((tmp_path / 'mixture.jsonl').read_text().splitlines()[1])


@pytest.mark.parametrize('rounds', [0, 1, 2])
@pytest.mark.parametrize('steps', [0, 5, 12])
def test_a_run_that_stopped_weighs_as_before(streams_root: Path, tmp_path: Path, rounds: int, steps: int):
    log = tmp_path / 'mixture.jsonl'
    again = resumed(streams_root, state_after(driver_of(streams_root, log), rounds, steps), log)
    expected = WEIGHTS[rounds]
    if steps < 12:
        assert weights(again) == (expected and pytest.approx(expected))
        ids_of(again.dataset)
    # All of its steps were trained before, and its end is still to come.
    again.end_round({})
    following = WEIGHTS[(rounds + 1) % 3]
    assert weights(again) == (following and pytest.approx(following))
    last = read_rounds(log).rounds[-1]
    assert last.round == rounds
    assert list(last.objective.values()) == ([] if expected is None else pytest.approx(WANTED[rounds]))


def test_weights_that_are_switched_on_or_off_count_from_the_next_round(streams_root: Path):
    def state(steps: int, **options: Any) -> dict[str, Any]:
        return state_after(driver_of(streams_root, **options), 2, steps)

    at_start, within = state(0, max_weight=None), state(5, max_weight=None)
    assert weights(resumed(streams_root, at_start)) == pytest.approx(WEIGHTS[2])
    assert weights(resumed(streams_root, within)) is None
    at_start, within = state(0), state(5)
    assert weights(resumed(streams_root, at_start, max_weight=None)) is None
    assert weights(resumed(streams_root, within, max_weight=None)) == pytest.approx(WEIGHTS[2])
    assert weights(resumed(streams_root, at_start, max_weight=1.1)) == pytest.approx([0.9, 0.9, 1.1])


def test_a_state_of_before_there_were_weights_has_none(streams_root: Path):
    state = state_after(driver_of(streams_root, max_weight=None), 0, 5)
    del state['mixture']
    assert weights(resumed(streams_root, state)) is None


def test_streams_that_come_and_go_within_a_round_keep_the_weights_of_the_others():
    mixture = RoundMixture(3, {'a': 0.5, 'b': 0.5}, {'a': 0.75, 'b': 0.25})
    assert mixture.token_weights(['b', 'c'], mixture.round) == {'b': 0.5, 'c': 1.0}
    assert mixture.token_weights(['b', 'c'], mixture.round + 1) is None


def test_a_caller_who_does_not_weigh_is_refused(streams_root: Path):
    policy = LimitedPolicy(Moving(), Limits.build(SKILLS, ceiling=0.5), max_weight=4)
    with pytest.raises(InputError, match=r'weighs tokens: .* MixtureDriver\(\.\.\., weighs_tokens=True\)'):
        MixtureDriver(mixed_dataset(streams_root), policy)


def test_an_objective_of_what_is_not_drawn_is_refused(streams_root: Path):
    class Apart(Moving):
        weighs_tokens = True

        def initial(self) -> NDArray[np.float64]:
            return np.array([0.5, 0.5, 0.0])

        def objective(self) -> NDArray[np.float64]:
            return np.array([0.5, 0.25, 0.25])

    driver = MixtureDriver(mixed_dataset(streams_root), Apart(), weighs_tokens=True)
    with pytest.raises(InputError, match=r'has 0.25 of c as its objective, but draws none of it'):
        driver.start()
