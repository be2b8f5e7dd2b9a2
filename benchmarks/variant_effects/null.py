"""A permutation null of the within-gene slope: predicted differences dealt anew within each line.

If sequence says nothing, which gene of a line got which predicted difference does not matter: the
predicted differences of one line are exchangeable, those of two lines need not be (lines differ in
what they carry, and their expression in what no gene's window shows). A test on the slope itself
would be fooled by genes that are both noisy and predicted to change much, so the slope is divided
by its heteroscedasticity-robust error in every permutation.

DiCiccio & Romano (2017) Robust permutation tests for correlation and regression coefficients.
J Am Stat Assoc 112:1211–1220.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MOST_WORK: Final = 200_000_000  # rows × permutations: about a minute
_LEAST: Final = 200


@dataclass(frozen=True)
class Null:
    """Permutation p (two-sided), the central 95 % of slopes under the null, how many were drawn."""

    p: float
    low: float
    high: float
    drawn: int


def permuted(y: Floats, x: Floats, fitted: Floats, line: Any, *, draws: int, seed: int) -> Null:
    """Permute the predicted differences within lines.

    Parameters
    ----------
    y : (n,)
        Observed differences, freed of columns that are constant within each line.
    x : (n,)
        Predicted differences as they are.
    fitted : (n,)
        What those columns explain of ``x``. It depends on the sums of lines alone, so every
        permutation leaves it as it is.
    line : (n,) labels
    draws, seed
        Permutations (fewer on very long tables, at least 200) and their seed.
    """
    spread = float((x - fitted) @ (x - fitted))
    if draws < 1 or not spread > 0:
        return Null(math.nan, math.nan, math.nan, 0)
    draws = min(draws, max(_MOST_WORK // max(len(x), 1), _LEAST))
    codes = np.unique(np.asarray(line), return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    y, x, fitted, codes = y[order], x[order], fitted[order], codes[order]
    observed = _studentised(y, x - fitted, spread)[1]
    rng = np.random.default_rng(seed)
    slopes, values = np.empty(draws), np.empty(draws)
    for i in range(draws):
        dealt = x[np.argsort(codes + rng.random(len(codes)), kind="stable")]
        slopes[i], values[i] = _studentised(y, dealt - fitted, spread)
    beyond = int((np.abs(values) >= abs(observed) * (1 - 1e-12)).sum())
    low, high = np.percentile(slopes, [2.5, 97.5])
    return Null((1 + beyond) / (1 + draws), float(low), float(high), draws)


def _studentised(y: Floats, x: Floats, spread: float) -> tuple[float, float]:
    """Slope, and slope over its robust error (HC0)."""
    value = float(x @ y) / spread
    error = math.sqrt(float(((x * (y - value * x)) ** 2).sum())) / spread
    return value, value / error if error > 0 else math.copysign(math.inf, value)
