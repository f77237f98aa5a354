"""What holds for every policy: it continues where it was saved, and gives the same on every rank."""

import atexit
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from skillit_stream.mixture import RoundObservation, SkillsGraph, build_policy, policy_names
from tests.support.mix_runs import drawn_mixtures, write_logs
from tests.support.ranked_samples import sample_losses

SKILLS = ['a', 'b', 'c']
ROUNDS = 12
REFERENCE = {'a': 1.0, 'b': 1.5, 'c': 0.5}


def finished_runs() -> str:
    """A pattern of the run folders that `regmix_d` is fitted to, three stages each."""
    folder = tempfile.TemporaryDirectory(prefix='skillit-runs-')
    atexit.register(folder.cleanup)
    mixtures = drawn_mixtures(12, 3)[:, None].repeat(3, axis=1)
    falling = np.linspace(6, 2, 4)[:, None] - np.pad(mixtures.cumsum(axis=1), ((0, 0), (1, 0), (0, 0)))
    write_logs(Path(folder.name), mixtures, falling, SKILLS)
    return f'{folder.name}/run*'


RUNS = finished_runs()
OPTIONS = {
    'ado': [{}, {'losses': 'eval', 'skip': 1, 'warmup': 5}],
    'aioli': [
        {'hold': 1},
        {'hold': 2, 'smoothing': 0.5},
        {'hold': 1, 'diagonal': True, 'prior': {'a': 1, 'b': 2, 'c': 1}, 'prior_rounds': 2},
        {'hold': 1, 'start_eta': 0.5, 'prior_rounds': 3},
    ],
    'curriculum': [{'mixing': 0.3}, {'anti': True}, {'order': ['c', 'b', 'a']}],
    'dirichlet': [{'seed': 3}, {'seed': 0, 'strength': 0.1}],
    'dga': [{}, {'reward': 'others', 'ema': 1}, {'targets': ['a'], 'scale': False}],
    'doremi': [{'reference': REFERENCE}, {'reference': REFERENCE, 'losses': 'eval', 'clamp': False}],
    'exp3': [{}, {'draws': 3}],
    'forks': [{'every': 4, 'steps': 5, 'max_cost': 0.5, 'targets': ['a']}],
    'grape': [{}, {'targets': ['b'], 'mu_targets': 10, 'smoothing': 0.1}],
    'odm': [
        {},
        {'warmup': 250, 'smoothing': 0.5},
        {'method': 'ema'},
        {'method': 'naive_validation', 'steps': 7},
    ],
    'proportional': [{}],
    'regmix_d': [
        {'law': 'regmix', 'runs': RUNS},
        {'law': 'regmix', 'runs': RUNS, 'targets': ['b'], 'seed': 1},
        {'law': 'regmix', 'runs': RUNS, 'online': False},
    ],
    'sample_curriculum': [{}, {'anti': True, 'pacing': 'logarithmic', 'start': 0.2}],
    'schedule': [{'mixtures': [{'a': 1, 'b': 1, 'c': 1}, {'a': 1, 'b': 0, 'c': 0}]}],
    'sheared': [{'reference': REFERENCE}, {'reference': REFERENCE, 'update': 'bandit'}],
    'skill_it': [{'eta': 0.3}, {'eta': 0.3, 'lag': 1}, {'eta': 0.3, 'published': True}, {'tilt': 2}],
    'static': [{'weights': {'a': 1, 'b': 2, 'c': 3}}],
    'stratified': [{}, {'targets': ['a']}],
    'velocitune': [
        {'target_losses': REFERENCE},
        {'target_losses': REFERENCE, 'initial': {'a': 0.2, 'b': 0.2, 'c': 0.6}},
    ],
}
AROUND = [
    {},
    {'floor': 0.05, 'ceiling': 0.5},
    {'max_passes': 2, 'on_bad_loss': 'last'},
    {'start': 3, 'on_bad_loss': 'keep'},
]

