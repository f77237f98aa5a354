"""Every move of a mixture is the sum of its parts, and no part is told that the log does not support."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from skillit_stream.formats.run_log import Evaluation, RoundRecord, parse_line
from skillit_stream.mixture import RoundObservation, SkillsGraph, build_policy
from skillit_stream.mixture.explain import explain_rounds

TRAIN, EVALS = ('a', 'b', 'c', 'lone'), ('a', 'b', 'c', 'lone')
GRAPH = SkillsGraph(TRAIN, EVALS, [[1, 0.5, 0.2, 0], [0.3, 1, 0, 0], [0, 0.1, 1, 0], [0, 0, 0, 1]])
ETA = 0.4


def logged_run(options, rounds=9, within=False, graph=GRAPH, name='skill_it', bad=()):
    """A run's description and log, as they are read from a run folder again."""
    policy = build_policy(name, skills=TRAIN, eval_skills=EVALS, graph=graph, **options)
    rng = np.random.default_rng(0)

    def losses(step):
        return {
            skill: float(3 * math.exp(-step / (20 + 9 * j)) + rng.normal(0, 0.1) + 1)
            for j, skill in enumerate(EVALS)
        }

    records = [RoundRecord(round=-1, step=0, losses=losses(0))]
    if policy.needs_initial_losses:
        policy.observe(RoundObservation(-1, records[0].losses))
    proportions = policy.initial()
    for number in range(rounds):
        named = dict(zip(TRAIN, proportions.tolist(), strict=True))
        inner = [
            Evaluation(step=10 * number + step, losses=losses(10 * number + step)) for step in (3, 6)
        ] * within
        for one in inner:
            policy.observe(RoundObservation(number, one.losses))
        step = 10 * number + 10
        end = losses(step) | dict.fromkeys(EVALS if number in bad else (), math.nan)
        records.append(
            RoundRecord(round=number, step=step, proportions=named, losses=end, within=tuple(inner))
        )
        proportions = policy.update(RoundObservation(number, end, proportions=named))
    lines = [parse_line(record.to_line().encode(), where='x:1') for record in records]
    return json.loads(json.dumps(policy.describe())), lines


def check_sums(moves):
    for move in moves:
        parts = move.edges.sum(axis=1) + move.normaliser + move.rest
        np.testing.assert_allclose(parts, np.log(move.after / move.before), rtol=0, atol=1e-12)
        np.testing.assert_allclose(move.change, parts, rtol=0, atol=1e-12)


@pytest.mark.parametrize('within', [False, True])
@pytest.mark.parametrize(
    'options',
    [
        {},
        {'window': 1},
        {'window': 20},
        {'lag': 1},
        {'prior': {'a': 3, 'b': 1, 'c': 1, 'lone': 0.5}},
        {'initial': {'a': 0.7, 'b': 0.1, 'c': 0.1, 'lone': 0.1}},
        {'losses': 'relative', 'first_losses': 1},
        {'reduce': 'mean', 'pad_window': True},
        {'eta_schedule': 'adaptive', 'unit_edges': 'half'},
        {'hold_lone': True, 'damp_edges': True},
        {'compound': True},
        {'compound': True, 'initial': {'a': 0.7, 'b': 0.1, 'c': 0.1, 'lone': 0.1}},
        {'window_in': 'evaluations'},
        {'published': True, 'hold_lone': True},
        {'published': True, 'pad_window': True},
        {'initial_losses': 'prior', 'pad_window': True, 'diagonal': 'position', 'damp_edges': True},
        {'targets': ['a', 'c']},
    ],
)
def test_the_parts_add_up_to_the_true_change(options, within):
    # With targets the graph that a run folder holds has their columns alone.
    graph = GRAPH.select(eval_skills=options.get('targets'))
    policy, records = logged_run({'eta': ETA, **options}, within=within)
    explanation = explain_rounds(policy, graph, records)
    assert [move.round for move in explanation.moves] == [*range(1, 9)]
    assert explanation.missing == ()
    check_sums(explanation.moves)
    late = explanation.moves[2:]
    assert all(np.abs(move.edges).max() > 1e-3 for move in late)
    assert not any(np.any(move.rest) for move in late)


@pytest.mark.parametrize('within', [False, True])
@pytest.mark.parametrize('options', [{}, {'lag': 1}, {'compound': True}, {'on_bad_loss': 'keep'}])
def test_a_policy_that_begins_inside_the_run_is_explained_from_there_on(options, within):
    policy, records = logged_run({'eta': ETA, 'start': 4, **options}, within=within)
    explanation = explain_rounds(policy, GRAPH, records)
    assert [move.round for move in explanation.moves] == [5, 6, 7, 8]
    assert explanation.missing == ()
    check_sums(explanation.moves)


