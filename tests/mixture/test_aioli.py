"""Aioli finds the graph it is shown, and moves the mixture by its formula."""

import math

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import Aioli, RoundObservation, SkillsGraph

AB = ('a', 'b')
XY = ('x', 'y')

# Training on a alone lowers the losses on x and y by 0.4 and 0.1 a round, training on b by 0 and 0.3.
TRUTH = np.array([[0.4, 0.1], [0.0, 0.3]])


def estimated(policy) -> np.ndarray:
    """The graph, train x eval skills."""
    return np.array(policy.graph)


def run(policy, rounds, truth=TRUTH, **more):
    """Mixtures of `rounds` rounds and the one after, for losses that fall linearly with the mixture."""
    losses = np.array([50.0, 50.0])
    policy.observe(RoundObservation(-1, dict(zip(XY, losses.tolist(), strict=True))))
    rows = [policy.initial()]
    for number in range(rounds):
        losses = losses - rows[-1] @ truth
        rows.append(
            policy.update(RoundObservation(number, dict(zip(XY, losses.tolist(), strict=True)), **more))
        )
    return np.array(rows)


def test_it_probes_each_skill_then_holds_what_the_graph_says():
    policy = Aioli(AB, XY, focus=0.75, hold=3, normalise=False, eta=2.0)
    rows = run(policy, 6)
    np.testing.assert_allclose(rows[:2], [[0.75, 0.25], [0.25, 0.75]], atol=1e-12)
    np.testing.assert_allclose(estimated(policy), TRUTH, rtol=0, atol=1e-10)
    share = 1 / (1 + math.exp(-2 * (0.5 - 0.3)))
    np.testing.assert_allclose(rows[2:5], [[share, 1 - share]] * 3, rtol=0, atol=1e-10)
    np.testing.assert_allclose(rows[5], [0.75, 0.25], atol=1e-12)  # the next cycle


def test_every_cycle_multiplies_on_top_of_the_last_mixture():
    rows = run(Aioli(AB, XY, hold=1, normalise=False, eta=1.0), 6)
    for cycle, row in ((1, rows[2]), (2, rows[5])):
        assert row[0] == pytest.approx(1 / (1 + math.exp(-0.2 * cycle)), abs=1e-10)


def test_the_graph_is_shifted_above_zero_and_scaled_to_sum_to_1():
    truth = np.array([[0.4, -0.1], [0.0, 0.3]])  # plus 0.1: 0.5, 0, 0.1, 0.4
    policy = Aioli(AB, XY, hold=1, eta=2.0)
    rows = run(policy, 2, truth)
    np.testing.assert_allclose(estimated(policy), [[0.5, 0.0], [0.1, 0.4]], rtol=0, atol=1e-10)
    np.testing.assert_allclose(rows[2], [0.5, 0.5], rtol=0, atol=1e-10)


def test_with_smoothing_the_graph_is_a_moving_average_and_the_mixture_no_product():
    policy = Aioli(AB, XY, hold=1, normalise=False, eta=1.0, smoothing=0.25)
    rows = run(policy, 3)
    assert rows[2][0] == pytest.approx(1 / (1 + math.exp(-0.2)), abs=1e-10)
    other = np.array([[0.0, 0.2], [0.6, 0.4]])
    losses = np.array([20.0, 20.0])
    # The evaluation before the probes of the second cycle is the last one of the first.
    state = policy.state_dict()
    state['memory']['losses'] = losses.tolist()
    policy.load_state_dict(state)
    after = np.zeros(2)
    for number, row in enumerate([[0.75, 0.25], [0.25, 0.75]]):
        losses = losses - np.array(row) @ other
        after = policy.update(RoundObservation(3 + number, dict(zip(XY, losses.tolist(), strict=True))))
    graph = 0.75 * other + 0.25 * TRUTH  # rows sum to 0.275 and 0.825
    np.testing.assert_allclose(estimated(policy), graph, rtol=0, atol=1e-10)
    assert after[0] == pytest.approx(1 / (1 + math.exp(0.55)), abs=1e-10)


def test_the_graph_is_fitted_to_the_mixtures_that_were_played():
    policy = Aioli(AB, XY, focus=1.0, hold=1, normalise=False)
    losses = np.array([50.0, 50.0])
    policy.observe(RoundObservation(-1, {'x': 50.0, 'y': 50.0}))
    for number, row in enumerate(np.array([[0.6, 0.4], [0.3, 0.7]])):
        losses = losses - row @ TRUTH
        policy.update(
            RoundObservation(
                number,
                dict(zip(XY, losses.tolist(), strict=True)),
                proportions=dict(zip(AB, row.tolist(), strict=True)),
            )
        )
    np.testing.assert_allclose(estimated(policy), TRUTH, rtol=0, atol=1e-10)


