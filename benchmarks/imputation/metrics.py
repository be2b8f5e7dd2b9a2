"""Metrics of imputation: per mask, per tissue, without tandem paralogs, over the distance-based methods.

Over entries: ``pearson spearman r2 mse rmse mae``, as everywhere. Over profiles, a profile being the
hidden entries of one gene: ``profile_pearson`` and ``profile_spearman`` (mean over profiles of the
correlation across tissues; profiles of at least three entries that are not all alike; a constant
prediction counts 0) and ``profile_above_0.8``, the share above 0.8.

``improvement_mse/NAME``, ``improvement_rmse/NAME`` are 1 − error / error of NAME, and
``improvement_profile/NAME`` is profile_pearson / that of NAME − 1, for each of the distance-based
methods fitted on the same folds, and for the best of them (``best_distance``: that of lowest MSE, or
of highest profile_pearson, in the scope). ``coverage_90`` and ``width_90`` are of the 90 % interval.

Scopes: ``mask:M``, ``mask:M/no-tandem``, ``mask:M/tissue:T``, ``mask:M/species:S``,
``mask:M/no-position``, ``mask:M/repeat:R/fold:F``. Intervals resample families and chromosomes, the
wider of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.imputation.references import DISTANCE_BASED
from benchmarks.imputation.sums import (
    HIGH,
    FloatArray,
    Terms,
    entry_metrics,
    entry_terms,
    profile_correlations,
    ranks_within,
)
from benchmarks.runs.files import METRIC_COLUMNS
from benchmarks.scores.stats import family_bootstrap, percentile_interval
from featurestore.errors import InputError

BEST: Final = "best_distance"
READINGS: Final = ("mse", "rmse", "profile")
_IN_UNIT: Final = frozenset({"mse", "rmse", "mae", "width_90"})

Metrics = dict[str, FloatArray]
Estimate = Callable[[dict[str, FloatArray]], Metrics]


@dataclass(frozen=True)
class Scored:
    """Predictions of one mask as arrays.

    Parameters
    ----------
    frame : DataFrame
    y, p : float64 arrays, shape (n,)
    family, chromosome, profile : int64 arrays, shape (n,)
    reference : mapping of name to float64 array, shape (n,)
    """

    frame: pd.DataFrame
    y: FloatArray
    p: FloatArray
    family: NDArray[np.int64]
    chromosome: NDArray[np.int64]
    profile: NDArray[np.int64]
    reference: dict[str, FloatArray]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Scored:
        """Arrays of predictions of one mask."""
        frame = frame.reset_index(drop=True)
        gene = _codes(frame, ["species", "gene"])
        family = _codes(frame, ["family"])
        # A gene without a chromosome is one of its own.
        contig, names = (
            pd.factorize(frame["contig"])
            if "contig" in frame
            else (np.zeros(len(frame), np.int64), [""])
        )
        bare = np.array([not name for name in names])[contig]
        chromosome = np.where(bare, len(names) + gene, contig)
        keys = ["species", "gene", *(c for c in ("genotype",) if c in frame), "repeat"]
        y, p = (frame[name].to_numpy(np.float64) for name in ("y_true", "y_pred"))
        return cls(
            frame, y, p, family, pd.factorize(chromosome)[0].astype(np.int64),
            _codes(frame, keys),
            {n: frame[n].to_numpy(np.float64) for n in DISTANCE_BASED if n in frame},
        )  # fmt: skip

    def take(self, at: NDArray[np.int64]) -> Scored:
        """Some rows, profiles numbered anew."""
        return Scored(
            self.frame.iloc[at], self.y[at], self.p[at], self.family[at], self.chromosome[at],
            pd.factorize(self.profile[at])[0].astype(np.int64),
            {name: values[at] for name, values in self.reference.items()},
        )  # fmt: skip


def _codes(frame: pd.DataFrame, columns: list[str]) -> NDArray[np.int64]:
    """A number for each distinct combination of columns."""
    code = np.zeros(len(frame), np.int64)
    for name in columns:
        found, names = pd.factorize(frame[name])
        code = pd.factorize(code * max(len(names), 1) + found)[0].astype(np.int64)
    return code


def evaluate(
    predictions: pd.DataFrame, *, unit: str, bootstrap: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Metrics of the predictions of a run.

    Parameters
    ----------
    predictions : DataFrame
        As the task gives them, with ``repeat`` and ``fold``.
    unit : str
    bootstrap, seed
        Replicates over families and over chromosomes, and their seed; 0 leaves intervals NaN.

    Returns
    -------
    DataFrame
        Columns ``metric, scope, value, unit, ci_low, ci_high, n, n_families``; ``n`` counts entries,
        for metrics of profiles profiles.

    Raises
    ------
    InputError
        If there is nothing to score.
    """
    if predictions.empty:
        raise InputError("no entry was hidden, so there is nothing to score; choose other masks")
    rows: list[tuple[Any, ...]] = []
    for mask, part in predictions.groupby("mask", sort=True):
        scored = Scored.of(part)
        pooled = _scope_rows(scored, f"mask:{mask}", unit, bootstrap, seed)
        rows += pooled
        for scope, at, full in _scopes(scored.frame):
            name = f"mask:{mask}{scope}"
            if at is None:
                rows += [(metric, name, *rest) for metric, _, *rest in pooled]
            else:
                rows += _scope_rows(scored.take(at), name, unit, bootstrap if full else 0, seed)
        rows += _tissue_rows(scored, f"mask:{mask}", unit, bootstrap, seed)
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS))


