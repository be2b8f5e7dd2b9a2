"""Is one learner better than another? Pairwise comparison of methods over shared folds.

A claim rests on repeated grouped cross-validation (at least 5 repeats × 5 folds), the corrected
resampled t-test and Holm's adjustment over the pairs of a group. With less, the comparison is
descriptive and says so. Runs that may not be compared (other task, target, split, species
or labels) stand in groups of their own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.runs.files import RunResult
from benchmarks.scores.methods import Group, Method, group_runs
from benchmarks.scores.metrics import HIGHER_IS_BETTER, METRICS, bootstrap_scores, score
from benchmarks.scores.stats import (
    MIN_FOLDS,
    MIN_REPEATS,
    NOMINAL,
    FloatArray,
    corrected_resampled_t,
    holm,
    percentile_interval,
)
from benchmarks.text import align, number, p_text
from featurestore.errors import InputError, unknown_name

PAIR_COLUMNS: Final = (
    "task", "target", "split", "labels", "method_a", "method_b", "metric", "unit", "status",
    "n_repeats", "n_folds", "n_genes", "n_families", "score_a", "score_b", "mean_difference",
    "pooled_difference", "ci_low", "ci_high", "t", "df", "p_value", "p_holm", "better", "claim",
    "verdict", "note",
)  # fmt: skip

_KEYS = ("repeat", "gene", "species", "target", "sample", "line", "mask")


@dataclass(frozen=True)
class Comparison:
    """Pairs of methods, one row each; the columns are :data:`PAIR_COLUMNS`.

    ``mean_difference`` is the mean over shared folds of score A − score B, and what the test is
    about; ``pooled_difference`` with its interval is the difference of the pooled scores on
    shared predictions, for these fitted models. ``better`` names the method ahead, ``claim`` is
    true where the lead is real after Holm's adjustment at 5 %.
    """

    metric: str
    baseline: str | None
    pairs: pd.DataFrame

    def render_text(self) -> str:
        """For a terminal: a table for each group, its standing in words."""
        if self.pairs.empty:
            return "Nothing to compare: each group of comparable runs holds one method."
        parts = []
        for (task, target, split, labels), rows in self.pairs.groupby(
            ["task", "target", "split", "labels"], sort=False
        ):
            parts.append(f"{task} · {target} · {split} · labels {str(labels)[:8]}")
            parts += [standing(rows), ""]
            parts += [_text_table(rows, self.metric), ""]
        parts.append(
            f"{self.metric} A and B are means over the test folds, which the test compares; the "
            "leaderboard scores all genes at once."
        )
        return "\n".join(parts).rstrip()

    def to_json(self) -> str:
        """All rows as JSON; what is undefined is null."""
        rows = [
            {k: _plain(v) for k, v in row.items()} for row in self.pairs.to_dict(orient="records")
        ]
        value = {
            "metric": self.metric,
            "baseline": self.baseline,
            "level": NOMINAL,
            "claim_needs": {"repeats": MIN_REPEATS, "folds": MIN_FOLDS},
            "pairs": rows,
        }
        return json.dumps(value, indent=1, ensure_ascii=False)


def compare(
    runs: Sequence[RunResult],
    *,
    metric: str = "r2",
    baseline: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare every pair of methods, or every method with a baseline.

    Parameters
    ----------
    runs
        Runs as read by :func:`benchmarks.runs.files.read_runs`; seeds of a method are its repeats.
    metric
        One of pearson, spearman, r2, mse, rmse, mae.
    baseline
        Label of a method (``ridge@kmer``); it then is B in every pair.
    bootstrap, seed
        Replicates and seed of the bootstrap over gene families.

    Raises
    ------
    UnknownNameError
        If the metric or the baseline does not exist.
    InputError
        If there is no run, or two runs disagree on what was observed.
    """
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    if not runs:
        raise InputError("no runs to compare; make some with: bench run")
    groups = group_runs(runs)
    labels = {method.label for group in groups for method in group.methods}
    if baseline is not None and baseline not in labels:
        raise unknown_name("method", baseline, labels)
    tables = [_compare_group(group, _Scorer(metric, bootstrap, seed), baseline) for group in groups]
    rows = [row for table in tables for row in table]
    return Comparison(metric, baseline, pd.DataFrame(rows, columns=list(PAIR_COLUMNS)))


