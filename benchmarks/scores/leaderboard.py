"""The leaderboard: one row per task × target × split × method, with intervals, cost and warnings.

A cell that was never run is a row ``missing`` and a run that failed is a row ``failed: why``;
neither is imputed or left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from benchmarks.runs.files import RunResult
from benchmarks.scores.marks import SYMBOL, keeps_families, seen_species
from benchmarks.scores.methods import Group, Method, group_runs, reason_of
from benchmarks.scores.metrics import HIGHER_IS_BETTER, evaluate
from benchmarks.text import align, number, seconds, size
from featurestore.errors import InputError, unknown_name

SHOWN: Final = ("r2", "pearson", "spearman", "rmse")
SCOPES: Final = {"pooled": "", "within-species": "_within"}

LEADERBOARD_COLUMNS: Final = (
    "task", "target", "unit", "split", "labels", "method", "learner", "features", "control",
    "status", "note",
    *(f"{metric}{scope}{part}" for metric in SHOWN for scope in SCOPES.values()
      for part in ("", "_low", "_high")),
    "r2_fold_sd", "n_genes", "n_families", "n_species", "n_repeats", "n_folds",
    "fit_s", "predict_s", "peak_memory_bytes", "contaminated", "leakage", "test_families", "simulated",
)  # fmt: skip


def leaderboard(
    runs: Sequence[RunResult], *, sort_by: str = "r2", bootstrap: int = 1000
) -> pd.DataFrame:
    """Summarise runs, best method first within each task × target × split × labels.

    Parameters
    ----------
    runs
        Runs as read by :func:`benchmarks.runs.files.read_runs`.
    sort_by
        One of r2, pearson, spearman, rmse (pooled).
    bootstrap
        Replicates of the intervals of methods that have several repeats; a single run keeps the
        intervals of its own metric table.

    Returns
    -------
    DataFrame
        Columns :data:`LEADERBOARD_COLUMNS`. Scores are means over repeats; ``r2_low`` and
        ``r2_high`` bound the 95 % interval over gene families; ``r2_fold_sd`` is the standard
        deviation over all folds; ``fit_s`` is the mean over runs, ``peak_memory_bytes`` the
        largest; ``contaminated`` names the species that a genomic model was pre-trained on;
        ``test_families`` is ``kept`` where relatives of the genes under test were learned from, as
        declared.

    Raises
    ------
    InputError
        If there is no run, or ``sort_by`` is not a score of the table.
    """
    if not runs:
        raise InputError("no runs to rank; make some with: bench run")
    if sort_by not in SHOWN:
        raise unknown_name("score", sort_by, SHOWN)
    rows: list[dict[str, Any]] = []
    for group in group_runs(runs):
        if group.task == "imputation":
            rows += _rows_by_mask(group, sort_by)
            continue
        here = [method_row(group, method, bootstrap) for method in group.methods]
        here += [_missing_row(group, *cell) for cell in missing_cells(group)]
        rows += sorted(here, key=lambda row: _order(row, sort_by))
    more = [name for row in rows for name in row if name not in LEADERBOARD_COLUMNS]
    return pd.DataFrame(rows, columns=[*LEADERBOARD_COLUMNS, *dict.fromkeys(more)])


def _rows_by_mask(group: Group, sort_by: str) -> list[dict[str, Any]]:
    """Rows of task ``imputation``: every method on every mask, best first within a mask."""
    from benchmarks.imputation.summary import board_rows

    rows: list[dict[str, Any]] = []
    for method in group.methods:
        row = _described(group, method)
        if method.done:
            rows += board_rows(
                group, method, row | _costs(method) | {"n_repeats": len(method.done)}
            )
        else:
            rows.append(row | {"status": f"failed: {reason_of(method.failed[0])}"})
    order = {name: i for i, name in enumerate(dict.fromkeys(row["split"] for row in rows))}
    return sorted(rows, key=lambda row: (order[row["split"]], *_order(row, sort_by)))


def missing_cells(group: Group) -> list[tuple[str, str]]:
    """Learners × features of a group that no run stands for.

    Crossed are the features that several learners were run on, with the learners that can take
    them; controls are not crossed.
    """
    crossed = [method for method in group.methods if method.features and not method.control]
    have = {(method.learner, method.features) for method in crossed}
    users = Counter(features for _, features in have)
    shared = sorted(features for features, learners in users.items() if learners > 1)
    only_codes = {m.learner for m in crossed if _inputs(m) == ["codes"]}
    return [
        (learner, features)
        for learner in sorted({learner for learner, _ in have})
        for features in shared
        if (learner, features) not in have and (learner not in only_codes or features == "onehot")
    ]


def _inputs(method: Method) -> list[str]:
    inputs: list[str] = method.runs[0].identity["learner"].get("inputs", [])
    return inputs


def method_row(
    group: Group, method: Method, bootstrap: int = 1000, metrics: pd.DataFrame | None = None
) -> dict[str, Any]:
    """One method as a row of the leaderboard; ``metrics`` are its :func:`summary`, if at hand."""
    row = _described(group, method)
    if not method.done:
        return row | {"status": f"failed: {reason_of(method.failed[0])}"}
    predictions = method.predictions()
    row |= scores_of(summary(method, group.unit, bootstrap) if metrics is None else metrics)
    if group.task == "tracks":
        from benchmarks.tracks.views import bins_scores

        row |= bins_scores(method)
    folds = np.array(list(method.fold_scores("r2").values()))
    per_repeat = predictions.groupby("repeat")["fold"].nunique()
    return row | {
        "r2_fold_sd": float(np.std(folds, ddof=1)) if len(folds) > 1 else math.nan,
        "n_genes": predictions["gene"].nunique(),
        "n_families": predictions["family"].nunique(),
        "n_species": predictions["species"].nunique(),
        "n_repeats": len(per_repeat), "n_folds": int(per_repeat.min()),
    } | _costs(method)  # fmt: skip


def _described(group: Group, method: Method) -> dict[str, Any]:
    """What is to be said of a method beside its scores."""
    return _common(group) | {
        "method": method.label, "learner": method.learner, "features": method.features,
        "control": method.control, "status": method.status, "note": method.remarks,
        "leakage": leakage_of(method), "simulated": any(simulated(run) for run in method.runs),
        "contaminated": ", ".join(contaminated_species(method)),
        "test_families": "kept" if _keeps_families(method) else "",
    }  # fmt: skip


def _costs(method: Method) -> dict[str, float]:
    return {
        "fit_s": _mean(_time(run, "fit_s") for run in method.done),
        "predict_s": _mean(_time(run, "predict_s") for run in method.done),
        "peak_memory_bytes": max(
            (float(m) for run in method.done if (m := run.run.get("peak_memory_bytes"))),
            default=math.nan,
        ),
    }


def summary(method: Method, unit: str, bootstrap: int = 1000) -> pd.DataFrame:
    """Metrics of all repeats together: the run's own table where there is one run."""
    done = method.done
    if len(done) == 1 and done[0].metrics is not None:
        return done[0].metrics
    return evaluate(method.predictions(), unit=unit, bootstrap=bootstrap)


