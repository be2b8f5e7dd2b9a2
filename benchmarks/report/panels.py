"""Which pictures a group of methods gets, and the numbers each is drawn from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from markupsafe import Markup

from benchmarks.report import figures
from benchmarks.report.svg import css
from benchmarks.scores.methods import Method
from benchmarks.text import number

_MOST_DENSITIES: Final = 6
_MOST_SPECIES: Final = 24


def densities(
    methods: Sequence[Method], tables: dict[str, pd.DataFrame], unit: str, name: str
) -> list[dict[str, Any]]:
    """Observed against predicted for the best learners, all panels on one scale.

    Only the first repeat is drawn: averages over repeats would show an ensemble.
    """
    shown = [method for method in methods if not method.control][:_MOST_DENSITIES]
    first = []
    for method in shown:
        table = method.predictions()
        table = table[(table["repeat"] == table["repeat"].iloc[0]) & table["y_true"].notna()]
        first.append(table)
    if not first:
        return []
    observed = np.concatenate([table["y_true"].to_numpy(np.float64) for table in first])
    low, high = (float(v) for v in np.percentile(observed[np.isfinite(observed)], [0, 100]))
    pad = 0.04 * (high - low) or 0.5
    out = []
    for place, (method, table) in enumerate(zip(shown, first, strict=True)):
        svg = figures.density(
            table["y_pred"].to_numpy(np.float64), table["y_true"].to_numpy(np.float64),
            (low - pad, high + pad), unit, f"{name}{place}",
        )  # fmt: skip
        scores = _pooled(tables[method.label])
        text = f"R² {number(scores['r2'], 2)} · r {number(scores['pearson'], 2)}"
        out.append({"label": method.label, "text": text, "svg": svg})
    return out


def species(
    methods: Sequence[Method], tables: dict[str, pd.DataFrame], shade: dict[str, str], name: str
) -> list[dict[str, Any]]:
    """R² of every method on each species, with intervals; nothing where there is one species."""
    found: dict[str, dict[str, pd.Series[Any]]] = {}
    for method in methods:
        table = tables[method.label]
        r2 = table[table["metric"] == "r2"]
        for _, row in r2[r2["scope"].str.startswith("species:")].iterrows():
            one = str(row["scope"]).removeprefix("species:")
            found.setdefault(one, {})[method.label] = row
    if len(found) < 2:
        return []
    shown = pd.DataFrame([row for rows in found.values() for row in rows.values()])
    ends = shown[["value", "ci_low", "ci_high"]].to_numpy(np.float64)
    ends = ends[np.isfinite(ends)]
    low, high = (float(ends.min()), float(ends.max())) if ends.size else (0.0, 1.0)
    pad = 0.04 * (high - low) or 0.1
    limits = min(low, 0.0) - pad, max(high, 0.0) + pad
    out = []
    for place, (one, rows) in enumerate(sorted(found.items())[:_MOST_SPECIES]):
        series = [
            figures.Series(
                m.label, shade[m.label], np.array([rows[m.label]["value"]], np.float64),
                float(rows[m.label]["ci_low"]), float(rows[m.label]["ci_high"]), m.control,
            )
            for m in methods if m.label in rows
        ]  # fmt: skip
        svg = figures.dots(
            series, "R²", f"{name}{place}", f"R² of each method on {one}", width=5.4, limits=limits
        )
        trained = [m.label for m in methods if one in _pretrained(m)]
        n = int(next(iter(rows.values()))["n"])
        out.append({"species": one, "n": n, "svg": svg, "pretrained": ", ".join(trained)})
    return out


def _pretrained(method: Method) -> set[str]:
    listed = [v for run in method.runs for v in (run.run.get("contamination") or {}).values()]
    return {str(name) for names in listed for name in names}


def folds(methods: Sequence[Method], shade: dict[str, str], name: str) -> Markup | None:
    """R² of every test fold, a row per method."""
    series = [
        figures.Series(
            m.label, shade[m.label], np.array(list(m.fold_scores("r2").values()), np.float64),
            control=m.control,
        )
        for m in methods
    ]  # fmt: skip
    if not any(len(one.values) > 1 for one in series):
        return None
    return figures.dots(series, "R² of a test fold", name, "R² of every test fold", width=8.6)


def learnings(methods: Sequence[Method], shade: dict[str, str], name: str) -> list[dict[str, Any]]:
    """Learning curves of every learner that reports them."""
    out: list[dict[str, Any]] = []
    for method in methods:
        tables = [
            run.learning.assign(repeat=f"{place}." + run.learning["repeat"].astype(str))
            for place, run in enumerate(method.done)
            if run.learning is not None and len(run.learning)
        ]
        if not tables:
            continue
        told = [fold.get("best_step") for run in method.done for fold in run.run.get("folds") or ()]
        best = [float(step) for step in told if step is not None and math.isfinite(step)]
        curves = pd.concat(tables, ignore_index=True)
        if not best and curves["valid"].notna().any():
            known = curves[curves["valid"].notna()]
            at = known.groupby(["repeat", "fold"])["valid"].idxmin()
            best = known.loc[at, "step"].astype(float).tolist()
        svg = figures.learning(curves, shade[method.label], best, f"{name}{len(out)}")
        text = f"best at step {np.median(best):.0f} (median)" if best else ""
        out.append({
            "label": method.label, "svg": svg, "text": text, "colour": css(shade[method.label])
        })  # fmt: skip
    return out


def costs(rows: Sequence[dict[str, Any]], shade: dict[str, str], name: str) -> list[Markup]:
    """R² against fit time, and against peak memory."""
    out = []
    for place, (column, what) in enumerate((("fit_s", "time"), ("peak_memory_bytes", "memory"))):
        points = [
            figures.Cost(
                row["method"], shade[row["method"]], float(row[column]), row["r2"],
                row["r2_low"], row["r2_high"], row["control"],
            )
            for row in rows
            if math.isfinite(row["r2"]) and math.isfinite(row[column]) and row[column] > 0
        ]  # fmt: skip
        if len(points) > 1:
            out.append(figures.cost(points, what, "R², pooled", f"{name}{place}"))
    return out


def _pooled(table: pd.DataFrame) -> dict[str, float]:
    pooled = table[table["scope"] == "pooled"]
    return dict(zip(pooled["metric"], pooled["value"].astype(float), strict=True))
