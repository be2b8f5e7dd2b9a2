"""The section of imputation runs: masks × methods, gains over distance, tissues, calibration, examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.imputation.masks import LOW, WHOLE, design_of
from benchmarks.imputation.metrics import BEST, READINGS
from benchmarks.imputation.references import DISTANCE_BASED
from benchmarks.imputation.summary import by_tissue, masks_of, scores, value_of
from benchmarks.report import imputation_figures as figures
from benchmarks.report.svg import css
from benchmarks.scores.methods import Group, Method
from benchmarks.text import number, seconds, size

TASK: Final = "imputation"
SIMPLE: Final = frozenset({
    *DISTANCE_BASED, "nearest_genes", "expression_neighbours", "tissue_mean", "gene_tissue_mean",
    "ridge_neighbours", "low_rank", "gaussian_conditional",
})  # fmt: skip
"""Methods that are called simple where one of them wins."""

_MOST: Final = 6
_QUANTILES: Final = (0.95, 0.75, 0.5, 0.25, 0.05)
_NAMES: Final = {
    "nearest_gene": "nearest gene", "range_mean": "within-range mean",
    "inverse_distance": "inverse distance", BEST: "best of the three",
}  # fmt: skip
_READING: Final = {"mse": "MSE", "rmse": "RMSE", "profile": "profile correlation"}


def headline(group: Group) -> str:
    """What comes out on whole profiles, or on the first mask there is."""
    found = [_best(group, mask) for mask in masks_of(group)]
    best = next((one for one in found if one and one[0] == WHOLE), next(filter(None, found), None))
    if best is None:
        return "No method has finished here yet."
    mask, method, told = best
    gain, low, high = _gain(told, f"improvement_mse/{BEST}")
    if not math.isfinite(gain):
        return f"{method.label} has the least error on {mask} (MSE {number(value_of(told, 'mse'), 2)})."
    if method.learner in DISTANCE_BASED:
        return (
            f"On {mask}, no method does better than {method.label}, which looks at distance alone (MSE "
            f"{number(value_of(told, 'mse'), 2)})."
        )
    verb = "below" if gain >= 0 else "above"
    return (
        f"On {mask}, {method.label} has the least error: MSE {number(value_of(told, 'mse'), 2)}, "
        f"{number(abs(100 * gain), 1)}\u00a0% {verb} the best distance-based method"
        + (
            f" (95\u00a0% interval {_percent(low)} to {_percent(high)})."
            if math.isfinite(low)
            else "."
        )
    )


def beside(group: Group) -> list[str]:
    """Mask by mask who is ahead, and where that is a simple method."""
    said = []
    for mask in masks_of(group):
        best = _best(group, mask)
        if best is None:
            continue
        _, method, told = best
        other = _best(group, mask, without=SIMPLE)
        mse = number(value_of(told, "mse"))
        if method.learner in SIMPLE and other is not None:
            said.append(
                f"{mask}: a simple method wins, {method.label} (MSE {mse}; "
                f"{other[1].label} {number(value_of(other[2], 'mse'))})."
            )
        else:
            said.append(f"{mask}: {method.label} (MSE {mse}).")
    return said


def _best(
    group: Group, mask: str, without: frozenset[str] = frozenset()
) -> tuple[str, Method, dict[str, dict[str, float]]] | None:
    found = [
        (value_of(told, "mse"), method.label, method, told)
        for method in group.methods
        if method.learner not in without and (told := scores(method, f"mask:{mask}"))
    ]
    known = [one for one in found if math.isfinite(one[0])]
    if not known:
        return None
    _, _, method, told = min(known, key=lambda one: one[:2])
    return mask, method, told


def _gain(told: dict[str, dict[str, float]], name: str) -> tuple[float, float, float]:
    return value_of(told, name), value_of(told, name, "low"), value_of(told, name, "high")


def _percent(value: float) -> str:
    return f"{number(100 * value, 1)}\u00a0%" if math.isfinite(value) else "–"


def section(
    group: Group, methods: Sequence[Method], shade: dict[str, str], name: str
) -> dict[str, Any]:
    """Tables and pictures of a group.

    Parameters
    ----------
    methods
        Finished methods.
    shade
        Colour of each, by label.
    name
        Prefix of ids in the page.
    """
    masks = masks_of(group)
    tables = [_mask_table(group, methods, mask, shade) for mask in masks]
    shown = WHOLE if WHOLE in masks else next((m for m in masks if m != LOW), None)
    best = _best(group, shown) if shown else None
    ranked = _ranked(methods, shown)[:_MOST] if shown else []
    frames = {m.label: _frame(m, str(shown)) for m in ranked}
    return {
        "tables": tables, "gains": [one for mask in masks if (one := _gains(group, mask))],
        "shown": shown, "methods": [(m.label, css(shade[m.label])) for m in ranked],
        "by_distance": figures.by_distance(frames, shade, group.unit, f"{name}d"),
        "tissues": figures.tissues(
            {m.label: by_tissue(m, str(shown), "mse") for m in ranked}, shade, group.unit, f"{name}t"
        ),
        "calibration": _calibration(group, masks, name),
        "best": best[1].label if best else "",
        "examples": _examples(best[1], str(shown), group.unit, name) if best else [],
    }  # fmt: skip


def _ranked(methods: Sequence[Method], mask: str) -> list[Method]:
    found = [(value_of(scores(m, f"mask:{mask}"), "mse"), m.label, m) for m in methods]
    return [m for value, _, m in sorted(found, key=lambda one: one[:2]) if math.isfinite(value)]


def _mask_table(
    group: Group, methods: Sequence[Method], mask: str, shade: dict[str, str]
) -> dict[str, Any]:
    lines = []
    for method in _ranked(methods, mask):
        told = scores(method, f"mask:{mask}")
        apart = scores(method, f"mask:{mask}/no-tandem")
        plain = [(number(value_of(told, name)), "") for name in ("rmse", "mae", "r2")]
        cells = [_cell(told, "mse"), *plain, _cell(told, "profile_pearson")]
        cells += [(number(value_of(told, "profile_spearman")), "")]
        cells += [(_percent(value_of(told, "profile_above_0.8")), "")]
        cells += [_percent_cell(told, f"improvement_{reading}/{BEST}") for reading in READINGS]
        cells += [(number(value_of(apart, "mse")), "")]
        lines.append({
            "label": method.label, "colour": css(shade[method.label]), "cells": cells,
            "simple": method.learner in SIMPLE,
            "fit": seconds(_mean(run.run.get("times", {}).get("fit_s") for run in method.done)),
            "memory": size(max(
                (float(m) for run in method.done if (m := run.run.get("peak_memory_bytes"))),
                default=math.nan,
            )),
        })  # fmt: skip
    first = scores(_ranked(methods, mask)[0], f"mask:{mask}") if lines else {}
    return {
        "mask": mask, "design": design_of(mask), "lines": lines,
        "entries": int(value_of(first, "mse", "n")) if first else 0,
        "profiles": int(value_of(first, "profile_pearson", "n")) if first else 0,
    }  # fmt: skip


def _mean(values: Any) -> float:
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else math.nan


def _cell(told: dict[str, dict[str, float]], metric: str) -> tuple[str, str]:
    low, high = value_of(told, metric, "low"), value_of(told, metric, "high")
    ends = f"{number(low)}\u00a0…\u00a0{number(high)}" if math.isfinite(low) else ""
    return number(value_of(told, metric)), ends


def _percent_cell(told: dict[str, dict[str, float]], metric: str) -> tuple[str, str]:
    value, low, high = _gain(told, metric)
    ends = f"{_percent(low)}\u00a0…\u00a0{_percent(high)}" if math.isfinite(low) else ""
    return _percent(value), ends


def _gains(group: Group, mask: str) -> dict[str, Any] | None:
    """The best method of a mask against each distance-based method in the three readings."""
    best = _best(group, mask, without=frozenset(DISTANCE_BASED))
    if best is None:
        return None
    _, method, told = best
    lines = [
        (
            _NAMES[name],
            [_percent_cell(told, f"improvement_{reading}/{name}") for reading in READINGS],
        )
        for name in (*DISTANCE_BASED, BEST)
        if f"improvement_mse/{name}" in told
    ]
    if not lines:
        return None
    return {
        "mask": mask, "label": method.label, "lines": lines,
        "readings": [_READING[reading] for reading in READINGS],
    }  # fmt: skip


def _frame(method: Method, mask: str) -> pd.DataFrame:
    """Predictions of a mask by the first run of a method."""
    for run in method.done:
        if run.predictions is not None:
            found: pd.DataFrame = run.predictions[run.predictions["mask"] == mask]
            if len(found):
                return found
    return pd.DataFrame()


def _calibration(group: Group, masks: Sequence[str], name: str) -> dict[str, Any]:
    """How often intervals of the best method of each mask hold, and how wide they are."""
    lines, curves = [], {}
    for mask in masks:
        best = _best(group, mask)
        if best is None:
            continue
        _, method, told = best
        if "coverage_90" not in told:
            lines.append((mask, method.label, "no interval", "", ""))
            continue
        cover, ends = _percent_cell(told, "coverage_90")
        lines.append((mask, method.label, cover, ends, number(value_of(told, "width_90"), 2)))
        frame = _frame(method, mask)
        if len(frame):
            curves[mask] = _covered_by_level(frame)
    return {"lines": lines, "svg": figures.calibration(curves, group.unit, f"{name}c")}


def _covered_by_level(frame: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, p, low, high = (
        frame[column].to_numpy(np.float64) for column in ("y_true", "y_pred", "y_low", "y_high")
    )
    inside = ((y >= low) & (y <= high)).astype(np.float64)
    parts = [part for part in np.array_split(np.argsort(p, kind="stable"), 10) if len(part)]
    return np.array([p[part].mean() for part in parts]), np.array(
        [inside[part].mean() for part in parts]
    )


def _examples(method: Method, mask: str, unit: str, name: str) -> list[dict[str, Any]]:
    """Profiles of a few genes, from the best completed to the worst: quantiles of their correlation."""
    frame = _frame(method, mask)
    if frame.empty:
        return []
    keys = ["gene", *(["genotype"] if "genotype" in frame else [])]
    frame = frame[frame["repeat"] == frame["repeat"].min()]
    code = frame.groupby(keys, sort=False, observed=True).ngroup().to_numpy()
    from benchmarks.imputation.sums import profile_correlations

    y, p = (frame[column].to_numpy(np.float64) for column in ("y_true", "y_pred"))
    r = profile_correlations(code, int(code.max()) + 1, y, p)
    known = np.flatnonzero(np.isfinite(r))
    if not len(known):
        return []
    order = known[np.argsort(r[known], kind="stable")]
    found = []
    for i, share in enumerate(_QUANTILES):
        one = int(order[round(share * (len(order) - 1))])
        rows = frame[code == one]
        found.append({
            "gene": " · ".join(str(rows[key].iloc[0]) for key in keys), "r": number(float(r[one]), 2),
            "quantile": f"{100 * share:.0f}", "svg": figures.example(rows, unit, f"{name}e{i}"),
        })  # fmt: skip
    return found
