"""Tables of imputation runs as Markdown: ``python -m benchmarks.report.imputation_tables RUNS``.

Methods × masks with the difference of one method to each of the others, and what it gains over the
three distance-based methods in three readings.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.imputation.references import DISTANCE_BASED
from benchmarks.imputation.summary import masks_of, scores, title, value_of
from benchmarks.runs.files import RunResult, read_runs
from benchmarks.scores.compare import compare
from benchmarks.scores.methods import Group, Method, group_runs
from featurestore.errors import InputError, unknown_name

_READINGS = {"mse": "MSE", "rmse": "RMSE", "profile": "profile correlation"}


def differences(runs: Sequence[RunResult], method: str, metric: str, bootstrap: int) -> str:
    """A row for each method and a column for each mask: its score, and what ``method`` has less or more.

    In brackets ``method`` minus the other on the same entries, with its 95 % interval over families
    and chromosomes (the wider); with a star where the interval holds zero.
    """
    (group,) = _groups(runs, method)
    pairs = compare(runs, metric=metric, baseline=method, bootstrap=bootstrap).pairs
    found = {(str(p["method_a"]), str(p["split"])): p for p in pairs.to_dict("records")}
    masks = masks_of(group)
    order = {m.label: value_of(scores(m, f"mask:{masks[0]}"), metric) for m in group.methods}
    lines = []
    for one in sorted(group.methods, key=lambda m: (m.label != method, order[m.label])):
        cells = [
            _cell(value_of(scores(one, f"mask:{mask}"), metric), found.get((one.label, title(group, mask))))
            for mask in masks
        ]  # fmt: skip
        lines.append([f"`{one.label}`", *cells])
    return _markdown(["", *(f"`{mask}`" for mask in masks)], lines)


def _cell(value: float, pair: dict[Any, Any] | None) -> str:
    if not math.isfinite(value):
        return "–"
    if pair is None or not math.isfinite(pair["ci_low"]):
        return f"{value:.3f}"
    middle, low, high = (-float(pair[n]) for n in ("pooled_difference", "ci_high", "ci_low"))
    star = "" if low > 0 or high < 0 else " \\*"
    return f"{value:.3f} ({middle:+.3f}, {low:+.3f} to {high:+.3f}{star})"


def gains(runs: Sequence[RunResult], method: str) -> str:
    """What a method gains over distance-based methods, in per cent, mask by mask, with intervals."""
    (group,) = _groups(runs, method)
    chosen: Method = next(m for m in group.methods if m.label == method)
    lines = []
    for mask in masks_of(group):
        told = scores(chosen, f"mask:{mask}")
        for name in DISTANCE_BASED:
            cells = []
            for reading in _READINGS:
                key = f"improvement_{reading}/{name}"
                value, low, high = (100 * value_of(told, key, p) for p in ("value", "low", "high"))
                whole = f"{value:.0f} ({low:.0f} to {high:.0f})" if math.isfinite(low) else f"{value:.0f}"  # fmt: skip
                cells.append(whole if math.isfinite(value) else "–")
            lines.append([f"`{mask}`", f"`{name}`", *cells])
    return _markdown(["mask", "over", *_READINGS.values()], lines)


def _groups(runs: Sequence[RunResult], method: str) -> list[Group]:
    groups = [g for g in group_runs(runs) if any(m.label == method for m in g.methods)]
    if not groups:
        raise unknown_name("method", method, sorted({run.label for run in runs}))
    if len(groups) > 1 or groups[0].task != "imputation":
        raise InputError(
            f"{method} has runs of {len(groups)} groups of task, split and labels; the tables are of one "
            "group of task imputation"
        )
    return groups


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report.imputation_tables")
    parser.add_argument("runs", type=Path, help="a folder of imputation runs")
    parser.add_argument(
        "--method", default="hybrid", help="the one that is compared with all others"
    )
    parser.add_argument("--metric", default="mse")
    parser.add_argument("--bootstrap", type=int, default=1000)
    given = parser.parse_args(arguments)
    runs = read_runs(given.runs)
    for table in (
        differences(runs, given.method, given.metric, given.bootstrap),
        gains(runs, given.method),
    ):
        sys.stdout.write(f"{table}\n\n")


if __name__ == "__main__":
    main()