def standing(pairs: pd.DataFrame) -> str:
    """Say in words what the pairs of one group amount to."""
    tested = pairs[pairs["status"] == "ok"]
    if tested.empty:
        return "No pair could be compared; the rows say why."
    claims = int(tested["claim"].sum())
    powered = tested["verdict"].map(lambda said: not said.startswith("descriptive"))
    if not powered.any():
        repeats, folds = int(tested["n_repeats"].max()), int(tested["n_folds"].max())
        return (
            f"Descriptive: {_count(repeats, 'repeat')} × {_count(folds, 'fold')}. A claim that one "
            f"learner beats another needs at least {MIN_REPEATS} × {MIN_FOLDS} "
            f"(bench run --seeds {MIN_REPEATS})."
        )
    return (
        f"{claims} of {int(powered.sum())} tested pairs differ at {100 * NOMINAL:.0f} % "
        "(corrected resampled t-test, Holm-adjusted)."
    )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


@dataclass(frozen=True)
class _Scored:
    """One method on some rows: score of each fold, pooled score, its bootstrap replicates."""

    folds: FloatArray
    pooled: float
    replicates: FloatArray


@dataclass
class _Scorer:
    """Scores methods on shared rows; once per method where all rows are shared."""

    metric: str
    replicates: int
    seed: int
    _frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    _rows: dict[str, bytes] = field(default_factory=dict)
    _scores: dict[tuple[str, tuple[str, ...]], _Scored] = field(default_factory=dict)

    def frame(self, method: Method) -> pd.DataFrame:
        """Labelled predictions of all repeats, in order of their keys."""
        if method.label not in self._frames:
            table = method.predictions()
            table = table[table["y_true"].notna()]
            keys = [key for key in _KEYS if key in table]
            table = table.sort_values(keys, ignore_index=True)
            self._frames[method.label] = table
            what = table[[*keys, "fold", "y_true"]].astype({"fold": str})
            self._rows[method.label] = hashlib.sha256(
                pd.util.hash_pandas_object(what, index=False).to_numpy().tobytes()
            ).digest()
        return self._frames[method.label]

    def same_rows(self, a: Method, b: Method) -> bool:
        """Whether two methods predicted the same genes, in the same folds, of the same values."""
        self.frame(a), self.frame(b)
        return self._rows[a.label] == self._rows[b.label]

    def score(self, method: Method, rows: pd.DataFrame, *, whole: bool) -> _Scored:
        """Score a method on ``rows``; ``whole`` says that no row of its repeats is left out."""
        key = (method.label, tuple(rows["repeat"].unique()))
        if whole and key in self._scores:
            return self._scores[key]
        m = METRICS.index(self.metric)
        y, p = rows["y_true"].to_numpy(np.float64), rows["y_pred"].to_numpy(np.float64)
        label = rows["family"].where(rows["family"].notna(), rows["gene"]).astype(str)
        family, names = pd.factorize(label, sort=True)
        folds = [score(y[at], p[at])[m] for at in _cut(rows, ["repeat", "fold"])]
        values, drawn = [], []
        for at in _cut(rows, ["repeat"]):
            values.append(score(y[at], p[at])[m])
            found = bootstrap_scores(
                y[at], p[at], np.asarray(family, np.intp)[at], np.zeros(len(at), np.intp),
                (len(names), 1), replicates=self.replicates, seed=self.seed,
            )  # fmt: skip
            drawn.append(found[:, 0, m])
        scored = _Scored(np.array(folds), float(np.mean(values)), np.mean(drawn, axis=0))
        if whole:
            self._scores[key] = scored
        return scored


def _cut(rows: pd.DataFrame, by: list[str]) -> list[npt.NDArray[np.intp]]:
    return [np.asarray(at, np.intp) for at in rows.groupby(by, sort=True).indices.values()]


@dataclass(frozen=True)
class _Shared:
    """Rows that two methods both predicted, in the same folds."""

    a: pd.DataFrame
    b: pd.DataFrame
    whole: bool
    remarks: list[str]


