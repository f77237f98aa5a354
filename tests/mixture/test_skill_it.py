"""Skill-It follows its formulas to 1e-12, on cases small enough to work by hand.

With two skills a share is ``1 / (1 + exp(-x))``, x being eta times the difference of the two sums.
For `GRAPH` one evaluation adds ``L_a + 0.5 L_b - L_b = L_a - 0.5 L_b`` to that difference:

    round   -1      0         1       2           3
    losses  (3, 3)  (2, 2.5)  (1, 2)  (0.5, 1.5)  (0.25, 1)
    adds    1.5     0.75      0       -0.25       -0.25
"""

import json
import math

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import RoundObservation, SkillIt, SkillItVariant, SkillsGraph, build_policy

GRAPH = SkillsGraph(['a', 'b'], ['a', 'b'], [[1.0, 0.5], [0.0, 1.0]])
BEFORE = (3.0, 3.0)
ROUNDS = [(2.0, 2.5), (1.0, 2.0), (0.5, 1.5), (0.25, 1.0)]


def pair(x):
    return [1 / (1 + math.exp(-x)), 1 / (1 + math.exp(x))]


def seen(round_number, losses, names='ab'):
    return RoundObservation(round_number, dict(zip(names, losses, strict=True)))


def check(proportions, expected):
    assert proportions.dtype == np.float64
    np.testing.assert_allclose(proportions, expected, rtol=0, atol=1e-12)


def check_updates(policy, differences, rounds=ROUNDS):
    for number, (losses, x) in enumerate(zip(rounds, differences, strict=False)):
        check(policy.update(seen(number, losses)), pair(x))


def test_first_proportions_and_updates_are_those_of_the_paper():
    policy = SkillIt(GRAPH, eta=0.5, window=3)
    check(policy.initial(), [0.5621765008857981, 0.4378234991142019])  # e^0.75 to e^0.5
    check(policy.initial(), pair(0.5 * (1.5 - 1.0)))
    # 0.75; 0.75 + 0; 0.75 + 0 - 0.25; 0 - 0.25 - 0.25: the window is full from the third round on.
    check_updates(policy, [0.5 * 0.75, 0.5 * 0.75, 0.5 * 0.5, 0.5 * -0.5])


def test_a_window_of_one_uses_the_newest_losses_alone():
    check_updates(SkillIt(GRAPH, eta=0.5, window=1), [0.375, 0.0, -0.125, -0.125])


def test_losses_before_training_are_part_of_the_window_where_they_are_observed():
    policy = SkillIt(GRAPH, eta=0.5, window=3)
    policy.observe(seen(-1, BEFORE))
    check_updates(policy, [0.5 * 2.25, 0.5 * 2.25, 0.5 * 0.5, 0.5 * -0.5])


def test_lag_one_uses_losses_measured_before_the_round():
    policy = SkillIt(GRAPH, eta=0.5, window=3, lag=1)
    assert policy.needs_initial_losses
    policy.observe(seen(-1, BEFORE))
    check_updates(policy, [0.5 * 1.5, 0.5 * 2.25, 0.5 * 2.25, 0.5 * 0.5])


def test_lag_one_without_earlier_losses_says_what_to_do():
    with pytest.raises(
        InputError, match=r'lag=1 needs the losses before round 0: .* observe\(\) as round -1'
    ):
        SkillIt(GRAPH, lag=1).update(seen(0, ROUNDS[0]))


def test_three_skills_and_two_others_to_be_evaluated():
    graph = SkillsGraph(['a', 'b', 'c'], ['x', 'y'], [[1, 0], [0, 1], [0.5, 0.5]])
    policy = SkillIt(graph, eta=1, window=2)
    assert (policy.skills, policy.eval_skills) == (('a', 'b', 'c'), ('x', 'y'))
    check(policy.initial(), [1 / 3, 1 / 3, 1 / 3])
    # exp(A L) = 2, 8, sqrt(2 * 8)
    check(policy.update(seen(0, (math.log(2), math.log(8)), 'xy')), [2 / 14, 8 / 14, 4 / 14])
    # the sums are ln 6 and ln 8
    total = 6 + 8 + math.sqrt(48)
    check(policy.update(seen(1, (math.log(3), 0.0), 'xy')), [6 / total, 8 / total, math.sqrt(48) / total])


