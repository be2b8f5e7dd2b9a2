"""Metrics of predictions, pooled, within species and per fold, with intervals over gene families.

Definitions
-----------
pearson, spearman
    Correlation of observed and predicted; NaN where either is constant.
r2
    1 − SSE / SST, SST about the mean of the observed values **of the scope**. It is negative
    where predicting that mean would have been better, and it is not the squared correlation.
mse, rmse, mae
    Mean squared error, its root, mean absolute error. All three carry the unit of the target;
    for ``mse`` it is understood as squared.

Scopes
------
``pooled``            all genes together: mixes in the differences between species means.
``species:X``         the genes of one species.
``within-species``    mean over species of the per-species value; NaN if one of them is.
``repeat:R/fold:F``   one test fold; its interval draws from the families of the fold.
``sample:S``          where the predictions hold several targets: each sample is one;
``tissue:T``          so for targets that are tissues, named ``tissue:T`` in the predictions.
``mask:M``            where the predictions hold several masks.

With several repeats a value is computed per repeat, then averaged: averaging predictions first
would score an ensemble that nobody trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from benchmarks.runs.files import METRIC_COLUMNS, PREDICTION_COLUMNS
from benchmarks.scores.stats import FloatArray, family_bootstrap, percentile_interval
from featurestore.errors import InputError

METRICS: Final = ("pearson", "spearman", "r2", "mse", "rmse", "mae")
HIGHER_IS_BETTER: Final = {
    "pearson": True, "spearman": True, "r2": True, "mse": False, "rmse": False, "mae": False,
}  # fmt: skip

_UNITLESS = frozenset({"pearson", "spearman", "r2"})
_OBSERVATION = ("gene", "species", "target", "sample", "line", "mask")
_GROUPINGS = (("species", "species:"), ("target", "sample:"), ("mask", "mask:"))
_NOISE = 1e-13  # relative variance below this is rounding, not variance

IntArray = npt.NDArray[np.intp]


@np.errstate(all="ignore")  # a diverged learner may overflow: inf and NaN then say it
def score(y_true: npt.ArrayLike, y_pred: npt.ArrayLike) -> FloatArray:
    """Score one set of predictions.

    Parameters
    ----------
    y_true, y_pred : (n,)
        Observed and predicted values, in the same order and unit.

    Returns
    -------
    (6,) array
        In the order of :data:`METRICS`; NaN where a metric is undefined, everywhere NaN where
        there is no gene or a prediction is not finite.
    """
    y = np.asarray(y_true, dtype=np.float64)
    p = np.asarray(y_pred, dtype=np.float64)
    if y.size == 0 or not (np.isfinite(y).all() and np.isfinite(p).all()):
        return np.full(len(METRICS), np.nan)
    error = y - p
    mse = float(np.mean(error**2))
    centred = y - y.mean()
    sst = float(centred @ centred) if np.ptp(y) > 0 else 0.0
    r2 = 1.0 - float(error @ error) / sst if sst > 0 else math.nan
    spearman = _correlation(rankdata(y), rankdata(p))
    mae = float(np.mean(np.abs(error)))
    return np.array([_correlation(y, p), spearman, r2, mse, math.sqrt(mse), mae])


def _correlation(a: FloatArray, b: FloatArray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    # The norms are divided out first, so that tiny values do not underflow in the products.
    return float(np.clip((a / np.linalg.norm(a)) @ (b / np.linalg.norm(b)), -1.0, 1.0))


@np.errstate(all="ignore")
def bootstrap_scores(
    y_true: FloatArray,
    y_pred: FloatArray,
    family: IntArray,
    group: IntArray,
    shape: tuple[int, int],
    *,
    replicates: int,
    seed: int,
) -> FloatArray:
    """Bootstrap replicates of every metric, by group, from one set of draws of families.

    Spearman keeps the ranks of the full data in each replicate; against re-ranking this changes
    the standard deviation by about 4 % (0.00325 for 0.0034) and makes it a sum like the others.

    Parameters
    ----------
    y_true, y_pred : (n,)
        Observed and predicted values.
    family, group : (n,)
        Index of the family and of the group (species, method) of each row.
    shape
        Number of families and of groups.
    replicates, seed
        As in :func:`benchmarks.scores.stats.family_bootstrap`; groups share the draws.

    Returns
    -------
    (replicates, group, 6) array
        In the order of :data:`METRICS`; NaN where undefined.
    """
    n_families, n_groups = shape
    y, p = y_true.copy(), y_pred.copy()
    rank_y, rank_p = np.empty_like(y), np.empty_like(p)
    for g in range(n_groups):
        rows = np.flatnonzero(group == g)
        if rows.size:
            # One shift for both leaves errors and correlations as they are, and keeps digits.
            shift = y[rows].mean()
            y[rows], p[rows] = y[rows] - shift, p[rows] - shift
            rank_y[rows] = rankdata(y_true[rows]) - (rows.size + 1) / 2
            rank_p[rows] = rankdata(y_pred[rows]) - (rows.size + 1) / 2
    terms = (
        np.ones_like(y), y, p, y * y, p * p, y * p, (y - p) ** 2, np.abs(y - p),
        rank_y, rank_p, rank_y**2, rank_p**2, rank_y * rank_p,
    )  # fmt: skip
    cell = family * n_groups + group
    size = n_families * n_groups
    totals = np.stack([np.bincount(cell, term, minlength=size) for term in terms], axis=-1)
    totals = totals.reshape(n_families, n_groups, len(terms))
    return family_bootstrap(totals, _from_sums, replicates=replicates, seed=seed)


def _from_sums(sums: FloatArray) -> FloatArray:
    """Metrics (…, 6) from the sums (…, 13) of the terms above."""
    n, y, p, yy, pp, yp, square, absolute, ry, rp, ryry, rprp, ryrp = np.moveaxis(sums, -1, 0)
    syy, spp, syp = yy - y * y / n, pp - p * p / n, yp - y * p / n
    pearson = syp / np.sqrt(_variance(syy, yy) * _variance(spp, pp))
    r2 = 1.0 - square / _variance(syy, yy)
    s_ry, s_rp, s_cross = ryry - ry * ry / n, rprp - rp * rp / n, ryrp - ry * rp / n
    spearman = s_cross / np.sqrt(_variance(s_ry, ryry) * _variance(s_rp, rprp))
    mse = square / n
    return np.stack([pearson, spearman, r2, mse, np.sqrt(mse), absolute / n], axis=-1)


def _variance(centred: FloatArray, raw: FloatArray) -> FloatArray:
    return np.where(centred > _NOISE * raw, centred, np.nan)


@dataclass(frozen=True)
class _Table:
    """Predictions as arrays: what every scope is cut from."""

    frame: pd.DataFrame
    y: FloatArray
    p: FloatArray
    family: IntArray
    n_families: int
    repeat: IntArray
    observation: IntArray


def evaluate(
    predictions: pd.DataFrame, *, unit: str, bootstrap: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Metrics of a table of predictions, in every scope, with 95 % intervals over families.

    Parameters
    ----------
    predictions
        Columns ``gene, species, family, repeat, fold, y_true, y_pred`` and, where a task has
        several, ``target, sample, line, mask``. Rows whose ``y_true`` is NaN have no label and
        are not scored; a ``y_pred`` that is not finite makes every metric of its scopes NaN.
        A missing ``family`` makes its gene a family of its own.
    unit
        Unit of the target, e.g. ``log10(1+TPM)``; correlations and R² carry ``1``.
    bootstrap
        Replicates of the bootstrap over gene families; 0 leaves all intervals NaN.
    seed
        Seed of the bootstrap.

    Returns
    -------
    DataFrame
        Columns ``metric, scope, value, unit, ci_low, ci_high, n, n_families``: ``n`` counts
        observations (a gene counts once, however many repeats), ``n_families`` family labels.
        Intervals are percentile intervals; they hold for these fitted models on genes of such
        families, and know nothing of the variance of training.

    Raises
    ------
    InputError
        If the table is empty or a column is missing.
    """
    table = _prepare(predictions)
    everything = np.zeros(len(table.frame), dtype=np.intp)
    pooled = _scoped(table, everything, ["pooled"], unit, bootstrap, seed)
    rows = list(pooled)
    for column, prefix in _GROUPINGS:
        if column not in table.frame:
            continue
        codes, names = pd.factorize(table.frame[column].astype(str), sort=True)
        if column != "species" and len(names) < 2:
            continue
        labels = [_label(prefix, str(name)) for name in names]
        if len(names) == 1:  # of one species every scope is the pooled one
            rows += [(m, s, *rest) for s in ("within-species", *labels) for m, _, *rest in pooled]
            continue
        average = "within-species" if column == "species" else None
        rows += _scoped(table, np.asarray(codes, np.intp), labels, unit, bootstrap, seed, average)
    rows += _folds(table, unit, bootstrap, seed)
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS))


