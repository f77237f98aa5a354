"""Velocitune against values worked by hand."""

import json
import math

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import RoundObservation, Velocitune, build_policy

AB = ('a', 'b')
TARGETS = {'a': 1.0, 'b': 2.0}


def seen(number, a, b, **more):
    return RoundObservation(number, {'a': a, 'b': b}, **more)


def begun(**options):
    policy = Velocitune(AB, target_losses=TARGETS, **options)
    policy.observe(seen(-1, 5.0, 4.0))
    return policy


def pair(x):
    return [1 / (1 + math.exp(-x)), 1 / (1 + math.exp(x))]


def check(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_what_is_left_of_the_way_multiplies_the_mixture():
    policy = begun()
    assert policy.needs_initial_losses
    # a has 3 of its 4 nats to go, b 1 of its 2: V = 0.75 and 0.5
    check(policy.update(seen(0, 4.0, 3.0)), pair(0.25))
    # then 0.5 and 0, b below its target
    check(policy.update(seen(1, 3.0, 1.9)), pair(0.25 + 0.5))


def test_a_loss_above_the_first_counts_as_the_first():
    check(begun().update(seen(0, 9.0, 3.0)), pair(1.0 - 0.5))


def test_a_skill_that_starts_at_its_target_has_nowhere_to_go():
    policy = Velocitune(AB, target_losses=TARGETS)
    policy.observe(seen(-1, 5.0, 2.0))
    check(policy.update(seen(0, 5.0, 3.0)), pair(1.0))


def test_it_starts_from_the_data_and_goes_on_from_what_was_played():
    policy = build_policy('velocitune', skills=AB, sizes={'a': 10, 'b': 30}, target_losses=TARGETS)
    assert policy.initial().tolist() == [0.25, 0.75]
    policy.observe(seen(-1, 5.0, 4.0))
    check(policy.update(seen(0, 4.0, 3.0, proportions={'a': 0.2, 'b': 0.8})), pair(math.log(0.25) + 0.25))


def test_without_losses_before_training_it_says_what_to_do():
    with pytest.raises(InputError, match='velocitune needs the losses before training'):
        Velocitune(AB, target_losses=TARGETS).update(seen(0, 4.0, 3.0))


def test_targets_may_be_a_file_and_must_be_complete(tmp_path):
    path = tmp_path / 'targets.json'
    path.write_text(json.dumps(TARGETS))
    assert Velocitune(AB, target_losses=path).describe()['target_losses'] == TARGETS
    with pytest.raises(InputError, match="target_losses lacks the loss of 'b'"):
        Velocitune(AB, target_losses={'a': 1.0})
