"""Fits and searches equal to those of the authors' published code; tests/golden holds their numbers and commits."""

import json
from typing import Any

import numpy as np
import pytest

from skillit_stream.mixture_fit.laws import Exponential, Linear, fit_trees
from skillit_stream.mixture_fit.search import Bounds, refined_mixture, simulated_mixture
from tests.support.paths import GOLDEN

REGMIX = json.loads((GOLDEN / 'published_regmix.json').read_text())['cases']
OLMIX = json.loads((GOLDEN / 'published_olmix.json').read_text())['cases']


def bounds_of(case: dict[str, Any]) -> Bounds:
    limits = np.array(case.get('limits', [1.0] * len(case['prior'])))
    return Bounds(limits=limits, log_base=np.log(case['prior']), pull=0.0)


@pytest.mark.parametrize('case', [case for case in REGMIX if case['law'] == 'regmix'])
def test_regmix_simulation(case: dict[str, Any]):
    found = simulated_mixture([Linear(np.array(case['slopes']))], np.ones(1), bounds_of(case), case['seed'])
    np.testing.assert_allclose(found, case['mixture'], rtol=0, atol=1e-12)


@pytest.mark.parametrize('case', [case for case in REGMIX if case['law'] == 'regmix-trees'])
def test_regmix_trees_of_its_own_runs(case: dict[str, Any]):
    pytest.importorskip('lightgbm', reason='the extra `trees` is not installed')
    fitted = fit_trees(np.array(case['runs']), np.array(case['values']))
    assert fitted.parameters() == {'trees': case['trees']}
    np.testing.assert_allclose(fitted.predict(np.array(case['at'])), case['predicted'], rtol=0, atol=1e-12)
    found = simulated_mixture([fitted], np.ones(1), bounds_of(case), case['seed'])
    np.testing.assert_allclose(found, case['mixture'], rtol=0, atol=1e-12)


@pytest.mark.parametrize('case', OLMIX)
def test_olmix_simulation(case: dict[str, Any]):
    laws = [Exponential(c, np.array(t)) for c, t in zip(case['constants'], case['slopes'], strict=True)]
    found = refined_mixture(laws, np.array(case['weights']), bounds_of(case), case['seed'])
    np.testing.assert_allclose(found, case['mixture'], rtol=0, atol=1e-12)