def test_a_skill_that_hurts_another_is_held_back():
    policy = SkillIt(SkillsGraph(['a', 'b'], ['a', 'b'], [[1, -0.5], [0, 1]]), eta=0.5)
    check(policy.initial(), pair(0.5 * (0.5 - 1.0)))
    check(policy.update(seen(0, (2.0, 2.5))), pair(0.5 * (2.0 - 1.25 - 2.5)))


def test_losses_are_matched_by_name_and_others_are_left_out():
    policy = SkillIt(GRAPH, eta=0.5)
    check(policy.update(RoundObservation(0, {'other': math.nan, 'b': 2.5, 'a': 2.0})), pair(0.375))


@pytest.mark.parametrize('scale', [1.0, 1e3, 1e100])
def test_eta_of_100_does_not_overflow(scale):
    policy = SkillIt(GRAPH, eta=100)
    proportions = policy.update(seen(0, (2.0 * scale, 2.5 * scale)))
    assert proportions.sum() == pytest.approx(1.0, abs=1e-15)
    if scale == 1.0:
        np.testing.assert_allclose(proportions, [1.0, math.exp(-75)], rtol=1e-12)
    else:
        assert proportions.tolist() == [1.0, 0.0]


def test_eta_beyond_all_numbers_is_refused_rather_than_nan():
    with pytest.raises(InputError, match='eta times the losses overflows after round 0; lower eta'):
        SkillIt(GRAPH, eta=1e308).update(seen(0, (20.0, 2.5)))


def test_eta_of_zero_is_uniform():
    check(SkillIt(GRAPH, eta=0).update(seen(0, (2.0, 2.5))), [0.5, 0.5])


def variant(**options):
    return SkillIt(GRAPH, eta=0.5, variant=SkillItVariant(**options))


@pytest.mark.parametrize(
    ('options', 'differences'),
    [
        ({'reduce': 'sum'}, [0.375, 0.375, 0.25]),
        ({'reduce': 'mean'}, [0.375, 0.375 / 2, 0.25 / 3]),
        ({'losses': 'raw'}, [0.375, 0.375, 0.25]),
        # divided by (2, 2.5): (1, 1); (3, 4.5) / (2, 2.5) = (1.5, 1.8); (3.5, 6) / (2, 2.5) = (1.75, 2.4)
        ({'losses': 'relative'}, [0.5 * 0.5, 0.5 * 0.6, 0.5 * 0.55]),
        # by (2, 2.5), there being no second yet, then by (1, 2): (3, 2.25); (3.5, 3)
        ({'losses': 'relative', 'first_losses': 1}, [0.5 * 0.5, 0.5 * 1.875, 0.5 * 2.0]),
        ({'eta_schedule': 'fixed'}, [0.375, 0.375, 0.25]),
        # eta / (4.5 / 4.5), / (3 / 4.5), / (2 / 4.5) = 0.5, 0.75, 1.125
        ({'eta_schedule': 'adaptive'}, [0.5 * 0.75, 0.75 * 0.75, 1.125 * 0.5]),
        # the second evaluation sums to 3: eta / (4.5 / 4.5), / (3 / 3), / (2 / 3)
        ({'eta_schedule': 'adaptive', 'first_losses': 1}, [0.5 * 0.75, 0.5 * 0.75, 0.75 * 0.5]),
        # before all others (2.25, 2.25), which adds 1.125 until the window is full
        ({'pad_window': True}, [0.5 * 1.875, 0.5 * 1.875, 0.5 * 0.5]),
        ({'pad_window': True, 'reduce': 'mean'}, [0.5 * 1.875 / 2, 0.5 * 1.875 / 3, 0.5 * 0.5 / 3]),
        # the edge is 0.5, 0.25, 0.125: L_a - 0.5 L_b, then - 0.75, then - 0.875
        ({'damp_edges': True}, [0.375, 0.5 * (3 - 0.75 * 4.5), 0.5 * (3.5 - 0.875 * 6)]),
        # each update on top of the mixture before, the first of which was 0.25
        ({'compound': True}, [0.25 + 0.375, 0.625 + 0.375, 1.0 + 0.25]),
    ],
)
def test_each_option_changes_the_update_as_it_says(options, differences):
    check_updates(variant(**options), differences)