def _label(prefix: str, name: str) -> str:
    """Scope of one group; a target that says what it is keeps its name."""
    told = (prefix, "tissue:") if prefix == "sample:" else (prefix,)
    return name if name.startswith(told) else prefix + name


def _prepare(predictions: pd.DataFrame) -> _Table:
    lacking = [name for name in PREDICTION_COLUMNS if name not in predictions]
    if lacking:
        raise InputError(
            f"predictions lack the column(s) {', '.join(lacking)}; "
            f"a table of predictions has {', '.join(PREDICTION_COLUMNS)}"
        )
    frame = predictions[predictions["y_true"].notna()].reset_index(drop=True)
    if frame.empty:
        raise InputError(f"no prediction has a label to score: {len(predictions)} rows")
    alone = frame["family"].isna()
    label = frame["family"].astype(str).mask(alone, "gene " + frame["gene"].astype(str))
    family, names = pd.factorize(label, sort=True)
    repeat, _ = pd.factorize(frame["repeat"], sort=True)
    keys = [name for name in _OBSERVATION if name in frame]
    observation = frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    y, p = (frame[name].to_numpy(np.float64) for name in ("y_true", "y_pred"))
    return _Table(
        frame=frame,
        y=np.where(np.isfinite(y), y, np.nan),
        p=np.where(np.isfinite(p), p, np.nan),
        family=np.asarray(family, np.intp),
        n_families=len(names),
        repeat=np.asarray(repeat, np.intp),
        observation=np.asarray(observation, np.intp),
    )