def _scopes(frame: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.int64] | None, bool]]:
    """Further scopes of one mask but its tissues: name, rows (None: all), whether intervals are wanted."""
    tandem = frame["tandem"].to_numpy(np.bool_) if "tandem" in frame else np.zeros(len(frame), bool)
    if not tandem.all():
        yield "/no-tandem", np.flatnonzero(~tandem) if tandem.any() else None, True
    species = frame["species"].to_numpy(object)
    names = sorted(set(species.tolist()))
    for name in names if len(names) > 1 else ():
        yield f"/species:{name}", np.flatnonzero(species == name), True
    if "contig" in frame:
        bare = (frame["contig"] == "").to_numpy(np.bool_)
        if bare.any() and not bare.all():
            yield "/no-position", np.flatnonzero(bare), True
    pairs = frame[["repeat", "fold"]].drop_duplicates().sort_values(["repeat", "fold"])
    for repeat, fold in pairs.to_numpy().tolist():
        at = np.flatnonzero((frame["repeat"] == repeat) & (frame["fold"] == fold))
        yield f"/repeat:{repeat}/fold:{fold}", at, False


def _terms(scored: Scored) -> Terms:
    """All terms of a scope."""
    entry = entry_terms(scored.y, scored.p)
    for name, values in scored.reference.items():
        entry[f"square/{name}"] = (scored.y - values) ** 2
    if "y_low" in scored.frame and scored.frame["y_low"].notna().any():
        low, high = (scored.frame[c].to_numpy(np.float64) for c in ("y_low", "y_high"))
        bounded = np.isfinite(low)
        entry["bounded"] = bounded.astype(np.float64)
        entry["covered"] = ((scored.y >= low) & (scored.y <= high)).astype(np.float64)
        entry["width"] = np.where(bounded, high - low, 0.0)
    count = int(scored.profile.max(initial=-1)) + 1
    r = profile_correlations(scored.profile, count, scored.y, scored.p)
    fine = np.isfinite(r)
    ranks = [ranks_within(scored.profile, x) for x in (scored.y, scored.p)]
    rho = profile_correlations(scored.profile, count, *ranks)
    profile = {
        "profiles": fine.astype(np.float64), "r": np.where(fine, r, 0.0),
        "rho": np.where(fine, rho, 0.0), "above": (fine & (r > HIGH)).astype(np.float64),
    }  # fmt: skip
    for name, values in scored.reference.items():
        other = profile_correlations(scored.profile, count, scored.y, values)
        profile[f"r/{name}"] = np.where(fine, other, 0.0)
    return Terms(entry, profile)


@np.errstate(all="ignore")
def _metrics(sums: dict[str, FloatArray], best: tuple[str, str] | None) -> Metrics:
    """Every metric of a scope from sums by name; ``best`` names the best reference by error and profile."""
    found = entry_metrics(sums)
    profiles = np.where(sums["profiles"] > 0, sums["profiles"], np.nan)
    found["profile_pearson"] = sums["r"] / profiles
    found["profile_spearman"] = sums["rho"] / profiles
    found["profile_above_0.8"] = sums["above"] / profiles
    if "bounded" in sums:
        found["coverage_90"] = sums["covered"] / sums["bounded"]
        found["width_90"] = sums["width"] / sums["bounded"]
    names = [n for n in DISTANCE_BASED if f"square/{n}" in sums]
    for name in names:
        ratio = sums["square"] / sums[f"square/{name}"]
        found[f"improvement_mse/{name}"] = 1.0 - ratio
        found[f"improvement_rmse/{name}"] = 1.0 - np.sqrt(ratio)
        other = np.where(sums[f"r/{name}"] > 0, sums[f"r/{name}"], np.nan)
        found[f"improvement_profile/{name}"] = sums["r"] / other - 1.0
    if best is not None:
        for reading in READINGS:
            of = best[1] if reading == "profile" else best[0]
            found[f"improvement_{reading}/{BEST}"] = found[f"improvement_{reading}/{of}"]
    return found


def _best(sums: dict[str, FloatArray]) -> tuple[str, str] | None:
    names = [n for n in DISTANCE_BASED if f"square/{n}" in sums]
    if not names:
        return None
    return (
        min(names, key=lambda n: float(sums[f"square/{n}"])),
        max(names, key=lambda n: float(sums[f"r/{n}"])),
    )


