"""The panel of task ``variants``: observed on predicted differences, and the slopes with their errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from benchmarks.report.svg import DENSITY, INK, MUTED, PAPER, canvas, style, to_svg
from benchmarks.scores.methods import Method
from benchmarks.text import number, p_text

FloatArray = npt.NDArray[np.float64]

_MOST_PICTURES: Final = 6
_BINS: Final = 20
_LEAST: Final = 40
_DRAWN: Final = 4000
_STEPS: Final = [1, 2, 5, 10]

COLUMNS: Final = (
    ("beta_between", "β between", True),
    ("beta_within", "β within", True),
    ("beta_within_se_line", "SE by line", False),
    ("beta_within_se_gene", "SE by gene", False),
    ("beta_within_se_two_way", "SE two-way", False),
    ("beta_within_fixed_gene", "β, gene levels", True),
    ("beta_within_fixed_line", "β, line levels", True),
    ("partial_r2_within", "partial R²", True),
    ("partial_r2_ceiling_background", "its ceiling", True),
    ("sign_accuracy", "sign accuracy", True),
    ("spearman_within", "Spearman", True),
)
"""Metric, heading, whether its interval is shown."""


def section(methods: Sequence[Method], unit: str, name: str) -> dict[str, Any] | None:
    """Pictures and table of the methods of a group; None where the group is of another task.

    Parameters
    ----------
    methods
        Finished methods, best first.
    unit
        Unit of the differences.
    name
        Prefix of ids in the page.
    """
    shown = [method for method in methods if any(_pairs(run) is not None for run in method.done)]
    if not shown:
        return None
    pictures = []
    for place, method in enumerate([m for m in shown if not m.control][:_MOST_PICTURES]):
        pairs = next(found for run in method.done if (found := _pairs(run)) is not None)
        picture = scatter(
            pairs["delta_pred"].to_numpy(np.float64), pairs["delta_obs"].to_numpy(np.float64),
            _pooled(method).get("beta_within", {}).get("value", math.nan), unit, f"{name}{place}",
        )  # fmt: skip
        pictures.append({"label": method.label, "svg": picture, "n": len(pairs)})
    return {
        "pictures": pictures,
        "columns": [heading for _, heading, _ in COLUMNS],
        "lines": [_line(method) for method in shown],
    }


def _pairs(run: Any) -> pd.DataFrame | None:
    """Private pairs of a run with both differences; None where it has no haplotypes."""
    table = run.predictions
    if table is None or not {"haplotype", "delta_obs", "delta_pred", "private"} <= set(table):
        return None
    known = np.isfinite(table["delta_obs"].to_numpy(np.float64))
    known &= np.isfinite(table["delta_pred"].to_numpy(np.float64))
    private = table["private"].eq(other=True).to_numpy(np.bool_)
    found: pd.DataFrame = table[known & private]
    return found


def _pooled(method: Method) -> dict[str, dict[str, float]]:
    """Pooled metrics of a method, mean over its runs."""
    tables = [run.metrics for run in method.done if run.metrics is not None]
    table = pd.concat(tables, ignore_index=True)
    table = table[table["scope"] == "pooled"]
    columns = ["value", "ci_low", "ci_high", "n"]
    means = table.groupby("metric")[columns].mean()
    return {str(k): {c: float(v) for c, v in row.items()} for k, row in means.T.to_dict().items()}


def _line(method: Method) -> dict[str, Any]:
    found = _pooled(method)
    cells = []
    for metric, _, bounded in COLUMNS:
        one = found.get(metric)
        if one is None or not math.isfinite(one["value"]):
            cells.append(("–", ""))
            continue
        low, high = one["ci_low"], one["ci_high"]
        ends = f"{number(low)} … {number(high)}" if bounded and math.isfinite(low) else ""
        cells.append((number(one["value"], 4 if "r2" in metric else 3), ends))
    null = found.get("beta_within_null_p", {}).get("value", math.nan)
    k = found.get("components", {}).get("value", math.nan)
    return {
        "label": method.label, "control": method.control, "cells": cells,
        "null": p_text(null) if math.isfinite(null) else "–",
        "k": number(k, 0) if math.isfinite(k) else "–",
        "n": int(found.get("beta_within", {}).get("n", 0)),
    }  # fmt: skip


def scatter(
    predicted: FloatArray, observed: FloatArray, slope: float, unit: str, name: str
) -> Markup:
    """Observed on predicted differences: pairs, means of twentieths of the predictions, the slope."""
    with style():
        figure = canvas(3.4, 3.0)
        ax = figure.add_subplot()
        step = max(len(predicted) // _DRAWN, 1)
        ax.scatter(
            predicted[::step], observed[::step], s=5, color=DENSITY[3], alpha=0.4, linewidths=0,
            zorder=2,
        )  # fmt: skip
        ax.axhline(0, color=MUTED, lw=0.8, zorder=1)
        ax.axvline(0, color=MUTED, lw=0.8, zorder=1)
        if len(predicted) >= _LEAST and np.ptp(predicted) > 0:
            parts = np.array_split(np.argsort(predicted, kind="stable"), _BINS)
            x = np.array([predicted[part].mean() for part in parts])
            y = np.array([observed[part].mean() for part in parts])
            reach = np.array([1.96 * observed[part].std() / math.sqrt(len(part)) for part in parts])
            ax.vlines(x, y - reach, y + reach, color=INK, lw=1.0, zorder=3)
            ax.plot(x, y, "o", color=INK, ms=3.8, mec=PAPER, mew=0.7, zorder=4)
            if math.isfinite(slope):
                middle = predicted.mean(), observed.mean()
                ends = np.array([predicted.min(), predicted.max()])
                line = middle[1] + slope * (ends - middle[0])
                ax.plot(ends, line, color=MUTED, lw=1.2, ls=(0, (4, 3)), zorder=3)
        if len(observed):
            low, high = np.percentile(observed, [0.5, 99.5])
            pad = 0.1 * (high - low) or 0.1
            ax.set_ylim(low - pad, high + pad)
        ax.set_xlabel(f"predicted difference, {unit}")
        ax.set_ylabel(f"observed difference, {unit}")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=_STEPS))
        said = f"Observed against predicted differences of {len(predicted)} pairs of line and gene"
        return to_svg(figure, name, said)
