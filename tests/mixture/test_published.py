"""Mixtures equal to those of the authors' published code on the same losses.

tests/golden/published_<policy>.json holds the losses and the mixtures as numbers, the repository and commit that
computed them, and how it was called.
"""

import json
from typing import Any

import numpy as np
import pytest

from skillit_stream.mixture import RoundObservation, SkillsGraph, build_policy
from skillit_stream.mixture.sample_order import paced_fraction
from tests.support.paths import GOLDEN

TOLERANCE = 1e-12


def cases_of(name: str) -> list[Any]:
    cases = json.loads((GOLDEN / f'published_{name}.json').read_text())['cases']
    return [pytest.param(case, id=f'{name}-{number}') for number, case in enumerate(cases)]


def by_name(skills: list[str], values: list[float | None]) -> dict[str, float]:
    """Values by skill; those that are not there are left out."""
    return {name: value for name, value in zip(skills, values, strict=True) if value is not None}


def close(found: Any, published: Any) -> None:
    np.testing.assert_allclose(found, published, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize('case', [*cases_of('odm'), *cases_of('exp3')])
def test_online_data_mixing(case: dict[str, Any], request: pytest.FixtureRequest):
    skills = [f's{i}' for i in range(len(case['losses'][0]))]
    options = dict(case['options'])
    if 'initial' in options:
        options['initial'] = by_name(skills, options['initial'])
    policy = build_policy(request.node.callspec.id.split('-')[0], skills=skills, **options)
    for number, (losses, mixture) in enumerate(zip(case['losses'], case['mixtures'], strict=True)):
        seen = by_name(skills, losses)
        close(policy.update(RoundObservation(number, seen, train_losses=seen)), mixture)


@pytest.mark.parametrize('case', cases_of('skill_it'))
def test_skill_it(case: dict[str, Any]):
    skills = [f's{i}' for i in range(len(case['graph']))]
    other = case['domain'].startswith('ood')
    eval_skills = [f'e{j}' for j in range(len(case['graph'][0]))] if other else skills
    options = dict(case['options'])
    for key in ('prior', 'initial'):
        if key in options:
            options[key] = by_name(skills, options[key])
    if 'targets' in options:
        options['targets'] = [skills[i] for i in options['targets']]
    graph = SkillsGraph(skills, eval_skills, case['graph'])
    policy = build_policy('skill_it', skills=skills, graph=graph, published=True, **options)
    first, *rest = [by_name(eval_skills, losses) for losses in case['losses']]
    policy.observe(RoundObservation(-1, first))
    close(policy.initial(), case['mixtures'][0])
    each = case['evaluations_a_round']
    for number, mixture in enumerate(case['mixtures'][1:]):
        *within, last = rest[number * each : (number + 1) * each]
        for losses in within:
            policy.observe(RoundObservation(number, losses))
        close(policy.update(RoundObservation(number, last)), mixture)


@pytest.mark.parametrize('case', cases_of('ado'))
def test_ado_given_the_laws(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    skills = [f's{i}' for i in range(len(case['sizes']))]
    policy = build_policy('ado', skills=skills, sizes=by_name(skills, case['sizes']), warmup=case['warmup'])
    steps = zip(case['fits'], case['proportions'], case['mixtures'], strict=True)
    for number, (fits, proportions, mixture) in enumerate(steps):
        laws = iter(fits or ())
        monkeypatch.setattr('skillit_stream.mixture.ado.fit_power_law', lambda *_, laws=laws: next(laws))
        losses = dict.fromkeys(skills, 2.0)
        played = by_name(skills, proportions)
        seen = RoundObservation(number, losses, train_losses=losses, proportions=played)
        close(policy.update(seen), mixture)


@pytest.mark.parametrize('case', cases_of('aioli'))
def test_aioli(case: dict[str, Any]):
    skills = [f's{i}' for i in range(len(case['losses'][0]))]
    options = dict(case['options'])
    if 'prior' in options:
        options['prior'] = by_name(skills, options['prior'])
    graph = None if case['graph'] is None else SkillsGraph(skills, skills, case['graph'])
    policy = build_policy('aioli', skills=skills, eval_skills=skills, graph=graph, **options)
    first, *rest = [by_name(skills, losses) for losses in case['losses']]
    policy.observe(RoundObservation(-1, first))
    close(policy.initial(), case['mixtures'][0])
    for number, (losses, mixture) in enumerate(zip(rest, case['mixtures'][1:], strict=True)):
        close(policy.update(RoundObservation(number, losses)), mixture)


@pytest.mark.parametrize('case', cases_of('sheared'))
def test_sheared_llama(case: dict[str, Any]):
    skills = [f's{i}' for i in range(len(case['reference']))]
    given: dict[str, Any] = {key: by_name(skills, case[key]) for key in ('reference', 'initial')}
    code = {'clamp': False, 'smoothing': 1e-4, 'update': case['update']}
    policy = build_policy('sheared', skills=skills, eval_skills=skills, **given, **code)
    for number, (losses, mixture) in enumerate(zip(case['losses'], case['mixtures'], strict=True)):
        close(policy.update(RoundObservation(number, by_name(skills, losses))), mixture)


@pytest.mark.parametrize('case', cases_of('doremi'))
def test_doremi_with_one_token_a_domain(case: dict[str, Any]):
    skills = [f's{i}' for i in range(len(case['initial']))]
    given: dict[str, Any] = {key: case[key] for key in ('eta', 'smoothing')} | {
        'initial': by_name(skills, case['initial'])
    }
    policy = build_policy('doremi', skills=skills, reference=dict.fromkeys(skills, 0.0), **given)
    for number, (losses, mixture) in enumerate(zip(case['losses'], case['mixtures'], strict=True)):
        seen = RoundObservation(number, {}, train_losses=by_name(skills, losses))
        close(policy.update(seen), mixture)


@pytest.mark.parametrize('case', cases_of('curriculum'))
def test_group_curriculum(case: dict[str, Any]):
    skills = [f's{i}' for i in range(len(case['sizes']))]
    given = {key: case[key] for key in ('anti', 'mixing', 'rounds')}
    policy = build_policy(
        'curriculum', skills=skills, eval_skills=skills, sizes=by_name(skills, case['sizes']), **given
    )
    losses = by_name(skills, case['losses'])
    policy.observe(RoundObservation(-1, losses))
    mixtures = [policy.initial()]
    mixtures += [policy.update(RoundObservation(number, losses)) for number in range(case['rounds'] - 1)]
    drawn = case['batch_size'] * np.array(mixtures)
    for stage in case['stages']:
        steps = sum(stage) // case['batch_size']
        close(drawn[:steps].sum(axis=0), stage)
        drawn = drawn[steps:]
    assert len(drawn) * case['batch_size'] == case['last']
    close(drawn[0] / case['batch_size'], np.array(case['sizes']) / sum(case['sizes']))


@pytest.mark.parametrize('case', cases_of('sample_curriculum'))
def test_pacing_of_the_sample_curriculum(case: dict[str, Any]):
    samples = case['update_size'] * case['updates']
    for number, pool in enumerate(case['pools'], 1):
        progress = number / case['updates']
        fraction = paced_fraction(case['pacing'], progress, start=case['start'], full_at=case['full_at'])
        assert int(fraction * samples + 1e-9) == pool