def scores_of(metrics: pd.DataFrame) -> dict[str, float]:
    """Scores and intervals of a metric table as flat columns, ``r2``, ``r2_low``, …, by name."""
    flat: dict[str, float] = {}
    for row in metrics.to_dict(orient="records"):
        if row["scope"] in SCOPES and row["metric"] in SHOWN:
            name = row["metric"] + SCOPES[row["scope"]]
            flat[name] = float(row["value"])
            flat[f"{name}_low"], flat[f"{name}_high"] = float(row["ci_low"]), float(row["ci_high"])
    return flat


def contaminated_species(method: Method) -> list[str]:
    """Species of the data that a model behind the features was pre-trained on."""
    found: set[str] = set()
    return sorted(found.union(*(seen_species(run.run.get("contamination")) for run in method.runs)))


def _keeps_families(method: Method) -> bool:
    return any(
        keeps_families((run.identity.get("split") or {}).get("recipe")) for run in method.runs
    )


def leakage_of(method: Method) -> str:
    """``allowed`` where any run was made with ``--allow-leakage``, else empty."""
    flags = [run.identity.get("split", {}).get("leakage_allowed") for run in method.runs]
    return "allowed" if any(flags) else ""


def simulated(run: RunResult) -> bool:
    """Whether a run is on simulated data, by its identity or its notes."""
    notes = " ".join(str(note) for note in run.run.get("notes") or ())
    return bool(run.identity.get("simulated")) or "simulated" in notes.lower()


def render_text(board: pd.DataFrame, *, sort_by: str = "r2") -> str:
    """Set a leaderboard for a terminal, a table for each task × target × split × labels."""
    parts = []
    for (task, target, unit, split, labels), rows in board.groupby(
        ["task", "target", "unit", "split", "labels"], sort=False
    ):
        data = " · SIMULATED DATA" if rows["simulated"].fillna(value=False).any() else ""
        parts.append(f"{task} · {target} [{unit}] · {split} · labels {str(labels)[:8]}{data}")
        if task == "imputation":
            parts += [_mask_table(rows), _mask_footnote(sort_by), ""]
        else:
            parts += [_text_table(rows), _footnotes(rows, sort_by), ""]
    return "\n".join(part for part in parts if part is not None).rstrip()


