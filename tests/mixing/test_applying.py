"""Another policy for a driver's run: taken at a round's end, taken again after a stop, refused where it is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from skillit_stream import MixtureDriver, SkillsGraph, StaticMixture, build_policy
from skillit_stream.formats.applied import (
    REQUEST,
    TAKEN,
    Request,
    pending_request,
    read_taken,
    remove_request,
    write_request,
)
from skillit_stream.formats.run_log import read_rounds
from skillit_stream.mixture import RunContext
from tests.support.mds import SIZES, ids_of, mixed_dataset

SKILLS = tuple(SIZES)
EVEN = {'a': 0.5, 'b': 0.25, 'c': 0.25}
OTHER = {'a': 0.125, 'b': 0.75, 'c': 0.125}
STATIC = {'policy': 'static', 'proportions': OTHER}
GRAPH = {
    'a': {'a': 1.0, 'b': 0.5, 'c': 0.0},
    'b': {'a': 0.0, 'b': 1.0, 'c': 0.25},
    'c': {'a': 0.1, 'b': 0.0, 'c': 1.0},
}
SKILL_IT = {'policy': 'skill_it', 'graph': GRAPH, 'eta': 0.5, 'window': 2}

pytestmark = pytest.mark.filterwarnings(
    'ignore:apply. the run was given', 'ignore:start. ', 'ignore:Skill . will'
)


def losses_of(number: int) -> dict[str, float]:
    return {'a': 3.0 - number / 4, 'b': 2.0 + number / 8, 'c': 1.0}


def driver_of(root: Path, folder: Path, policy: Any = None, **options: Any) -> MixtureDriver:
    return MixtureDriver(
        mixed_dataset(root, **options), policy or StaticMixture(EVEN), folder / 'mixture.jsonl'
    )


def play(driver: MixtureDriver, rounds: range) -> list[list[int]]:
    drawn = []
    for number in rounds:
        drawn.append(ids_of(driver.dataset))
        driver.end_round(losses_of(number + 1))
    return drawn


def mixtures(folder: Path) -> list[dict[str, float]]:
    return [record.proportions for record in read_rounds(folder / 'mixture.jsonl').rounds]


def resumed(root: Path, folder: Path, state: Any) -> MixtureDriver:
    driver = driver_of(root, folder)
    driver.load_state_dict(json.loads(json.dumps(state[0])))
    driver.dataset.load_state_dict(json.loads(json.dumps(state[1])))
    driver.start()
    return driver


def test_without_a_round_it_is_taken_at_the_end_of_the_present_one(streams_root: Path, tmp_path: Path):
    driver = driver_of(streams_root, tmp_path)
    driver.start()
    play(driver, range(1))
    write_request(tmp_path, Request(mixing=STATIC))
    assert pending_request(tmp_path)
    play(driver, range(1, 4))
    assert mixtures(tmp_path) == [EVEN, EVEN, OTHER, OTHER]
    assert pending_request(tmp_path) is None
    assert driver.applied_from == 2
    lines = read_rounds(tmp_path / 'mixture.jsonl').rounds
    assert [line.applied and line.applied['from_round'] for line in lines] == [None, 2, None, None]
    assert lines[1].applied
    assert lines[1].applied['policy']['proportions'] == OTHER
    assert lines[1].notes[0].startswith('apply: the run was given another policy')
    assert [line.next_proportions for line in lines] == [EVEN, OTHER, OTHER, OTHER]


def test_a_policy_begins_as_one_that_has_waited_for_the_round(streams_root: Path, tmp_path: Path):
    write_request(tmp_path, Request(mixing=SKILL_IT, from_round=2))
    driver = driver_of(streams_root, tmp_path)
    driver.start()
    play(driver, range(5))
    graph = SkillsGraph(SKILLS, SKILLS, [list(row.values()) for row in GRAPH.values()])
    context = RunContext(SKILLS, SKILLS, graph)
    waiting = build_policy('skill_it', context, eta=0.5, window=2, start=2, before_start=EVEN)
    (tmp_path / 'waiting').mkdir()
    scheduled = driver_of(streams_root, tmp_path / 'waiting', waiting)
    scheduled.start()
    play(scheduled, range(5))
    assert mixtures(tmp_path) == mixtures(tmp_path / 'waiting')
    assert len({tuple(one.values()) for one in mixtures(tmp_path)}) == 4


@pytest.mark.parametrize('mixing', [STATIC, SKILL_IT], ids=['static', 'skill_it'])
@pytest.mark.parametrize('stop', range(6))
def test_it_goes_on_from_any_round_as_if_it_had_not_stopped(
    streams_root: Path, tmp_path: Path, stop: int, mixing: dict[str, Any]
):
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    for folder in (whole, parts):
        folder.mkdir()
        write_request(folder, Request(mixing=mixing, from_round=3))
    driver = driver_of(streams_root, whole)
    driver.start()
    expected = play(driver, range(6))
    first = driver_of(streams_root, parts)
    first.start()
    drawn = play(first, range(stop))
    state = [first.state_dict(), first.dataset.state_dict(0, True)]
    # It went on to the end, and was killed before there was another checkpoint.
    play(first, range(stop, 6))
    write_request(parts, Request(mixing={'policy': 'stratified'}, written='later'))
    second = resumed(streams_root, parts, state)
    if stop < 3:  # what it had taken comes before what is newer
        drawn += play(second, range(stop, 3))
    remove_request(parts)
    assert drawn + play(second, range(max(stop, 3), 6)) == expected
    assert mixtures(parts) == mixtures(whole)


def test_the_next_round_of_a_request_stays_that_round_after_a_kill(streams_root: Path, tmp_path: Path):
    driver = driver_of(streams_root, tmp_path)
    driver.start()
    state = [driver.state_dict(), driver.dataset.state_dict(0, True)]
    play(driver, range(2))
    write_request(tmp_path, Request(mixing=STATIC))
    play(driver, range(2, 4))
    write_request(tmp_path, Request(mixing=SKILL_IT))
    play(driver, range(4, 6))
    expected = mixtures(tmp_path)
    assert [one.from_round for one in read_taken(tmp_path)] == [3, 5]
    play(resumed(streams_root, tmp_path, state), range(6))
    assert mixtures(tmp_path) == expected
    assert [one.from_round for one in read_taken(tmp_path)] == [3, 5]


def test_the_later_of_two_requests_counts(streams_root: Path, tmp_path: Path):
    driver = driver_of(streams_root, tmp_path)
    driver.start()
    write_request(tmp_path, Request(mixing={'policy': 'stratified'}, from_round=2))
    play(driver, range(1))
    write_request(tmp_path, Request(mixing=STATIC, from_round=3))
    play(driver, range(1, 4))
    assert mixtures(tmp_path) == [EVEN, EVEN, EVEN, OTHER]


MALFORMED = {
    'no JSON': '{"version": 1, "mix',
    'a list': '[1]',
    'no mixture': '{"version": 1}',
    'another version': '{"version": 2, "mixing": {"policy": "stratified"}}',
    'a key that there is not': '{"version": 1, "mixing": {"policy": "stratified"}, "from-round": 9}',
    'no such policy': '{"version": 1, "mixing": {"policy": "statc"}}',
    'no such option': '{"version": 1, "mixing": {"policy": "stratified", "eta": 1}}',
    'a start': '{"version": 1, "mixing": {"policy": "stratified", "start": 3}}',
    'another sum': '{"version": 1, "mixing": {"policy": "static", "proportions": {"a": 0.5, "b": 0.2, "c": 0.2}}}',
    'another skill': '{"version": 1, "mixing": {"policy": "static", "proportions": {"a": 0.5, "z": 0.5}}}',
    'what is not measured': '{"version": 1, "mixing": {"policy": "odm"}}',
    'a loss that is not evaluated': '{"version": 1, "mixing": {"graph": {"a": {"z": 1}, "b": {}, "c": {}}}}',
}


@pytest.mark.parametrize('content', MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_malformed_is_refused_in_one_line_once_and_the_run_goes_on(
    streams_root: Path, tmp_path: Path, content: str
):
    driver = driver_of(streams_root, tmp_path)
    driver.start()
    (tmp_path / REQUEST).write_text(content)
    with pytest.warns(UserWarning, match='apply: refused, the mixture goes on as it is: ') as caught:
        play(driver, range(2))
    told = [str(one.message) for one in caught if str(one.message).startswith('apply')]
    assert len(told) == 1
    assert '\n' not in told[0]
    assert mixtures(tmp_path) == [EVEN, EVEN]
    assert read_rounds(tmp_path / 'mixture.jsonl').rounds[0].notes == (told[0],)
    assert not (tmp_path / TAKEN).exists()
    write_request(tmp_path, Request(mixing=STATIC))
    play(driver, range(2, 4))
    assert mixtures(tmp_path)[-1] == OTHER


def test_a_mixture_that_the_streams_have_too_little_data_for_is_refused(streams_root: Path, tmp_path: Path):
    sizes = {'a': 0.5, 'b': 0.5, 'c': 0.0}
    options = {'on_exhausted': 'error', 'round_size': 8, 'proportions': sizes}
    driver = driver_of(streams_root, tmp_path, StaticMixture(sizes), **options)
    driver.start()
    write_request(
        tmp_path, Request(mixing={'policy': 'static', 'proportions': {'a': 0.0, 'b': 0.0, 'c': 1.0}})
    )
    with pytest.warns(UserWarning, match='refused.*Skill c runs out'):
        play(driver, range(2))
    assert mixtures(tmp_path) == [sizes, sizes]


def test_a_policy_of_ones_own_that_fails_is_refused(streams_root: Path, tmp_path: Path):
    (tmp_path / 'mine.py').write_text(
        'from skillit_stream import MixturePolicy\n\n'
        'class Mine(MixturePolicy):\n'
        '    def initial(self):\n        return 1 / 0\n\n'
        '    def update(self, observation):\n        return 1 / 0\n'
    )
    driver = driver_of(streams_root, tmp_path)
    driver.start()
    write_request(tmp_path, Request(mixing={'policy': f'{tmp_path / "mine.py"}:Mine'}))
    with pytest.warns(UserWarning, match='refused.*ZeroDivisionError'):
        play(driver, range(2))
    assert mixtures(tmp_path) == [EVEN, EVEN]


def test_a_driver_without_a_log_has_no_folder_to_look_into(streams_root: Path):
    driver = MixtureDriver(mixed_dataset(streams_root), StaticMixture(EVEN))
    driver.start()
    play(driver, range(2))
    assert driver.applied_from is None
    assert driver.state_dict()['applied'] is None


def test_the_records_of_what_was_taken_are_not_passed_over_where_they_are_broken(
    streams_root: Path, tmp_path: Path
):
    (tmp_path / TAKEN).write_text('{"version": 1, "taken": [{"from_round": 2}]}')
    with pytest.raises(ValueError, match=r"applied\.json: 'taken\[0\]\.mixing' is missing"):
        driver_of(streams_root, tmp_path).start()


def test_a_run_that_begins_where_something_was_applied_says_what_it_will_take(
    streams_root: Path, tmp_path: Path
):
    driver = driver_of(streams_root, tmp_path)
    driver.start()
    write_request(tmp_path, Request(mixing=STATIC, from_round=2))
    play(driver, range(3))
    again = driver_of(streams_root, tmp_path)
    with pytest.warns(
        UserWarning, match=r'has applied\.json: .* applied at round 2; to begin without, remove'
    ):
        again.start()
    play(again, range(3))
    assert mixtures(tmp_path) == [EVEN, EVEN, OTHER]


@pytest.mark.parametrize(
    'mixing', ['{"policy": ["static"]}', '{"policy": "static", "proportions": [1]}', '{}', '{"targets": 3}']
)
def test_options_of_another_kind_are_refused(streams_root: Path, tmp_path: Path, mixing: str):
    driver = driver_of(streams_root, tmp_path)
    driver.start()
    (tmp_path / REQUEST).write_text(f'{{"version": 1, "mixing": {mixing}}}')
    with pytest.warns(UserWarning, match='apply: refused'):
        play(driver, range(1))
