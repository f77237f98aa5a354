"""Losses that are missing or not finite: an error, the mixture kept, or the last loss used."""

import json
import math

import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import RoundObservation, SkillsGraph, build_policy

GRAPH = SkillsGraph.identity(['a', 'b'])


def build(on_bad_loss, name='skill_it', **options):
    graph = GRAPH if name == 'skill_it' else None
    if name == 'skill_it':
        options = {'eta': 1.0, 'window': 1, **options}
    return build_policy(
        name, skills=['a', 'b'], eval_skills=['a', 'b'], graph=graph, on_bad_loss=on_bad_loss, **options
    )


def seen(number, a: float | None = 1.0, b: float | None = 2.0, **more):
    losses = {'a': a, 'b': b}
    return RoundObservation(number, {name: loss for name, loss in losses.items() if loss is not None}, **more)


def test_by_default_a_bad_loss_is_an_error_that_names_skill_and_round():
    policy = build('error')
    assert not policy.accepts_bad_losses
    with pytest.raises(InputError, match="eval_losses of round 4 must be finite, but got: nan for 'b'"):
        policy.update(seen(4, b=math.nan))


@pytest.mark.parametrize(('value', 'said'), [(math.nan, 'nan'), (math.inf, 'inf'), (None, 'missing')])
def test_keep_keeps_the_mixture_and_leaves_the_round_out(value, said):
    policy, steady = build('keep'), build('error')
    assert policy.accepts_bad_losses
    before = policy.initial()
    assert policy.update(seen(0, b=value)).tolist() == before.tolist()
    assert policy.notes() == [f'eval loss of b in round 0 is {said}: the mixture is kept']
    assert policy.update(seen(1)).tolist() == steady.update(seen(1)).tolist()
    assert policy.notes() == []
    kept = policy.update(seen(2, a=value))
    assert kept.tolist() == steady.update(seen(2)).tolist()  # the mixture of the round before


def test_last_uses_the_last_finite_loss_of_the_skill():
    policy, steady = build('last'), build('error')
    policy.update(seen(0, a=3.0, b=2.5))
    got = policy.update(seen(1, a=1.0, b=math.nan))
    assert got.tolist() == steady.update(seen(1, a=1.0, b=2.5)).tolist()
    assert policy.notes() == ['eval loss of b in round 1 is nan: the last finite one is used']
    got = policy.update(seen(2, a=None, b=2.0))
    assert got.tolist() == steady.update(seen(2, a=1.0, b=2.0)).tolist()


def test_last_without_any_finite_loss_says_so():
    with pytest.raises(InputError, match='eval loss of b in round 0 is missing: there is none to use'):
        build('last').update(seen(0, b=None))


def test_keep_without_a_mixture_says_so():
    with pytest.raises(InputError, match='no mixture to keep after round 0'):
        build('keep').update(seen(0, b=None))


def test_a_bad_evaluation_inside_a_round_is_left_out_or_mended():
    for on_bad_loss in ('keep', 'last'):
        policy, steady = build(on_bad_loss, window=2), build('error', window=2)
        for each in (policy, steady):
            each.initial()
            each.observe(seen(-1, a=4.0, b=4.0))
        policy.observe(seen(0, b=math.nan))
        assert policy.update(seen(0)).tolist() == steady.update(seen(0)).tolist()


def test_training_losses_that_are_not_finite_count_and_missing_ones_do_not():
    policy, steady = build('last', 'odm'), build('error', 'odm')
    for each in (policy, steady):
        each.update(seen(0, train_losses={'a': 1.0, 'b': 3.0}))
    got = policy.update(seen(1, train_losses={'a': math.nan}))
    assert got.tolist() == steady.update(seen(1, train_losses={'a': 1.0})).tolist()
    assert policy.notes() == ['train loss of a in round 1 is nan: the last finite one is used']


def test_restored_at_every_round_it_goes_on_identically():
    for on_bad_loss in ('keep', 'last'):
        steady, restarted = build(on_bad_loss), build(on_bad_loss)
        steady.initial()
        restarted.initial()
        for number, b in enumerate([2.0, math.nan, 1.5, None]):
            state = json.loads(json.dumps(restarted.state_dict()))
            restarted = build(on_bad_loss)
            restarted.load_state_dict(state)
            assert restarted.update(seen(number, b=b)).tolist() == steady.update(seen(number, b=b)).tolist()


def test_a_run_can_be_resumed_with_another_choice():
    plain, forgiving = build('error'), build('last')
    plain.update(seen(0))
    forgiving.load_state_dict(plain.state_dict())
    expected = forgiving.update(seen(1))
    plain.load_state_dict(forgiving.state_dict())
    assert plain.update(seen(2)).tolist() == expected.tolist()


def test_a_choice_that_does_not_exist_is_refused():
    with pytest.raises(
        InputError, match="on_bad_loss must be one of 'error', 'keep', 'last', but got: 'skip'"
    ):
        build('skip')


def test_one_skill_taking_the_mixture_over_is_noted_with_what_it_neglects():
    policy = build('error', eta=100.0)
    policy.update(seen(0, a=3.0, b=2.5))
    assert policy.notes() == [
        'a takes 1.0000 of the mixture while the loss of b is 2.5; lower eta or set a ceiling'
    ]
    policy.update(seen(1, a=2.5, b=2.5))
    assert policy.notes() == []
    limited = build('error', eta=100.0, ceiling=0.8)
    assert limited.update(seen(0, a=3.0, b=2.5)).tolist() == pytest.approx([0.8, 0.2])
    assert limited.notes()[1] == 'limits: a 1 -> 0.8 (ceiling)'
