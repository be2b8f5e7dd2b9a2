"""What a group of runs shows: numbers of the results turned into what the templates print."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from benchmarks.report import (
    importance,
    imputation,
    mutagenesis,
    panels,
    transfer,
    tuning,
    variants,
    words,
)
from benchmarks.report.figures import colours
from benchmarks.report.svg import CONTROL, css
from benchmarks.scores.compare import compare, standing
from benchmarks.scores.leaderboard import method_row, missing_cells, simulated, summary
from benchmarks.scores.methods import Group, Method, reason_of, seed_of
from benchmarks.text import number, p_text, seconds, size

_DOTPLOT: Final = (220.0, 8.0)  # width and margin of the interval plot, in px


def group_view(group: Group, place: int, bootstrap: int) -> dict[str, Any]:
    """Everything that the templates show of one group of comparable runs.

    Parameters
    ----------
    group
        Comparable methods.
    place
        Number of the group in the page; prefix of its ids.
    bootstrap
        Replicates of the intervals.
    """
    if group.task == imputation.TASK:
        return _imputation_view(group, f"g{place}")
    tables = {m.label: summary(m, group.unit, bootstrap) for m in group.methods if m.done}
    rows = [method_row(group, m, bootstrap, tables.get(m.label)) for m in group.methods]
    rows.sort(key=lambda row: (not math.isfinite(row["r2"]), -_or_zero(row["r2"]), row["method"]))
    methods = {method.label: method for method in group.methods}
    ranked = [methods[row["method"]] for row in rows]
    palette = colours([method.learner for method in ranked if not method.control])
    shade = {m.label: palette.get(m.learner, CONTROL) for m in ranked}
    pairs = compare(group.runs, bootstrap=bootstrap).pairs
    board = _board(rows, methods, shade)
    done = [method for method in ranked if method.done]
    return {
        "id": f"g{place}", "group": group, "simulated": any(map(simulated, group.runs)),
        "headline": words.headline(group, rows), "beside": words.beside(group, rows, pairs),
        "tiles": _tiles(rows), "board": board, "grid": _grid(group, rows),
        "density": panels.densities(done, tables, group.unit, f"g{place}d"),
        "species": panels.species(done, tables, shade, f"g{place}s"),
        "transfer": transfer.section(group, done, tables),
        "folds": panels.folds(done, shade, f"g{place}f"),
        "learning": panels.learnings(done, shade, f"g{place}l"),
        "tuning": tuning.tunings(done, shade, f"g{place}t"),
        "cost": panels.costs(rows, shade, f"g{place}c"),
        "matrix": _matrix(rows, pairs), "standing": standing(pairs) if len(pairs) else "",
        "funnels": _funnels(group), "failed": _failed(group), "audit": _audit(group),
        "imputation": None, "variants": variants.section(done, group.unit, f"g{place}v"),
        "tracks": importance.tracks(done, shade, f"g{place}w"),
        "mutagenesis": mutagenesis.section([run.path for run in group.runs], f"g{place}x"),
        "shared": _shared(group), "runs": [_run(run) for m in ranked for run in m.runs],
        "notes": sorted({str(note) for run in group.runs for note in run.run.get("notes") or ()}),
    }  # fmt: skip


def _imputation_view(group: Group, name: str) -> dict[str, Any]:
    """Runs of task ``imputation``: mask by mask, with the parts that all reports share."""
    palette = colours([m.learner for m in group.methods if not m.control])
    shade = {m.label: palette.get(m.learner, CONTROL) for m in group.methods}
    done = [method for method in group.methods if method.done]
    nothing: dict[str, Any] = dict.fromkeys(
        ("board", "grid", "density", "species", "transfer", "folds", "tuning", "cost", "matrix",
         "audit", "variants", "tracks", "mutagenesis", "tiles")
    )  # fmt: skip
    return nothing | {
        "id": name,
        "group": group,
        "simulated": any(map(simulated, group.runs)),
        "headline": imputation.headline(group),
        "beside": imputation.beside(group),
        "imputation": imputation.section(group, done, shade, f"{name}i"),
        "standing": "",
        "learning": panels.learnings(done, shade, f"{name}l"),
        "funnels": _funnels(group),
        "failed": _failed(group),
        "shared": _shared(group),
        "runs": [_run(run) for m in group.methods for run in m.runs],
        "notes": sorted({str(note) for run in group.runs for note in run.run.get("notes") or ()}),
    }


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _tiles(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Figures to see at a glance: value and what it is."""
    best = words.best_of(rows)
    if best is None:
        return []
    tiles = [
        (number(best["r2"], 2), "best R², pooled"),
        (number(best["r2_within"], 2), "the same within species"),
        (number(best["pearson"], 2), "Pearson r"),
        (f"{best['n_genes']:,}", "genes scored"),
        (f"{best['n_families']:,}", "gene families"),
        (f"{best['n_repeats']} × {best['n_folds']}", "repeats × folds"),
    ]
    if best["n_species"] < 2:
        tiles.pop(1)
    return tiles


