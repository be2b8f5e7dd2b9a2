"""Saturation mutagenesis in the report: a heat map (position × base) and a track per element.

Effects are drawn as pixels whose opacity is their size, so that one picture serves the light and the
dark theme; a page holds any number of positions in a few kilobytes.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from numpy.typing import NDArray

from benchmarks.mutagenesis.results import read_results
from benchmarks.text import number

UP: Final = (0.83, 0.37, 0.0)
DOWN: Final = (0.0, 0.45, 0.70)
"""Vermillion and blue of the palette of Okabe and Ito, told apart by all kinds of colour vision."""

MOST_MAPS: Final = 24
MOST_POSITIONS: Final = 100_000
_WIDTH, _LEFT, _ROW, _TRACK, _GAP = 900, 46, 15, 46, 6
_STRONG: Final = 98.0
"""Percentile of |effect| that is drawn opaque: a few giants do not pale the rest."""


def section(folders: Sequence[Path], name: str) -> dict[str, Any] | None:
    """Maps and agreement of the runs of a group; None where nothing was scored.

    Parameters
    ----------
    folders : sequence of Path
        Folders of runs, or of ``bench mutagenesis``.
    name : str
        Prefix of ids in the page.
    """
    maps: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    left_out = 0
    for folder in folders:
        found = read_results(folder)
        if "mutagenesis" not in found:
            continue
        for one in _maps(found, f"{name}{len(maps)}"):
            left_out += len(maps) >= MOST_MAPS
            maps += [one] if len(maps) < MOST_MAPS else []
        lines += _lines(found.get("agreement"))
    if not maps:
        return None
    return {"maps": maps, "left_out": left_out, "agreement": lines}


def _maps(found: dict[str, pd.DataFrame], name: str) -> Iterator[dict[str, Any]]:
    table = found["mutagenesis"]
    keys = ["element", "region", "learner", *(("target",) if "target" in table else ())]
    for place, (key, part) in enumerate(table.groupby(keys, sort=False, dropna=False)):
        element, region, learner = (str(value) for value in key[:3])
        unit = str(part["unit"].iloc[0])[:40] if "unit" in part else ""
        target = f", {key[3]}" if len(key) > 3 else ""
        one = _map(part, f"{element} {region}".strip(), learner + target, unit, f"{name}-{place}")
        if one is not None:
            yield one
    yield from _measured_maps(found.get("measured"), name)


def _measured_maps(measured: pd.DataFrame | None, name: str) -> Iterator[dict[str, Any]]:
    if measured is None:
        return
    known = {"position", "cluster", "delta", "sd"}
    conditions = [c for c in measured.columns if measured[c].dtype.kind == "f" and c not in known]
    plain = measured[~measured.duplicated(["element", "position", "ref", "alt"])]
    for element, part in plain.groupby("element", sort=False):
        for condition in conditions:
            one = _map(
                part.assign(delta=part[condition]), str(element), f"measured: {condition}", "",
                f"{name}-m{element}{condition}",
            )  # fmt: skip
            if one is not None:
                yield one


def _map(
    table: pd.DataFrame, element: str, learner: str, unit: str, name: str
) -> dict[str, Any] | None:
    single = (table["ref"].str.len() == 1) & (table["alt"].str.len() == 1)
    single &= table["ref"].isin(list("ACGT")) & table["alt"].isin(list("ACGT"))
    table = table[single & np.isfinite(table["delta"].to_numpy(np.float64))]
    if table.empty:
        return None
    first, last = int(table["position"].min()), int(table["position"].max())
    if last - first >= MOST_POSITIONS:
        return None
    positions = np.arange(first, last + 1)
    effect = np.full((4, len(positions)), np.nan)
    row = table["alt"].map("ACGT".index).to_numpy(np.int64)
    column = table["position"].to_numpy(np.int64) - positions[0]
    effect[row, column] = table["delta"].to_numpy(np.float64)
    reference = np.full(len(positions), -1, np.int64)
    reference[column] = table["ref"].map("ACGT".index).to_numpy(np.int64)
    strong = float(np.percentile(np.abs(effect[np.isfinite(effect)]), _STRONG)) or 1.0
    svg = draw(effect, reference, positions, strong, f"Effect of every single-base change of {element} by {learner}")  # fmt: skip
    text = f"{len(table):,} changes · opaque at |effect| {strong:.2g} {unit}".strip()
    return {"element": element, "learner": learner, "text": text, "svg": svg, "id": name}


def draw(
    effect: NDArray[np.float64],
    reference: NDArray[np.int64],
    positions: NDArray[np.int64],
    strong: float,
    description: str,
) -> Markup:
    """Heat map of the four bases over positions, and below it the mean absolute effect.

    Parameters
    ----------
    effect : float64 array, shape (4, position)
        Rows A, C, G, T; NaN where there is none.
    reference : int64 array, shape (position,)
        Row of the reference base, −1 where unknown.
    positions : int64 array, shape (position,)
    strong : float
        |effect| that is opaque.
    description : str
        What a screen reader says.
    """
    wide = _WIDTH - _LEFT - 8
    step = wide / len(positions)
    below = 4 * _ROW + _GAP
    height = below + _TRACK + 22
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(description)}" class="figure">',
        f'<image x="{_LEFT}" y="0" width="{wide}" height="{4 * _ROW}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{_pixels(effect, reference, strong)}"/>',
    ]  # fmt: skip
    parts += [
        f'<text x="{_LEFT - 8}" y="{_ROW * i + 11.5}" text-anchor="end" font-size="10" '
        f'fill="var(--muted)">{base}</text>'
        for i, base in enumerate("ACGT")
    ]
    parts.append(_track(effect, step, below))
    for at, text in _ticks(positions):
        x = _LEFT + (at + 0.5) * step
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{below + _TRACK}" y2="{below + _TRACK + 4}" stroke="var(--rule)"/>'
            f'<text x="{x:.1f}" y="{below + _TRACK + 16}" text-anchor="middle" font-size="10" fill="var(--muted)">{text}</text>'
        )
    return Markup("".join(parts) + "</svg>")  # noqa: S704 - numbers of ours, the description escaped


def _track(effect: NDArray[np.float64], step: float, top: int) -> str:
    """Mean |effect| of each position as an area."""
    known = np.isfinite(effect)
    count = known.sum(axis=0)
    mean = np.where(known, np.abs(effect), 0).sum(axis=0) / np.maximum(count, 1)
    most = float(mean.max()) or 1.0
    y = top + _TRACK * (1 - mean / most)
    x = _LEFT + np.arange(len(mean) + 1) * step
    line = " ".join(
        f"L{a:.1f} {v:.1f}L{b:.1f} {v:.1f}" for a, b, v in zip(x[:-1], x[1:], y, strict=True)
    )
    floor = top + _TRACK
    return (
        f'<path d="M{x[0]:.1f} {floor}{line}L{x[-1]:.1f} {floor}Z" fill="var(--ink)" opacity="0.55"/>'
        f'<line x1="{x[0]:.1f}" x2="{x[-1]:.1f}" y1="{floor}" y2="{floor}" stroke="var(--rule)"/>'
        f'<text x="{_LEFT - 8}" y="{top + 9}" text-anchor="end" font-size="9" fill="var(--muted)">'
        f"{most:.2g}</text>"
    )


def _ticks(positions: NDArray[np.int64]) -> list[tuple[int, str]]:
    """Some six round positions."""
    span = max(len(positions), 1)
    step = 10 ** math.floor(math.log10(max(span / 6, 1)))
    step *= 5 if span / step > 30 else 2 if span / step > 12 else 1
    first = -(-int(positions[0]) // step) * step
    values = range(first, int(positions[-1]) + 1, step)
    return [(value - int(positions[0]), str(value).replace("-", "−")) for value in values]


def _pixels(effect: NDArray[np.float64], reference: NDArray[np.int64], strong: float) -> str:
    """A PNG of one pixel per change: colour the sign, opacity the size; the reference base grey."""
    from matplotlib.image import imsave

    value = np.nan_to_num(effect / strong, nan=0.0)
    image = np.zeros((*effect.shape, 4))
    image[..., :3] = np.where((value >= 0)[..., None], UP, DOWN)
    image[..., 3] = np.clip(np.abs(value), 0, 1)
    at = np.flatnonzero(reference >= 0)
    image[reference[at], at] = (0.5, 0.5, 0.5, 0.35)
    buffer = io.BytesIO()
    imsave(buffer, image, format="png", pil_kwargs={"optimize": True})
    return base64.b64encode(buffer.getvalue()).decode()


def _lines(agreement: pd.DataFrame | None) -> list[dict[str, Any]]:
    """A line per learner, condition, scope: the metrics side by side."""
    if agreement is None or agreement.empty:
        return []
    keys = ["learner", "condition", "variants", "scope"]
    lines = []
    for key, part in agreement.groupby(keys, sort=False):
        cells = {
            str(
                row["metric"]
            ): f"{number(float(row['value']), 2)} [{number(float(row['ci_low']), 2)}, "
            f"{number(float(row['ci_high']), 2)}]"
            for _, row in part.iterrows()
        }
        facts = dict(zip(keys, map(str, key), strict=True))
        lines.append({**facts, "n": int(part["n"].iloc[0]), "cells": cells})
    return lines


def write_page(folder: Path, title: str, notes: Sequence[str], *, simulated: bool) -> Path:
    """Write ``mutagenesis.html`` beside the tables: one file that works offline."""
    from benchmarks.report.html import render_page

    path = folder / "mutagenesis.html"
    found = section([folder], "m")
    values = {"title": title, "found": found, "notes": list(notes), "simulated": simulated}
    render_page("mutagenesis_page.html", values, path)
    return path
