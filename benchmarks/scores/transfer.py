"""Scores of each method on each species under test: what carries over to a species, and what was seen of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from benchmarks.runs.files import RunResult
from benchmarks.scores.leaderboard import summary
from benchmarks.scores.marks import LEGEND, SYMBOL, seen_species
from benchmarks.scores.methods import Group, Method, group_runs
from benchmarks.text import align, number

METRICS: Final = ("r2", "pearson")
TRANSFER_COLUMNS: Final = (
    "task", "target", "unit", "split", "labels", "species", "method", "control", "pretrained",
    *(f"{metric}{part}" for metric in METRICS for part in ("", "_low", "_high")),
    "n", "n_families",
)  # fmt: skip
OVERALL: Final = ("within-species", "pooled")
"""Scopes that stand below the species."""


def transfer_table(runs: Sequence[RunResult], *, bootstrap: int = 1000) -> pd.DataFrame:
    """Scores by test species and method, for every group of comparable runs.

    Returns
    -------
    DataFrame
        Columns :data:`TRANSFER_COLUMNS`; a row for each species and method, then for
        ``within-species`` and ``pooled``. ``pretrained`` says whether a model behind the features
        was pre-trained on the species (of the last two: on any).
    """
    rows: list[dict[str, Any]] = []
    for group in group_runs(runs):
        tables = {m.label: summary(m, group.unit, bootstrap) for m in group.methods if m.done}
        rows += group_rows(group, tables)
    return pd.DataFrame(rows, columns=list(TRANSFER_COLUMNS))


def group_rows(group: Group, tables: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Rows of :func:`transfer_table` of one group; ``tables`` are the metrics by method."""
    methods = {m.label: m for m in group.methods if m.label in tables}
    scopes = {
        str(scope)
        for table in tables.values()
        for scope in table["scope"]
        if str(scope).startswith("species:")
    }
    common = {
        "task": group.task, "target": group.target, "unit": group.unit, "split": group.split,
        "labels": group.labels,
    }  # fmt: skip
    rows = []
    for scope in (*sorted(scopes), *OVERALL):
        for label, method in methods.items():
            found = _scores(tables[label], scope)
            if found:
                rows.append(common | {
                    "species": scope.removeprefix("species:"), "method": label,
                    "control": method.control, "pretrained": _pretrained(method, scope), **found,
                })  # fmt: skip
    return rows


def pretrained_on(method: Method) -> set[str]:
    """Species that a model behind the features of any run of a method has seen."""
    return {name for run in method.runs for name in seen_species(run.run.get("contamination"))}


def _pretrained(method: Method, scope: str) -> bool:
    seen = pretrained_on(method)
    return bool(seen) if scope in OVERALL else scope.removeprefix("species:") in seen


def _scores(table: pd.DataFrame, scope: str) -> dict[str, float]:
    here = table[table["scope"] == scope].set_index("metric")
    found: dict[str, float] = {}
    for metric in METRICS:
        if metric not in here.index:
            return {}
        row = here.loc[[metric]].to_dict(orient="records")[0]
        found |= {
            metric: float(row["value"]), f"{metric}_low": float(row["ci_low"]),
            f"{metric}_high": float(row["ci_high"]), "n": int(row["n"]),
            "n_families": int(row["n_families"]),
        }  # fmt: skip
    return found


def interval(low: float, high: float) -> str:
    """``0.31 … 0.35``, a dash where there is none."""
    return f"{number(low)} … {number(high)}" if math.isfinite(low) else "–"


def render_text(table: pd.DataFrame) -> str:
    """Set the table for a terminal, each score marked whose species a model has seen."""
    parts = []
    for (task, target, unit, split, labels), rows in table.groupby(
        ["task", "target", "unit", "split", "labels"], sort=False
    ):
        body = []
        for row in rows.to_dict(orient="records"):
            mark = SYMBOL if row["pretrained"] else ""
            body.append([
                f"{row['species']}{mark}", row["method"], f"{number(row['r2'])}{mark}",
                interval(row["r2_low"], row["r2_high"]), f"{number(row['pearson'])}{mark}",
                interval(row["pearson_low"], row["pearson_high"]), f"{row['n']:,}",
                f"{row['n_families']:,}", "control" if row["control"] else "",
            ])  # fmt: skip
        header = [
            "test species",
            "method",
            "R²",
            "95 %",
            "Pearson",
            "95 %",
            "genes",
            "families",
            "",
        ]
        parts.append(f"{task} · {target} [{unit}] · {split} · labels {str(labels)[:8]}")
        parts.append(align(header, body, right=(2, 3, 4, 5, 6, 7)))
        parts.append(LEGEND if rows["pretrained"].any() else "")
    return "\n".join(part for part in parts if part)
