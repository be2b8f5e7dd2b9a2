"""Scores of an allele from the tracks of its window and of the reference's.

The formulas are those of basenji (Kelley et al., Genome Res. 28:739, 2018; ``basenji_sad.py``),
with sums over bins in float64. ``mean`` is the convention of the notebook that was published with
Enformer: for SAD and geoSAD the sum divided by the number of bins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import unknown_name

Bins = NDArray[np.float32]
Values = NDArray[np.float64]


def _sad(ref: Values, alt: Values, *, mean: bool) -> Values:
    difference: Values = alt.sum(axis=0) - ref.sum(axis=0)
    return difference / len(ref) if mean else difference


def _sar(ref: Values, alt: Values, *, mean: bool) -> Values:
    size = len(ref) if mean else 1
    result: Values = np.log2(alt.sum(axis=0) / size + 1) - np.log2(ref.sum(axis=0) / size + 1)
    return result


def _geosad(ref: Values, alt: Values, *, mean: bool) -> Values:
    total: Values = (np.log2(alt + 1) - np.log2(ref + 1)).sum(axis=0)
    return total / len(ref) if mean else total


def _l2(ref: Values, alt: Values, *, mean: bool) -> Values:
    total: Values = ((alt - ref) ** 2).sum(axis=0)
    root: Values = np.sqrt(total / len(ref) if mean else total)
    return root


_FORMULAS: Final[dict[str, Callable[..., Values]]] = {
    "sad": _sad, "sar": _sar, "geosad": _geosad, "l2": _l2,
}  # fmt: skip


def score(name: str, aggregation: str, ref: Bins, alt: Bins) -> Values:
    """One score of all tracks.

    Parameters
    ----------
    name : {"sad", "sar", "geosad", "l2"}
        SAD = Σ alt − Σ ref; SAR = log2(Σ alt + 1) − log2(Σ ref + 1); geoSAD = Σ [log2(alt + 1) −
        log2(ref + 1)]; L2 = √ Σ (alt − ref)². Sums are over bins.
    aggregation : {"sum", "mean", "tss"}
        ``mean`` and ``tss``: means in place of the sums.
    ref, alt : float32 arrays, shape (bins, tracks)
        For ``tss`` the bins at the TSS alone.

    Returns
    -------
    float64 array, shape (tracks,)
    """
    if name not in _FORMULAS:
        raise unknown_name("score of tracks", name, list(_FORMULAS))
    one, other = ref.astype(np.float64), alt.astype(np.float64)
    return _FORMULAS[name](one, other, mean=aggregation != "sum")


def row_of(
    scores: Sequence[str], aggregations: Sequence[str], ref: Bins, alt: Bins,
    tss: slice | None,
) -> NDArray[np.float32]:  # fmt: skip
    """All scores of one row end to end, shape (scores · aggregations · tracks,).

    Parameters
    ----------
    tss : slice, optional
        Bins at the TSS of the row's gene; ``tss`` is NaN without.
    """
    parts = []
    for name in scores:
        for aggregation in aggregations:
            if aggregation == "tss":
                none = np.full(ref.shape[1], np.nan)
                parts.append(none if tss is None else score(name, aggregation, ref[tss], alt[tss]))
            else:
                parts.append(score(name, aggregation, ref, alt))
    return np.concatenate(parts).astype(np.float32)