def test_relative_losses_refer_to_the_ones_before_training():
    policy = variant(losses='relative')
    assert policy.needs_initial_losses
    policy.observe(seen(-1, (4.0, 5.0)))
    check_updates(policy, [0.5 * (1.5 - 0.5 * 1.5)])  # (6, 7.5) / (4, 5)


def test_damping_leaves_negative_edges_and_the_diagonal_alone():
    graph = SkillsGraph(['a', 'b'], ['b', 'a'], [[-0.5, 1.0], [1.0, 0.5]])
    policy = SkillIt(graph, eta=0.5, window=1, variant=SkillItVariant(damp_edges=True))
    # a: L_a - 0.5 L_b throughout; b: L_b + 0.5 L_a, then L_b + 0.25 L_a
    check_updates(policy, [0.5 * (0.75 - 3.5), 0.5 * (1.0 - 2.5)], [(2.0, 2.5), (2.0, 2.0)])


def test_unit_edges_between_different_skills_are_kept_or_halved():
    graph = SkillsGraph(['a', 'b'], ['a', 'b'], [[1.0, 1.0], [0.0, 1.0]])
    check(SkillIt(graph, eta=0.5).initial(), pair(0.5 * (2.0 - 1.0)))
    halved = SkillIt(graph, eta=0.5, variant=SkillItVariant(unit_edges='half'))
    check(halved.initial(), pair(0.5 * (1.5 - 1.0)))
    check_updates(halved, [0.375, 0.375])


def test_a_prior_multiplies_every_mixture():
    policy = SkillIt(GRAPH, eta=0.5, prior={'b': 3, 'a': 1})
    check(policy.initial(), pair(math.log(1 / 3) + 0.25))
    check_updates(policy, [math.log(1 / 3) + 0.375, math.log(1 / 3) + 0.375])


def test_a_prior_of_zero_keeps_a_skill_out():
    policy = SkillIt(GRAPH, eta=0.5, prior={'a': 0, 'b': 2})
    assert policy.initial().tolist() == [0.0, 1.0]
    assert policy.update(seen(0, ROUNDS[0])).tolist() == [0.0, 1.0]


def test_the_prior_can_stand_for_the_losses_of_the_first_mixture():
    prior = {'a': 1.0, 'b': 3.0}
    policy = SkillIt(GRAPH, eta=0.5, prior=prior, variant=SkillItVariant(initial_losses='prior'))
    check(policy.initial(), pair(math.log(1 / 3) + 0.5 * (2.5 - 3.0)))  # A prior = (2.5, 3)


def test_an_explicit_first_mixture_replaces_the_formula_for_the_first_round_only():
    policy = SkillIt(GRAPH, eta=0.5, initial={'a': 0.2, 'b': 0.8})
    check(policy.initial(), [0.2, 0.8])
    check_updates(policy, [0.375])
    compound = SkillIt(GRAPH, initial={'a': 0.2, 'b': 0.8}, variant=SkillItVariant(compound=True))
    check_updates(compound, [math.log(0.25) + 0.375])


def lone_graph():
    return SkillsGraph(['a', 'c', 'b'], ['a', 'b', 'c'], [[1, 0.5, 0], [0, 0, 1], [0, 1, 0]])


def test_lone_skills_can_be_held():
    policy = SkillIt(lone_graph(), eta=0.5, variant=SkillItVariant(hold_lone=True))
    first, second = pair(0.25)
    check(policy.initial(), [2 / 3 * first, 1 / 3, 2 / 3 * second])
    first, second = pair(0.375)
    check(policy.update(seen(0, (2.0, 2.5, 9.0), 'abc')), [2 / 3 * first, 1 / 3, 2 / 3 * second])


def test_lone_skills_move_with_the_others_by_default():
    weights = np.exp(0.5 * np.array([1.5, 1.0, 1.0]))
    check(SkillIt(lone_graph(), eta=0.5).initial(), weights / weights.sum())


def test_held_skills_have_no_say_in_an_adaptive_eta():
    policy = SkillIt(lone_graph(), eta=0.5, variant=SkillItVariant(hold_lone=True, eta_schedule='adaptive'))
    policy.update(seen(0, (2.0, 2.5, 9.0), 'abc'))
    first, second = pair(0.75 * 0.75)  # eta / (3 / 4.5)
    check(policy.update(seen(1, (1.0, 2.0, 1.0), 'abc')), [2 / 3 * first, 1 / 3, 2 / 3 * second])


