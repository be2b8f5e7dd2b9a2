"""How far scores of variants agree with measured effects, per element, with intervals over positions.

The changes of one position share its neighbourhood, and often its binding site: they are not
independent. Intervals come from a bootstrap that draws positions, each with all its changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.scores.stats import family_weights

FloatArray = NDArray[np.float64]
METRICS: Final = ("pearson", "spearman", "sign_accuracy", "spearman_abs")
"""``sign_accuracy``: share of variants, neither value 0, whose signs agree; ``spearman_abs``: of |delta|
with |effect|, which a score without a direction may reach."""

COLUMNS: Final = (
    "learner", "condition", "variants", "scope", "metric", "value", "ci_low", "ci_high", "n",
    "n_positions",
)  # fmt: skip

_FEWEST: Final = 10
"""Variants below which nothing is told."""
_DEFINED: Final = 0.9


def join_measured(scores: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Measured variants with the score of each learner: one row per variant and learner (and target)."""
    keys = ["element", "position", "ref", "alt"]
    plain = measured.assign(
        ref=measured["ref"].replace("", "-"), alt=measured["alt"].replace("", "-")
    )
    wanted = [*keys, "learner", *(("target",) if "target" in scores else ()), "delta", "sd", "unit"]
    return plain.drop(columns="sequence").merge(scores[wanted], on=keys, how="inner")


def agreement(
    joined: pd.DataFrame, conditions: Sequence[str], *, bootstrap: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Correlations of scores with measured effects.

    Parameters
    ----------
    joined : DataFrame
        From :func:`join_measured`.
    conditions : sequence of str
        Columns of measured effects.
    bootstrap : int
        Replicates behind the intervals; 0 for none.

    Returns
    -------
    DataFrame, columns COLUMNS
        ``variants``: ``substitutions``, or ``all`` where indels were scored too; ``scope``:
        ``element:NAME``, and ``group:NAME`` where several elements are pieces of one.
    """
    label = joined["learner"].astype(str)
    if "target" in joined:
        label = label + " · " + joined["target"].astype(str)
    rows: list[dict[str, Any]] = []
    for learner, own in joined.assign(_label=label).groupby("_label", sort=False):
        for kinds, part in _kinds(own):
            for scope, here in _scopes(part):
                for condition in conditions:
                    known = here[np.isfinite(here[condition]) & np.isfinite(here["delta"])]
                    place = {"learner": learner, "condition": condition, "variants": kinds, "scope": scope}  # fmt: skip
                    rows += [place | one for one in _scores(known, condition, bootstrap, seed)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _kinds(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    single = table["kind"] == "substitution"
    yield "substitutions", table[single]
    if not single.all():
        yield "all", table


def _scopes(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for name, part in table.groupby("element", sort=False):
        yield f"element:{name}", part
    for name, part in table.groupby("group", sort=False):
        if part["element"].nunique() > 1:
            yield f"group:{name}", part


def _scores(table: pd.DataFrame, condition: str, bootstrap: int, seed: int) -> list[dict[str, Any]]:
    if len(table) < _FEWEST:
        return []
    x, y = table["delta"].to_numpy(np.float64), table[condition].to_numpy(np.float64)
    key = table["group"].astype(str) + "\t" + table["cluster"].astype(str)
    cluster, names = pd.factorize(key)
    found = []
    weights = list(family_weights(len(names), bootstrap, seed)) if bootstrap else []
    for metric in METRICS:
        statistic = STATISTICS[metric]
        value = float(statistic(x, y, np.ones((1, len(x))))[0])
        drawn = [statistic(x, y, w[:, cluster]) for w in weights]
        low, high = _interval(np.concatenate(drawn) if drawn else np.zeros(0))
        found.append({
            "metric": metric, "value": value, "ci_low": low, "ci_high": high, "n": len(x),
            "n_positions": len(names),
        })  # fmt: skip
    return found


def _interval(values: FloatArray) -> tuple[float, float]:
    """Of 95 %, by percentiles; NaN where too few replicates are defined."""
    known = values[np.isfinite(values)]
    if not len(values) or len(known) < _DEFINED * len(values):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def pearson(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Pearson's r under weights of shape (replicate, n); NaN where one does not vary."""
    total = weights.sum(axis=1)
    return _correlation(np.broadcast_to(x, weights.shape), np.broadcast_to(y, weights.shape), weights, total)  # fmt: skip


def spearman(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Spearman's ρ with midranks under integer weights, as if each row stood there so often."""
    return _correlation(
        weighted_ranks(x, weights), weighted_ranks(y, weights), weights, weights.sum(axis=1)
    )


def spearman_abs(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Spearman's ρ of absolute values."""
    return spearman(np.abs(x), np.abs(y), weights)


def sign_accuracy(x: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    """Share of rows, neither value 0, of equal sign; NaN where there is none."""
    counted = ((x != 0) & (y != 0)).astype(np.float64)
    right = counted * (np.sign(x) == np.sign(y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights @ right) / (weights @ counted))


STATISTICS: Final[dict[str, Callable[[FloatArray, FloatArray, FloatArray], FloatArray]]] = {
    "pearson": pearson, "spearman": spearman, "sign_accuracy": sign_accuracy,
    "spearman_abs": spearman_abs,
}  # fmt: skip


def weighted_ranks(x: FloatArray, weights: FloatArray) -> FloatArray:
    """Midranks of values of which row i stands there ``weights[:, i]`` times, (replicate, n)."""
    order = np.argsort(x, kind="stable")
    start = np.concatenate([[True], np.diff(x[order]) != 0])
    group = np.cumsum(start) - 1
    size = np.add.reduceat(weights[:, order], np.flatnonzero(start), axis=1)
    rank = np.cumsum(size, axis=1) - (size - 1) / 2
    out = np.empty(weights.shape)
    out[:, order] = rank[:, group]
    return out


def _correlation(
    x: FloatArray, y: FloatArray, weights: FloatArray, total: FloatArray
) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        dx = x - ((weights * x).sum(axis=1) / total)[:, None]
        dy = y - ((weights * y).sum(axis=1) / total)[:, None]
        var_x, var_y = (weights * dx * dx).sum(axis=1), (weights * dy * dy).sum(axis=1)
        scale = np.sqrt(var_x * var_y)
        # What should not vary varies by rounding.
        flat = (var_x <= 1e-24 * total) | (var_y <= 1e-24 * total)
        return np.where(flat, np.nan, (weights * dx * dy).sum(axis=1) / scale)
