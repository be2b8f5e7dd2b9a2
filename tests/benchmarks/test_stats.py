"""The statistics against statsmodels, scipy, a published example, and a null simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as sps
from statsmodels.stats.multitest import multipletests

from benchmarks.scores.stats import (
    corrected_resampled_t,
    family_bootstrap,
    family_weights,
    holm,
    percentile_interval,
)
from tests.builders.null_simulation import FOLDS, GENES, rates, simulate


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_that_of_statsmodels(seed):
    rng = np.random.default_rng(seed)
    p = np.round(rng.uniform(0, rng.choice([0.02, 0.2, 1.0]), rng.integers(1, 12)), 3)  # with ties
    expected = multipletests(p, method="holm")[1]
    np.testing.assert_allclose(holm(p), expected, atol=1e-12)


def test_holm_leaves_out_what_was_not_tested():
    adjusted = holm([0.01, math.nan, 0.04])
    np.testing.assert_allclose(adjusted, [0.02, math.nan, 0.04])


def test_corrected_t_is_the_worked_example_of_scikit_learn():
    """scikit-learn, "Statistical comparison of models using grid search".

    10 × 10-fold cross-validation (n_test / n_train = 1/9, 100 differences): uncorrected
    t = 2.611, corrected t = 0.750, one-sided p = 0.227.
    """
    d = np.random.default_rng(0).normal(size=100)
    d = (d - d.mean()) / d.std(ddof=1) + 2.611 / 10  # its ordinary t is exactly 2.611
    assert sps.ttest_1samp(d, 0).statistic == pytest.approx(2.611)
    test = corrected_resampled_t(d, n_train=9, n_test=1)
    assert test.statistic == pytest.approx(0.750, abs=5e-4)
    assert test.p_value / 2 == pytest.approx(0.227, abs=1e-3)
    assert test.df == 99


def test_corrected_t_by_hand():
    """d̄ = 0.02, s² = 0.0001 (n − 1), t = 0.02 / sqrt((1/4 + 1/4) · 0.0001), 3 df."""
    d = 0.02 + 0.01 * np.array([-1, -1, 1, 1]) * math.sqrt(3 / 4)
    test = corrected_resampled_t(d, n_train=80, n_test=20)
    assert test.statistic == pytest.approx(2 * math.sqrt(2))
    assert test.p_value == pytest.approx(2 * sps.t.sf(2 * math.sqrt(2), 3))


def test_corrected_t_is_the_ordinary_one_where_the_test_set_vanishes():
    d = np.random.default_rng(1).normal(0.3, 1, 25)
    ordinary = sps.ttest_1samp(d, 0.0)
    test = corrected_resampled_t(d, n_train=1.0, n_test=0.0)
    assert test.statistic == pytest.approx(ordinary.statistic)
    assert test.p_value == pytest.approx(ordinary.pvalue)


def test_corrected_t_at_its_edges():
    assert corrected_resampled_t(np.zeros(10), 80, 20).p_value == 1.0
    assert corrected_resampled_t(np.full(10, 0.1), 80, 20).p_value < 1e-12
    assert math.isnan(corrected_resampled_t([0.1, math.nan, 0.2], 80, 20).p_value)
    assert math.isnan(corrected_resampled_t([0.1], 80, 20).p_value)
    with pytest.raises(ValueError, match="n_train > 0"):
        corrected_resampled_t([0.1, 0.2], 0, 20)


def test_weights_are_multinomial_draws_of_families():
    weights = np.concatenate(list(family_weights(50, 4000, seed=3)))
    assert weights.shape == (4000, 50)
    assert (weights.sum(axis=1) == 50).all()
    counts = np.bincount(weights[:, 0].astype(int), minlength=6)[:6] / 4000
    expected = sps.binom.pmf(np.arange(6), 50, 1 / 50)
    np.testing.assert_allclose(counts, expected, atol=0.03)


def test_weights_do_not_depend_on_how_many_fit_in_memory(monkeypatch):
    whole = np.concatenate(list(family_weights(30, 20, seed=1)))
    monkeypatch.setattr("benchmarks.scores.stats._WEIGHTS_AT_ONCE", 90)
    np.testing.assert_array_equal(np.concatenate(list(family_weights(30, 20, seed=1))), whole)


def test_bootstrap_of_a_mean_has_the_standard_error_of_textbooks():
    x = np.random.default_rng(5).normal(size=400)
    totals = np.stack([x, np.ones_like(x)], axis=1)
    drawn = family_bootstrap(totals, lambda s: s[:, 0] / s[:, 1], replicates=4000, seed=0)
    assert drawn.std() == pytest.approx(x.std() / 20, rel=0.05)
    low, high = percentile_interval(drawn)
    assert (low, high) == pytest.approx(
        (x.mean() - 1.96 * x.std() / 20, x.mean() + 1.96 * x.std() / 20), abs=0.01
    )


def test_interval_needs_defined_replicates():
    assert np.isnan(percentile_interval([math.nan] * 50 + [1.0] * 50)).all()
    assert percentile_interval([math.nan] * 2 + [1.0] * 98) == (1.0, 1.0)


def binomial_interval(rate: float, n: int) -> tuple[float, float]:
    """Where a rate measured in n simulations lies, but for one time in 10,000."""
    low, high = sps.binom.ppf([0.00005, 0.99995], n, rate) / n
    return float(low), float(high)


@pytest.mark.slow
def test_false_positive_rates_under_the_null():
    """Two equally good learners: the naive test calls them different most of the time.

    Of 1,000 simulations (python -m tests.builders.null_simulation): naive t 59 %, bootstrap over
    genes 22 %, over families 9 %, corrected t 5.4 %.
    """
    n = 200
    naive = corrected = 0
    for result in simulate(n, seed=11):
        d = result.fold_differences()
        naive += sps.ttest_1samp(d, 0.0).pvalue < 0.05
        train, test = GENES * (FOLDS - 1) / FOLDS, GENES / FOLDS
        corrected += corrected_resampled_t(d, train, test).p_value < 0.05
    assert naive / n > 0.45
    low, _ = binomial_interval(0.05, n)
    _, high = binomial_interval(0.09, n)
    assert low <= corrected / n <= high


@pytest.mark.slow
def test_bootstraps_are_ordered_as_documented():
    measured = rates(100, seed=5, replicates=200)
    assert measured["naive t"] > measured["gene bootstrap"] > measured["family bootstrap"]
    assert measured["gene bootstrap"] > 0.10