def test_a_graph_of_lone_skills_alone_stays_uniform():
    policy = SkillIt(SkillsGraph.identity(['a', 'b']), variant=SkillItVariant(hold_lone=True))
    check(policy.update(seen(0, (2.0, 9.0))), [0.5, 0.5])


@pytest.mark.parametrize(
    ('window_in', 'differences'), [('rounds', [0.375, 0.375]), ('evaluations', [0.5 * 2.75, 0.5 * 0.5])]
)
def test_the_window_counts_rounds_or_evaluations(window_in, differences):
    policy = SkillIt(GRAPH, eta=0.5, window=2, variant=SkillItVariant(window_in=window_in))
    policy.observe(seen(0, (4.0, 4.0)))  # adds 2
    check(policy.update(seen(0, ROUNDS[0])), pair(differences[0]))
    policy.observe(seen(1, (1.5, 2.0)))  # adds 0.5
    check(policy.update(seen(1, ROUNDS[1])), pair(differences[1]))


def run_published(policy):
    """Two rounds with an evaluation before training and one inside each; those add 1.5, 2, 0.5."""
    policy.observe(seen(-1, BEFORE))
    policy.observe(seen(0, (4.0, 4.0)))
    yield policy.update(seen(0, ROUNDS[0]))
    policy.observe(seen(1, (1.5, 2.0)))
    yield policy.update(seen(1, ROUNDS[1]))


def test_the_published_code_uses_evaluations_up_to_the_last_inside_the_round():
    first, second = run_published(SkillIt.published(GRAPH, eta=0.5, window=2))
    check(first, pair(0.5 * 3.5))
    check(second, pair(0.5 * (0.75 + 0.5)))


def test_the_published_code_refers_to_the_second_evaluation():
    policy = SkillIt.published(GRAPH, eta=0.5, window=2, variant=SkillItVariant(losses='relative'))
    first, second = run_published(policy)
    check(first, pair(0.5 * 0.875))  # (7, 7) / (4, 4)
    check(second, pair(0.5 * (0.875 - 0.5 * 1.125)))  # (3.5, 4.5) / (4, 4)


def test_the_published_code_refers_to_the_first_evaluation_while_it_knows_no_other():
    policy = SkillIt.published(GRAPH, eta=0.5, variant=SkillItVariant(eta_schedule='adaptive'))
    policy.observe(seen(-1, BEFORE))
    check_updates(policy, [0.5 * 1.5, 0.5 * 2.25, 0.75 * 2.25])  # third: eta / (3 / 4.5)


def test_the_published_code_takes_the_mean_for_target_skills():
    policy = SkillIt.published(GRAPH.select(eval_skills=['b']), eta=0.5, window=2)
    check(policy.initial(), pair(0.5 * (0.5 - 1.0)))
    first, _ = run_published(policy)
    check(first, pair(0.5 * -0.5 * 3.5))  # L_b is 3, then 4


def test_the_published_code_sums_for_skills_out_of_domain():
    graph = SkillsGraph(['x', 'y'], ['a', 'b'], [[1.0, 0.5], [0.0, 1.0]])
    first, _ = run_published(SkillIt.published(graph, eta=0.5, window=2))
    check(first, pair(0.5 * 3.5))


