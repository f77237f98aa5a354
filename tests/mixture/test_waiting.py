"""A policy that begins inside the run."""

from typing import Any

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import MixturePolicy, RoundObservation, SkillsGraph, build_policy

SKILLS = ['a', 'b']
GRAPH = SkillsGraph(SKILLS, SKILLS, [[1, 0.5], [0, 1]])
LOSSES = [(4.0, 3.0), (3.0, 3.0), (2.0, 2.5), (1.5, 2.5), (1.0, 2.0), (1.0, 1.0)]


def build(name: str = 'skill_it', **options: Any) -> MixturePolicy:
    """A policy of a run of six rounds of 100 samples."""
    if name == 'skill_it':
        options = {'eta': 0.5, **options}
    sizes = {'a': 300, 'b': 100}
    return build_policy(
        name, skills=SKILLS, eval_skills=SKILLS, graph=GRAPH, sizes=sizes, rounds=6, round_size=100, **options
    )


def shown(number: int) -> RoundObservation:
    """The evaluation at the end of a round."""
    return RoundObservation(number, dict(zip(SKILLS, LOSSES[number], strict=True)))


def mixtures(policy: MixturePolicy, rounds: int = 6) -> list[list[float]]:
    """The mixtures of the rounds."""
    return [
        policy.initial().tolist(),
        *(policy.update(shown(number)).tolist() for number in range(rounds - 1)),
    ]


@pytest.mark.parametrize(
    ('before', 'expected'),
    [('stratified', [0.5, 0.5]), ('proportional', [0.75, 0.25]), ({'a': 0.1, 'b': 0.9}, [0.1, 0.9])],
)
def test_until_the_start_the_mixture_is_the_one_that_was_given(before: object, expected: list[float]):
    found = mixtures(build(start=3, before_start=before))
    assert found[:3] == [pytest.approx(expected)] * 3
    assert found[3] != pytest.approx(expected)


def test_skill_it_begins_by_the_losses_of_the_round_before_and_has_none_from_earlier():
    found = mixtures(build(start=3, window=3))
    # exp(eta A L), A L = (L_a + L_b / 2, L_b), L of round 2, then of rounds 2 and 3.
    for number, losses in ((3, (2.0, 2.5)), (4, (3.5, 5.0))):
        gain = np.exp(0.5 * np.array([losses[0] + losses[1] / 2, losses[1]]))
        assert found[number] == pytest.approx((gain / gain.sum()).tolist())


def test_from_the_start_on_it_is_a_run_of_its_own():
    options = {'mixtures': [{'a': 1, 'b': 0}, {'a': 0, 'b': 1}]}
    found = mixtures(build('schedule', start=2, **options))
    assert found == [[0.5, 0.5]] * 2 + [[1, 0]] * 2 + [[0, 1]] * 2


def test_a_policy_that_needs_losses_before_training_gets_those_of_its_start():
    waiting = build(start=2, lag=1)
    assert not waiting.needs_initial_losses
    found = mixtures(waiting)
    whole = build(lag=1)
    whole.observe(RoundObservation(-1, shown(1).eval_losses))
    expected = [
        whole.initial().tolist(),
        *(whole.update(RoundObservation(n, shown(n + 2).eval_losses)).tolist() for n in range(3)),
    ]
    assert found[2:] == expected


def test_where_it_begins_is_noted_once():
    policy, noted = build(start=2), []
    policy.initial()
    for number in range(5):
        policy.update(shown(number))
        noted += [(number, note) for note in policy.notes() if 'begins' in note]
    assert noted == [(1, 'start: skill_it begins with round 2')]


def test_limits_hold_before_the_start_too():
    assert (
        mixtures(build(start=2, before_start={'a': 1, 'b': 0}, floor=0.2))[:2]
        == [pytest.approx([0.8, 0.2])] * 2
    )


def test_a_start_of_0_is_no_start():
    assert mixtures(build(start=0)) == mixtures(build())
    assert 'start' not in build(start=0).describe()


def test_a_state_of_a_run_without_a_start_goes_on_as_it_was():
    steady, other = build(), build(start=2)
    steady.initial()
    steady.update(shown(0))
    other.load_state_dict(steady.state_dict())
    assert other.update(shown(1)).tolist() == steady.update(shown(1)).tolist()


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'start': 6}, 'start must be a round of the run, which has 6, but got: 6'),
        ({'start': -1}, 'start must be'),
        ({'start': 1.5}, 'start must be'),
        ({'before_start': 'stratified'}, "'before_start' is the mixture until 'start'"),
        ({'start': 2, 'before_start': 'even'}, "before_start must be one of 'stratified', 'proportional'"),
        ({'start': 2, 'before_start': {'a': 1}}, 'before_start'),
    ],
)
def test_what_is_no_start_is_refused(options: dict, problem: str):
    with pytest.raises(InputError, match=problem):
        build(**options)
