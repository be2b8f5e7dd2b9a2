"""Runs of task ``tracks`` seen track by track: each track is a target that methods are compared on."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from benchmarks.runs.files import RunResult
from benchmarks.scores.methods import Group, Method

TASK = "tracks"
PREFIX = "track:"


def tracks_of(run: RunResult) -> list[str]:
    """Names of the tracks of a run, each once, in the order of their table."""
    names = (run.identity.get("tracks") or {}).get("names") or ()
    return list(dict.fromkeys(str(name).partition(":")[2] for name in names))


def of_track(run: RunResult, track: str) -> RunResult:
    """One track of a run as if it were all of it: predictions, and metrics by the usual scopes.

    Metrics over bins have the scopes ``bins`` and ``bins/species:S``.
    """
    predictions, metrics = run.predictions, run.metrics
    if predictions is not None and "sample" in predictions:
        here = (predictions["sample"].astype(str) == track).to_numpy(bool)
        predictions = predictions[here].reset_index(drop=True)
    if metrics is not None:
        scope = metrics["scope"].astype(str)
        whole = f"{PREFIX}{track}"
        rows = (scope == whole) | scope.str.startswith(f"{whole}/")
        inner = scope[rows].str.removeprefix(whole).str.removeprefix("/")
        metrics = metrics[rows].assign(scope=inner.where(inner != "", "pooled"))
        metrics = metrics.reset_index(drop=True)
    return replace(run, predictions=predictions, metrics=metrics)


def by_track(group: Group) -> list[Group]:
    """A group for each track: its target is the track.

    A track that a finished run has no prediction of (no gene under test has it) is left out of that run.
    """
    names = list(dict.fromkeys(name for run in group.runs for name in tracks_of(run)))
    found = []
    for name in names:
        methods = tuple(
            Method(one.label, tuple(_seen(run, name) for run in one.runs), one.absent)
            for one in group.methods
        )
        found.append(replace(group, target=name, methods=methods))
    return found or [group]


def _seen(run: RunResult, track: str) -> RunResult:
    one = of_track(run, track)
    if one.predictions is not None and one.predictions.empty:
        told = {"type": "", "message": f"no gene under test has a value of track {track}"}
        return replace(
            one, run={**run.run, "status": "failed", "error": told}, predictions=None, metrics=None
        )
    return one


def bins_scores(method: Method) -> dict[str, float]:
    """``pearson_bins`` and ``pearson_log_bins`` with their intervals, means over the runs of one track."""
    parts = [
        run.metrics[run.metrics["scope"] == "bins"]
        for run in method.done
        if run.metrics is not None
    ]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    if table.empty:
        return {}
    flat: dict[str, float] = {}
    for metric, rows in table.groupby("metric", sort=True):
        for column, end in (("value", ""), ("ci_low", "_low"), ("ci_high", "_high")):
            flat[f"{metric}_bins{end}"] = float(rows[column].mean())
    return flat