def _board(
    rows: Sequence[dict[str, Any]], methods: dict[str, Method], shade: dict[str, str]
) -> dict[str, Any]:
    """The leaderboard: learners, controls, failures, and where each interval is drawn."""
    folds = {label: np.array(list(m.fold_scores("r2").values())) for label, m in methods.items()}
    scored = [row for row in rows if math.isfinite(row["r2"])]
    ends = [v for r in scored for v in (r["r2"], r["r2_low"], r["r2_high"])]
    ends += [float(v) for row in scored for v in folds[row["method"]]]
    known = [value for value in ends if math.isfinite(value)] or [0.0, 1.0]
    low, high = max(min(0.0, *known), -1.0), max(known)
    high = high if high > low else low + 1.0
    step = float(10 ** math.floor(math.log10((high - low) / 2)))
    step *= 5 if (high - low) / step > 10 else 2 if (high - low) / step > 5 else 1
    ticks = np.arange(math.ceil(low / step) * step, high + 1e-9, step)

    def x(value: float) -> float:
        width, margin = _DOTPLOT
        part = (max(value, low) - low) / (high - low)
        return float(round(margin + part * (width - 2 * margin), 1))

    entries = [_entry(row, folds[row["method"]], css(shade[row["method"]]), x) for row in rows]
    learners = [entry for entry in entries if not entry["control"] and entry["ok"]]
    for place, entry in enumerate(learners, 1):
        entry["rank"] = place
    return {
        "learners": learners,
        "controls": [entry for entry in entries if entry["control"] and entry["ok"]],
        "failed": [entry for entry in entries if not entry["ok"]],
        "ticks": [(x(float(t)), number(float(t), 1 if step >= 0.1 else 2)) for t in ticks],
        "zero": x(0.0), "width": _DOTPLOT[0],
        "uneven": len({(r["n_genes"], r["n_repeats"]) for r in scored}) > 1,
    }  # fmt: skip


def _entry(row: dict[str, Any], folds: Any, colour: str, x: Any) -> dict[str, Any]:
    marks = [("pre-trained on " + row["contaminated"], "warn")] if row["contaminated"] else []
    marks += [("leakage allowed", "bad")] if row["leakage"] else []
    marks += [(row["note"], "note")] if row["note"] and row["status"] == "ok" else []
    ok = row["status"] == "ok"
    entry = row | {"ok": ok, "rank": None, "colour": colour, "marks": marks, "drawn": None}
    if ok and math.isfinite(row["r2"]):
        bounded = math.isfinite(row["r2_low"])
        entry["drawn"] = {
            "at": x(row["r2"]), "low": x(row["r2_low"]) if bounded else None,
            "high": x(row["r2_high"]) if bounded else None,
            "folds": [x(float(value)) for value in folds if math.isfinite(value)],
        }  # fmt: skip
    entry["fit"], entry["memory"] = seconds(row["fit_s"]), size(row["peak_memory_bytes"])
    return entry


