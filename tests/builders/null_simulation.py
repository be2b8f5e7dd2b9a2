"""Two learners that are equally good by construction: how often does a test call them different?

Each simulated data set has 60 families × 5 genes. Learner A is a ridge on features X, learner B a
ridge on features Z; the target is X·β + Z·β + noise with the same β, X and Z have the same
distribution, and genes of a family share half the variance of features and noise. So neither is
better in the population, and every "significant" difference is a false positive.

    python -m tests.builders.null_simulation [SIMULATIONS]     prints the rates
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FAMILIES, PER_FAMILY, FEATURES, FOLDS, REPEATS = 60, 5, 10, 5, 10
GENES = FAMILIES * PER_FAMILY


@dataclass(frozen=True)
class NullResult:
    """Out-of-fold squared errors of two exchangeable learners.

    ``loss_a``, ``loss_b`` are (repeat, gene); ``fold`` is (repeat, gene); ``family`` is (gene).
    """

    loss_a: NDArray[np.float64]
    loss_b: NDArray[np.float64]
    fold: NDArray[np.int64]
    family: NDArray[np.int64]

    def fold_differences(self) -> NDArray[np.float64]:
        """Mean squared error of A − B on each test fold, (repeat × fold)."""
        difference = self.loss_a - self.loss_b
        return np.array([
            difference[r, self.fold[r] == f].mean() for r in range(REPEATS) for f in range(FOLDS)
        ])  # fmt: skip


def simulate(simulations: int, seed: int) -> Iterator[NullResult]:
    """Draw data sets and cross-validate both ridges by normal equations."""
    rng = np.random.default_rng(seed)
    family = np.repeat(np.arange(FAMILIES), PER_FAMILY)
    beta = np.full(FEATURES, 0.3)
    for _ in range(simulations):
        x, z = (_shared(rng, family, FEATURES) for _ in range(2))
        y = x @ beta + z @ beta + _shared(rng, family, 1)[:, 0]
        folds = np.stack([
            rng.permutation(np.arange(FAMILIES) % FOLDS)[family] for _ in range(REPEATS)
        ])  # fmt: skip
        loss_a, loss_b = ((y - _out_of_fold(features, y, folds)) ** 2 for features in (x, z))
        yield NullResult(loss_a, loss_b, folds, family)


def _shared(rng: np.random.Generator, family: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    common = rng.normal(size=(FAMILIES, k))[family]
    return np.sqrt(0.5) * (common + rng.normal(size=(len(family), k)))


def _out_of_fold(
    x: NDArray[np.float64], y: NDArray[np.float64], folds: NDArray[np.int64], penalty: float = 5.0
) -> NDArray[np.float64]:
    test = (folds[:, None, :] == np.arange(FOLDS)[None, :, None]).reshape(-1, len(y)).astype(float)
    outer = (x[:, :, None] * x[:, None, :]).reshape(len(y), -1)
    gram = ((1.0 - test) @ outer).reshape(-1, x.shape[1], x.shape[1])
    right = (1.0 - test) @ (x * y[:, None])
    weights = np.linalg.solve(gram + penalty * np.eye(x.shape[1]), right[..., None])[..., 0]
    predicted = weights @ x.T  # (repeat × fold, gene)
    return (predicted * test).reshape(len(folds), FOLDS, len(y)).sum(axis=1)


def rates(simulations: int, seed: int = 0, replicates: int = 400) -> dict[str, float]:
    """False-positive rate of each procedure at a nominal 5 %."""
    from scipy.stats import ttest_1samp

    from benchmarks.scores.stats import corrected_resampled_t, family_bootstrap, percentile_interval

    def excludes_zero(totals: NDArray[np.float64]) -> bool:
        drawn = family_bootstrap(
            totals, lambda s: s[:, 0] / s[:, 1], replicates=replicates, seed=seed
        )
        low, high = percentile_interval(drawn)
        return low > 0 or high < 0

    hits = dict.fromkeys(("naive t", "gene bootstrap", "family bootstrap", "corrected t"), 0)
    for result in simulate(simulations, seed):
        d = result.fold_differences()
        hits["naive t"] += ttest_1samp(d, 0.0).pvalue < 0.05
        test = corrected_resampled_t(d, GENES * (FOLDS - 1) / FOLDS, GENES / FOLDS)
        hits["corrected t"] += test.p_value < 0.05
        gene = (result.loss_a - result.loss_b).mean(axis=0)
        both = np.stack([gene, np.ones_like(gene)], axis=1)
        hits["gene bootstrap"] += excludes_zero(both)
        by_family = np.stack([np.bincount(result.family, column) for column in both.T], axis=1)
        hits["family bootstrap"] += excludes_zero(by_family)
    return {name: count / simulations for name, count in hits.items()}


if __name__ == "__main__":
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for name, rate in rates(n).items():
        se = np.sqrt(rate * (1 - rate) / n)
        print(f"{name:18s} {rate:6.1%}  ± {1.96 * se:.1%}")  # noqa: T201
