"""Windows of genes on their contigs, and how many windows of other genes each overlaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Windows:
    """Genomic windows, 0-based half-open, all contigs on one axis far enough apart.

    Parameters
    ----------
    gene : int64 array, shape (w,)
        Row in the table of genes.
    start, end : int64 arrays, shape (w,)
    genes : int
        Rows of the table of genes.
    unplaced : int
        Windows without a place: contig, strand or anchor unknown.
    """

    gene: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    genes: int
    unplaced: int


def declared_regions(store: Any, species: str) -> list[dict[str, Any]]:
    """Regions of a species as the store's attributes give them: name, anchor, up-, downstream.

    A list for all species, or one list per species.
    """
    regions = store.attrs.get("meristem", {}).get("regions") or []
    if isinstance(regions, Mapping):
        if species in regions:
            regions = regions[species]
        else:
            named = {n: r for n, r in regions.items() if isinstance(r, Mapping) and "anchor" in r}
            regions = [{"name": name, **region} for name, region in named.items()]
    return [dict(region) for region in regions]


def gene_windows(store: Any, species: Sequence[str], genes: pd.DataFrame, long: int = 0) -> Windows:
    """Windows of all genes, from anchor, strand and the declared regions.

    ``long`` bases around the TSS, read from the genome, join these.

    ``upstream`` and ``downstream`` are in transcript direction: on the − strand the window is
    [anchor − downstream, anchor + upstream).
    """
    gene, start, end, place = [], [], [], []
    unplaced = 0
    contig, _ = pd.factorize(genes["species"] + "\t" + genes["contig"])
    strand = genes["strand"].to_numpy(np.int64)
    for one in species:
        rows = np.flatnonzero((genes["species"] == one).to_numpy())
        for region in [*declared_regions(store, one), *_long_region(long)]:
            anchor = genes[region["anchor"]].to_numpy(np.int64)[rows]
            known = (anchor >= 0) & (strand[rows] != 0) & (genes["contig"].to_numpy()[rows] != "")
            unplaced += int((~known).sum())
            here, anchor = rows[known], anchor[known]
            forward = strand[here] > 0
            up, down = int(region["upstream"]), int(region["downstream"])
            gene.append(here)
            start.append(anchor - np.where(forward, up, down))
            end.append(anchor + np.where(forward, down, up))
            place.append(contig[here])
    rows, first, last, where = (_joined(parts) for parts in (gene, start, end, place))
    if len(rows):
        low = int(first.min())
        stride = int(last.max()) - low + 1
        offset = where * stride - low
        first, last = first + offset, last + offset
    return Windows(rows, first, last, len(genes), unplaced)


def _long_region(length: int) -> list[dict[str, Any]]:
    half = length // 2
    return [{"anchor": "tss", "upstream": half, "downstream": length - half}] if length else []


def _joined(parts: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *parts])


def overlap_counts(
    windows: Windows, test: NDArray[np.int64], others: NDArray[np.int64]
) -> NDArray[np.int64]:
    """How many windows of ``others`` overlap the windows of each gene in ``test``.

    A window overlaps those that start before it ends, less those that end before it starts:
    two sorted look-ups each, no pairs.

    Returns
    -------
    int64 array, shape (len(test),)
    """
    is_other = np.zeros(windows.genes, bool)
    is_other[others] = True
    side = is_other[windows.gene]
    starts, ends = np.sort(windows.start[side]), np.sort(windows.end[side])
    before_end = np.searchsorted(starts, windows.end, side="left")
    over = np.searchsorted(ends, windows.start, side="right")
    counts = np.bincount(windows.gene, before_end - over, minlength=windows.genes)
    return counts[test].astype(np.int64)
