"""Cross-validation: folds, ranks and errors by hand, and no look at what is held out."""

import numpy as np
import pytest

from skillit_stream.mixture_fit.laws import fit_exponential, fit_linear
from skillit_stream.mixture_fit.quality import compare, fold_of_runs, held_out_predictions, spearman
from tests.support.mix_runs import table


def test_ranks_by_hand():
    # Ranks 1, 2.5, 2.5, 4 and 2, 1, 3, 4, about their mean 2.5: 3 / √(4.5 · 5)
    assert spearman(np.array([1.0, 2, 2, 9]), np.array([5.0, 4, 6, 7])) == pytest.approx(3 / 22.5**0.5)
    assert spearman(np.array([1.0, 2, 3]), np.array([9.0, 5, 1])) == pytest.approx(-1.0)
    assert spearman(np.array([1.0, 2, 3]), np.ones(3)) is None


def test_errors_by_hand():
    one = compare(np.array([1.0, 2, 3]), np.array([1.0, 2, 4]), np.array([2.0, 2, 2]))
    assert (one.r2, one.mae, one.baseline_mae) == pytest.approx((0.5, 1 / 3, 2 / 3))


def test_folds_are_even_and_the_same_for_a_seed():
    fold = fold_of_runs(23, 5, seed=1)
    assert sorted(np.bincount(fold).tolist()) == [4, 4, 5, 5, 5]
    assert (fold == fold_of_runs(23, 5, seed=1)).all()
    assert (fold != fold_of_runs(23, 5, seed=2)).any()


def test_a_run_is_predicted_without_a_look_at_it():
    runs = table(20, noise=0.05)
    fold = fold_of_runs(20, 4, seed=0)
    before, baseline = held_out_predictions(fit_linear, runs.proportions, runs.values, fold)
    changed = runs.values.copy()
    changed[3] += 10.0
    after, baseline_after = held_out_predictions(fit_linear, runs.proportions, changed, fold)
    same_fold = fold == fold[3]
    assert (after[same_fold] == before[same_fold]).all()
    assert (baseline_after[same_fold] == baseline[same_fold]).all()
    assert (after[~same_fold] != before[~same_fold]).all()


def test_the_law_predicts_its_own_runs_and_a_line_predicts_them_less_well():
    runs = table(30)
    fold = fold_of_runs(30, 5, seed=0)
    results = []
    for fit in (fit_exponential, fit_linear):
        predicted, baseline = held_out_predictions(fit, runs.proportions, runs.values, fold)
        results.append(compare(runs.values[:, 0], predicted[:, 0], baseline[:, 0]))
    exponential, line = results
    assert exponential.r2 > 0.999999
    assert 0.5 < line.r2 < 0.999
    assert exponential.spearman == pytest.approx(1.0)
    assert exponential.mae < 0.001 < line.mae < line.baseline_mae