def _grid(group: Group, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Learners × features, with what was never run and what failed; None where it tells nothing."""
    crossed = [row for row in rows if row["features"] and not row["control"]]
    learners = list(dict.fromkeys(row["learner"] for row in crossed))
    features = sorted({row["features"] for row in crossed})
    if len(features) < 2 or len(learners) < 2:
        return None
    best = max((row["r2"] for row in crossed if math.isfinite(row["r2"])), default=1.0)
    cells: dict[tuple[str, str], dict[str, Any]] = {
        (learner, name): {"kind": "missing", "text": "not run", "strength": 0}
        for learner, name in missing_cells(group)
    }
    for row in reversed(crossed):  # the best of several parameter settings stays
        at = row["learner"], row["features"]
        if math.isfinite(row["r2"]):
            part = min(max(row["r2"] / best, 0.0), 1.0) if best > 0 else 0.0
            cells[at] = {"kind": "ok", "text": number(row["r2"], 2), "strength": round(100 * part)}
        elif at not in cells:
            cells[at] = {"kind": "failed", "text": "failed", "strength": 0}
    beside = {"kind": "apart", "text": "", "strength": 0}
    lines = [(learner, [cells.get((learner, n), beside) for n in features]) for learner in learners]
    return {"features": features, "lines": lines}


def _matrix(rows: Sequence[dict[str, Any]], pairs: pd.DataFrame) -> dict[str, Any] | None:
    """Differences of every pair, row minus column, best method first."""
    names = [row["method"] for row in rows if math.isfinite(row["r2"])]
    if len(names) < 2:
        return None
    most = float(pairs["mean_difference"].abs().max())
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for pair in pairs[pairs["status"] == "ok"].to_dict(orient="records"):
        for turn, row, column in (
            (1, pair["method_a"], pair["method_b"]), (-1, pair["method_b"], pair["method_a"]),
        ):  # fmt: skip
            difference = turn * pair["mean_difference"]
            ends = sorted((turn * pair["ci_low"], turn * pair["ci_high"]))
            descriptive = pair["verdict"].startswith("descriptive")
            p = "" if descriptive else f"; Holm-adjusted p {p_text(pair['p_holm'])}"
            cells[row, column] = {
                "text": number(difference, sign=True), "claim": pair["claim"],
                "side": "up" if difference > 0 else "down",
                "strength": round(55 * min(abs(difference) / most, 1.0)) if most > 0 else 0,
                "title": f"{row} − {column}: {number(difference, sign=True)}; pooled 95 % "
                f"{number(ends[0], sign=True)} to {number(ends[1], sign=True)}{p}; "
                f"{pair['verdict']}",
            }  # fmt: skip
    lines = [(name, [cells.get((name, other)) for other in names]) for name in names]
    return {"names": names, "lines": lines}


def _funnels(group: Group) -> list[dict[str, Any]]:
    """Each distinct funnel once, with the features it belongs to."""
    found: dict[str, dict[str, Any]] = {}
    for method in group.methods:
        for run in method.runs:
            stages = run.run.get("funnel") or []
            if not stages:
                continue
            key = json.dumps(stages, sort_keys=True)
            entry = found.setdefault(key, {"features": {}, "species": _funnel(stages)})
            entry["features"][method.features or method.learner] = None
    entries = list(found.values())
    for entry in entries:
        entry["features"] = ", ".join(entry["features"]) if len(entries) > 1 else ""
    return entries


def _funnel(stages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    by_species: dict[str, list[dict[str, Any]]] = {}
    for stage in stages:
        by_species.setdefault(str(stage.get("species", "")), []).append(stage)
    out = []
    for name, found in by_species.items():
        most = max((int(stage.get("count") or 0) for stage in found), default=0) or 1
        steps = [
            {"stage": stage.get("stage", ""), "count": int(stage.get("count") or 0),
             "share": round(100 * int(stage.get("count") or 0) / most, 2),
             "lost": [_lost(one) for one in stage.get("lost") or ()]}
            for stage in found
        ]  # fmt: skip
        out.append({"species": name, "steps": steps})
    return out


def _lost(told: dict[str, Any]) -> dict[str, Any]:
    examples = told.get("examples") or []
    count = told.get("count")
    return {
        "reason": told.get("reason") or "for no reason recorded", "examples": examples,
        "count": len(examples) if count is None else count,
    }  # fmt: skip


def _failed(group: Group) -> list[dict[str, Any]]:
    return [
        {"run": run.run.get("run", run.path.name), "method": method.label, "seed": seed_of(run),
         "reason": reason_of(run)}
        for method in group.methods for run in method.failed
    ]  # fmt: skip


def _audit(group: Group) -> dict[str, Any] | None:
    """Scores with and without the genes that the leakage audit concerns, by method."""
    found = [
        (m, [run.run["audit"] for run in m.done if run.run.get("audit")]) for m in group.methods
    ]
    found = [(method, audits) for method, audits in found if audits]
    if not found:
        return None
    first = found[0][1][0]
    reasons = [
        {"name": name, "genes": told.get("genes") or 0, "fraction": told.get("fraction") or 0.0}
        for name, told in (first.get("reasons") or {}).items()
    ]
    lines = [
        (method.label, [_with_and_without(audits, reason["name"]) for reason in reasons])
        for method, audits in found
    ]
    notes = sorted(
        {str(note) for _, audits in found for a in audits for note in a.get("notes") or ()}
    )
    return {"reasons": reasons, "lines": lines, "notes": notes}


def _with_and_without(audits: Sequence[dict[str, Any]], reason: str) -> tuple[str, str]:
    """R² of all genes and of those left when the genes concerned are out, mean over runs."""
    rows = [
        row for audit in audits for row in audit.get("scores") or ()
        if row.get("reason") == reason and row.get("metric") == "r2"
    ]  # fmt: skip
    out = []
    for key in ("all", "without"):
        values = [float(row[key]) for row in rows if row.get(key) is not None]
        out.append(number(float(np.mean(values)) if values else None))
    return out[0], out[1]


def _shared(group: Group) -> list[tuple[str, str]]:
    """Identity that all runs of the group have in common."""
    first = group.runs[0].identity
    versions: dict[str, set[str]] = {}
    for run in group.runs:
        for name, version in (run.identity.get("versions") or {}).items():
            versions.setdefault(str(name), set()).add(str(version))
    told = [f"{name} {' and '.join(sorted(found))}" for name, found in sorted(versions.items())]
    store = first.get("store") or {}
    datasets = sorted({str(found) for r in group.runs if (found := r.run.get("dataset_digest"))})
    stores = sorted({str((r.identity.get("store") or {}).get("digest")) for r in group.runs})
    return [
        ("Task", group.task), ("Target", f"{group.target} [{group.unit}]"),
        ("Species", ", ".join(group.species)),
        ("Split", group.split), ("Split recipe", group.recipe),
        ("Labels", group.labels), ("Data set", ", ".join(datasets) or "not recorded"),
        ("Store", f"{', '.join(stores)} (schema {store.get('schema_version', 'not recorded')})"),
        ("Versions", ", ".join(told) or "not recorded"),
    ]  # fmt: skip


def _run(run: Any) -> dict[str, Any]:
    times = run.run.get("times") or {}
    return {
        "name": run.run.get("run", run.path.name), "method": run.label, "seed": seed_of(run),
        "status": run.status, "device": run.run.get("device") or "–",
        "threads": run.run.get("threads") or "–", "fit": seconds(times.get("fit_s")),
        "wall": seconds(times.get("wall_s")), "memory": size(run.run.get("peak_memory_bytes")),
        "digest": str(run.run.get("identity_digest") or "")[:12],
        "reference": (run.identity.get("learner") or {}).get("reference") or "",
        "identity": _pretty(run.identity),
    }  # fmt: skip


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
