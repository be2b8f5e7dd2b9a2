"""The slope of one regressor in a linear model, with classical and cluster-robust errors.

By the theorem of Frisch, Waugh and Lovell the slope and its sandwich covariance follow from the
regressor and the response after both are freed of the other columns, so a table of a million
rows costs a few passes. Numbers agree with ``statsmodels`` OLS (``nonrobust``, ``cluster``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

CLASSICAL: Final = "classical"
BOTH: Final = "two-way"
_NOTHING_LEFT: Final = 1e-8  # of a regressor's norm: what is left below this is rounding


@dataclass(frozen=True)
class Error:
    """One kind of standard error of a slope, and the 95 % interval that it gives.

    ``df`` are those of t: n − p, or clusters − 1.
    """

    se: float
    low: float
    high: float
    df: float


@dataclass(frozen=True)
class Slope:
    """A slope: its value, partial R², and errors of every kind asked for.

    Attributes
    ----------
    value : float
        NaN where the regressor is constant, or a combination of the other columns.
    r : float
        Partial correlation of response and regressor, given the other columns.
    n : int
        Rows.
    columns : int
        Columns of the whole design, the regressor and what was absorbed included.
    errors : mapping of kind to Error
    residual : float64 array, shape (n,)
        Residuals of the whole model.
    x, y : float64 arrays, shape (n,)
        Regressor and response freed of the other columns.
    """

    value: float
    r: float
    n: int
    columns: int
    errors: dict[str, Error]
    residual: Floats = field(repr=False)
    x: Floats = field(repr=False)
    y: Floats = field(repr=False)

    @property
    def partial_r2(self) -> float:
        """Share of the response's variance, after the other columns, that the regressor explains."""
        return self.r**2


def slope(y: Floats, x: Floats, others: Floats, clusters: Mapping[str, Any] | None = None) -> Slope:
    """Slope of ``y`` on ``x`` beside other columns, by ordinary least squares.

    Parameters
    ----------
    y, x : (n,)
        Response and regressor.
    others : (n, q)
        The other columns, the intercept among them.
    clusters : mapping of name to (n,) labels, optional
        Each gives an error clustered by it; two give one clustered by both as well.

    Returns
    -------
    Slope
    """
    basis = _basis(others)
    free_x = x - basis @ (basis.T @ x)
    free_y = y - basis @ (basis.T @ y)
    return slope_of_freed(free_y, free_x, basis.shape[1], clusters, scale=float(np.linalg.norm(x)))


def slope_of_freed(
    y: Floats,
    x: Floats,
    absorbed: int,
    clusters: Mapping[str, Any] | None = None,
    *,
    scale: float,
) -> Slope:
    """As :func:`slope`, of response and regressor that are freed of ``absorbed`` columns already.

    ``scale`` is the norm of the regressor before: what is left far below it is rounding.
    """
    n, columns = len(y), absorbed + 1
    spread = float(x @ x)
    kinds = [CLASSICAL, *(clusters or {})]
    if clusters and len(clusters) == 2:
        kinds.append(BOTH)
    if not n > columns or not math.sqrt(spread) > _NOTHING_LEFT * max(scale, 1e-300):
        none = dict.fromkeys(kinds, Error(math.nan, math.nan, math.nan, math.nan))
        return Slope(math.nan, math.nan, n, columns, none, y, x, y)
    value = float(x @ y) / spread
    residual = y - value * x
    total = float(y @ y)
    r = float(x @ y) / math.sqrt(spread * total) if total > 0 else math.nan
    errors = {
        CLASSICAL: _error(value, float(residual @ residual) / (n - columns) / spread, n - columns)
    }
    found = {
        name: np.unique(np.asarray(of), return_inverse=True)[1]
        for name, of in (clusters or {}).items()
    }
    score = x * residual
    variance = {name: _clustered(score, codes, spread, columns) for name, codes in found.items()}
    sizes = {name: int(codes.max()) + 1 for name, codes in found.items()}
    for name in found:
        errors[name] = _error(value, variance[name], sizes[name] - 1)
    if len(found) == 2:
        (a, first), (b, second) = found.items()
        cells = np.unique(first * (int(second.max()) + 1) + second, return_inverse=True)[1]
        both = variance[a] + variance[b] - _clustered(score, cells, spread, columns)
        errors[BOTH] = _error(value, both, min(sizes[a], sizes[b]) - 1)
    return Slope(value, r, n, columns, errors, residual, x, y)


def _basis(columns: Floats) -> Floats:
    """Orthonormal basis of the columns, shape (n, rank)."""
    left, singular, _ = np.linalg.svd(columns, full_matrices=False)
    kept = singular > singular.max(initial=0.0) * max(columns.shape) * np.finfo(float).eps
    return np.asarray(left[:, kept], np.float64)


def _clustered(score: Floats, codes: Codes, spread: float, columns: int) -> float:
    """Variance of the slope clustered by ``codes``, with the usual small-sample factor (CR1)."""
    n, groups = len(score), int(codes.max()) + 1
    if groups < 2:
        return math.nan
    factor = groups / (groups - 1) * (n - 1) / (n - columns)
    return factor * float((np.bincount(codes, score) ** 2).sum()) / spread**2


def _error(value: float, variance: float, df: float) -> Error:
    if not (variance >= 0 and df > 0):  # NaN too; a two-way variance may come out negative
        return Error(math.nan, math.nan, math.nan, df)
    se = math.sqrt(variance)
    reach = float(special.stdtrit(df, 0.975)) * se
    return Error(se, value - reach, value + reach, df)
