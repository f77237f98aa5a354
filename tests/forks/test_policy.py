"""The policy `forks` by itself: when it asks for branches, what it makes of their losses, what it costs."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import RoundObservation, build_policy
from skillit_stream.mixture.trials import Branch, Found

SKILLS = ['a', 'b', 'c']
ROUNDS, STEPS_A_ROUND, BATCH = 20, 50, 8
# 3 skills, 3 repeats and 3 pairs, of 4 steps: 48 of 1,000.
OPTIONS = {'every': 4, 'steps': 4}
EVEN = dict.fromkeys(SKILLS, 1 / 3)
Law = Callable[[Branch], Mapping[str, float]]


def forks(**changes):
    known = {'skills': SKILLS, 'eval_skills': [*SKILLS, 'x'], 'sizes': dict.fromkeys(SKILLS, 10**6)}
    known |= {'rounds': ROUNDS, 'run_steps': ROUNDS * STEPS_A_ROUND}
    known |= {'round_size': STEPS_A_ROUND * BATCH, 'round_steps': STEPS_A_ROUND}
    return build_policy('forks', **{**known, **OPTIONS, **changes})


def after(number: int, found: Found | None = None, mixture: Mapping[str, float] = EVEN) -> RoundObservation:
    drawn = dict(zip(SKILLS, [(number + 1) * STEPS_A_ROUND * BATCH, 0, 0], strict=True))
    return RoundObservation(number, {}, proportions=mixture, samples_seen=drawn, trial=found)


def linear(slopes: Mapping[str, float], noise: float = 1e-4) -> Law:
    """The loss on x is 2 less the slopes times the mixture, that on each skill 2 less a tenth of its proportion, and
    each order adds its own."""

    def losses(branch: Branch) -> dict[str, float]:
        order = noise * np.sin(branch.shuffle_seed)
        own = {skill: 2 - 0.1 * branch.mixture[skill] + order for skill in SKILLS}
        return {**own, 'x': 2 - sum(slopes.get(s, 0) * p for s, p in branch.mixture.items()) + order}

    return losses


def found_by(policy, observation: RoundObservation, law: Law) -> tuple[Found, list[list[Branch]]]:
    trial = policy.trial(observation)
    asked = [next(trial)]
    while True:
        try:
            asked.append(trial.send([law(branch) for branch in asked[-1]]))
        except StopIteration as ended:
            return ended.value, asked


def test_branches_are_a_skill_half_way_repeats_in_other_orders_and_pairs_of_one_order():
    _, (first, pairs) = found_by(forks(targets=['x']), after(3), linear({'a': 0.3}))
    assert [one.name for one in first] == [
        'a raised',
        'b raised',
        'c raised',
        'present 1',
        'present 2',
        'present 3',
    ]
    assert list(first[0].mixture.values()) == pytest.approx([4 / 6, 1 / 6, 1 / 6])
    # The run's own order, but for the repeats.
    assert [one.shuffle_seed for one in first] == [0, 0, 0, 0, 1, 2]
    assert {one.half for one in first} == {0}
    assert {one.half for one in pairs} == {1}
    for present, chosen in zip(pairs[0::2], pairs[1::2], strict=True):
        assert present.shuffle_seed == chosen.shuffle_seed not in (0, 1, 2)
        assert present.mixture == EVEN
    assert {one.steps for one in (*first, *pairs)} == {4}


def test_a_confirmed_gain_moves_the_mixture_as_far_as_the_branches_reached():
    policy = forks(targets=['x'])
    found, _ = found_by(policy, after(3), linear({'a': 0.3}))
    assert found['verdict'] == 'take it'
    assert found['mixture'] == pytest.approx({'a': 2 / 3, 'b': 1 / 6, 'c': 1 / 6}, abs=2e-6)
    # 0.3 times the third by which a is raised.
    assert found['confirmed'] == pytest.approx(0.1, abs=1e-5)
    assert (found['branches'], found['steps'], found['steps_so_far'], found['most_steps']) == (12, 48, 48, 50)
    assert json.loads(json.dumps(found)) == found
    assert policy.update(after(3, found)).tolist() == list(found['mixture'].values())
    assert policy.notes()[0].startswith('forks: take it: 0.1000 nats per token lower')


def test_a_gain_below_the_least_that_counts_moves_nothing():
    found, _ = found_by(forks(targets=['x'], min_gain=0.2), after(3), linear({'a': 0.3}))
    assert (found['verdict'], found['mixture']) == ('stay', None)
    assert 'no gain above 0.2 nats per token and noise' in found['reason']
    assert (
        found_by(forks(targets=['x'], min_gain=0.05), after(3), linear({'a': 0.3}))[0]['verdict'] == 'take it'
    )


def test_the_mean_of_what_is_trained_on_evenly_cannot_gain_and_nothing_moves():
    policy = forks(targets=SKILLS)
    rng = np.random.default_rng(0)
    flat = linear({})
    # Each branch moves the losses apart; their mean it does not move, but for noise.
    found, _ = found_by(
        policy, after(3), lambda one: {k: v + 1e-3 * rng.normal() for k, v in flat(one).items()}
    )
    assert found['verdict'] in ('stay', 'cannot tell')
    assert found['mixture'] is None
    assert policy.update(after(3, found)).tolist() == list(EVEN.values())


def test_where_branches_differ_little_more_than_orders_do_the_pairs_decide():
    found, asked = found_by(forks(targets=['x']), after(3), linear({'a': 0.3}, noise=0.03))
    assert found['verdict'] == 'take it'
    assert len(asked) == 2


def test_a_branch_that_diverges_or_cannot_be_trained_moves_nothing():
    law = linear({'a': 0.3})
    found, _ = found_by(
        forks(targets=['x']), after(3), lambda one: {**law(one), 'b': float('nan') if one.half else 1.0}
    )
    assert found['mixture'] is None
    assert found['reason'] == "the loss of 'b' is no finite number after the branch 'pair 1 present'"
    trial: Any = forks().trial(after(3))
    next(trial)
    with pytest.raises(StopIteration) as ended:
        trial.throw(InputError('Skill a runs out in round 4'))
    assert ended.value.value['reason'] == 'Skill a runs out in round 4'
    assert ended.value.value['steps'] == 0


def test_branches_are_due_every_so_many_rounds_and_never_after_the_last():
    policy = forks(max_cost=1)
    assert [one for one in range(ROUNDS) if policy.trial(after(one))] == [3, 7, 11, 15]


def test_what_is_spent_is_remembered_and_nothing_more_is_asked_for():
    policy = forks(targets=['x'])
    found, _ = found_by(policy, after(3), linear({'a': 0.3}))
    moved = policy.update(after(3, found))
    other = forks(targets=['x'])
    other.load_state_dict(json.loads(json.dumps(policy.state_dict())))
    assert other.trial(after(7)) is None
    assert other.update(after(7)).tolist() == moved.tolist()
    assert other.notes() == ['forks: no branches after round 7: 48 of at most 50 steps of branches']


def test_with_a_start_the_first_branches_are_where_it_begins_and_the_mixture_of_before_stays():
    policy = forks(targets=['x'], start=3, before_start={'a': 0.5, 'b': 0.25, 'c': 0.25})
    before = dict(zip(SKILLS, policy.initial().tolist(), strict=True))
    assert [policy.trial(after(one, mixture=before)) for one in (0, 1)] == [None, None]
    found, (first, _) = found_by(policy, after(2, mixture=before), linear({'a': 0.3}))
    assert first[3].mixture == before
    assert policy.update(after(2, found, mixture=before)).tolist() == list(found['mixture'].values())
    stays = forks(start=3, before_start=before)
    assert stays.update(after(2, mixture=before)).tolist() == list(before.values())
    assert stays.trial(after(5, mixture=before)) is None
    assert stays.trial(after(6, mixture=before)) is not None


def test_no_skill_is_raised_beyond_what_is_left_of_its_stream():
    sizes = {'a': 4000, 'b': 10**6, 'c': 10**6}
    found, _ = found_by(forks(targets=['x'], sizes=sizes, max_passes=1), after(3), linear({'a': 0.3}))
    # 1,600 were drawn of it; 6,400 samples of the run are left, of which 2,400 may be of a.
    assert found['mixture']['a'] == pytest.approx(2400 / 6400, abs=1e-5)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'max_cost': 0.04},
            'max_cost=0.04 of 1,000 steps is 40 steps, but one set of branches takes 48 .*0.048',
        ),
        ({'max_cost': 0}, 'max_cost must be above 0'),
        ({'every': 0}, 'every must be a whole number, 1 or more'),
        ({'steps': 0}, 'steps must be a whole number, 1 or more'),
        ({'repeats': 1}, 'repeats must be a whole number, 2 or more'),
        ({'confirm': 1}, 'confirm must be a whole number, 2 or more'),
        ({'min_gain': -0.1}, 'min_gain must be'),
        ({'max_passes': 0}, 'max_passes must be above 0'),
        ({'targets': ['y']}, "targets names 'y', which is not evaluated"),
        ({'targets': []}, 'targets must name at least one skill'),
        ({'floor': 0.1}, 'takes a mixture as its branches have confirmed it: leave out floor'),
        ({'ceiling': 0.5}, 'leave out ceiling'),
        ({'rounds': None}, 'needs the length of the run, but got none: give max_duration in ep'),
        ({'skills': ['a']}, 'needs two train skills'),
        ({'evry': 3}, "has no option 'evry'; did you mean 'every'"),
    ],
)
def test_what_it_cannot_do_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        forks(**changes)


def test_a_run_that_would_end_before_any_branch_is_refused_unless_it_starts_with_some():
    with pytest.raises(InputError, match='every must be less than the 20 rounds of the run, but got: 20'):
        forks(every=20).initial()
    waits = forks(every=20, start=19, max_cost=1)
    waits.initial()
    assert waits.trial(after(17)) is None
    assert waits.trial(after(18)) is not None


def test_its_options_must_be_given():
    with pytest.raises(InputError, match="policy 'forks' needs the option 'every'"):
        build_policy('forks', skills=SKILLS, eval_skills=SKILLS, steps=4)


@pytest.mark.parametrize('run_steps', [240, 241, 250, 999])
def test_the_cost_that_a_refusal_asks_for_pays_for_a_look(run_steps: int):
    length = {'rounds': 10, 'run_steps': run_steps, 'every': 2, 'steps': 20}
    with pytest.raises(InputError, match='raise it to') as refused:
        forks(**length, max_cost=0.01)
    cost = float(re.search(r'raise it to ([\d.]+)', str(refused.value))[1])  # pyright: ignore[reportOptionalSubscript]
    policy: Any = forks(**length, max_cost=cost)
    assert policy.steps_a_set <= policy.most_steps < policy.steps_a_set + 0.002 * run_steps


def test_branches_that_the_rest_of_the_run_is_too_short_for_are_refused_or_named():
    with pytest.raises(InputError, match='where 200 steps are left, and take 201'):
        forks(every=16, steps=201, max_cost=10).initial()
    policy = forks(every=8, steps=201, max_cost=10)
    policy.initial()
    assert policy.trial(after(7)) is not None
    assert policy.trial(after(15)) is None
    policy.update(after(15))
    assert policy.notes() == ['forks: no branches after round 15: a branch takes 201 steps, and 200 are left']