def test_sweeps_probe_each_skill_several_times():
    rows = run(Aioli(AB, XY, focus=0.9, sweeps=2), 5)
    np.testing.assert_allclose(rows[:4, 0], [0.9, 0.1, 0.9, 0.1], atol=1e-12)
    assert Aioli(AB, XY, sweeps=2).hold == 8


def test_evaluations_inside_a_round_change_nothing():
    policy = Aioli(AB, XY)
    policy.observe(RoundObservation(-1, {'x': 5.0, 'y': 5.0}))
    before = policy.state_dict()
    policy.observe(RoundObservation(0, {'x': 1.0, 'y': 1.0}))
    assert policy.state_dict() == before


def test_without_losses_before_training_it_says_what_to_do():
    with pytest.raises(InputError, match='aioli needs the losses before round 0: evaluate before training'):
        Aioli(AB, XY).update(RoundObservation(0, {'x': 1.0, 'y': 1.0}))


def test_the_diagonal_is_what_a_skill_does_to_itself_over_its_proportion():
    policy = Aioli(AB, AB, focus=0.75, hold=1, diagonal=True, normalise=False, eta=1.0)
    policy.observe(RoundObservation(-1, {'a': 5.0, 'b': 5.0}))
    policy.update(RoundObservation(0, {'a': 4.4, 'b': 4.9}))  # a: 0.6 / 0.75
    mixture = policy.update(RoundObservation(1, {'a': 4.3, 'b': 4.6}))  # b: 0.3 / 0.75
    np.testing.assert_allclose(estimated(policy), [[0.8, 0.0], [0.0, 0.4]], rtol=0, atol=1e-12)
    assert mixture[0] == pytest.approx(1 / (1 + math.exp(-0.4)), abs=1e-12)


def test_the_rounds_of_a_prior_come_before_the_first_probe():
    policy = Aioli(
        AB, XY, focus=0.75, hold=1, prior={'a': 1, 'b': 4}, prior_rounds=2, eta=1.0, normalise=False
    )
    rows = run(policy, 4)
    np.testing.assert_allclose(rows[:4, 0], [0.2, 0.2, 0.75, 0.25], atol=1e-12)
    assert rows[4][0] == pytest.approx(1 / (1 + math.exp(-0.2)), abs=1e-10)  # without the prior


def test_a_state_of_before_the_first_cycle_needs_the_same_start():
    policy = Aioli(AB, XY, prior={'a': 1, 'b': 4}, prior_rounds=2)
    with pytest.raises(InputError, match='it is before the first cycle; resume with its prior_rounds'):
        Aioli(AB, XY).load_state_dict(policy.state_dict())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'focus': 0.3}, r'focus must be above 1/2, the even proportion, but got: 0\.3'),
        ({'focus': 0.5}, 'focus must be above 1/2'),
        ({'focus': 1.1}, 'focus must be a finite number, 0 to 1'),
        ({'hold': 0}, 'hold must be a whole number, 1 or more'),
        ({'rounds': 2}, "'aioli' probes for 2 rounds before its first mixture, but the run has 2"),
        ({'smoothing': 1}, 'smoothing must be a finite number'),
        ({'prior_rounds': 2}, "prior_rounds of policy 'aioli' needs a prior or start_eta"),
        (
            {'prior': {'a': 1, 'b': 1}},
            'has no rounds for its prior or start_eta: set prior_rounds, 1 or more',
        ),
        ({'start_eta': 1, 'prior_rounds': 1}, "'aioli' needs a skills graph for start_eta"),
        ({'start_window': 2}, 'start_window is of a start by Skill-It alone'),
        (
            {'prior': {'a': 1, 'b': 1}, 'prior_rounds': 3, 'rounds': 5},
            'spends 3 rounds on its start and probes for 2',
        ),
        ({'diagonal': True}, "diagonal needs the losses of all skills, but 'a' is not evaluated"),
        (
            {'graph': SkillsGraph(AB, ('x', 'z'), TRUTH), 'start_eta': 1, 'prior_rounds': 1},
            "start_eta needs the loss of 'z', a column of the graph",
        ),
    ],
)
def test_parameters_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Aioli(AB, XY, **options)