def test_an_edge_adds_eta_times_its_weight_times_the_newest_loss_less_the_one_dropped():
    policy, records = logged_run({'eta': ETA, 'window': 3})
    moves = explain_rounds(policy, GRAPH, records).moves
    losses = [np.array([record.losses[skill] for skill in EVALS]) for record in records[1:]]
    # The first mixture counts every loss as 1; the window fills up with rounds 0, 1 and 2.
    np.testing.assert_allclose(moves[0].edges, ETA * GRAPH.weights * (losses[0] - 1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(moves[2].edges, ETA * GRAPH.weights * losses[2], rtol=0, atol=1e-12)
    for number in range(3, 8):
        newest, dropped = losses[number], losses[number - 3]
        np.testing.assert_allclose(
            moves[number].edges, ETA * GRAPH.weights * (newest - dropped), rtol=0, atol=1e-12
        )
        assert len(set(moves[number].normaliser)) == 1


def test_an_explicit_first_mixture_ends_in_the_rest_of_the_second_round():
    initial = {'a': 0.7, 'b': 0.1, 'c': 0.1, 'lone': 0.1}
    policy, records = logged_run({'eta': ETA, 'initial': initial})
    first, *others = explain_rounds(policy, GRAPH, records).moves
    np.testing.assert_allclose(first.rest, -np.log([0.7, 0.1, 0.1, 0.1]), rtol=0, atol=1e-12)
    assert not any(np.any(move.rest) for move in others)


@pytest.mark.parametrize('limits', [{'floor': 0.2}, {'floor': {'lone': 0.24}, 'ceiling': 0.3}])
def test_what_limits_add_is_the_rest(limits):
    policy, records = logged_run({'eta': 1.5, **limits})
    explanation = explain_rounds(policy, GRAPH, records)
    assert explanation.missing == ()
    check_sums(explanation.moves)
    free, _ = logged_run({'eta': 1.5})
    assert free['eta'] == policy['eta']
    assert any(np.abs(move.rest).max() > 0.01 for move in explanation.moves)
    # The losses' part does not know of limits.
    unlimited = explain_rounds(free, GRAPH, logged_run({'eta': 1.5})[1]).moves
    for one, other in zip(explanation.moves, unlimited, strict=True):
        np.testing.assert_allclose(one.edges, other.edges, rtol=0, atol=1e-12)


def test_a_held_skill_does_not_move():
    policy, records = logged_run({'eta': ETA, 'hold_lone': True})
    for move in explain_rounds(policy, GRAPH, records).moves:
        assert move.change[3] == move.normaliser[3] == move.edges[3].sum() == 0


def test_a_skill_without_a_proportion_has_no_change():
    policy, records = logged_run({'eta': ETA, 'prior': {'a': 0, 'b': 1, 'c': 1, 'lone': 1}})
    for move in explain_rounds(policy, GRAPH, records).moves:
        assert np.isnan(move.change).tolist() == np.isnan(move.rest).tolist() == [True, False, False, False]
        parts = move.edges.sum(axis=1) + move.normaliser
        np.testing.assert_allclose(parts[1:], move.change[1:], rtol=0, atol=1e-12)


def test_a_round_whose_losses_were_bad_keeps_its_mixture():
    policy, records = logged_run({'eta': ETA, 'on_bad_loss': 'keep'}, bad=[4])
    explanation = explain_rounds(policy, GRAPH, records)
    assert explanation.missing == ()
    assert not np.any(explanation.moves[4].edges)
    assert not np.any(explanation.moves[4].change)
    check_sums(explanation.moves)


def test_bad_losses_end_the_explanation_where_the_policy_refuses_them():
    policy, records = logged_run({'eta': ETA, 'on_bad_loss': 'keep'}, bad=[4])
    del policy['on_bad_loss']
    explanation = explain_rounds(policy, GRAPH, records)
    assert [move.round for move in explanation.moves] == [1, 2, 3, 4]
    assert 'eval_losses of round 4 must be finite' in explanation.missing[0]


def test_moves_under_other_options_are_not_explained():
    policy, records = logged_run({'eta': ETA})
    other = explain_rounds({**policy, 'eta': 2 * ETA}, GRAPH, records)
    assert other.moves == ()
    assert other.missing[0].startswith(
        '8 of 8 moves (first: round 1) do not follow from the graph and options'
    )
    shifted = [
        replace(record, proportions={'a': 0.1, 'b': 0.2, 'c': 0.3, 'lone': 0.4}) for record in records[5:6]
    ]
    one = explain_rounds(policy, GRAPH, [*records[:5], *shifted, *records[6:]])
    assert [move.round for move in one.moves] == [1, 2, 3, 6, 7, 8]
    assert one.missing[0].startswith('2 of 8 moves (first: round 4)')


def test_a_run_with_other_streams_begins_anew():
    fewer: tuple[str, ...] = ('a', 'b', 'c')
    policy, records = logged_run({'eta': ETA}, rounds=4)
    described = {**policy, 'prior': None}
    anew = build_policy('skill_it', skills=fewer, eval_skills=EVALS, graph=GRAPH.select(fewer), eta=ETA)
    proportions = anew.initial()
    for number in range(4, 7):
        named: dict[str, float] = dict(zip(fewer, proportions.tolist(), strict=True))
        losses = dict.fromkeys(EVALS, 5.0 - 0.3 * number)
        records.append(RoundRecord(round=number, step=10 * number + 10, proportions=named, losses=losses))
        proportions = anew.update(RoundObservation(number, losses))
    explanation = explain_rounds(described, GRAPH, records)
    assert [(move.round, len(move.skills)) for move in explanation.moves] == [
        (1, 4),
        (2, 4),
        (3, 4),
        (5, 3),
        (6, 3),
    ]
    check_sums(explanation.moves)


@pytest.mark.parametrize(
    ('policy', 'graph', 'reason'),
    [
        ({'name': 'static', 'proportions': {}}, GRAPH, 'The mixture is fixed'),
        ({'name': 'odm'}, None, 'The policy odm has no fixed skills graph'),
        ({'name': 'aioli'}, GRAPH, 'The policy aioli has no fixed skills graph'),
        ({'name': 'skill_it'}, None, 'The policy skill_it has no fixed skills graph'),
    ],
)
def test_other_policies_say_why_there_is_nothing(policy, graph, reason):
    explanation = explain_rounds(policy, graph, [])
    assert explanation.moves == ()
    assert explanation.missing[0].startswith(reason)


def test_a_graph_of_other_skills_is_a_sentence():
    policy, records = logged_run({'eta': ETA}, rounds=2)
    graph = SkillsGraph(['x'], ['y'], [[1.0]])
    assert explain_rounds(policy, graph, records).missing[0].startswith('Not explained further: ')
