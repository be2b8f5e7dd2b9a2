"""Metrics of the variants task: rows of the metric table, one scope at a time.

The names are those of :data:`benchmarks.runs.schema.VARIANT_METRICS`.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.runs.files import METRIC_COLUMNS
from benchmarks.scores.metrics import bootstrap_scores, score
from benchmarks.scores.stats import percentile_interval
from benchmarks.variant_effects.null import permuted
from benchmarks.variant_effects.slope import BOTH, CLASSICAL, Error, slope
from benchmarks.variant_effects.within import (
    FOLD,
    GENE,
    LINE,
    Within,
    between_folds,
    ceiling,
    interval,
    within,
)

Floats = NDArray[np.float64]

_KINDS: Final = {CLASSICAL: "classical", LINE: "line", GENE: "gene", BOTH: "two_way"}
_RANKS: Final = {"pearson_within": 0, "spearman_within": 1}

Row = tuple[Any, ...]


def variant_rows(
    genes: pd.DataFrame, pairs: pd.DataFrame, *, bootstrap: int, seed: int
) -> pd.DataFrame:
    """Metrics between and within genes, pooled, per species, and their mean over species.

    Parameters
    ----------
    genes : DataFrame
        One row per gene: ``species, family, y_true`` (mean of the controls), ``y_pred``.
    pairs : DataFrame
        One row per gene and line, as in :mod:`benchmarks.variant_effects.within`.
    bootstrap, seed
        Replicates and permutations, and their seed.

    Returns
    -------
    DataFrame with the columns METRIC_COLUMNS
    """
    species = sorted(set(genes["species"]))
    of = {one: between(genes[genes["species"] == one]) for one in species}
    rows = _scoped("pooled", between(genes))
    for one in species:
        rows += _scoped(f"species:{one}", of[one])
    rows += _scoped("within-species", _mean(list(of.values())))
    named = sorted(set(pairs["species"]))
    found = {one: within_rows(pairs[pairs["species"] == one], bootstrap, seed) for one in named}
    if found:
        pooled = found[named[0]] if len(named) == 1 else within_rows(pairs, bootstrap, seed)
        rows += _scoped("pooled", pooled)
        for one in named:
            rows += _scoped(f"species:{one}", found[one])
        rows += _scoped("within-species", _mean(list(found.values())))
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS))


def between(genes: pd.DataFrame) -> list[Row]:
    """``lm(observed ~ predicted)`` over control means of genes; errors clustered by gene family."""
    known = np.isfinite(genes["y_true"].to_numpy(np.float64))
    known &= np.isfinite(genes["y_pred"].to_numpy(np.float64))
    used = genes[known]
    families = used["family"].nunique()
    y, x = (used[name].to_numpy(np.float64) for name in ("y_true", "y_pred"))
    if not len(used):
        return []
    found = slope(y, x, np.ones((len(y), 1)), {"family": used["family"].to_numpy(str)})
    size = (len(used), families)
    rows = [_row("beta_between", found.value, interval(found), size)]
    for kind, name in (("family", "family"), (CLASSICAL, "classical")):
        rows.append(
            _row(f"beta_between_se_{name}", found.errors[kind].se, found.errors[kind], size)
        )
    return rows


def within_rows(table: pd.DataFrame, bootstrap: int, seed: int) -> list[Row]:
    """Everything within genes, without a scope; empty where no pair can be used."""
    found = within(table)
    if found is None:
        return []
    size = (len(found.pairs), found.pairs["family"].nunique())
    stacked = found.stacked
    rows = [_row("beta_within", stacked.value, interval(stacked), size)]
    for kind, name in _KINDS.items():
        error = stacked.errors[kind]
        rows.append(_row(f"beta_within_se_{name}", error.se, error, size))
    if FOLD in found.pairs:
        error = between_folds(stacked, found.pairs[FOLD].to_numpy())
        rows.append(_row("beta_within_se_fold", error.se, error, size))
    for name, fixed in found.fixed.items():
        label = f"beta_within_fixed_{name.replace('+', '_')}"
        rows.append(_row(label, fixed.value, interval(fixed), size))
    rows += _explained(found, size, bootstrap, seed)
    for name, share in (
        ("sign_accuracy", found.sign),
        ("sign_accuracy_weighted", found.sign_weighted),
    ):
        rows.append(_row(name, share.value, _clipped(interval(share)), (share.n, size[1])))
    if len(found.components) == 1:
        k = float(next(iter(found.components.values())))
        rows.append(_row("components", k, None, size))
    return rows


def _explained(found: Within, size: tuple[int, int], bootstrap: int, seed: int) -> list[Row]:
    """Partial R² with its ceilings and null, and correlations, resampled by line."""
    pairs, stacked = found.pairs, found.stacked
    line = np.unique((pairs["species"] + "\t" + pairs[LINE]).to_numpy(str), return_inverse=True)[1]
    y, x = (pairs[name].to_numpy(np.float64) for name in ("delta_obs", "delta_pred"))
    partial = _correlated(stacked.y, stacked.x, line, bootstrap, seed)
    raw = _correlated(y, x, line, bootstrap, seed)
    rows = [_row("partial_r2_within", stacked.partial_r2, _squared(partial[0]), size)]
    rows.append(_row("partial_r_within", stacked.r, partial[0], size))
    for name, place in _RANKS.items():
        value = float(score(y, x)[place]) if len(y) > 1 else math.nan
        rows.append(_row(name, value, raw[place], size))
    for kind in ("controls", "background"):
        if (column := f"noise_{kind}") not in pairs:
            continue
        noise = pairs[column].to_numpy(np.float64)
        value, low, high = ceiling(
            stacked.y, noise, stacked.columns - 1, line, replicates=bootstrap, seed=seed
        )
        error = Error(math.nan, low, high, math.nan)
        rows.append(
            _row(
                f"partial_r2_ceiling_{kind}", value, error, (int(np.isfinite(noise).sum()), size[1])
            )
        )
    if bootstrap:
        null = permuted(stacked.y, x, x - stacked.x, line, draws=bootstrap, seed=seed)
        rows.append(
            _row("beta_within_null_p", null.p, Error(math.nan, null.low, null.high, 0), size)
        )
    return rows


def _correlated(
    y: Floats, x: Floats, line: NDArray[np.intp], bootstrap: int, seed: int
) -> list[Error]:
    """Percentile intervals of Pearson's and Spearman's coefficient, lines resampled whole."""
    lines = int(line.max()) + 1
    none = Error(math.nan, math.nan, math.nan, math.nan)
    if not bootstrap or lines < 2 or np.ptp(x) == 0:
        return [none, none]
    drawn = bootstrap_scores(
        y, x, line, np.zeros(len(y), np.intp), (lines, 1), replicates=bootstrap, seed=seed
    )[:, 0]
    ends = [percentile_interval(drawn[:, m]) for m in (0, 1)]
    return [Error(math.nan, low, high, math.nan) for low, high in ends]


def _squared(error: Error) -> Error:
    """Interval of a squared correlation, from that of the correlation."""
    ends = sorted((error.low**2, error.high**2))
    if error.low < 0 < error.high:
        ends[0] = 0.0
    return Error(math.nan, ends[0], ends[1], math.nan)


def _clipped(error: Error) -> Error:
    """Interval of a share."""
    return Error(
        error.se, float(np.clip(error.low, 0, 1)), float(np.clip(error.high, 0, 1)), error.df
    )


def _row(name: str, value: float, error: Error | None, size: tuple[int, int]) -> Row:
    low, high = (math.nan, math.nan) if error is None else (error.low, error.high)
    return (name, value, low, high, *size)


def _scoped(scope: str, rows: list[Row]) -> list[Row]:
    return [(name, scope, value, "1", low, high, n, families)
            for name, value, low, high, n, families in rows]  # fmt: skip


def _mean(found: list[list[Row]]) -> list[Row]:
    """Unweighted means over species. With several the interval holds where they are independent."""
    found = [rows for rows in found if rows]
    if len(found) < 2:
        return found[0] if found else []
    out: list[Row] = []
    for name in dict.fromkeys(row[0] for rows in found for row in rows):
        same = [row for rows in found for row in rows if row[0] == name]
        if len(same) < len(found) or "_se_" in name or "_null_" in name:
            continue
        value = float(np.mean([row[1] for row in same]))
        half = math.sqrt(sum(((row[3] - row[2]) / 2) ** 2 for row in same)) / len(same)
        out.append(
            (
                name,
                value,
                value - half,
                value + half,
                sum(r[4] for r in same),
                sum(r[5] for r in same),
            )
        )
    return out
