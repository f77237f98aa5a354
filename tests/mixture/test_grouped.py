"""Streams in groups: a group's proportion is shared evenly, and its policy sees sums."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import (
    RoundObservation,
    RunContext,
    SkillIt,
    SkillsGraph,
    StaticMixture,
    build_policy,
)
from skillit_stream.mixture.explain import explain_rounds
from skillit_stream.mixture.grouped import GroupedPolicy, context_of_groups, groups_of

STREAMS = ['qa--one', 'qa--two', 'code--one', 'qa--three']
GROUPS = {'code': ['code--one'], 'qa': ['qa--one', 'qa--two', 'qa--three']}
GRAPH = SkillsGraph(['code', 'qa'], ['x'], [[0.0], [1.0]])


def test_names_say_of_which_group_a_stream_is():
    assert groups_of('--', STREAMS) == GROUPS
    assert groups_of({**GROUPS, 'of no stream here': ['other']}, STREAMS) == GROUPS


@pytest.mark.parametrize(
    ('given_groups', 'message'),
    [
        ('++', r'groups has no group for 4 of 4 streams \(qa--one\); add it'),
        ('', 'groups must be group -> streams, or what ends the name of a group'),
        (3, 'groups must be group -> streams'),
        ({'a': 'qa--one'}, 'groups must be group -> streams'),
        (
            {'a': ['qa--one'], 'b': ['qa--one']},
            "groups must have a stream in one group, but 'qa--one' is in two",
        ),
        ({'qa': STREAMS[:2]}, r'groups has no group for 2 of 4 streams \(code--one\); add it'),
    ],
)
def test_groups_that_do_not_fit_are_refused(given_groups, message):
    with pytest.raises(InputError, match=message):
        groups_of(given_groups, STREAMS)


def test_tasks_are_uniform_within_the_proportion_of_their_skill():
    policy = GroupedPolicy(StaticMixture({'code': 0.25, 'qa': 0.75}), GROUPS)
    assert policy.skills == ('code--one', 'qa--one', 'qa--two', 'qa--three')
    assert policy.initial().tolist() == [0.25, 0.25, 0.25, 0.25]
    assert policy.describe()['groups'] == GROUPS


def test_skill_it_moves_groups_and_shares_within():
    inner, alone = SkillIt(GRAPH, tilt=2, window=1), SkillIt(GRAPH, tilt=2, window=1)
    policy = GroupedPolicy(inner, GROUPS)
    for found, expected in (
        (policy.initial(), alone.initial()),
        (policy.update(RoundObservation(0, {'x': 2.0})), alone.update(RoundObservation(0, {'x': 2.0}))),
    ):
        np.testing.assert_allclose(found, [expected[0], *[expected[1] / 3] * 3], rtol=1e-15)
        np.testing.assert_allclose(found, [1 / 3, *[2 / 9] * 3], rtol=1e-12)
    assert policy.decided() == alone.decided()
    state = json.loads(json.dumps(policy.state_dict()))
    resumed = GroupedPolicy(SkillIt(GRAPH, tilt=2, window=1), GROUPS)
    resumed.load_state_dict(state)
    later = RoundObservation(1, {'x': 1.0})
    assert resumed.update(later).tolist() == policy.update(later).tolist()


class Recorder(StaticMixture):
    def update(self, observation):
        self.seen = observation
        return super().update(observation)


def test_the_policy_sees_sums_and_the_mean_of_training_losses_that_were_drawn():
    inner = Recorder({'code': 0.5, 'qa': 0.5})
    policy = GroupedPolicy(inner, GROUPS)
    mixture = {'code--one': 0.4, 'qa--one': 0.1, 'qa--two': 0.2, 'qa--three': 0.3}
    whole = RoundObservation(
        0,
        {'x': 1.0},
        train_losses={'qa--one': 1.0, 'qa--three': 2.0},
        proportions=mixture,
        samples_seen={'code--one': 4, 'qa--one': 1, 'qa--two': 2, 'qa--three': 3},
    )
    policy.update(whole)
    assert inner.seen.train_losses == {'qa': 1.5}
    assert inner.seen.proportions == pytest.approx({'code': 0.4, 'qa': 0.6})
    assert inner.seen.samples_seen == {'code': 4, 'qa': 6}
    assert inner.seen.eval_losses == {'x': 1.0}
    policy.update(replace(whole, train_losses=None, proportions=None, samples_seen=None))
    assert (inner.seen.train_losses, inner.seen.proportions, inner.seen.samples_seen) == (None, None, None)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 99))
def test_streams_sum_to_their_groups_and_are_alike(sizes, seed):
    weights = np.random.default_rng(seed).random(len(sizes))
    names = [f'g{i}' for i in range(len(sizes))]
    inner = StaticMixture.weighted(dict(zip(names, weights.tolist(), strict=True)))
    groups = {name: [f'{name}--{j}' for j in range(size)] for name, size in zip(names, sizes, strict=True)}
    policy = GroupedPolicy(inner, groups)
    found = dict(zip(policy.skills, policy.initial(), strict=True))
    for name, proportion in zip(names, inner.initial(), strict=True):
        shares = [found[stream] for stream in groups[name]]
        assert len(set(shares)) == 1
        assert sum(shares) == pytest.approx(proportion, abs=1e-15)


def test_the_run_knows_sums_of_groups():
    context = RunContext(STREAMS, ['x'], sizes={'qa--one': 1, 'qa--two': 2, 'code--one': 4, 'qa--three': 8})
    known = context_of_groups(context, GROUPS)
    assert (list(known.skills), known.sizes, known.eval_skills) == (
        ['code', 'qa'],
        {'code': 4, 'qa': 11},
        ['x'],
    )
    assert build_policy('proportional', known).initial().tolist() == pytest.approx([4 / 15, 11 / 15])


def test_groups_that_are_not_the_skills_of_the_policy_are_refused():
    with pytest.raises(InputError, match='groups must be the skills of the policy, code, each with a stream'):
        GroupedPolicy(StaticMixture({'code': 1.0}), GROUPS)


def test_moves_of_groups_are_said_not_to_be_explained():
    policy = GroupedPolicy(SkillIt(GRAPH, eta=1), GROUPS)
    assert 'in groups' in explain_rounds(policy.describe(), GRAPH, []).missing[0]
