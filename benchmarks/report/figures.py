"""The pictures of the report, each a function from plain numbers to an inline SVG."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from benchmarks.report.svg import (
    DENSITY,
    INK,
    MUTED,
    PALETTE,
    PAPER,
    canvas,
    style,
    to_svg,
)

FloatArray = npt.NDArray[np.float64]

_LONGEST_NAME: Final = 30
_STEPS: Final = [1, 2, 5, 10]  # ticks at numbers that people count in
_FEW: Final = 300  # below this many genes each is a dot; above, hexagons show density


@dataclass(frozen=True)
class Series:
    """One method as the figures know it: its name, colour, and the numbers drawn."""

    label: str
    colour: str
    values: FloatArray
    low: float = float("nan")
    high: float = float("nan")
    control: bool = False


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each learner, in the order given; they repeat after eight."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(dict.fromkeys(names))}


def shortened(name: str) -> str:
    """A name that fits beside an axis."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def density(
    predicted: FloatArray, observed: FloatArray, limits: tuple[float, float], unit: str, name: str
) -> Markup:
    """Observed against predicted, one panel: hexagons, the diagonal, means of predicted tenths."""
    with style():
        figure = canvas(3.1, 3.0)
        ax = figure.add_subplot()
        low, high = limits
        ax.set(xlim=limits, ylim=limits, aspect="equal")
        ax.plot(limits, limits, color=MUTED, lw=0.9, ls=(0, (4, 3)), zorder=2.5)
        finite = np.isfinite(predicted) & np.isfinite(observed)
        x, y = np.clip(predicted[finite], low, high), observed[finite]
        if len(x) > _FEW:
            cells = ax.hexbin(
                x, y, gridsize=34, extent=(low, high, low, high), mincnt=1, linewidths=0.15,
                cmap=ListedColormap(list(DENSITY)), edgecolors="face", zorder=2,
            )  # fmt: skip
            most = float(np.max(np.asarray(cells.get_array(), np.float64), initial=1.0))
            cells.set_norm(LogNorm(1, max(most, 2.0)))
        else:
            ax.scatter(x, y, s=10, color=DENSITY[4], linewidths=0, alpha=0.7, zorder=2)
        _tenths(ax, x, y)
        ax.set_xlabel(f"predicted, {unit}")
        ax.set_ylabel(f"observed, {unit}")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=_STEPS))
        return to_svg(figure, name, f"Observed against predicted values of {len(x)} genes")


def _tenths(ax: Axes, x: FloatArray, y: FloatArray) -> None:
    """Mean observed value in each tenth of the predictions: on the diagonal when calibrated."""
    if len(x) < 50 or np.ptp(x) == 0:
        return
    parts = np.array_split(np.argsort(x, kind="stable"), 10)
    means = np.array([(x[part].mean(), y[part].mean()) for part in parts])
    ax.plot(*means.T, color=PAPER, lw=3.2, zorder=3, solid_capstyle="round")
    ax.plot(*means.T, color=INK, lw=1.4, marker="o", ms=3.6, mec=PAPER, mew=0.7, zorder=4)


def dots(
    series: Sequence[Series],
    xlabel: str,
    name: str,
    description: str,
    *,
    width: float,
    limits: tuple[float, float] | None = None,
) -> Markup:
    """One row per method: a dot for each of several values and their mean, or one with interval."""
    with style(), warnings.catch_warnings():
        _allow_any_script()
        figure = canvas(width, 0.5 + 0.25 * len(series))
        ax = figure.add_subplot()
        rng = np.random.default_rng(0)
        for row, one in enumerate(series):
            values = one.values[np.isfinite(one.values)]
            if len(values) > 1:
                spread = rng.uniform(-0.22, 0.22, len(values))
                ax.scatter(
                    values, row + spread, s=11, color=one.colour, alpha=0.45, linewidths=0, zorder=2
                )
                ax.plot([values.mean()] * 2, [row - 0.34, row + 0.34], color=one.colour, lw=2.2)
            elif len(values):
                ax.plot([one.low, one.high], [row, row], color=one.colour, lw=1.8)
                ax.plot(values, [row], "o", color=one.colour, ms=5, mec=PAPER, mew=0.8)
        ax.axvline(0, color=MUTED, lw=0.9, zorder=1)
        ax.set_yticks(range(len(series)), [shortened(one.label) for one in series])
        for tick, one in zip(ax.get_yticklabels(), series, strict=True):
            tick.set_color(MUTED if one.control else INK)
        ax.set_ylim(len(series) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.xaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))
        if limits is not None:
            ax.set_xlim(limits)
        ax.set_xlabel(xlabel)
        return to_svg(figure, name, description)


