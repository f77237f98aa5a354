"""From a table to a mixture: the minimum, the limits, the reuse, and what is warned of."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillit_stream.base.errors import InputError
from skillit_stream.mixture_fit import FitOptions, fit_mixture
from skillit_stream.mixture_fit.quality import TARGET
from tests.support.mix_runs import CONSTANTS, SKILLS, SLOPES, simplex_grid, table

SIZES = {'web': 6_000.0, 'code': 1_000.0, 'books': 3_000.0}
RUNS = table()


@pytest.mark.parametrize('law', ['data-mixing', 'log-linear'])
@pytest.mark.parametrize('target', ['mean', 'eval0', {'eval0': 1, 'eval1': 3}])
def test_the_mixture_is_the_minimum_of_the_law_the_runs_were_drawn_from(law: str, target):
    fit = fit_mixture(RUNS, FitOptions(law=law, target=target, pull=0.0))
    weights = {'mean': [0.5, 0.5], 'eval0': [1.0, 0.0]}.get(str(target), [0.25, 0.75])
    grid = simplex_grid(100)
    truth = (CONSTANTS + np.exp(grid @ SLOPES.T)) @ weights
    found = float((CONSTANTS + np.exp(fit.mixture @ SLOPES.T)) @ weights)
    assert found <= truth.min() + 1e-4
    assert fit.predicted['mixture'] == pytest.approx(found, abs=1e-3)
    assert fit.mixture.sum() == pytest.approx(1.0, abs=1e-12)


def test_parameters_are_told_for_each_metric():
    fit = fit_mixture(RUNS, FitOptions(law='log-linear', pull=0.0))
    for i, name in enumerate(RUNS.metrics):
        assert fit.parameters[name]['c'] == pytest.approx(CONSTANTS[i], abs=1e-3)
        assert fit.parameters[name]['t'] == pytest.approx(SLOPES[i], abs=1e-2)
    assert fit.groups == SKILLS


def test_metrics_of_weight_0_are_not_fitted():
    fit = fit_mixture(RUNS, FitOptions(law='regmix', target={'eval0': 2, 'eval1': 0}))
    assert dict(fit.target) == {'eval0': 1.0}
    assert list(fit.quality) == ['eval0']


def test_the_pull_leads_from_the_minimum_to_the_natural_mixture():
    def shares(pull: float) -> np.ndarray:
        return fit_mixture(RUNS, FitOptions(law='log-linear', sizes=SIZES, pull=pull)).mixture

    natural = np.array([0.6, 0.1, 0.3])
    far = [np.abs(shares(pull) - natural).sum() for pull in (0.0, 0.1, 1.0, 1000.0)]
    assert far == sorted(far, reverse=True)
    assert far[0] > 0.5
    assert far[-1] < 0.001


@pytest.mark.parametrize('law', ['data-mixing', 'regmix'])
@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 10_000), min_size=3, max_size=3).filter(lambda sizes: sum(sizes) > 0),
    slack=st.floats(1.01, 5.0),
    pull=st.sampled_from([0.0, 0.05]),
)
def test_mixtures_sum_to_1_and_keep_the_limits(law: str, sizes: list[int], slack: float, pull: float):
    tokens = 20_000
    options = FitOptions(
        law=law,
        sizes=dict(zip(SKILLS, sizes, strict=True)),
        tokens=tokens,
        max_passes=slack * tokens / sum(sizes),
        pull=pull,
    )
    fit = fit_mixture(RUNS, options)
    assert fit.passes is not None
    assert fit.mixture.sum() == pytest.approx(1.0, abs=1e-12)
    assert (fit.mixture * tokens <= options.max_passes * np.array(sizes) + 1e-6).all()
    assert (fit.mixture[np.array(sizes) == 0] == 0).all()


def test_passes_and_limits_by_hand():
    # Code is best, but 2 passes of its 1,000 tokens are a tenth of 20,000.
    options = FitOptions(law='data-mixing', target='eval0', sizes=SIZES, tokens=20_000, max_passes=2)
    fit = fit_mixture(RUNS, options)
    assert fit.passes is not None
    assert fit.mixture == pytest.approx([0.6, 0.1, 0.3])
    assert fit.passes == pytest.approx([2.0, 2.0, 2.0])
    assert fit.at_limit.all()


def test_an_impossible_limit_says_what_would_do():
    with pytest.raises(InputError, match=r'fills 50\.0% of --tokens 40000') as refused:
        fit_mixture(RUNS, FitOptions(law='data-mixing', sizes=SIZES, tokens=40_000, max_passes=2))
    passes = float(re.findall(r'--max-passes to ([\d.]+)', str(refused.value))[0])
    tokens = int(re.findall(r'--tokens to (\d+)', str(refused.value))[0])
    assert fit_mixture(RUNS, FitOptions(law='data-mixing', sizes=SIZES, tokens=40_000, max_passes=passes))
    assert fit_mixture(RUNS, FitOptions(law='data-mixing', sizes=SIZES, tokens=tokens, max_passes=2))


def test_kept_skills_keep_their_ratio_and_only_the_rest_is_fitted():
    keep = {'web': 0.3, 'books': 0.1, 'code': 0.6}
    shares = RUNS.proportions.copy()
    shares[:, 0], shares[:, 2] = 0.75 * (1 - shares[:, 1]), 0.25 * (1 - shares[:, 1])
    runs = replace(
        RUNS,
        proportions=shares,
        values=CONSTANTS + np.exp(shares @ SLOPES.T),
    )
    fit = fit_mixture(runs, FitOptions(law='data-mixing', keep=keep, changed=['code']))
    assert fit.groups == ('code', '(kept)')
    assert fit.mixture[0] == pytest.approx(3 * fit.mixture[2], abs=5e-6)
    line = np.linspace(0, 1, 1001)
    on_line = np.column_stack([0.75 * (1 - line), line, 0.25 * (1 - line)])
    truth = (CONSTANTS + np.exp(on_line @ SLOPES.T)).mean(axis=1)
    assert fit.mixture[1] == pytest.approx(line[truth.argmin()], abs=2e-3)
    assert not fit.warnings


def test_kept_skills_are_limited_together():
    keep, passes = {'web': 0.5, 'books': 0.5}, 2.0
    options = FitOptions(
        law='data-mixing',
        target='eval1',
        sizes=SIZES,
        tokens=10_000,
        max_passes=passes,
        keep=keep,
        changed=['code'],
    )
    fit = fit_mixture(RUNS, options)
    assert fit.mixture[0] == pytest.approx(fit.mixture[2], abs=2e-6)
    assert fit.mixture[2] <= passes * 3_000 / 10_000
    assert fit.mixture[1] <= passes * 1_000 / 10_000


def test_a_kept_skill_without_tokens_is_refused():
    options = FitOptions(
        law='regmix', sizes={**SIZES, 'books': 0.0}, keep={'web': 0.5, 'books': 0.5}, changed=['code']
    )
    with pytest.raises(InputError, match='a skill that has no tokens'):
        fit_mixture(RUNS, options)


def test_a_best_run_that_the_real_run_cannot_repeat_is_told_of():
    free = fit_mixture(RUNS, FitOptions(law='regmix', sizes=SIZES))
    held = fit_mixture(RUNS, FitOptions(law='regmix', sizes=SIZES, tokens=10_000, max_passes=1.01))
    assert free.best_run.name == held.best_run.name
    assert free.best_run.target == pytest.approx(RUNS.values.mean(axis=1).min())
    assert (free.best_run.within_limits, held.best_run.within_limits) == (True, False)


def test_runs_in_other_ratios_than_the_kept_one_are_told_of():
    keep = {'web': 0.5, 'books': 0.5, 'wiki': 0.1}
    fit = fit_mixture(RUNS, FitOptions(law='data-mixing', keep=keep, changed=['code']))
    assert any('other ratios than --keep' in warning for warning in fit.warnings)
    assert any('proportions of wiki, which the runs do not have' in warning for warning in fit.warnings)


def test_noise_is_told_from_a_fit():
    rng = np.random.default_rng(3)
    values = 2.0 + 0.1 * rng.standard_normal(RUNS.values.shape)
    noise = replace(RUNS, values=values)
    bad = fit_mixture(noise, FitOptions(law='regmix'))
    assert bad.quality[TARGET].r2 <= 0
    assert any('no better than their mean does (R2 -' in warning for warning in bad.warnings)
    good = fit_mixture(RUNS, FitOptions(law='data-mixing'))
    assert good.quality[TARGET].r2 > 0.99
    assert not any('no better' in warning for warning in good.warnings)


def test_one_bad_metric_is_named():
    values = RUNS.values.copy()
    values[:, 1] = 2.0 + 1e-3 * np.random.default_rng(3).standard_normal(len(values))
    runs = replace(RUNS, values=values)
    fit = fit_mixture(runs, FitOptions(law='regmix'))
    assert 'for eval1 the fit predicts held-out runs no better than their mean does' in fit.warnings


def test_fewer_runs_than_parameters_are_refused():
    refused = r'at least 4 distinct mixtures, .* but got: 3 \(3 runs\)'
    with pytest.raises(InputError, match=refused):
        fit_mixture(table(3), FitOptions(law='data-mixing'))
    fit_mixture(table(4), FitOptions(law='data-mixing'))


def test_runs_of_one_mixture_count_once():
    few = table(3)
    again = [*range(3), 0, 1, 2]
    runs = replace(
        few,
        runs=tuple(f'run{number}' for number in again),
        proportions=few.proportions[again],
        values=few.values[again] + 1e-3 * np.arange(6)[:, None],
    )
    with pytest.raises(InputError, match=r'but got: 3 \(6 runs\)'):
        fit_mixture(runs, FitOptions(law='log-linear', pull=0))


def test_a_mixture_outside_of_the_runs_is_told_of():
    centre = 0.5 * RUNS.proportions + 0.5 / 3
    runs = replace(
        RUNS,
        proportions=centre,
        values=CONSTANTS + np.exp(centre @ SLOPES.T),
    )
    fit = fit_mixture(runs, FitOptions(law='data-mixing', target='eval0'))
    assert any('lies outside of what the runs span' in warning for warning in fit.warnings)
    near = fit_mixture(
        runs, FitOptions(law='data-mixing', target='eval0', sizes=dict.fromkeys(SKILLS, 1.0), pull=50)
    )
    assert not near.warnings


def test_the_same_seed_gives_the_same_fit():
    one, same = (fit_mixture(RUNS, FitOptions(law='regmix', seed=4)) for _ in range(2))
    assert (one.mixture == same.mixture).all()
    assert one.quality == same.quality


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(law='olmix'), r"unknown law 'olmix'"),
        (dict(law='log-linear'), r'needs the natural mixture.*--natural or --streams, or --pull 0'),
        (dict(law='regmix', pull=-1.0), '--pull must be 0 or more, but got: -1'),
        (dict(law='regmix', tokens=5), '--tokens needs the tokens that each skill has'),
        (dict(law='regmix', max_passes=2, sizes=SIZES), '--max-passes 2 needs the training tokens'),
        (dict(law='regmix', max_passes=0, sizes=SIZES, tokens=5), '--max-passes must be above 0'),
        (dict(law='regmix', folds=1), '--folds must be a whole number, 2 or more'),
        (dict(law='regmix', changed=['web']), '--keep and --changed go together'),
        (dict(law='regmix', keep=SIZES), '--keep and --changed go together'),
        (dict(law='regmix', target='eval7'), r"got: 'eval7'; did you mean 'eval"),
        (dict(law='regmix', target={'eval0': 1}), 'lacks: eval1'),
        (dict(law='regmix', sizes={'web': 1, 'code': 1}), 'lacks: books'),
        (dict(law='regmix', sizes={**SIZES, 'wiki': 1}), "unknown skill 'wiki'"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        fit_mixture(RUNS, FitOptions(**options))


def test_a_metric_that_is_the_same_in_all_runs_is_refused():
    values = RUNS.values.copy()
    values[:, 1] = 2.0
    runs = replace(RUNS, values=values)
    with pytest.raises(InputError, match="metric 'eval1' is the same in all runs"):
        fit_mixture(runs, FitOptions(law='regmix'))
    assert fit_mixture(runs, FitOptions(law='regmix', target='eval0'))


def test_a_metric_that_the_law_cannot_take_is_named():
    runs = replace(
        RUNS,
        values=RUNS.values - 3,
    )
    with pytest.raises(InputError, match=r"metric 'eval0': the laws .* need metrics above 0"):
        fit_mixture(runs, FitOptions(law='data-mixing'))
    assert fit_mixture(runs, FitOptions(law='regmix'))


def test_the_pull_of_log_linear_is_that_of_its_published_code():
    assert FitOptions(law='log-linear', sizes={'a': 1, 'b': 1}).effective_pull == 0.05


@pytest.mark.parametrize('law', ['log-linear', 'regmix'])
def test_the_simulation_of_olmix_is_near_the_minimum_within_the_limits(law: str):
    limits: dict[str, Any] = {'sizes': SIZES, 'tokens': 20_000, 'max_passes': 3}
    found = {
        search: fit_mixture(RUNS, FitOptions(law=law, search=search, pull=0.0, **limits))
        for search in ('simulation', None)
    }
    for fit in found.values():
        assert fit.passes is not None
        assert (fit.passes <= 3 + 1e-3).all()
    assert found['simulation'].predicted['mixture'] <= found[None].predicted['mixture'] + 0.02


def test_a_search_has_the_pull_of_its_own():
    assert FitOptions(law='log-linear', search='simulation').effective_pull == 0.0
    assert FitOptions(law='log-linear', search='simulation', sizes=SIZES, pull=1.0).effective_pull == 1.0


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'law': 'regmix', 'search': 'exact'}, '--search exact needs a convex law'),
        ({'law': 'regmix', 'search': 'simulated'}, "unknown search 'simulated'"),
    ],
)
def test_searches_that_do_not_exist_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        FitOptions(**options)


def test_limits_that_no_simulated_mixture_keeps_are_refused():
    options = FitOptions(
        law='log-linear', search='simulation', sizes=SIZES, tokens=10_000, max_passes=1.0, pull=0.0
    )
    with pytest.raises(InputError, match='none of the mixtures that --search simulation drew stays within'):
        fit_mixture(RUNS, options)
