"""Metrics of task ``tracks``: over genes, pooled and track by track, and over the bins of stretches.

Over genes as in :mod:`benchmarks.scores.metrics`, with intervals over gene families: ``pooled`` (genes and
tracks together), ``within-species``, ``species:S``, ``repeat:R/fold:F``, and the same of each track as
``track:T``, ``track:T/within-species``, ``track:T/species:S``, ``track:T/repeat:R/fold:F``.

Over bins ``pearson`` and ``pearson_log`` (of log2(1 + x)), scopes ``track:T/bins`` and, where several
species have the track, ``track:T/bins/species:S``. ``n`` counts bins and ``n_families`` stretches: the
intervals resample these.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.runs.files import METRIC_COLUMNS
from benchmarks.scores import metrics
from benchmarks.scores.stats import family_bootstrap, percentile_interval
from benchmarks.tracks.scoring import SUMS

Floats = NDArray[np.float64]

PREFIX: Final = "track:"
BINS: Final = "bins"
BIN_METRICS: Final = ("pearson", "pearson_log")


def evaluate(
    predictions: pd.DataFrame, *, unit: str, bootstrap: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Metrics over genes.

    Parameters
    ----------
    predictions : DataFrame
        As the folds give them, with ``repeat`` and ``fold``; ``sample`` is the track.
    unit, bootstrap, seed
        As in :func:`benchmarks.scores.metrics.evaluate`.

    Raises
    ------
    InputError
        If there is nothing to score.
    """
    tables = [metrics.evaluate(predictions, unit=unit, bootstrap=bootstrap, seed=seed)]
    for track in sorted(predictions["sample"].astype(str).unique()):
        part = predictions[predictions["sample"].astype(str) == track]
        found = metrics.evaluate(part, unit=unit, bootstrap=bootstrap, seed=seed)
        inner = found["scope"].where(found["scope"] != "pooled", "")
        scope = (PREFIX + track + "/" + inner).str.removesuffix("/")
        tables.append(found.assign(scope=scope))
    return pd.concat(tables, ignore_index=True)


def evaluate_bins(
    sums: pd.DataFrame, *, bootstrap: int = 1000, seed: int = 0
) -> pd.DataFrame:  # fmt: skip
    """Correlations over bins, with intervals that resample stretches.

    Parameters
    ----------
    sums : DataFrame
        From :meth:`benchmarks.tracks.scoring.Scoring.sums`.
    """
    rows: list[tuple[Any, ...]] = []
    for track, part in sums.groupby("track", sort=True):
        rows += _rows(f"{PREFIX}{track}/{BINS}", part, bootstrap, seed)
        if part["species"].nunique() > 1:
            for species, one in part.groupby("species", sort=True):
                rows += _rows(f"{PREFIX}{track}/{BINS}/species:{species}", one, bootstrap, seed)
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS))


def _rows(scope: str, part: pd.DataFrame, bootstrap: int, seed: int) -> list[tuple[Any, ...]]:
    totals = part[list(SUMS)].to_numpy(np.float64)
    values = _correlations(totals.sum(axis=0))
    drawn = np.empty((0, len(BIN_METRICS)))
    if bootstrap and len(part) > 1:
        drawn = family_bootstrap(totals, _correlations, replicates=bootstrap, seed=seed)
    found = []
    for i, metric in enumerate(BIN_METRICS):
        low = high = math.nan
        if len(drawn) and math.isfinite(values[i]):
            low, high = percentile_interval(drawn[:, i])
        count = int(totals[:, 0].sum())
        found.append((metric, scope, float(values[i]), "1", low, high, count, len(part)))
    return found


@np.errstate(all="ignore")
def _correlations(sums: Floats) -> Floats:
    """Correlations (…, 2) from sums (…, 11)."""
    n, *rest = np.moveaxis(sums, -1, 0)
    return np.stack([_pearson(n, *rest[:5]), _pearson(n, *rest[5:])], axis=-1)


def _pearson(
    n: Floats, y: Floats, p: Floats, yy: Floats, pp: Floats, yp: Floats
) -> Floats:  # fmt: skip
    syy, spp, syp = yy - y * y / n, pp - p * p / n, yp - y * p / n
    fine = (syy > 1e-12 * yy) & (spp > 1e-12 * pp)
    return np.asarray(np.where(fine, syp / np.sqrt(syy * spp), np.nan), np.float64)