def _share(a: Method, b: Method, scorer: _Scorer) -> _Shared:
    """Match the rows of two methods; a repeat whose folds hold other genes is left out, said."""
    left, right = scorer.frame(a), scorer.frame(b)
    if scorer.same_rows(a, b):
        return _Shared(left, right, whole=True, remarks=[])
    repeats = set(left["repeat"]) & set(right["repeat"])
    left = left[left["repeat"].isin(repeats)].reset_index(drop=True)
    right = right[right["repeat"].isin(repeats)].reset_index(drop=True)
    keys = [key for key in _KEYS if key in left and key in right]
    index = left[keys].merge(right[keys], on=keys)
    lost = len(left) + len(right) - 2 * len(index)
    remarks = []
    if lost:
        remarks.append(f"{lost:,} predictions stand in one of the two only and are left out")
        left, right = index.merge(left, on=keys), index.merge(right, on=keys)
    differs = left["fold"].astype(str).to_numpy() != right["fold"].astype(str).to_numpy()
    if differs.any():
        other = set(left["repeat"][differs])
        remarks.append(
            f"not comparable: folds hold other genes in repeat {', '.join(sorted(other))}"
        )
        keep = ~left["repeat"].isin(other).to_numpy()
        left, right = left[keep].reset_index(drop=True), right[keep].reset_index(drop=True)
    if not np.allclose(left["y_true"].to_numpy(float), right["y_true"].to_numpy(float)):
        raise InputError(
            f"{a.runs[0].path} and {b.runs[0].path}: the observed values of the same genes "
            "differ, so they are not the same benchmark; run one of them again"
        )
    return _Shared(left, right, whole=not lost, remarks=remarks)


def _compare_group(group: Group, scorer: _Scorer, baseline: str | None) -> list[dict[str, Any]]:
    if group.task == "imputation":
        from benchmarks.imputation.compare import compare_masks

        return compare_masks(
            group, scorer.metric, baseline, dict.fromkeys(PAIR_COLUMNS, math.nan), judge=_judge,
            replicates=scorer.replicates, seed=scorer.seed,
        )  # fmt: skip
    ranked = sorted(group.methods, key=lambda method: _rank(method, scorer.metric))
    pairs = list(itertools.combinations(ranked, 2))
    if baseline is not None:
        base = [method for method in ranked if method.label == baseline]
        pairs = [(method, base[0]) for method in ranked if base and method is not base[0]]
    rows = [_pair(group, a, b, scorer) for a, b in pairs]
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_holm"] = float(adjusted)
        if row["status"] == "ok":
            _judge(row)
    return rows


def _rank(method: Method, metric: str) -> tuple[bool, float, str]:
    """Best first; methods without a defined score last."""
    scores = list(method.fold_scores(metric).values())
    mean = float(np.mean(scores)) if scores else math.nan
    sign = -1.0 if HIGHER_IS_BETTER[metric] else 1.0
    return (math.isnan(mean), 0.0 if math.isnan(mean) else sign * mean, method.label)