def test_the_published_code_compounds_when_it_holds_lone_skills():
    graph = SkillsGraph(['a', 'b', 'c'], ['a', 'b', 'c'], [[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    policy = SkillIt.published(graph, eta=0.5, variant=SkillItVariant(hold_lone=True))
    first, second = pair(0.25)
    check(policy.initial(), [2 / 3 * first, 2 / 3 * second, 1 / 3])
    policy.observe(seen(-1, (3.0, 3.0, 1.0), 'abc'))
    first, second = pair(0.25 + 0.5 * 1.5)
    check(policy.update(seen(0, (2.0, 2.5, 1.0), 'abc')), [2 / 3 * first, 2 / 3 * second, 1 / 3])


@pytest.mark.parametrize(
    ('losses', 'message'),
    [
        ({'a': 1.0}, 'eval_losses of round 0 lack: b; the policy needs an evaluator'),
        ({}, 'eval_losses of round 0 lack: a, b'),
        ({'a': math.nan, 'b': 1.0}, "eval_losses of round 0 must be finite, but got: nan for 'a'"),
        ({'a': 1.0, 'b': math.inf}, "eval_losses of round 0 must be finite, but got: inf for 'b'"),
    ],
)
def test_losses_that_cannot_be_used_name_the_skill_and_change_nothing(losses, message):
    policy = SkillIt(GRAPH)
    before = policy.state_dict()
    with pytest.raises(InputError, match=message):
        policy.update(RoundObservation(0, losses))
    assert policy.state_dict() == before


def test_rounds_come_once_and_in_order():
    policy = SkillIt(GRAPH)
    policy.update(seen(1, ROUNDS[0]))
    for number in (0, 1):
        with pytest.raises(InputError, match=f'got: round {number} after the update that ended round 1'):
            policy.update(seen(number, ROUNDS[1]))
    with pytest.raises(InputError, match='round must be a whole number, 0 or more, but got: -1'):
        policy.update(seen(-1, ROUNDS[1]))
    policy.observe(seen(3, ROUNDS[1]))
    with pytest.raises(InputError, match='must come in order, but got: round 2 after 3'):
        policy.observe(seen(2, ROUNDS[1]))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'eta': -1}, 'eta must be a finite number, 0 or more, but got: -1'),
        ({'eta': math.nan}, 'eta must be a finite number, 0 or more, but got: nan'),
        ({'eta': '0.5'}, "eta must be a finite number, 0 or more, but got: '0.5'"),
        ({'window': 0}, 'window must be a whole number, 1 or more, but got: 0'),
        ({'window': 2.0}, r'window must be a whole number, 1 or more, but got: 2\.0'),
        ({'lag': 2}, 'lag must be one of 0, 1, but got: 2'),
        ({'prior': {'a': 1}}, r'prior must name every skill \(0 to leave one out\), but lacks: b'),
        ({'prior': {'a': 0, 'b': 0}}, 'prior must leave at least one skill above 0'),
        ({'prior': {'a': -1, 'b': 0}}, "prior must be finite and not negative, but got: -1 for 'a'"),
        ({'prior': [1, 1]}, r'prior must map each skill to a number, but got: \[1, 1\]'),
        ({'initial': {'a': 1, 'c': 0}}, "initial names the unknown skill 'c'; known: a, b"),
        ({'initial': {'a': 1, 'b': 1}}, 'initial must sum to 1, but got: 2; divide each by their sum'),
    ],
)
def test_parameters_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        SkillIt(GRAPH, **options)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'reduce': 'max'}, "reduce must be one of 'sum', 'mean', but got: 'max'"),
        ({'hold_lone': 1}, 'hold_lone must be one of False, True, but got: 1'),
        ({'first_losses': 2}, 'first_losses must be one of 0, 1, but got: 2'),
    ],
)
def test_variants_that_do_not_exist_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        SkillItVariant(**options)


@pytest.mark.parametrize('options', [{'hold_lone': True}, {'initial_losses': 'prior'}])
def test_variants_without_meaning_for_a_graph_are_refused(options):
    with pytest.raises(InputError, match='needs a skills graph with the same skills on both sides'):
        SkillIt(GRAPH.select(eval_skills=['b']), variant=SkillItVariant(**options))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'losses': 'relative'}, "divides by the first losses, but that of 'b' is not above 0"),
        ({'eta_schedule': 'adaptive'}, 'divides by the summed losses'),
    ],
)
def test_first_losses_of_zero_cannot_be_divided_by(options, message):
    with pytest.raises(InputError, match=message):
        variant(**options).update(seen(0, (0.0, 0.0) if 'eta_schedule' in options else (1.0, 0.0)))


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'reduce': 'mean', 'losses': 'relative', 'first_losses': 1},
        {'window_in': 'evaluations', 'eta_schedule': 'adaptive', 'pad_window': True},
        {'damp_edges': True, 'compound': True},
    ],
)
@pytest.mark.parametrize('lag', [0, 1])
def test_saved_and_restored_at_every_round_it_continues_identically(options, lag):
    def build():
        return SkillIt(GRAPH, eta=0.3, window=2, lag=lag, variant=SkillItVariant(**options))

    steady, restarted = build(), build()
    losses = np.random.default_rng(0).uniform(0.5, 3, size=(7, 2, 2))
    for policy in (steady, restarted):
        policy.observe(seen(-1, BEFORE))
    for number, (inside, at_end) in enumerate(losses):
        for step in ('observe', 'update'):
            state = json.loads(json.dumps(restarted.state_dict()))
            restarted = build()
            restarted.load_state_dict(state)
            observation = seen(number, inside if step == 'observe' else at_end)
            expected = getattr(steady, step)(observation)
            got = getattr(restarted, step)(observation)
            assert got is expected is None or got.tolist() == expected.tolist()
    assert restarted.state_dict() == steady.state_dict()


