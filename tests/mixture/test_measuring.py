"""`graph: measure` by itself: which short runs it asks for, when, and that it then decides as with that graph."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from skillit_stream.base.errors import InputError
from skillit_stream.mixture import RoundObservation, RunContext, SkillsGraph
from skillit_stream.mixture.from_options import policy_inside_run, policy_of_options
from skillit_stream.mixture.measuring import MeasuringPolicy
from skillit_stream.mixture.trials import Found, ShortRun

SKILLS = ['a', 'b']
CONTEXT = RunContext(SKILLS, [*SKILLS, 'x'], rounds=8, round_size=40, round_steps=10, run_steps=80)
OPTIONS = {'policy': 'skill_it', 'eta': 0.5, 'graph': 'measure', 'measure': {'steps': 6}}
# Before, and after training on each: x falls by a half and a quarter.
BEFORE = {'a': 2.0, 'b': 4.0, 'x': 8.0}
AFTER = {'a': {'a': 1.0, 'b': 4.0, 'x': 4.0}, 'b': {'a': 2.5, 'b': 3.0, 'x': 6.0}}
EFFECTS = [[0.5, 0.0, 0.5], [-0.25, 0.25, 0.25]]


def policy(**changes) -> MeasuringPolicy:
    made, graph = policy_of_options({**OPTIONS, **changes}, CONTEXT)
    assert isinstance(made, MeasuringPolicy)
    assert graph is None
    return made


def losses_after(run: ShortRun) -> Mapping[str, float]:
    return BEFORE if not run.steps else AFTER[max(run.mixture, key=run.mixture.__getitem__)]


def found_by(measuring: MeasuringPolicy, observation: RoundObservation) -> tuple[Found, list[list[ShortRun]]]:
    trial: Any = measuring.trial(observation)
    asked = [next(trial)]
    while True:
        try:
            asked.append(trial.send([losses_after(run) for run in asked[-1]]))
        except StopIteration as ended:
            return ended.value, asked


def after(number: int, found: Found | None = None) -> RoundObservation:
    losses = {'a': 2.0 - 0.1 * number, 'b': 3.0 - 0.2 * number, 'x': 4.0}
    seen = {'a': 20 * (number + 1), 'b': 20 * (number + 1)}
    return RoundObservation(number, losses, proportions={'a': 0.5, 'b': 0.5}, samples_seen=seen, trial=found)


def test_the_graph_is_that_of_the_formula_and_says_from_what():
    found, (first, runs) = found_by(policy(start=3), after(2))
    assert [one.steps for one in first] == [0]
    assert [(one.name, one.mixture, one.steps, one.repeat) for one in runs] == [
        ('on a', {'a': 1.0, 'b': 0.0}, 6, 0),
        ('on b', {'a': 0.0, 'b': 1.0}, 6, 0),
    ]
    graph = SkillsGraph.from_dict(found['graph'])
    assert graph.weights.tolist() == np.maximum(EFFECTS, 0).tolist()
    assert graph.measured
    assert graph.measured.start
    assert graph.measured.effects.tolist() == EFFECTS
    assert graph.measured.start.words == 'middle, step 30 of 80 (this run)'
    assert (found['branches'], found['steps'], found['mixture']) == (2, 12, None)
    assert json.loads(json.dumps(found)) == found


def test_repeats_are_in_other_orders_and_brute_force_trains_pairs():
    found, asked = found_by(policy(measure={'steps': 6, 'repeats': 2}), after(-1))
    assert [[one.repeat for one in runs] for runs in asked] == [[0], [0, 0], [1, 1]]
    assert found['steps'] == 24
    assert found['graph']['measured']['repeats'] == 2
    measure = {'steps': 6, 'method': 'brute-force'}
    _, (_, runs) = found_by(policy(measure=measure, targets=SKILLS), after(-1))
    assert [one.mixture for one in runs] == [{'a': 1, 'b': 0}, {'a': 0, 'b': 1}, {'a': 0.5, 'b': 0.5}]


def test_targets_are_the_columns():
    found, _ = found_by(policy(targets=['x']), after(-1))
    assert SkillsGraph.from_dict(found['graph']).eval_skills == ('x',)


@pytest.mark.parametrize('around', [{}, {'floor': 0.1}, {'on_bad_loss': 'last'}])
@pytest.mark.parametrize('start', [0, 3])
def test_it_decides_as_with_that_graph_saved_and_restored_at_every_round(start: int, around: dict):
    graph = SkillsGraph(SKILLS, [*SKILLS, 'x'], np.maximum(EFFECTS, 0))
    rows = {
        row: dict(zip(graph.eval_skills, own.tolist(), strict=True))
        for row, own in zip(SKILLS, graph.weights, strict=True)
    }
    own = {'start': start, **around} if start else around
    known, _ = policy_of_options({'policy': 'skill_it', 'eta': 0.5, 'graph': rows, **own}, CONTEXT)
    measuring = policy(**own)
    if not start:
        found, _ = found_by(measuring, after(-1))
        measuring.observe(RoundObservation(-1, {}, trial=found))
    assert measuring.initial().tolist() == known.initial().tolist()
    for number in range(7):
        state = json.loads(json.dumps(measuring.state_dict()))
        found = found_by(measuring, after(number))[0] if number + 1 == start else None
        expected = known.update(after(number)).tolist()
        assert measuring.update(after(number, found)).tolist() == expected
        measuring = policy(**own)
        measuring.load_state_dict(state)
        # The same decided over again, as a run does that goes on.
        assert measuring.update(after(number, found)).tolist() == expected
        assert measuring.notes() == known.notes()
    assert measuring.trial(after(6)) is None


def test_it_is_asked_for_once_and_only_where_the_policy_begins():
    measuring = policy(start=3)
    assert [measuring.trial(after(number)) is not None for number in (-1, 0, 1, 2)] == [
        False,
        False,
        False,
        True,
    ]
    found, _ = found_by(measuring, after(2))
    measuring.update(after(2, found))
    assert [measuring.trial(after(number)) for number in (3, 4, 5)] == [None] * 3


def test_a_state_of_another_graph_is_refused():
    known, _ = policy_of_options({**OPTIONS, 'graph': 'identity', 'measure': None, 'targets': None}, CONTEXT)
    with pytest.raises(InputError, match='its graph was not learned in the run'):
        policy().load_state_dict(known.state_dict())


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'measure': None}, r'needs the steps of each short run: measure=\{steps: 60\}'),
        ({'measure': {'repeats': 2}}, 'needs the steps of each short run'),
        ({'measure': {'steps': 0}}, 'measure.steps must be a whole number, 1 or more'),
        ({'measure': {'steps': 3, 'lr': 0}}, 'measure.lr must be a finite number'),
        ({'measure': {'steps': 3, 'repeats': 0}}, 'measure.repeats must be a whole number'),
        ({'measure': {'steps': 3, 'method': 'brute'}}, 'measure.method must be one of'),
        ({'measure': {'step': 3}}, "has no option 'step'; did you mean 'steps'"),
        ({'measure': {'steps': 3, 'method': 'brute-force'}}, "'x' is not trained on"),
        ({'graph': 'identity'}, '`measure` says how the graph of graph=measure is learned'),
        ({'policy': 'stratified_', 'eta': None}, 'unknown policy'),
        ({'policy': 'proportional'}, "policy 'proportional' takes no graph"),
        ({'new_skills': 'mean'}, '`new_skills` says what a graph lacks'),
        ({'groups': {'one': ['a'], 'two': ['b']}}, 'of single streams, not of groups'),
    ],
)
def test_what_it_cannot_do_is_refused(changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        policy(**changes)


def test_it_cannot_be_applied_to_a_run_that_goes_on():
    with pytest.raises(InputError, match='graph=measure is learned where a run begins with it'):
        policy_inside_run(
            lambda options, _: policy_of_options(options, CONTEXT), OPTIONS, begins=3, evaluated=[]
        )