cases = [
    pytest.param(name, {**options, **around}, id=f'{name}-{i}-{j}')
    for name, variants in OPTIONS.items()
    for i, options in enumerate(variants)
    for j, around in enumerate(AROUND)
    # `start` is an option of its own there, and a mixture that was confirmed is not to be changed.
    if not ((name == 'sample_curriculum' and 'start' in around) or (name == 'forks' and 'floor' in around))
]


def build(name, options):
    graph = SkillsGraph(SKILLS, SKILLS, [[1, 0.5, 0], [0, 1, 0.2], [-0.1, 0, 1]])
    return build_policy(
        name,
        skills=SKILLS,
        eval_skills=SKILLS,
        graph=graph,
        sizes={'a': 900, 'b': 500, 'c': 400},
        rounds=ROUNDS,
        round_size=100,
        round_steps=50,
        run_steps=ROUNDS * 50,
        sample_losses=sample_losses({'a': range(900), 'b': range(300, 800), 'c': range(400)}),
        **options,
    )


def observations():
    """Losses that fall, noisily; c is not drawn in round 4."""
    rng = np.random.default_rng(3)
    seen = np.zeros(3, dtype=int)
    for number in range(-1, ROUNDS):
        base = 3 * (number + 2.0) ** -0.3 + rng.uniform(0, 0.2, size=(2, 3))
        seen = seen + (34 if number >= 0 else 0)
        vectors = rng.normal(size=(3, 5))
        products = (vectors @ vectors.T).tolist()
        yield RoundObservation(
            number,
            dict(zip(SKILLS, base[0].tolist(), strict=True)),
            train_losses={
                name: loss
                for name, loss in zip(SKILLS, base[1].tolist(), strict=True)
                if number != 4 or name != 'c'
            },
            samples_seen=dict(zip(SKILLS, seen.tolist(), strict=True)),
            gradients={
                row: dict(zip(SKILLS, own, strict=True)) for row, own in zip(SKILLS, products, strict=True)
            },
        )


def begin_two(name, options):
    """A policy twice, after its first mixture, and the observations to come."""
    before, *rest = observations()
    policies = build(name, options), build(name, options)
    for policy in policies:
        policy.observe(before)
    first, same = (policy.initial().tolist() for policy in policies)
    assert same == first
    return *policies, rest


def test_every_policy_that_is_registered_is_in_these_tests():
    assert set(policy_names()) == set(OPTIONS)


@pytest.mark.parametrize(('name', 'options'), cases)
def test_saved_and_restored_at_every_round_it_continues_identically(name, options):
    steady, restarted, rounds = begin_two(name, options)
    for observation in rounds:
        state = json.loads(json.dumps(restarted.state_dict()))
        restarted = build(name, options)
        restarted.load_state_dict(state)
        expected = steady.update(observation)
        assert restarted.update(observation).tolist() == expected.tolist()
        assert restarted.notes() == steady.notes()
        assert expected.sum() == pytest.approx(1.0, abs=1e-9)
        assert (expected >= 0).all()
    assert restarted.state_dict() == steady.state_dict()


@pytest.mark.parametrize(('name', 'options'), cases)
def test_two_ranks_say_the_same_whatever_the_order_of_their_mappings(name, options):
    one, two, rounds = begin_two(name, options)
    for seen in rounds:
        turned = RoundObservation(
            seen.round,
            dict(reversed(list(seen.eval_losses.items()))),
            train_losses=dict(reversed(list((seen.train_losses or {}).items()))),
            samples_seen=dict(reversed(list((seen.samples_seen or {}).items()))),
            gradients=dict(reversed(list((seen.gradients or {}).items()))),
        )
        np.random.random(3)  # noqa: NPY002 (a global generator in another state)
        assert two.update(turned).tolist() == one.update(seen).tolist()


@pytest.mark.parametrize(('name', 'options'), cases)
def test_it_describes_itself_in_plain_python(name, options):
    description = build(name, options).describe()
    assert json.loads(json.dumps(description)) == description
    assert description['name'] in (name, 'static', 'schedule')
