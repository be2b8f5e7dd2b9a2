"""Pairs of methods on one mask: differences of scores on the same entries, resampled by family and chromosome."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.imputation.metrics import wider
from benchmarks.imputation.summary import fold_scores, masks_of, title
from benchmarks.imputation.sums import entry_metrics, entry_terms
from benchmarks.scores.methods import Group, Method, repeat_name, seed_of
from benchmarks.scores.metrics import HIGHER_IS_BETTER
from benchmarks.scores.stats import (
    MIN_FOLDS,
    MIN_REPEATS,
    FloatArray,
    corrected_resampled_t,
    family_bootstrap,
    holm,
    percentile_interval,
)
from featurestore.errors import InputError

_KEYS = ("repeat", "species", "gene", "genotype", "sample")


@dataclass(frozen=True)
class Entries:
    """What one method predicted of one mask, in order of its keys.

    Parameters
    ----------
    key : uint64 array, shape (n,)
        Of repeat, gene and tissue.
    y, p : float64 arrays, shape (n,)
    family, chromosome : int64 arrays
        Codes, of this method alone.
    fold : object array
        Repeat and fold.
    """

    key: NDArray[np.uint64]
    y: FloatArray
    p: FloatArray
    family: NDArray[Any]
    chromosome: NDArray[Any]
    fold: NDArray[Any]
    genes: int

    def take(self, at: NDArray[Any]) -> Entries:
        """Some rows."""
        return Entries(
            self.key[at], self.y[at], self.p[at], self.family[at], self.chromosome[at],
            self.fold[at], self.genes,
        )  # fmt: skip


def entries_of(method: Method, mask: str) -> Entries:
    """Entries of a mask that a method predicted, over all its runs."""
    parts = []
    for run in method.done:
        assert run.predictions is not None  # noqa: S101 - what `done` means
        table = run.predictions[run.predictions["mask"] == mask]
        names = {r: repeat_name(seed_of(run), r) for r in table["repeat"].unique().tolist()}
        parts.append(table.assign(repeat=table["repeat"].map(names).astype(str)))
    table = pd.concat(parts, ignore_index=True)
    keys = {name: _named(table[name]) for name in _KEYS if name in table}
    key = pd.util.hash_pandas_object(pd.DataFrame(keys), index=False).to_numpy(np.uint64)
    order = np.argsort(key, kind="stable")
    fold = _named(table["repeat"].astype(str) + "/" + table["fold"].astype(str))
    contig, gene = _named(table["contig"]).cat, keys["gene"].cat.codes.to_numpy(np.int64)
    at = contig.codes.to_numpy(np.int64)
    # Genes without a position are a cluster each.
    nowhere = np.append(contig.categories == "", False)[at]
    chromosome = np.where(nowhere, len(contig.categories) + gene, at)
    y, p = (table[name].to_numpy(np.float64)[order] for name in ("y_true", "y_pred"))
    return Entries(
        np.asarray(key[order], np.uint64), y, p,
        _named(table["family"]).cat.codes.to_numpy(np.int64)[order], chromosome[order],
        np.asarray(fold.cat.categories, object)[fold.cat.codes][order], len(np.unique(gene)),
    )  # fmt: skip


def _named(column: pd.Series) -> pd.Series:
    """A column as categories that are text; those hash by their names, each once."""
    found = column.astype("category")
    return found.cat.rename_categories([str(name) for name in found.cat.categories])


@dataclass
class Comparer:
    """Compares methods of a group mask by mask.

    Parameters
    ----------
    metric : str
        One of the metrics over entries.
    replicates, seed
        Of the bootstrap over families and over chromosomes.
    """

    metric: str
    replicates: int
    seed: int
    _held: dict[str, Entries] = field(default_factory=dict)

    def rows(
        self, group: Group, baseline: str | None, blank: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """A row for every pair of methods on every mask; ``blank`` has all columns."""
        found = []
        for mask in masks_of(group):
            self._held.clear()
            ranked = sorted(group.methods, key=lambda m: self._rank(m, mask))
            pairs = list(itertools.combinations(ranked, 2))
            if baseline is not None:
                base = [m for m in ranked if m.label == baseline]
                pairs = [(m, base[0]) for m in ranked if base and m is not base[0]]
            found += [self._pair(group, mask, a, b, blank) for a, b in pairs]
        self._held.clear()
        return found

    def _rank(self, method: Method, mask: str) -> tuple[bool, float, str]:
        folds = fold_scores(method, mask, self.metric)
        mean = float(np.mean(folds)) if folds else math.nan
        sign = -1.0 if HIGHER_IS_BETTER[self.metric] else 1.0
        return math.isnan(mean), 0.0 if math.isnan(mean) else sign * mean, method.label

    def _entries(self, method: Method, mask: str) -> Entries:
        if method.label not in self._held:
            self._held[method.label] = entries_of(method, mask)
        return self._held[method.label]

    def _pair(
        self, group: Group, mask: str, a: Method, b: Method, blank: dict[str, Any]
    ) -> dict[str, Any]:
        remarks = [f"{m.label}: {m.remarks}" for m in (a, b) if m.remarks]
        row = blank | {
            "task": group.task, "target": group.target, "split": title(group, mask),
            "labels": group.labels, "method_a": a.label, "method_b": b.label,
            "metric": self.metric, "status": "ok", "n_repeats": 0, "n_folds": 0, "n_genes": 0,
            "unit": group.unit if self.metric in ("mse", "rmse", "mae") else "1",
            "n_families": 0, "better": "", "claim": False, "verdict": "",
        }  # fmt: skip
        for method in (a, b):
            if not method.done:
                return row | {
                    "status": "failed",
                    "verdict": f"failed: no finished run of {method.label}",
                }
            if not any(mask in (run.identity.get("masks") or {}) for run in method.done):
                said = f"missing: {method.label} was not run on mask {mask}"
                return row | {"status": "missing", "verdict": said}
        left, right, remark = _shared(self._entries(a, mask), self._entries(b, mask), a, b)
        if not len(left.y):
            return row | {"status": "missing", "verdict": "missing: no entry in common"}
        return row | self._compared(left, right, a, b, group, "; ".join([*remarks, *remark]))

    def _compared(
        self, left: Entries, right: Entries, a: Method, b: Method, group: Group, note: str
    ) -> dict[str, Any]:
        scored = [self._by_fold(one) for one in (left, right)]
        difference = np.array(list(scored[0].values())) - np.array(list(scored[1].values()))
        folds = list(scored[0])
        repeats = len({name.partition("/")[0] for name in folds})
        test = len(left.y) / len(folds)
        train = max(len(left.y) / repeats - test, test)
        result = corrected_resampled_t(difference, train, test)
        pooled = self._pooled(left) - self._pooled(right)
        low, high = wider([self._interval(left, right, of) for of in ("family", "chromosome")])
        ahead = pooled > 0 if HIGHER_IS_BETTER[self.metric] else pooled < 0
        better = "" if pooled == 0 else (a if ahead else b).label
        clear = math.isfinite(low) and (low > 0 or high < 0)
        n_folds = len(folds) // repeats
        powered = repeats >= MIN_REPEATS and n_folds >= MIN_FOLDS
        said = "interval excludes zero" if clear else "interval includes zero"
        verdict = f"descriptive: {repeats} × {n_folds} folds, a claim needs {MIN_REPEATS} × {MIN_FOLDS}; {said}"
        return {
            "n_repeats": repeats, "n_folds": n_folds, "n_genes": left.genes,
            "n_families": len(np.unique(left.family)),
            "score_a": float(np.mean(list(scored[0].values()))),
            "score_b": float(np.mean(list(scored[1].values()))),
            "mean_difference": result.mean_difference, "pooled_difference": pooled,
            "ci_low": low, "ci_high": high, "t": result.statistic, "df": result.df,
            "p_value": result.p_value, "better": better, "note": note,
            "verdict": "" if powered else verdict,
        }  # fmt: skip

    def _by_fold(self, entries: Entries) -> dict[str, float]:
        code, names = pd.factorize(entries.fold, sort=True)
        found = {}
        for i, name in enumerate(names.tolist()):
            at = np.flatnonzero(code == i)
            found[str(name)] = self._score(entries.y[at], entries.p[at])
        return found

    def _pooled(self, entries: Entries) -> float:
        return self._score(entries.y, entries.p)

    def _score(self, y: FloatArray, p: FloatArray) -> float:
        sums = {name: values.sum() for name, values in self._terms(y, p).items()}
        return float(entry_metrics(sums)[self.metric])

    def _interval(self, left: Entries, right: Entries, of: str) -> tuple[float, float]:
        """Percentile interval of the pooled difference, the same draws for both."""
        if not self.replicates:
            return math.nan, math.nan
        code, names = pd.factorize(getattr(left, of))
        if len(names) < 2:
            return math.nan, math.nan
        terms = [self._terms(one.y, one.p) for one in (left, right)]
        keys, count = list(terms[0]), len(names)
        totals = np.stack(
            [[np.bincount(code, x, minlength=count) for x in one.values()] for one in terms]
        )

        def estimate(sums: FloatArray) -> FloatArray:
            found = entry_metrics(dict(zip(keys, np.moveaxis(sums, -1, 0), strict=True)))
            return found[self.metric]

        drawn = family_bootstrap(
            np.moveaxis(totals, -1, 0), estimate, replicates=self.replicates, seed=self.seed
        )
        return percentile_interval(drawn[:, 0] - drawn[:, 1])

    def _terms(self, y: FloatArray, p: FloatArray) -> dict[str, FloatArray]:
        return entry_terms(y, p, ranked=self.metric == "spearman")


def compare_masks(
    group: Group, metric: str, baseline: str | None, blank: dict[str, Any], *,
    judge: Callable[[dict[str, Any]], None], replicates: int, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Pairs of a group, on each mask for itself, adjusted after Holm over its pairs.

    Parameters
    ----------
    blank : dict
        All columns of a pair.
    judge : callable
        Judges a pair that has repeats and folds enough for a claim.
    """
    rows = Comparer(metric, replicates, seed).rows(group, baseline, blank | {"note": ""})
    for _, of_mask in itertools.groupby(rows, key=lambda row: row["split"]):
        pairs = list(of_mask)
        for row, adjusted in zip(pairs, holm([row["p_value"] for row in pairs]), strict=True):
            row["p_holm"] = float(adjusted)
            if row["status"] == "ok" and not row["verdict"]:
                judge(row)
    return rows


def _shared(
    left: Entries, right: Entries, a: Method, b: Method
) -> tuple[Entries, Entries, list[str]]:
    """Entries that both predicted, in the same order, and what was left out."""
    remarks = []
    if not np.array_equal(left.key, right.key):
        _, at, other = np.intersect1d(left.key, right.key, return_indices=True)
        lost = len(left.key) + len(right.key) - 2 * len(at)
        remarks.append(f"{lost:,} predictions stand in one of the two only and are left out")
        left, right = left.take(at), right.take(other)
    if not np.allclose(left.y, right.y, rtol=1e-4, atol=1e-5):
        raise InputError(
            f"{a.runs[0].path} and {b.runs[0].path}: the observed values of the same entries differ, so "
            "they are not the same benchmark; run one of them again"
        )
    return left, right, remarks
