"""Scores of runs with and without the genes that the audit concerns, written into their run.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from benchmarks.inputs.genes import gene_frame
from benchmarks.runs.files import RunResult, write_json
from benchmarks.runs.plans import groups_of
from benchmarks.splits.artefact import read_split
from benchmarks.splits.leakage import AuditReport, audit, without
from benchmarks.tasks import get_task
from featurestore.errors import InputError
from featurestore.plain_json import plain

SCORES: Final = ("r2", "pearson", "spearman", "rmse")
REASONS: Final = ("family", "overlap", "identity")


def audit_runs(store: Any, runs: Sequence[RunResult]) -> list[dict[str, Any]]:
    """Audit the split of every finished run and score it with and without the genes concerned.

    Parameters
    ----------
    store : featurestore.store.reader.Store
        The one the runs were made from.
    runs : sequence of RunResult

    Returns
    -------
    list of dict
        Per run: ``run``, ``label``, the audit's counts, and ``scores``: one row per metric and
        reason with ``all`` (every gene), ``without`` (the genes concerned left out) and ``n`` of
        either. Failed runs are named with their status.

    Raises
    ------
    InputError
        If no run is of this store's species.
    """
    found: dict[tuple[str, int], AuditReport] = {}
    rows = []
    for run in runs:
        if run.predictions is None:
            rows.append({"run": run.run["run"], "label": run.label, "status": run.status})
            continue
        key = (str(run.identity["split"]["digest"]), int(run.predictions["repeat"].iloc[0]))
        if key not in found:
            found[key] = _audit(store, run, key[1])
        report = found[key]
        facts = {**report.summary(), "scores": _scores(run, report)}
        record = {**run.run, "audit": facts}
        write_json(run.path / "run.json", plain(record))
        rows.append({"run": run.run["run"], "label": run.label, "status": run.status, **facts})
    return rows


def _audit(store: Any, run: RunResult, repeat: int) -> AuditReport:
    species = [str(name) for name in run.identity["species"]]
    lacking = sorted(set(species) - set(store.species))
    if lacking:
        raise InputError(
            f"{run.path}: made of {', '.join(lacking)}, which {store.path} does not hold; give the "
            "store that the run was made from"
        )
    genes = gene_frame(store, species)
    split = read_split(run.path / "split.parquet")
    report = audit(store, species, genes, split, [repeat])
    if (
        store.content_digest(species, groups_of(run.identity["features"]))
        != run.identity["store"]["digest"]
    ):
        report.notes.append(
            "the store has changed since the run; its genes are taken as they are now"
        )
    return report


def _scores(run: RunResult, report: AuditReport) -> list[dict[str, Any]]:
    predictions = run.predictions
    assert predictions is not None  # noqa: S101 - the caller asks finished runs only
    everything = _pooled(run, predictions)
    rows: list[dict[str, Any]] = []
    for reason in REASONS:
        left = without(predictions, report.select(reason))
        few = _pooled(run, left) if left["y_true"].notna().any() else {}
        rows += [
            {
                "reason": reason, "metric": name, "all": everything.get(name),
                "without": few.get(name), "n_all": len(predictions), "n_without": len(left),
            }
            for name in SCORES
        ]  # fmt: skip
    return rows


def _pooled(run: RunResult, predictions: pd.DataFrame) -> dict[str, float]:
    task = get_task(str(run.identity["task"]))
    table = task.evaluate(predictions, unit=str(run.identity["unit"]), bootstrap=0, seed=0)
    pooled = table[table["scope"] == "pooled"]
    return {str(k): float(v) for k, v in zip(pooled["metric"], pooled["value"], strict=True)}