def _scope_rows(
    scored: Scored, scope: str, unit: str, bootstrap: int, seed: int
) -> list[tuple[Any, ...]]:
    terms = _terms(scored)
    of_profile = np.zeros(int(scored.profile.max(initial=-1)) + 1, np.int64)
    whole = terms.sums(np.zeros(len(scored.y), np.int64), of_profile, 1)[0]
    sums = dict(zip(terms.names, whole, strict=True))
    best = _best(sums)
    values = _metrics(sums, best)
    bounds = [
        _bounds(terms, scored, cluster, best, bootstrap, seed)
        for cluster in ((scored.family, scored.chromosome) if bootstrap else ())
    ]
    profiles, families = int(sums["profiles"]), len(np.unique(scored.family))
    rows: list[tuple[Any, ...]] = []
    for name, value in values.items():
        low, high = wider([found[name] for found in bounds])
        n = profiles if name.startswith(("profile", "improvement_profile")) else len(scored.y)
        of = unit if name in _IN_UNIT else "1"
        rows.append((name, scope, float(value), of, low, high, n, families))
    return rows


def _bounds(
    terms: Terms, scored: Scored, cluster: NDArray[np.int64], best: tuple[str, str] | None,
    bootstrap: int, seed: int,
) -> dict[str, tuple[float, float]]:  # fmt: skip
    """Percentile intervals of every metric over resampled clusters; NaN where there is one."""
    codes, names = pd.factorize(cluster)
    of_profile = np.zeros(int(scored.profile.max(initial=-1)) + 1, np.int64)
    of_profile[scored.profile] = codes
    totals = terms.sums(codes.astype(np.int64), of_profile, len(names))
    order: list[str] = []

    def estimate(sums: FloatArray) -> FloatArray:
        found = _metrics(dict(zip(terms.names, np.moveaxis(sums, -1, 0), strict=True)), best)
        order[:] = list(found)
        return np.stack(list(found.values()), axis=-1)

    drawn = family_bootstrap(totals, estimate, replicates=bootstrap, seed=seed)
    if len(names) < 2:
        return dict.fromkeys(order, (math.nan, math.nan))
    return {name: percentile_interval(drawn[:, i]) for i, name in enumerate(order)}


def wider(bounds: list[tuple[float, float]]) -> tuple[float, float]:
    """The widest of some intervals; those that are not defined do not count."""
    known = [one for one in bounds if all(map(math.isfinite, one))]
    return max(known, key=lambda one: one[1] - one[0], default=(math.nan, math.nan))


def _tissue_rows(
    scored: Scored, scope: str, unit: str, bootstrap: int, seed: int
) -> list[tuple[Any, ...]]:
    """Metrics over entries of each tissue, with intervals from one set of draws for all."""
    tissue, names = pd.factorize(scored.frame["sample"], sort=True)
    count = len(names)
    values, columns = [], []
    for i in range(count):
        at = np.flatnonzero(tissue == i)
        terms = entry_terms(scored.y[at], scored.p[at])
        values.append(entry_metrics({k: v.sum() for k, v in terms.items()}))
        columns.append((at, terms))
    bounds = [
        _tissue_bounds(cluster, columns, bootstrap, seed)
        for cluster in ((scored.family, scored.chromosome) if bootstrap else ())
    ]
    rows: list[tuple[Any, ...]] = []
    for i, name in enumerate(names):
        at = columns[i][0]
        families = len(np.unique(scored.family[at]))
        for j, (metric, value) in enumerate(values[i].items()):
            low, high = wider([found[i][j] for found in bounds])
            of = unit if metric in _IN_UNIT else "1"
            rows.append(
                (metric, f"{scope}/tissue:{name}", float(value), of, low, high, len(at), families)
            )
    return rows


def _tissue_bounds(
    cluster: NDArray[np.int64], columns: list[tuple[NDArray[np.int64], dict[str, FloatArray]]],
    bootstrap: int, seed: int,
) -> list[list[tuple[float, float]]]:  # fmt: skip
    codes, names = pd.factorize(cluster)
    if len(names) < 2:
        return [[(math.nan, math.nan)] * 6 for _ in columns]
    totals = np.stack(
        [
            np.stack(
                [np.bincount(codes[at], x, minlength=len(names)) for x in terms.values()], axis=1
            )
            for at, terms in columns
        ],
        axis=1,
    )  # (cluster, tissue, term)
    keys = list(columns[0][1])

    def estimate(sums: FloatArray) -> FloatArray:
        found = entry_metrics(dict(zip(keys, np.moveaxis(sums, -1, 0), strict=True)))
        return np.stack(list(found.values()), axis=-1)

    drawn = family_bootstrap(totals, estimate, replicates=bootstrap, seed=seed)
    return [
        [percentile_interval(drawn[:, i, j]) for j in range(drawn.shape[2])]
        for i in range(len(columns))
    ]