def _scoped(
    table: _Table,
    group: IntArray,
    labels: list[str],
    unit: str,
    bootstrap: int,
    seed: int,
    average: str | None = None,
) -> list[tuple[Any, ...]]:
    """Rows of one grouping: a scope per group and, if named, their unweighted average."""
    n_groups = len(labels)
    values = np.zeros((n_groups, len(METRICS)))
    drawn = np.zeros((bootstrap, n_groups, len(METRICS)))
    repeats = np.zeros(n_groups)
    for repeat in range(int(table.repeat.max()) + 1):
        at = np.flatnonzero(table.repeat == repeat)
        here = group[at]
        present = np.bincount(here, minlength=n_groups) > 0
        repeats += present
        for g in np.flatnonzero(present).tolist():
            rows = at[here == g]
            values[g] += score(table.y[rows], table.p[rows])
        if bootstrap:
            found = bootstrap_scores(
                table.y[at], table.p[at], table.family[at], here,
                (table.n_families, n_groups), replicates=bootstrap, seed=seed,
            )  # fmt: skip
            drawn[:, present] += found[:, present]
    values /= repeats[:, None]
    drawn /= repeats[:, None]
    out: list[tuple[Any, ...]] = []
    if average is not None:
        out += _rows(table, average, values.mean(axis=0), drawn.mean(axis=1), unit, slice(None))
    for g, label in enumerate(labels):
        out += _rows(table, label, values[g], drawn[:, g], unit, group == g)
    return out


def _rows(
    table: _Table, scope: str, values: FloatArray, drawn: FloatArray, unit: str, rows: Any
) -> list[tuple[Any, ...]]:
    n = len(np.unique(table.observation[rows]))
    n_families = len(np.unique(table.family[rows]))
    out: list[tuple[Any, ...]] = []
    for m, metric in enumerate(METRICS):
        low, high = math.nan, math.nan
        # One family resampled is always itself: its interval would be a point.
        if n_families > 1 and len(drawn) and np.isfinite(values[m]):
            low, high = percentile_interval(drawn[:, m])
        of = "1" if metric in _UNITLESS else unit
        out.append((metric, scope, float(values[m]), of, low, high, n, n_families))
    return out


def _folds(table: _Table, unit: str, bootstrap: int, seed: int) -> list[tuple[Any, ...]]:
    drawn = np.empty((0, len(METRICS)))
    out: list[tuple[Any, ...]] = []
    for (repeat, fold), part in table.frame.groupby(["repeat", "fold"], sort=True):
        rows = part.index.to_numpy()
        values = score(table.y[rows], table.p[rows])
        if bootstrap:
            names, family = np.unique(table.family[rows], return_inverse=True)
            drawn = bootstrap_scores(
                table.y[rows], table.p[rows], family, np.zeros_like(rows), (len(names), 1),
                replicates=bootstrap, seed=seed,
            )[:, 0]  # fmt: skip
        out += _rows(table, f"repeat:{repeat}/fold:{fold}", values, drawn, unit, rows)
    return out
