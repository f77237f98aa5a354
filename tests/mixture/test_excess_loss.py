"""DoReMi and dynamic batch loading against values worked by hand."""

import json
import math

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import DoReMi, DynamicBatchLoading, RoundObservation, build_policy

AB = ('a', 'b')

REFERENCE = {'a': 2.0, 'b': 1.0, 'other': 5.0}


def pair(x):
    return [1 / (1 + math.exp(-x)), 1 / (1 + math.exp(x))]


def check(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def seen(number, a, b, **more):
    return RoundObservation(number, {'a': a, 'b': b}, **more)


def drawn(number, **losses):
    return RoundObservation(number, {}, train_losses=losses)


def test_dynamic_batch_loading_multiplies_by_the_excess_over_the_reference():
    policy = DynamicBatchLoading(AB, reference=REFERENCE, initial={'a': 0.25, 'b': 0.75})
    assert policy.eval_skills == ('a', 'b')
    assert not policy.needs_train_losses
    check(policy.initial(), [0.25, 0.75])
    # excesses 1 and 0.5, on top of 1:3
    check(policy.update(seen(0, 3.0, 1.5)), pair(math.log(1 / 3) + 0.5))
    # a is below its reference, which counts as 0; b exceeds it by 0.25
    check(policy.update(seen(1, 1.0, 1.25)), pair(math.log(1 / 3) + 0.5 - 0.25))


def test_without_the_clamp_a_skill_below_its_reference_loses_share():
    policy = DynamicBatchLoading(AB, reference=REFERENCE, clamp=False, eta=2.0)
    check(policy.update(seen(0, 1.0, 1.25)), pair(2 * (-1 - 0.25)))


def test_the_bandit_adds_the_excess_to_the_proportions():
    policy = DynamicBatchLoading(AB, reference=REFERENCE, update='bandit', initial={'a': 0.25, 'b': 0.75})
    check(policy.update(seen(0, 3.0, 1.5)), pair(0.25 - 0.75 + 1 - 0.5))
    with pytest.raises(InputError, match="update must be one of 'doremi', 'bandit', but got: 'constant'"):
        DynamicBatchLoading(AB, reference=REFERENCE, update='constant')


def test_it_goes_on_from_the_mixture_that_was_played():
    policy = DynamicBatchLoading(AB, reference=REFERENCE)
    check(policy.update(seen(0, 3.0, 1.0, proportions={'a': 0.2, 'b': 0.8})), pair(math.log(0.25) + 1))


def test_smoothing_spreads_a_part_evenly():
    policy = DynamicBatchLoading(AB, reference=REFERENCE, smoothing=0.1, initial={'a': 0, 'b': 1})
    check(policy.update(seen(0, 3.0, 1.0)), [0.05, 0.95])


def test_doremi_takes_training_losses_smooths_by_a_thousandth_and_averages():
    policy = DoReMi(AB, reference=REFERENCE)
    assert policy.needs_train_losses
    assert policy.eval_skills == ()
    check(policy.initial(), [0.5, 0.5])
    check(policy.average(), [0.5, 0.5])
    first = np.array(pair(1 - 0.5)) * 0.999 + 0.0005
    check(policy.update(drawn(0, a=3.0, b=1.5)), first)
    # b was not drawn and keeps its excess of 0.5; a's is 0
    second = np.array(pair(math.log(first[0] / first[1]) - 0.5)) * 0.999 + 0.0005
    check(policy.update(drawn(1, a=1.5)), second)
    check(policy.average(), (first + second) / 2)
    restored = DoReMi(AB, reference=REFERENCE)
    restored.load_state_dict(policy.state_dict())
    check(restored.average(), (first + second) / 2)


def test_doremi_can_take_eval_losses():
    policy = DoReMi(AB, reference=REFERENCE, losses='eval', smoothing=0)
    check(policy.update(seen(0, 3.0, 1.5)), pair(0.5))


def test_a_large_excess_does_not_overflow():
    policy = DynamicBatchLoading(AB, reference=REFERENCE, eta=1e6)
    assert policy.update(seen(0, 9.0, 1.0)).tolist() == [1.0, 0.0]
    assert policy.notes() == [
        'a takes 1.0000 of the mixture while the loss of b is 1; lower eta or set a ceiling'
    ]


def test_a_checkpoint_that_calls_the_mixture_shares_is_continued():
    policy, resumed = (DoReMi(AB, reference=REFERENCE) for _ in range(2))
    policy.update(drawn(0, a=3.0, b=2.5))
    state = policy.state_dict()
    memory = dict(state['memory'])
    resumed.load_state_dict({**state, 'memory': {'shares': memory.pop('mixture'), **memory}})
    assert resumed.update(drawn(1, a=3.0)).tolist() == policy.update(drawn(1, a=3.0)).tolist()


def test_the_reference_can_be_a_file(tmp_path):
    path = tmp_path / 'reference.json'
    path.write_text(json.dumps(REFERENCE))
    policy = build_policy('sheared', skills=['b', 'a'], reference=str(path))
    assert policy.describe()['reference'] == {'b': 1.0, 'a': 2.0}
    path.write_text('[1, 2]')
    with pytest.raises(InputError, match=r'reference .*reference\.json must map each skill to a loss'):
        build_policy('sheared', skills=['b', 'a'], reference=str(path))
    with pytest.raises(InputError, match='no such file'):
        build_policy('sheared', skills=['b', 'a'], reference=str(tmp_path / 'none.json'))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'reference': {'a': 1}}, "reference lacks the loss of 'b'; known: a"),
        ({'reference': {'a': 1, 'b': None}}, "reference: the loss of 'b' must be a finite number"),
        ({'reference': REFERENCE, 'losses': 'test'}, "losses must be one of 'eval', 'train'"),
        ({'reference': REFERENCE, 'smoothing': 2}, 'smoothing must be a finite number, 0 to 1'),
        ({'reference': REFERENCE, 'eta': -1}, 'eta must be a finite number, 0 or more'),
        ({'reference': REFERENCE, 'windw': 1}, "policy 'doremi' has no option 'windw'"),
        ({}, "policy 'doremi' needs the option 'reference'"),
    ],
)
def test_parameters_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        build_policy('doremi', skills=['a', 'b'], **options)


def test_training_losses_that_are_not_there_or_not_finite_are_named():
    policy = DoReMi(AB, reference=REFERENCE)
    with pytest.raises(InputError, match='needs train_losses, but round 3 has none'):
        policy.update(RoundObservation(3, {}))
    with pytest.raises(InputError, match="train_losses of round 3 must be finite, but got: nan for 'b'"):
        policy.update(drawn(3, b=math.nan))