def learning(table: pd.DataFrame, colour: str, best: Sequence[float], name: str) -> Markup:
    """Training (thin) and validation (strong) loss of every fold, by step."""
    with style():
        figure = canvas(3.1, 2.3)
        ax = figure.add_subplot()
        for _, fold in table.sort_values("step").groupby(["repeat", "fold"]):
            ax.plot(fold["step"], fold["train"], color=MUTED, lw=0.7, alpha=0.45)
            ax.plot(fold["step"], fold["valid"], color=colour, lw=0.9, alpha=0.75)
        for column, shade, width in (("train", MUTED, 1.6), ("valid", colour, 2.2)):
            mean = table.groupby("step")[column].agg(["mean", "size"])
            mean = mean[mean["size"] == mean["size"].max()]  # a fold that ended would bend it
            ax.plot(mean.index, mean["mean"], color=shade, lw=width)
        for step in best:
            ax.plot([step] * 2, [0, 0.045], color=colour, lw=1, transform=ax.get_xaxis_transform())
        shown = table[["train", "valid"]].to_numpy(np.float64)
        shown = shown[np.isfinite(shown)]
        if shown.size:
            low, high = float(shown.min()), float(np.percentile(shown, 99))
            pad = 0.06 * (high - low) or 0.1
            ax.set_ylim(low - pad, high + pad)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.set_xlabel("step")
        ax.set_ylabel("loss")
        return to_svg(figure, name, "Training and validation loss by step")


@dataclass(frozen=True)
class Cost:
    """One method's cost and score."""

    label: str
    colour: str
    cost: float
    score: float
    low: float
    high: float
    control: bool


def cost(points: Sequence[Cost], what: str, score: str, name: str) -> Markup:
    """Score against cost on a logarithmic axis; the line joins methods that none beats in both."""
    with style(), warnings.catch_warnings():
        _allow_any_script()
        figure = canvas(5.4, 3.5)
        ax = figure.add_subplot()
        ax.set_xscale("log", base=2 if what == "memory" else 10)
        front = _front(points)
        ax.step([p.cost for p in front], [p.score for p in front], where="post",
                color=MUTED, lw=1.1, ls=(0, (4, 3)), zorder=1)  # fmt: skip
        for p in points:
            if np.isfinite(p.low):
                ax.plot([p.cost] * 2, [p.low, p.high], color=p.colour, lw=1.4, alpha=0.55)
            marker = "D" if p.control else "o"
            ax.plot([p.cost], [p.score], marker, color=p.colour, ms=6.5, mec=PAPER, mew=0.9)
        values = np.array([p.cost for p in points])
        ratio = max(float(values.max() / values.min()), 4.0)
        ax.set_xlim(values.min() / ratio**0.08, values.max() * ratio**0.3)
        ax.xaxis.set_major_locator(FixedLocator(_cost_ticks(*ax.get_xlim(), what).tolist()))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: _cost_text(v, what)))
        ax.yaxis.set_major_locator(MaxNLocator(6, steps=_STEPS))
        ax.margins(y=0.1)
        ax.set_xlabel("peak memory" if what == "memory" else "time to fit, one run")
        ax.set_ylabel(score)
        figure.draw_without_rendering()
        _labels(ax, points)
        return to_svg(figure, name, f"{score} against {what}")


def _cost_text(value: float, what: str) -> str:
    if what == "memory":
        return f"{value / 2**30:g} GiB" if value >= 2**30 else f"{value / 2**20:g} MiB"
    return f"{value:g} s" if value >= 1 else f"{1000 * value:g} ms"


def _cost_ticks(low: float, high: float, what: str) -> FloatArray:
    """Round numbers inside the axis, closer together where it spans little."""
    base, between = (2.0, (1.0, 1.25, 1.5, 1.75)) if what == "memory" else (10.0, (1.0, 2.0, 5.0))
    powers = base ** np.arange(np.floor(np.log(low) / np.log(base)), np.log(high) / np.log(base))
    coarse = powers[powers >= low]
    if len(coarse) > 3:
        return coarse[:: 1 + len(coarse) // 8]
    fine = np.outer(powers, between).ravel()
    return fine[(fine >= low) & (fine <= high)]


def _front(points: Sequence[Cost]) -> list[Cost]:
    """Points that no cheaper one reaches or exceeds, cheapest first."""
    found: list[Cost] = []
    for p in sorted(points, key=lambda p: (p.cost, -p.score)):
        if not found or p.score > found[-1].score:
            found.append(p)
    return found


def _labels(ax: Axes, points: Sequence[Cost]) -> None:
    """Put each name at the first place beside its point where it covers nothing."""
    scale = 72 / ax.get_figure(root=True).dpi  # type: ignore[union-attr] # axes of ours have a figure
    at = np.array([ax.transData.transform((p.cost, p.score)) for p in points]) * scale
    frame = ax.get_window_extent()
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in at]
    order = sorted(range(len(points)), key=lambda i: -points[i].score)
    for i in order:
        p, (x, y) = points[i], at[i]
        text = shortened(p.label)
        wide = 4.6 * len(text)
        for dx, dy in ((7, 0), (7, 9), (7, -9), (-7, 0), (-7, 9), (-7, -9), (7, 18), (7, -18)):
            left = x + dx if dx > 0 else x + dx - wide
            box = (left, y + dy - 5, left + wide, y + dy + 5)
            inside = left >= frame.x0 * scale and box[2] <= frame.x1 * scale + 6
            if inside and not any(_overlap(box, other) for other in taken):
                break
        else:
            dx, dy = 7, 0
        taken.append(box)
        ax.annotate(
            text, (p.cost, p.score), xytext=(dx, dy), textcoords="offset points", fontsize=8,
            va="center", ha="left" if dx > 0 else "right", color=MUTED if p.control else INK,
            annotation_clip=False,
        )  # fmt: skip


def _overlap(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return bool(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])


def _allow_any_script() -> None:
    """Let names be in scripts that matplotlib's own font lacks: the browser sets the text."""
    warnings.filterwarnings("ignore", message="Glyph .* missing from font")