def _pair(group: Group, a: Method, b: Method, scorer: _Scorer) -> dict[str, Any]:
    metric = scorer.metric
    remarks = [f"{m.label}: {m.remarks}" for m in (a, b) if m.remarks]
    row: dict[str, Any] = dict.fromkeys(PAIR_COLUMNS, math.nan)
    row |= {
        "task": group.task, "target": group.target, "split": group.split, "labels": group.labels,
        "method_a": a.label, "method_b": b.label, "metric": metric, "status": "ok",
        "unit": group.unit if metric in ("mse", "rmse", "mae") else "1",
        "n_repeats": 0, "n_folds": 0, "n_genes": 0, "n_families": 0,
        "better": "", "claim": False, "verdict": "", "note": "; ".join(remarks),
    }  # fmt: skip
    failed = [method.label for method in (a, b) if not method.done]
    if failed:
        said = f"failed: no finished run of {' and '.join(failed)}"
        return row | {"status": "failed", "verdict": said}
    shared = _share(a, b, scorer)
    rows = shared.a
    if rows.empty:
        said = "; ".join(shared.remarks) or "no repeat in common"
        return row | {"status": "missing", "verdict": f"missing: {said}"}
    scored_a = scorer.score(a, shared.a, whole=shared.whole)
    scored_b = scorer.score(b, shared.b, whole=shared.whole)
    differences = scored_a.folds - scored_b.folds
    test = corrected_resampled_t(differences, *_sizes(a, rows))
    low, high = percentile_interval(scored_a.replicates - scored_b.replicates)
    undefined = int((~np.isfinite(differences)).sum())
    remarks += shared.remarks
    if undefined:
        remarks.append(f"{metric} is undefined in {undefined} of {differences.size} folds")
    return row | {
        "n_repeats": _distinct_partitions(rows),
        "n_folds": int(rows.groupby("repeat")["fold"].nunique().min()),
        "n_genes": rows["gene"].nunique(), "n_families": rows["family"].nunique(),
        "score_a": float(scored_a.folds.mean()), "score_b": float(scored_b.folds.mean()),
        "mean_difference": test.mean_difference,
        "pooled_difference": scored_a.pooled - scored_b.pooled,
        "ci_low": low, "ci_high": high, "t": test.statistic, "df": test.df,
        "p_value": test.p_value, "note": "; ".join(remarks),
    }  # fmt: skip


def _judge(row: dict[str, Any]) -> None:
    difference, p = row["mean_difference"], row["p_holm"]
    if not math.isfinite(difference):
        row["verdict"] = f"undefined: {row['metric']} has no value in some folds"
        return
    ahead = difference > 0 if HIGHER_IS_BETTER[row["metric"]] else difference < 0
    row["better"] = "" if difference == 0 else row["method_a" if ahead else "method_b"]
    if row["n_repeats"] < MIN_REPEATS or row["n_folds"] < MIN_FOLDS:
        row["verdict"] = (
            f"descriptive: {row['n_repeats']} × {row['n_folds']} folds, "
            f"a claim needs {MIN_REPEATS} × {MIN_FOLDS}"
        )
        return
    row["claim"] = bool(p < NOMINAL)
    row["verdict"] = f"{row['better']} is better" if row["claim"] else "no difference shown"


def _sizes(method: Method, rows: pd.DataFrame) -> tuple[float, float]:
    """Mean genes in training and in test over the folds of ``rows``.

    Validation genes do not count as training: the smaller number makes the test stricter.
    """
    test = float(rows.groupby(["repeat", "fold"]).size().mean())
    told = [fold for run in method.done for fold in run.run.get("folds") or ()]
    ratios = [fold["n_test"] / fold["n_train"] for fold in told if fold.get("n_train")]
    if ratios:
        return test / float(np.mean(ratios)), test
    return max(float(rows.groupby("repeat").size().mean()) - test, 1.0), test


def _distinct_partitions(rows: pd.DataFrame) -> int:
    """Count repeats that cut the genes differently: other seeds on the same folds repeat nothing.

    Leave-one-species-out, say, is the same partition under every seed.
    """
    seen = set()
    for _, part in rows.groupby("repeat", sort=False):
        codes, _ = pd.factorize(part["fold"])
        genes = "\n".join(part["gene"].astype(str)).encode()
        seen.add(hashlib.sha256(np.asarray(codes, np.int64).tobytes() + genes).digest())
    return len(seen)


def _text_table(rows: pd.DataFrame, metric: str) -> str:
    header = ["A", "B", f"{metric} A", f"{metric} B", "A − B", "95 % (pooled)", "p (Holm)", ""]
    body = []
    for row in rows.to_dict(orient="records"):
        interval = f"{number(row['ci_low'])} … {number(row['ci_high'])}"
        descriptive = row["verdict"].startswith("descriptive")
        body.append([
            row["method_a"], row["method_b"], number(row["score_a"]), number(row["score_b"]),
            number(row["mean_difference"], sign=True),
            interval if math.isfinite(row["ci_low"]) else "–",
            "–" if descriptive else p_text(row["p_holm"]),
            row["verdict"] + ("  *" if row["note"] else ""),
        ])  # fmt: skip
    notes = dict.fromkeys(note for note in rows["note"] if note)
    return "\n".join([align(header, body, right=range(2, 7)), *(f"* {note}" for note in notes)])


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
