"""Statistics of results that come in gene families: bootstrap, corrected t-test, Holm.

Genes of one family share ancestry, so they are not independent: everything here resamples or
compares whole families or whole folds, never single genes. This module knows neither learners
nor stores; it needs numpy and scipy only.

Measured false-positive rates at a nominal 5 % (two exchangeable ridge learners, 300 genes in 60
families, grouped 5-fold cross-validation × 10): naive paired t-test 65 %, bootstrap over genes
33 %, bootstrap over families 14.5 %, corrected resampled t-test 7 %. A simulation of that layout
in ``tests/benchmarks/test_stats.py`` gives 59, 22, 9 and 5 %: see docs/benchmark_protocol.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]

NOMINAL: Final = 0.05
"""The level at which a difference is called real, after Holm's adjustment."""

MIN_REPEATS: Final = 5
MIN_FOLDS: Final = 5
"""A claim rests on at least 5 repeats × 5 folds; with fewer, a comparison is descriptive."""

FALSE_POSITIVE_RATES: Final = {
    "naive paired t-test over folds": 0.65,
    "bootstrap over genes": 0.33,
    "bootstrap over gene families": 0.145,
    "corrected resampled t-test": 0.07,
}
"""How often each test calls two equally good learners different, at a nominal 5 %."""

_WEIGHTS_AT_ONCE = 4_000_000  # 32 MB of weights in memory, whatever the number of families
_ENOUGH_DEFINED = 0.9  # an interval from fewer defined replicates would not be a 95 % interval


@dataclass(frozen=True)
class TestResult:
    """Outcome of a test that a mean difference is zero."""

    __test__: ClassVar[bool] = False  # pytest would take the name for a test class

    mean_difference: float
    statistic: float
    p_value: float
    df: int
    n: int


def family_weights(n_families: int, replicates: int, seed: int) -> Iterator[FloatArray]:
    """Draw how often each family occurs in each bootstrap replicate.

    Each replicate draws ``n_families`` families with replacement, so its weights are multinomial
    and sum to ``n_families``. The stream depends on the three arguments only.

    Parameters
    ----------
    n_families
        Number of families.
    replicates
        Number of bootstrap replicates.
    seed
        Seed of the generator.

    Yields
    ------
    (b, n_families) array
        Weights of the next ``b`` replicates; the ``b`` add up to ``replicates``.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _WEIGHTS_AT_ONCE // max(n_families, 1))
    for start in range(0, replicates, step):
        b = min(step, replicates - start)
        drawn = rng.integers(0, n_families, size=(b, n_families))
        drawn += np.arange(b)[:, None] * n_families
        counts = np.bincount(drawn.ravel(), minlength=b * n_families)
        yield counts.reshape(b, n_families).astype(np.float64)


def family_bootstrap(
    totals: npt.ArrayLike,
    estimate: Callable[[FloatArray], FloatArray],
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> FloatArray:
    """Bootstrap over gene families (a cluster bootstrap) from per-family sums.

    A statistic that is a function of sums over genes (R², Pearson, RMSE …) needs each family's
    sums only, so a replicate costs one row of a matrix product and not a pass over the genes.

    Parameters
    ----------
    totals : (family, …)
        Sums over the genes of each family.
    estimate
        Takes resampled totals (replicate, …) and returns the statistics (replicate, …).
    replicates
        Number of bootstrap replicates.
    seed
        The same seed and number of families give the same draws, so replicates of different
        statistics may be subtracted from one another.

    Returns
    -------
    (replicates, …) array
        What ``estimate`` returned.

    References
    ----------
    Davison & Hinkley (1997) Bootstrap Methods and their Application, section 3.8.
    """
    sums = np.asarray(totals, dtype=np.float64)
    flat = sums.reshape(sums.shape[0], -1)
    parts = [
        estimate((weights @ flat).reshape(-1, *sums.shape[1:]))
        for weights in family_weights(sums.shape[0], replicates, seed)
    ]
    return np.concatenate(parts)


def percentile_interval(values: npt.ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap replicates; NaN where too few of them are defined.

    Parameters
    ----------
    values : (replicates,)
        Bootstrap replicates of one statistic; NaN where it is undefined.
    level
        Coverage, 0.95 by default.
    """
    replicates = np.asarray(values, dtype=np.float64)
    defined = replicates[np.isfinite(replicates)]
    if defined.size < 2 or defined.size < _ENOUGH_DEFINED * replicates.size:
        return math.nan, math.nan
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(defined, [tail, 100.0 - tail])
    return float(low), float(high)


def corrected_resampled_t(
    differences: npt.ArrayLike, n_train: float | Sequence[float], n_test: float | Sequence[float]
) -> TestResult:
    """Two-sided corrected resampled t-test on score differences of repeated cross-validation.

    Training sets of different folds overlap, so the differences are correlated and their variance
    over folds is too small. With J differences of mean d̄ and sample variance s²,
    t = d̄ / sqrt((1/J + n_test/n_train) s²), with J − 1 degrees of freedom.

    Parameters
    ----------
    differences : (J,)
        Score of one learner minus the score of the other on the same test fold, one for each
        fold of each repeat.
    n_train, n_test
        Genes in training and test, one number or one per fold (their means are used).

    Returns
    -------
    TestResult
        NaN statistic and p where a difference is NaN or there are fewer than two; p = 1 where
        all differences are zero.

    Raises
    ------
    ValueError
        If ``n_train`` is not positive or ``n_test`` is negative.

    References
    ----------
    Nadeau & Bengio (2003) Inference for the generalization error. Machine Learning 52:239–281.
    Bouckaert & Frank (2004) Evaluating the replicability of significance tests for comparing
    learning algorithms. PAKDD 2004, LNCS 3056:3–12 (the form for repeated cross-validation).
    """
    train, test = float(np.mean(n_train)), float(np.mean(n_test))
    if not (train > 0 and test >= 0):
        raise ValueError(
            f"the corrected t-test needs n_train > 0 and n_test ≥ 0, not {train:g} and {test:g}"
        )
    d = np.asarray(differences, dtype=np.float64).ravel()
    n = d.size
    if n < 2 or not np.isfinite(d).all():
        mean = float(d.mean()) if n else math.nan
        return TestResult(mean, math.nan, math.nan, max(n - 1, 0), n)
    mean, variance = float(d.mean()), float(d.var(ddof=1))
    scale = math.sqrt((1.0 / n + test / train) * variance)
    if scale == 0.0:
        if mean == 0.0:
            return TestResult(0.0, 0.0, 1.0, n - 1, n)
        return TestResult(mean, math.copysign(math.inf, mean), 0.0, n - 1, n)
    t = mean / scale
    p = 2.0 * float(special.stdtr(n - 1, -abs(t)))
    return TestResult(mean, t, p, n - 1, n)


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Adjust p-values for multiple comparisons by Holm's step-down method.

    Parameters
    ----------
    p_values : (m,)
        Raw p-values; a NaN (a test that could not be made) stays NaN and does not count.

    Returns
    -------
    (m,) array
        Adjusted p-values, at most 1, in the order given.

    References
    ----------
    Holm (1979) A simple sequentially rejective multiple test procedure. Scand J Stat 6:65–70.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    steps = p[order] * np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
