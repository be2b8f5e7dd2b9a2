"""Pictures of imputation: error by distance, by tissue, how intervals hold, profiles of genes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.ticker import FixedLocator, FuncFormatter
from numpy.typing import NDArray

from benchmarks.imputation.conformal import LEVEL
from benchmarks.report.svg import INK, MUTED, PALETTE, PAPER, canvas, style, to_svg

FloatArray = NDArray[np.float64]

_BINS: Final = 10
_LEAST: Final = 30


def by_distance(
    frames: Mapping[str, pd.DataFrame], shade: Mapping[str, str], unit: str, name: str
) -> Markup | None:
    """Mean squared error against the distance to the nearest reference gene, a line per method."""
    known = {label: frame for label, frame in frames.items() if len(frame)}
    first = next(iter(known.values()), None)
    if first is None or "distance" not in first:
        return None
    distance = first["distance"].to_numpy(np.float64)
    fine = np.isfinite(distance)
    if fine.sum() < _BINS * _LEAST or np.ptp(np.log10(distance[fine] + 1)) == 0:
        return None
    edges = np.unique(np.quantile(distance[fine], np.linspace(0, 1, _BINS + 1)))
    with style():
        figure = canvas(4.6, 3.0)
        ax = figure.add_subplot()
        for label, frame in known.items():
            x, y = _binned(frame, edges)
            ax.plot(
                np.maximum(x, 1.0), y, "o-", color=shade[label], ms=3.4, lw=1.4, mec=PAPER, mew=0.6
            )
        ax.set_xscale("log")
        low, high = ax.get_xlim()
        ticks = [10.0**i for i in range(9) if low <= 10.0**i <= high]
        ax.xaxis.set_major_locator(FixedLocator(ticks))
        ax.xaxis.set_minor_locator(FixedLocator([]))
        ax.xaxis.set_major_formatter(FuncFormatter(_bp))
        ax.set_xlabel("distance to the nearest reference gene")
        ax.set_ylabel(f"mean squared error, {unit}")
        said = f"Error of {len(known)} methods against the distance to the nearest reference gene"
        return to_svg(figure, name, said)


def _bp(value: float, place: int | None = None) -> str:
    for size, unit in ((1e6, "Mb"), (1e3, "kb")):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} bp"


def _binned(frame: pd.DataFrame, edges: FloatArray) -> tuple[FloatArray, FloatArray]:
    distance = frame["distance"].to_numpy(np.float64)
    error = (frame["y_true"].to_numpy(np.float64) - frame["y_pred"].to_numpy(np.float64)) ** 2
    fine = np.isfinite(distance)
    bins = np.clip(np.searchsorted(edges, distance[fine], side="right") - 1, 0, len(edges) - 2)
    count = np.bincount(bins, minlength=len(edges) - 1)
    used = count > 0
    sums = [np.bincount(bins, x[fine], minlength=len(edges) - 1) for x in (distance, error)]
    return sums[0][used] / count[used], sums[1][used] / count[used]


def tissues(
    found: Mapping[str, Mapping[str, tuple[float, float, float]]], shade: Mapping[str, str],
    unit: str, name: str,
) -> Markup | None:  # fmt: skip
    """Mean squared error in every tissue, a dot per method with its interval; hardest tissue on top."""
    known = {label: one for label, one in found.items() if one}
    if not known:
        return None
    first = next(iter(known.values()))
    order = sorted(first, key=lambda tissue: first[tissue][0])
    with style():
        figure = canvas(6.4, 0.7 + 0.21 * len(order))
        ax = figure.add_subplot()
        place = {tissue: i for i, tissue in enumerate(order)}
        for k, (label, values) in enumerate(known.items()):
            shift = 0.5 * (k - (len(known) - 1) / 2) / max(len(known), 1)
            at = [place[tissue] + shift for tissue in values if tissue in place]
            rows = np.array([values[tissue] for tissue in values if tissue in place])
            ax.hlines(at, rows[:, 1], rows[:, 2], color=shade[label], lw=1.0, alpha=0.7)
            ax.plot(rows[:, 0], at, "o", color=shade[label], ms=3.6, mec=PAPER, mew=0.5)
        ax.set_yticks(range(len(order)), order)
        ax.set_ylim(-0.7, len(order) - 0.3)
        ax.set_xlabel(f"mean squared error, {unit}")
        return to_svg(figure, name, f"Error of {len(known)} methods in {len(order)} tissues")


def calibration(
    curves: Mapping[str, tuple[FloatArray, FloatArray]], unit: str, name: str
) -> Markup | None:
    """Share of entries inside their interval in tenths of the predicted level, a line per mask."""
    if not curves:
        return None
    with style():
        figure = canvas(4.6, 3.0)
        ax = figure.add_subplot()
        ax.axhline(100 * LEVEL, color=MUTED, lw=1.1, ls=(0, (4, 3)))
        for i, (mask, (x, share)) in enumerate(curves.items()):
            colour = PALETTE[i % len(PALETTE)]
            ax.plot(
                x, 100 * share, "o-", color=colour, ms=3.2, lw=1.2, mec=PAPER, mew=0.5, label=mask
            )
        lowest = min(float(share.min()) for _, share in curves.values())
        ax.set_ylim(min(70.0, 100 * lowest - 3), 101)
        ax.set_xlabel(f"predicted, {unit}")
        ax.set_ylabel("inside the 90 % interval, %")
        ax.legend(fontsize=7.5, frameon=False, ncols=2, labelcolor=MUTED)
        said = f"Share of entries inside their 90 % interval by predicted level, on {len(curves)} masks"
        return to_svg(figure, name, said)


def example(rows: pd.DataFrame, unit: str, name: str) -> Markup:
    """One profile: measured (ring) and imputed (dot with interval) in every hidden tissue."""
    rows = rows.sort_values("y_true", ascending=False)
    x = np.arange(len(rows))
    y, p, low, high = (
        rows[column].to_numpy(np.float64) for column in ("y_true", "y_pred", "y_low", "y_high")
    )
    with style():
        figure = canvas(3.4, 2.6)
        ax = figure.add_subplot()
        bounded = np.isfinite(low) & np.isfinite(high)
        ax.vlines(x[bounded], low[bounded], high[bounded], color=PALETTE[0], lw=2.2, alpha=0.35)
        ax.plot(x, p, "o", color=PALETTE[0], ms=3.4, mec=PAPER, mew=0.5, zorder=3)
        ax.plot(x, y, "o", color="none", ms=4.4, mec=INK, mew=1.0, zorder=4)
        names = rows["sample"].astype(str).tolist()
        few = len(names) <= 30
        ax.set_xticks(x if few else [], names if few else [], rotation=90, fontsize=6)
        ax.set_ylabel(unit)
        gene = str(rows["gene"].iloc[0])
        return to_svg(
            figure, name, f"Measured and imputed profile of {gene} in {len(rows)} tissues"
        )
