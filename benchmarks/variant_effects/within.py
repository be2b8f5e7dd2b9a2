"""Differences within genes: observed on predicted, over lines, as EMPRES stacks them.

``lm(Δobserved ~ Δpredicted + PC1 … PCk)`` over pairs of gene and line whose haplotype no other line
reads, all genes stacked. Several species are stacked with an intercept and components each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.scores.stats import family_bootstrap, percentile_interval
from benchmarks.variant_effects.components import choose
from benchmarks.variant_effects.fixed import slope_within
from benchmarks.variant_effects.slope import Error, Slope, slope, slope_of_freed

Floats = NDArray[np.float64]

LINE: Final = "line"
GENE: Final = "gene"
FOLD: Final = "fold"
COMPONENT: Final = "pc"

_ROUNDING: Final = 1e-6
"""Of the largest predicted difference: below this a row differs by the rounding of its batch alone."""

PAIR_COLUMNS: Final = ("gene", "species", "family", "line", "delta_obs", "delta_pred", "private")
"""Columns of a table of pairs; ``fold``, ``pc1 …``, ``noise_controls``, ``noise_background`` may join them."""


@dataclass(frozen=True)
class Within:
    """The regression within genes and what stands beside it.

    Attributes
    ----------
    stacked : Slope
        EMPRES's form; errors ``classical``, ``line``, ``gene``, ``two-way``.
    fixed : mapping of ``gene``, ``line``, ``gene+line`` to Slope
        The same with a level for each gene, line, or both.
    components : mapping of species to the number of components chosen
    sign, sign_weighted : Slope
        Share of pairs of |Δpredicted| > 0 whose observed difference has the predicted sign; each
        pair alike, or weighted by |Δpredicted|. Their ``value`` is the share.
    pairs : DataFrame
        The rows used: private, both differences known.
    """

    stacked: Slope
    fixed: dict[str, Slope]
    components: dict[str, int]
    sign: Slope
    sign_weighted: Slope
    pairs: pd.DataFrame = field(repr=False)


def used_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Private pairs with both differences, in the order of the table."""
    good = table["private"].astype(bool)
    good &= np.isfinite(table["delta_obs"].to_numpy(np.float64))
    good &= np.isfinite(table["delta_pred"].to_numpy(np.float64))
    used: pd.DataFrame = table[good].reset_index(drop=True)
    return used


def labels(pairs: pd.DataFrame) -> dict[str, NDArray[np.intp]]:
    """Clusters of pairs: lines and genes, each within its species."""
    return {
        name: np.asarray(pairs.groupby(["species", name], sort=False).ngroup(), np.intp)
        for name in (LINE, GENE)
    }


def design(
    pairs: pd.DataFrame, components: dict[str, int] | None = None
) -> tuple[Floats, dict[str, int]]:
    """Columns beside Δpredicted, shape (n, q): intercept and chosen components of each species.

    Returns
    -------
    array, mapping of species to k
        k is chosen by BIC on these pairs unless given.
    """
    scores = pairs[component_names(pairs)].to_numpy(np.float64)
    y = pairs["delta_obs"].to_numpy(np.float64)
    columns: list[Floats] = []
    chosen: dict[str, int] = {}
    for one in sorted(pairs["species"].unique()):
        here = (pairs["species"] == one).to_numpy()
        known = np.isfinite(scores[here]).all(axis=0)
        held = scores[here][:, : int(known.argmin()) if not known.all() else len(known)]
        k = choose(y[here], held)[0] if components is None else components[one]
        chosen[str(one)] = k
        block = np.zeros((len(pairs), k + 1))
        block[here] = np.column_stack([np.ones(int(here.sum())), held[:, :k]])
        columns.append(block)
    return np.concatenate(columns, axis=1), chosen


def component_names(table: pd.DataFrame) -> list[str]:
    """Columns ``pc1, pc2, …`` of a table, in order of their number."""
    found = [n for n in table.columns if n.startswith(COMPONENT) and n[len(COMPONENT) :].isdigit()]
    return sorted(found, key=lambda name: int(name[len(COMPONENT) :]))


