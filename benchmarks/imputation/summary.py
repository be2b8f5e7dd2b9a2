"""Runs of imputation summed up: scores of every method by mask, from the runs' own metric tables."""

from __future__ import annotations

import math
from typing import Any, Final

import pandas as pd

from benchmarks.imputation.masks import DEFAULT
from benchmarks.scores.methods import Group, Method

TASK: Final = "imputation"
_PREFIX: Final = "mask:"


def masks_of(group: Group) -> list[str]:
    """Masks that any run of a group was scored on, in the usual order."""
    found = {
        str(mask)
        for method in group.methods
        for run in method.done
        for mask in (run.identity.get("masks") or {})
    }
    usual = [mask for mask in DEFAULT if mask in found]
    return [*usual, *sorted(found - set(usual))]


def scores(method: Method, scope: str) -> dict[str, dict[str, float]]:
    """Value, interval and n of every metric of a method in one scope, means over its runs.

    Returns
    -------
    dict of metric to ``{"value", "low", "high", "n", "families"}``; empty where it was not scored
    """
    parts = [
        run.metrics[run.metrics["scope"] == scope] for run in method.done if run.metrics is not None
    ]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if table.empty:
        return {}
    columns = {
        "value": "value",
        "ci_low": "low",
        "ci_high": "high",
        "n": "n",
        "n_families": "families",
    }
    means = table.groupby("metric", sort=False)[list(columns)].mean().rename(columns=columns)
    return {str(k): {c: float(v) for c, v in row.items()} for k, row in means.T.to_dict().items()}


def by_tissue(method: Method, mask: str, metric: str) -> dict[str, tuple[float, float, float]]:
    """Value and interval of one metric in every tissue, means over runs."""
    start = f"{_PREFIX}{mask}/tissue:"
    parts = [
        run.metrics[(run.metrics["metric"] == metric) & run.metrics["scope"].str.startswith(start)]
        for run in method.done if run.metrics is not None
    ]  # fmt: skip
    if not parts:
        return {}
    table = pd.concat(parts, ignore_index=True)
    means = table.groupby("scope", sort=True)[["value", "ci_low", "ci_high"]].mean()
    return {
        str(scope).removeprefix(start): (float(v), float(low), float(high))
        for scope, v, low, high in means.itertuples()
    }


def fold_scores(method: Method, mask: str, metric: str) -> list[float]:
    """Score of every test fold of a mask, over all runs."""
    start = f"{_PREFIX}{mask}/repeat:"
    found: list[float] = []
    for run in method.done:
        if run.metrics is not None:
            table = run.metrics[run.metrics["metric"] == metric]
            found += table.loc[table["scope"].str.startswith(start), "value"].astype(float).tolist()
    return found


def value_of(found: dict[str, dict[str, float]], metric: str, part: str = "value") -> float:
    """One number of :func:`scores`; NaN where there is none."""
    return found.get(metric, {}).get(part, math.nan)


def title(group: Group, mask: str) -> str:
    """``split · mask M``: what stands for the split where runs are compared by mask."""
    return f"{group.split} · mask {mask}"


def board_rows(group: Group, method: Method, common: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the leaderboard of one finished method: one for each mask.

    ``common`` is what is the same for all of them.
    """
    rows = []
    for mask in masks_of(group):
        found = scores(method, f"{_PREFIX}{mask}")
        if not found:
            continue
        row = {**common, "split": title(group, mask), "mask": mask}
        for metric in ("r2", "pearson", "spearman", "rmse", *EXTRA):
            name = metric.replace("/", "_")
            for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
                row[f"{name}{suffix}"] = value_of(found, metric, part)
        folds = pd.Series(fold_scores(method, mask, "r2"), dtype="float64")
        row["r2_fold_sd"] = float(folds.std(ddof=1)) if len(folds) > 1 else math.nan
        row["n_folds"] = len(folds) // max(len(method.done), 1)
        row["n_entries"] = value_of(found, "mse", "n")
        row["n_families"] = int(value_of(found, "mse", "families"))
        rows.append(row)
    return rows


EXTRA: Final = (
    "mse", "mae", "profile_pearson", "improvement_mse/best_distance",
    "improvement_rmse/best_distance", "improvement_profile/best_distance", "coverage_90", "width_90",
)  # fmt: skip
"""Metrics that leaderboards of imputation have beside the usual ones."""

BOARD_COLUMNS: Final = (
    "mask", "n_entries",
    *(f"{metric.replace('/', '_')}{part}" for metric in EXTRA for part in ("", "_low", "_high")),
)  # fmt: skip
