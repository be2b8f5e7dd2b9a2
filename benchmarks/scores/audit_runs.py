"""Scores of runs with and without the genes that the audit concerns, written into their run.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from benchmarks.inputs.features import longest_window
from benchmarks.inputs.genes import gene_frame
from benchmarks.runs.files import RunResult, write_json
from benchmarks.runs.plans import groups_read
from benchmarks.splits.artefact import read_split
from benchmarks.splits.leakage import AuditReport, audit, without
from benchmarks.tasks import get_task
from featurestore.errors import InputError
from featurestore.plain_json import plain

SCORES: Final = ("r2", "pearson", "spearman", "rmse")
REASONS: Final = ("family", "overlap", "identity")

_OF_STRETCHES: Final = (
    "not audited: task tracks tests stretches of the genome (regions.parquet) and learns nothing near "
    "relatives of the genes in them"
)


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
    found: dict[tuple[str, int, int], AuditReport] = {}
    rows = []
    for run in runs:
        if run.predictions is None:
            rows.append({"run": run.run["run"], "label": run.label, "status": run.status})
            continue
        if run.identity["task"] == "tracks":
            rows.append({"run": run.run["run"], "label": run.label, "status": _OF_STRETCHES})
            continue
        repeat = int(run.predictions["repeat"].iloc[0])
        key = str(run.identity["split"]["digest"]), repeat, longest_window(run.identity["features"])
        if key not in found:
            found[key] = _audit(store, run, repeat, key[2])
        report = found[key]
        facts = {**report.summary(), "scores": _scores(run, report)}
        facts["notes"] = [*facts["notes"], *_untouched(run)]
        record = {**run.run, "audit": facts}
        write_json(run.path / "run.json", plain(record))
        rows.append({"run": run.run["run"], "label": run.label, "status": run.status, **facts})
    return rows


def _audit(store: Any, run: RunResult, repeat: int, long: int) -> AuditReport:
    species = [str(name) for name in run.identity["species"]]
    lacking = sorted(set(species) - set(store.species))
    if lacking:
        raise InputError(
            f"{run.path}: made of {', '.join(lacking)}, which {store.path} does not hold; give the "
            "store that the run was made from"
        )
    genes = gene_frame(store, species)
    split = read_split(run.path / "split.parquet")
    report = audit(store, species, genes, split, [repeat], long)
    if (
        store.content_digest(species, groups_read(run.identity["task"], run.identity["features"]))
        != run.identity["store"]["digest"]
    ):
        report.notes.append(
            "the store has changed since the run; its genes are taken as they are now"
        )
    return report


def _scores(run: RunResult, report: AuditReport) -> list[dict[str, Any]]:
    predictions = run.predictions
    assert predictions is not None  # noqa: S101 - the caller asks finished runs only
    if "mask" not in predictions:
        return _scored(run, predictions, report, "pooled")
    rows: list[dict[str, Any]] = []
    for mask, table in _masked(run, predictions):
        rows += [{"mask": mask, **row} for row in _scored(run, table, report, f"mask:{mask}")]
    return rows


def _untouched(run: RunResult) -> list[str]:
    """What is to be told of masks that do not draw their genes by the split."""
    if "masks" not in run.identity:
        return []
    from benchmarks.imputation.masks import GENES, design_of

    others = [name for name in run.identity["masks"] if design_of(name) != GENES]
    if not others:
        return []
    return [
        f"the audit is of the split; {', '.join(others)} hide by themselves and are not audited: of "
        "entries-N every gene is on both sides by design, block and chromosome keep families apart"
    ]


def _masked(run: RunResult, predictions: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Masks of a run whose genes are drawn by its split, each with its predictions."""
    from benchmarks.imputation.masks import GENES, design_of

    masks = [name for name in run.identity["masks"] if design_of(name) == GENES]
    return [(name, predictions[predictions["mask"] == name]) for name in masks]


def _scored(
    run: RunResult, predictions: pd.DataFrame, report: AuditReport, scope: str
) -> list[dict[str, Any]]:
    everything = _pooled(run, predictions, scope)
    rows: list[dict[str, Any]] = []
    for reason in REASONS:
        left = without(predictions, report.select(reason))
        few = _pooled(run, left, scope) if left["y_true"].notna().any() else {}
        rows += [
            {
                "reason": reason, "metric": name, "all": everything.get(name),
                "without": few.get(name), "n_all": len(predictions), "n_without": len(left),
            }
            for name in SCORES
        ]  # fmt: skip
    return rows


def _pooled(run: RunResult, predictions: pd.DataFrame, scope: str) -> dict[str, float]:
    task = get_task(str(run.identity["task"]))
    table = task.evaluate(predictions, unit=str(run.identity["unit"]), bootstrap=0, seed=0)
    pooled = table[table["scope"] == scope]
    return {str(k): float(v) for k, v in zip(pooled["metric"], pooled["value"], strict=True)}
