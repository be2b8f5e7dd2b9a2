"""How parameters were searched: the best error so far by trial, and what won in each fold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from benchmarks.report.svg import MUTED, canvas, css, style, to_svg
from benchmarks.scores.methods import Method, seed_of
from benchmarks.text import number

_MOST_ROWS: Final = 25
_MOST_PARAMETERS: Final = 12


def tunings(methods: Sequence[Method], shade: dict[str, str], name: str) -> list[dict[str, Any]]:
    """A panel for each method that was tuned: curve, counts, and a row of winners per fold."""
    out: list[dict[str, Any]] = []
    for method in methods:
        found = [
            (seed_of(run), fold)
            for run in method.done
            for fold in run.run.get("folds") or ()
            if fold.get("tuning")
        ]
        if not found:
            continue
        tables = [
            run.trials.assign(seed=seed_of(run)) for run in method.done if run.trials is not None
        ]
        svg = _curve(pd.concat(tables), shade[method.label], f"{name}{len(out)}") if tables else ""
        names = _names(found)
        out.append({
            "label": method.label, "svg": svg, "colour": css(shade[method.label]),
            "text": _counts([fold["tuning"] for _, fold in found]), "names": names,
            "rows": [_row(seed, fold, names) for seed, fold in found[:_MOST_ROWS]],
            "more": max(0, len(found) - _MOST_ROWS),
        })  # fmt: skip
    return out


def _names(found: Sequence[tuple[int, dict[str, Any]]]) -> list[str]:
    told = [str(key) for _, fold in found for key in fold["tuning"].get("params") or {}]
    return list(dict.fromkeys(told))[:_MOST_PARAMETERS]


def _counts(told: Sequence[dict[str, Any]]) -> str:
    """Trials of all folds together, and what the search gained on its own rows."""
    total = {
        state: sum(int(one.get(state) or 0) for one in told)
        for state in ("trials", "pruned", "failed")
    }
    text = f"{total['trials']:,} trials"
    lost = [f"{total[state]:,} {state}" for state in ("pruned", "failed") if total[state]]
    return text + (f" ({', '.join(lost)})" if lost else "")


def _row(seed: int, fold: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    told = fold["tuning"]
    params = told.get("params") or {}
    return {
        "seed": seed, "fold": fold.get("fold"), "winner": told.get("winner"),
        "rmse": number(told.get("valid_rmse")), "untuned": number(told.get("untuned_valid_rmse")),
        "values": [_text(params.get(name)) for name in names],
    }  # fmt: skip


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)


def _curve(trials: pd.DataFrame, colour: str, name: str) -> Markup:
    """Best error so far of every fold (strong), every trial (dots)."""
    with style():
        figure = canvas(3.1, 2.3)
        ax = figure.add_subplot()
        for _, fold in trials.groupby(["seed", "repeat", "fold"]):
            fold = fold.sort_values("trial")
            ax.plot(fold["trial"] + 1, fold["value"], ".", color=MUTED, ms=3, alpha=0.5)
            ax.step(fold["trial"] + 1, fold["best"], where="post", color=colour, lw=1.4, alpha=0.85)
        shown = trials["value"].to_numpy(np.float64)
        shown = shown[np.isfinite(shown)]
        if shown.size:  # a trial that went astray would flatten the rest
            low, high = float(shown.min()), float(np.percentile(shown, 90))
            pad = 0.06 * (high - low) or 0.1
            ax.set_ylim(low - pad, high + pad)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.set_xlabel("trial")
        ax.set_ylabel("rmse, validation families")
        return to_svg(figure, name, "Least validation error by trial")
