"""Runs of task ``tracks`` at a glance: every track against every method, before each track for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from benchmarks.scores.methods import Group, Method
from benchmarks.text import number
from benchmarks.tracks.views import TASK, bins_scores

MOST: Final = 12
"""Tracks of a set of runs that have a section of their own; the table has all of them."""


def overviews(groups: Sequence[Group]) -> list[dict[str, Any] | None]:
    """A table for the first track of each set of runs, None for every other group."""
    found: list[dict[str, Any] | None] = []
    seen: set[tuple[Any, ...]] = set()
    for group in groups:
        together = [one for one in groups if _key(one) == _key(group)]
        if group.task != TASK or _key(group) in seen:
            found.append(None)
            continue
        seen.add(_key(group))
        found.append(_table(together))
    return found


def shown(groups: Sequence[Group]) -> list[Group]:
    """Groups that have a section: of each set of runs the first tracks."""
    kept, count = [], dict[tuple[Any, ...], int]()
    for group in groups:
        count[_key(group)] = count.get(_key(group), 0) + 1
        if group.task != TASK or count[_key(group)] <= MOST:
            kept.append(group)
    return kept


def _key(group: Group) -> tuple[Any, ...]:
    target = "" if group.task == TASK else group.target
    return group.task, target, group.split, group.recipe, group.labels, group.species


def _table(groups: Sequence[Group]) -> dict[str, Any]:
    labels = list(dict.fromkeys(m.label for group in groups for m in group.methods))
    lines = []
    for group in groups:
        methods = {method.label: method for method in group.methods}
        lines.append((group.target, [_cell(methods.get(label)) for label in labels]))
    return {"methods": labels, "lines": lines, "cut": len(groups) > MOST, "most": MOST}


def _cell(method: Method | None) -> dict[str, str] | None:
    """Pearson at the TSS and over bins, with their intervals; None without a finished run."""
    if method is None or not method.done:
        return None
    at_tss: dict[str, float] = {}
    for column in ("value", "ci_low", "ci_high"):
        values = [
            float(rows[column].iloc[0])
            for run in method.done if run.metrics is not None
            if len(rows := run.metrics[
                (run.metrics["metric"] == "pearson") & (run.metrics["scope"] == "pooled")
            ])
        ]  # fmt: skip
        at_tss[column] = sum(values) / len(values) if values else float("nan")
    bins = bins_scores(method)
    return {
        "tss": number(at_tss["value"]),
        "tss_interval": _range(at_tss["ci_low"], at_tss["ci_high"]),
        "bins": number(bins.get("pearson_bins")),
        "bins_interval": _range(bins.get("pearson_bins_low"), bins.get("pearson_bins_high")),
    }


def _range(low: float | None, high: float | None) -> str:
    told = number(low)
    return "" if told == "–" else f"{told} … {number(high)}"
