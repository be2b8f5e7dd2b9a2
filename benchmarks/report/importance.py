"""Where in a gene the signal lies, in the report: a track of importance over the bins of each region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from markupsafe import Markup

from benchmarks.explain import read_importance
from benchmarks.report.svg import INK, MUTED, canvas, css, style, to_svg
from benchmarks.scores.methods import Method

_MOST: Final = 12
_WIDTH, _HEIGHT = 8.6, 1.5
_KEYS: Final = ["feature", "region", "bin", "bin_start"]


def tracks(methods: Sequence[Method], shade: dict[str, str], name: str) -> list[dict[str, Any]]:
    """A track for each method that was explained, and for each of its features with bins.

    Runs of several seeds and several targets are averaged.
    """
    out: list[dict[str, Any]] = []
    for method in methods:
        tables = [table for run in method.done if (table := read_importance(run.path)) is not None]
        if not tables:
            continue
        table = pd.concat(tables, ignore_index=True)
        table = table[(table["bin"] >= 0) & np.isfinite(table["mean_abs_shap"])]
        mean = table.groupby(_KEYS, dropna=False, sort=False)["mean_abs_shap"].mean().reset_index()
        for feature, part in mean.groupby("feature", sort=False):
            if len(out) >= _MOST:
                return out
            best = part.loc[part["mean_abs_shap"].idxmax()]
            out.append({
                "label": method.label, "colour": css(shade[method.label]),
                "text": f"{feature} · most in {best['region']}, {_where(best)} · "
                f"{int(table['n'].max()):,} genes",
                "svg": _track(part, shade[method.label], f"{name}{len(out)}", str(feature)),
            })  # fmt: skip
    return out


def _where(row: Any) -> str:
    start = float(row["bin_start"])
    return f"bin {int(row['bin'])}" if np.isnan(start) else f"from {start:+.0f} bp"


def _track(table: pd.DataFrame, colour: str, name: str, feature: str) -> Markup:
    """Mean size of the SHAP values of each bin, the regions side by side on one scale."""
    regions = list(dict.fromkeys(table["region"].astype(str)))
    most = float(table["mean_abs_shap"].max()) or 1.0
    with style():
        figure = canvas(_WIDTH, _HEIGHT)
        axes = figure.subplots(1, len(regions), squeeze=False, sharey=True)[0]
        for ax, region in zip(axes, regions, strict=True):
            part = table[table["region"].astype(str) == region].sort_values("bin")
            known = bool(part["bin_start"].notna().all())
            x = part["bin_start" if known else "bin"].to_numpy(np.float64)
            y = part["mean_abs_shap"].to_numpy(np.float64)
            # A bin is as wide as the nearest two are apart; bins that no gene has leave a gap.
            wide = float(np.diff(x).min()) if len(x) > 1 else 1.0
            ax.bar(x, y, wide, align="edge", color=colour, linewidth=0)
            if known and x.min() < 0 < x.max() + wide:
                ax.axvline(0, color=INK, lw=0.9)
            ax.set_ylim(0, 1.05 * most)
            ax.set_title(region, loc="left", fontsize=9, color=MUTED)
            ax.set_xlabel("bp from the anchor" if known else "bin")
        axes[0].set_ylabel("mean |SHAP|")
        return to_svg(figure, name, f"Importance of the bins of {feature}, by region")