def _text_table(rows: pd.DataFrame) -> str:
    bins = "pearson_bins" in rows and rows["pearson_bins"].notna().any()
    header = ["", "method", "R²", "95 %", "sd folds", "R² within", "Pearson", "Spearman", "RMSE",
              *(["Pearson of bins", "95 %"] if bins else []), "genes", "families", "repeats", "fit", "memory", "remarks"]  # fmt: skip
    body = []
    rank = 0
    for row in rows.to_dict(orient="records"):
        if row["status"] == "missing":
            continue
        marks = [row["status"]] if row["status"] != "ok" else []
        marks += ["control"] if row["control"] else []
        marks += ["leakage allowed"] if row["leakage"] else []
        marks += ["test families kept in training"] if row["test_families"] else []
        marks += [f"pre-trained on {row['contaminated']}"] if row["contaminated"] else []
        marks += [row["note"]] if row["note"] and row["status"] == "ok" else []
        ranked = row["status"] == "ok" and not row["control"]
        rank += ranked
        low, high = row["r2_low"], row["r2_high"]
        interval = f"{number(low)} … {number(high)}" if math.isfinite(low) else "–"
        seen = SYMBOL if row["contaminated"] else ""
        body.append([
            str(rank) if ranked else "", row["method"], number(row["r2"]) + seen, interval,
            number(row["r2_fold_sd"]), number(row["r2_within"]), number(row["pearson"]),
            number(row["spearman"]), number(row["rmse"]),
            *([number(row["pearson_bins"]), _range(row, "pearson_bins")] if bins else []),
            _whole(row["n_genes"]),
            _whole(row["n_families"]), _whole(row["n_repeats"]), seconds(row["fit_s"]),
            size(row["peak_memory_bytes"]), "; ".join(marks),
        ])  # fmt: skip
    return align(header, body, right=(0, *range(2, len(header) - 1)))


def _mask_table(rows: pd.DataFrame) -> str:
    header = ["", "method", "MSE", "95 %", "RMSE", "MAE", "R²", "profile r", "MSE below distance",
              "95 %", "covered", "width", "entries", "fit", "memory", "remarks"]  # fmt: skip
    body = []
    rank = 0
    for row in rows.to_dict(orient="records"):
        marks = [row["status"]] if row["status"] != "ok" else []
        marks += ["leakage allowed"] if row["leakage"] else []
        marks += [row["note"]] if row["note"] and row["status"] == "ok" else []
        rank += row["status"] == "ok"
        gain = "improvement_mse_best_distance"
        body.append([
            str(rank) if row["status"] == "ok" else "", row["method"], number(row.get("mse")),
            _range(row, "mse"), number(row["rmse"]), number(row.get("mae")), number(row["r2"]),
            number(row.get("profile_pearson")), _percent(row.get(gain)), _range(row, gain, 100.0, 1),
            _percent(row.get("coverage_90")), number(row.get("width_90"), 2),
            _whole(row.get("n_entries", math.nan)), seconds(row["fit_s"]),
            size(row["peak_memory_bytes"]), "; ".join(marks),
        ])  # fmt: skip
    return align(header, body, right=(0, *range(2, 15)))


def _range(row: Mapping[Any, Any], name: str, times: float = 1.0, digits: int = 3) -> str:
    low, high = (times * float(row.get(f"{name}_{end}", math.nan)) for end in ("low", "high"))
    return f"{number(low, digits)} … {number(high, digits)}" if math.isfinite(low) else "–"


def _percent(value: Any) -> str:
    known = value is not None and math.isfinite(float(value))
    return f"{number(100 * float(value), 1)} %" if known else "–"


def _mask_footnote(sort_by: str) -> str:
    way = "highest" if HIGHER_IS_BETTER[sort_by] else "lowest"
    return (
        f"Sorted by {sort_by} over entries, {way} first. Intervals: bootstrap over families and over "
        "chromosomes, the wider. MSE below distance: 1 − MSE / MSE of the best distance-based method."
    )


def _footnotes(rows: pd.DataFrame, sort_by: str) -> str:
    missing = rows.loc[rows["status"] == "missing", "method"].tolist()
    way = "highest" if HIGHER_IS_BETTER[sort_by] else "lowest"
    text = f"Sorted by pooled {sort_by}, {way} first. Intervals: bootstrap over gene families."
    if "pearson_bins" in rows and rows["pearson_bins"].notna().any():
        text += "\nPearson of bins: over all bins of the stretches under test; bootstrap over stretches."
    if (rows["contaminated"] != "").any():
        text += f"\n{SYMBOL} pooled over species of which a model behind the features has seen some: --by-species"
    return text + (f"\nmissing (never run): {', '.join(missing)}" if missing else "")


def _common(group: Group) -> dict[str, Any]:
    return dict.fromkeys(LEADERBOARD_COLUMNS, math.nan) | {
        "task": group.task, "target": group.target, "unit": group.unit, "split": group.split,
        "labels": group.labels, "note": "", "contaminated": "", "leakage": "", "test_families": "",
    }  # fmt: skip


def _missing_row(group: Group, learner: str, features: str) -> dict[str, Any]:
    return _common(group) | {
        "method": f"{learner}@{features}", "learner": learner, "features": features,
        "control": False, "status": "missing", "simulated": False,
    }  # fmt: skip


def _order(row: dict[str, Any], sort_by: str) -> tuple[int, float, str]:
    value = float(row[sort_by])
    known = math.isfinite(value)
    place = 0 if known else {"ok": 1, "missing": 3}.get(row["status"], 2)
    sign = -1.0 if HIGHER_IS_BETTER[sort_by] else 1.0
    return place, sign * value if known else 0.0, str(row["method"])


def _time(run: RunResult, name: str) -> float:
    value = (run.run.get("times") or {}).get(name)
    return math.nan if value is None else float(value)


def _mean(values: Any) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _whole(value: float) -> str:
    return f"{int(value):,}" if math.isfinite(value) else "–"