def test_a_restored_window_that_is_longer_than_the_saved_one_fills_up_again():
    short, long = SkillIt(GRAPH, eta=0.5, window=1), SkillIt(GRAPH, eta=0.5, window=3)
    for number in (0, 1):
        short.update(seen(number, ROUNDS[number]))
    long.load_state_dict(short.state_dict())
    check(long.update(seen(2, ROUNDS[2])), pair(0.5 * (0 - 0.25)))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'version': 9}, 'policy state does not fit: version is 9 in the checkpoint, 1 in this run'),
        ({'policy': 'doremi'}, "policy is 'doremi' in the checkpoint, 'skill_it' in this run"),
        ({'skills': ['b', 'a']}, r"skills is \['b', 'a'\] in the checkpoint, \['a', 'b'\] in this run"),
        ({'eval_skills': ['a']}, r"eval_skills is \['a'\] in the checkpoint"),
    ],
)
def test_a_state_of_another_policy_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        SkillIt(GRAPH).load_state_dict({**SkillIt(GRAPH).state_dict(), **change})


def test_a_state_with_something_missing_is_refused():
    with pytest.raises(InputError, match="policy state must hold 'version', but holds: skills"):
        SkillIt(GRAPH).load_state_dict({'skills': ['a', 'b']})
    state = SkillIt(GRAPH).state_dict()
    state['memory']['history'].update(count=1, newest=[[0, [1.0]]], first=[[0, [1.0]]])
    with pytest.raises(
        InputError, match=r'must hold 2 losses for round 0, but holds an array of shape \(1,\)'
    ):
        SkillIt(GRAPH).load_state_dict(state)


def test_it_describes_itself_in_plain_python():
    description = SkillIt(GRAPH, eta=1, prior={'a': 1, 'b': 3}).describe()
    assert json.loads(json.dumps(description)) == description
    assert description['name'] == 'skill_it'
    assert (description['eta'], description['window'], description['reduce']) == (1.0, 3, 'sum')
    assert description['prior'] == {'a': 1.0, 'b': 3.0}


def test_targets_are_the_columns_that_count():
    policy = build_policy(
        'skill_it', skills=['a', 'b'], eval_skills=['a', 'b'], graph=GRAPH, targets=['b'], eta=0.5
    )
    assert policy.eval_skills == ('b',)
    check(policy.initial(), pair(0.5 * (0.5 - 1.0)))
    check(policy.update(seen(0, (2.5,), 'b')), pair(0.5 * (0.5 * 2.5 - 2.5)))
    with pytest.raises(InputError, match="unknown skill 'c'"):
        build_policy('skill_it', skills=['a', 'b'], graph=GRAPH, targets=['c'], eta=0.5)


def test_targets_of_the_published_code_take_the_mean_over_the_window():
    options = {'graph': GRAPH, 'targets': ['b'], 'eta': 0.5, 'published': True}
    assert build_policy('skill_it', skills=['a', 'b'], **options).describe()['reduce'] == 'mean'


def test_the_published_code_takes_no_option_that_it_decides_itself():
    for variant in (SkillItVariant(reduce='mean'), SkillItVariant(compound=True)):
        with pytest.raises(InputError, match='published=True sets the option'):
            SkillIt.published(GRAPH, eta=0.5, variant=variant)
    # What it would set anyway may be set.
    again = SkillItVariant().published(GRAPH)
    assert SkillIt.published(GRAPH, eta=0.5, variant=again).variant == again
