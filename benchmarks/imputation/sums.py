"""Sums per cluster from which every metric of a mask follows, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.scores.metrics import METRICS

FloatArray = NDArray[np.float64]

HIGH: Final = 0.8
"""Profile correlation above which a gene counts as completed well."""

_ENTRY: Final = (
    "n", "y", "p", "yy", "pp", "yp", "square", "absolute", "ry", "rp", "ryry", "rprp", "ryrp",
)  # fmt: skip
_NOISE: Final = 1e-13


@dataclass(frozen=True)
class Terms:
    """Columns of terms of the rows of a scope, each to be summed per cluster.

    Parameters
    ----------
    entry : mapping of name to float64 array, one value per entry
    profile : mapping of name to float64 array, one value per profile
    """

    entry: dict[str, FloatArray]
    profile: dict[str, FloatArray]

    @property
    def names(self) -> list[str]:
        """Names in the order of :meth:`sums`."""
        return [*self.entry, *self.profile]

    def sums(
        self, of_entry: NDArray[np.int64], of_profile: NDArray[np.int64], clusters: int
    ) -> FloatArray:
        """Sums of each cluster, shape (cluster, term)."""
        parts = [np.bincount(of_entry, x, minlength=clusters) for x in self.entry.values()]
        parts += [np.bincount(of_profile, x, minlength=clusters) for x in self.profile.values()]
        return np.stack(parts, axis=1)


def entry_terms(y: FloatArray, p: FloatArray, *, ranked: bool = True) -> dict[str, FloatArray]:
    """Terms of MSE, MAE, R² and both correlations; ranks are those of the whole scope.

    Not ``ranked``, those of Spearman's correlation are 0, and it is NaN.
    """
    middle = y.mean() if len(y) else 0.0
    a, b = y - middle, p - middle
    ry = rp = np.zeros_like(a)
    if ranked:
        ry, rp = (rankdata(x) - (len(y) + 1) / 2 for x in (y, p))
    columns = (
        np.ones_like(a), a, b, a * a, b * b, a * b, (a - b) ** 2, np.abs(a - b),
        ry, rp, ry * ry, rp * rp, ry * rp,
    )  # fmt: skip
    return dict(zip(_ENTRY, columns, strict=True))


@np.errstate(all="ignore")
def entry_metrics(sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Metrics over entries from sums by name."""
    n, y, p, yy, pp, yp, square, absolute, ry, rp, ryry, rprp, ryrp = (sums[x] for x in _ENTRY)
    syy, spp, syp = _spread(yy, y, n), _spread(pp, p, n), yp - y * p / n
    s_ry, s_rp = _spread(ryry, ry, n), _spread(rprp, rp, n)
    mse = square / n
    values = (
        np.clip(syp / np.sqrt(syy * spp), -1, 1),
        np.clip((ryrp - ry * rp / n) / np.sqrt(s_ry * s_rp), -1, 1),
        1.0 - square / syy, mse, np.sqrt(mse), absolute / n,
    )  # fmt: skip
    return dict(zip(METRICS, values, strict=True))


def _spread(squares: FloatArray, total: FloatArray, n: FloatArray) -> FloatArray:
    centred = squares - total * total / n
    return np.where(centred > _NOISE * squares, centred, np.nan)


@np.errstate(all="ignore")
def profile_correlations(
    profile: NDArray[np.int64], count: int, y: FloatArray, p: FloatArray
) -> FloatArray:
    """Pearson correlation of each profile over its entries, shape (count,).

    NaN where a profile has fewer than three entries or they are all alike; 0 where the prediction
    is the same everywhere: it tells nothing of how tissues differ.
    """
    n = np.bincount(profile, minlength=count).astype(np.float64)
    means = [np.bincount(profile, x, minlength=count) / n for x in (y, p)]
    a, b = y - means[0][profile], p - means[1][profile]
    saa, sbb, sab = (np.bincount(profile, x, minlength=count) for x in (a * a, b * b, a * b))
    raw = [np.bincount(profile, x * x, minlength=count) for x in (y, p)]
    found = np.clip(sab / np.sqrt(saa * sbb), -1, 1)
    found = np.where(sbb > _NOISE * raw[1], found, 0.0)
    return np.where((n >= 3) & (saa > _NOISE * raw[0]), found, np.nan)


def ranks_within(profile: NDArray[np.int64], values: FloatArray) -> FloatArray:
    """Rank of each entry among those of its profile, ties by their mean."""
    order = np.lexsort((values, profile))
    group, sorted_ = profile[order], values[order]
    new = np.ones(len(order), bool)
    new[1:] = (group[1:] != group[:-1]) | (sorted_[1:] != sorted_[:-1])
    run = np.cumsum(new) - 1
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(order)) - 1
    start = np.flatnonzero(np.append(True, group[1:] != group[:-1])) if len(order) else first
    offset = np.repeat(start, np.diff(np.append(start, len(order))))
    out = np.empty(len(order))
    out[order] = (first[run] + last[run]) / 2 - offset + 1
    return out