def within(table: pd.DataFrame) -> Within | None:
    """Everything within genes of a table of pairs; None where no pair can be used.

    Parameters
    ----------
    table : DataFrame
        Columns :data:`PAIR_COLUMNS`.
    """
    pairs = used_pairs(table)
    if pairs.empty:
        return None
    others, chosen = design(pairs)
    clusters = labels(pairs)
    y, x = (pairs[name].to_numpy(np.float64) for name in ("delta_obs", "delta_pred"))
    levels = {
        GENE: [clusters[GENE]],
        LINE: [clusters[LINE]],
        f"{GENE}+{LINE}": [*clusters.values()],
    }
    fixed = {name: slope_within(y, x, others, groups, clusters) for name, groups in levels.items()}
    told = np.abs(x) > _ROUNDING * np.abs(x).max()
    agree = (np.sign(y) == np.sign(x)).astype(np.float64)[told]
    cut = {name: codes[told] for name, codes in clusters.items()}
    weight = np.sqrt(np.abs(x[told]))
    nothing = np.empty((int(told.sum()), 0))
    return Within(
        stacked=slope(y, x, others, clusters),
        fixed=fixed,
        components=chosen,
        sign=slope(agree, np.ones(len(agree)), nothing, cut),
        sign_weighted=slope(agree * weight, weight, nothing, cut),
        pairs=pairs,
    )


def interval(found: Slope) -> Error:
    """The interval that a slope is given with: the widest of those of its errors.

    Clustered variances are themselves estimates, too small on average where clusters are few, and
    the two-way one is a difference that may come out negative. Angrist & Pischke (2009) Mostly
    Harmless Econometrics, section 8.1, take the larger of two for the same reason.
    """
    known = [error for error in found.errors.values() if math.isfinite(error.se)]
    none = Error(math.nan, math.nan, math.nan, math.nan)
    return max(known, key=lambda error: error.high - error.low, default=none)


def between_folds(found: Slope, fold: Any) -> Error:
    """The error clustered by test fold: by the model that predicted.

    All predictions of a model come from one set of weights. What these happen to share with the
    truth does not average out over its pairs, only over models, and a fold is one model.
    """
    clusters = {FOLD: fold}
    scale = float(np.linalg.norm(found.x))
    return slope_of_freed(found.y, found.x, found.columns - 1, clusters, scale=scale).errors[FOLD]


def ceiling(
    y: Floats, noise: Floats, columns: int, line: Any, *, replicates: int, seed: int
) -> tuple[float, float, float]:
    """Partial R² that perfect knowledge of each haplotype's effect would reach, with its interval.

    1 − (mean variance that the haplotype cannot account for) / (variance of Δobserved after the
    other columns). Noise in what is observed does not bias the slope; it bounds the correlation.

    Parameters
    ----------
    y : (n,)
        Observed differences freed of the other columns.
    noise : (n,)
        Variance that each difference would have without any effect of its haplotype; NaN unknown.
    columns : int
        Columns that ``y`` was freed of.
    line : (n,) labels
        Resampled whole, for the interval.
    """
    known = np.isfinite(noise)
    n = int(known.sum())
    if n <= columns:
        return math.nan, math.nan, math.nan
    codes = np.unique(np.asarray(line)[known], return_inverse=True)[1]
    sums = np.stack([np.bincount(codes, y[known] ** 2), np.bincount(codes, noise[known])], axis=1)
    factor = (n - columns) / n

    def share(totals: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.clip(1 - factor * totals[..., 1] / totals[..., 0], 0, 1))

    low = high = math.nan
    if len(sums) > 1 and replicates:
        low, high = percentile_interval(
            family_bootstrap(sums, share, replicates=replicates, seed=seed)
        )
    return float(share(sums.sum(axis=0))), low, high
