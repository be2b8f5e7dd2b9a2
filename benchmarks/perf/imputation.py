"""How fast neighbours are found: sorted search against looking at all pairs."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from learners.imputation.neighbourhood import Neighbourhood, Places

GENES, NEIGHBOURS = 60_000, 64


def measure(data: Path, repeats: int) -> dict[str, float]:
    """Best of some repeats: 60,000 simulated genes on 24 contigs, 64 neighbours each."""
    rng = np.random.default_rng(0)
    tss = rng.integers(0, 10**8, GENES).astype(np.float64)
    strand = rng.choice([-1, 1], GENES).astype(np.int8)
    genes = Places(rng.integers(0, 24, GENES), tss, tss + 2000.0 * strand, strand)
    few = rng.choice(GENES, 1000, replace=False)
    search, pairs = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        found = Neighbourhood(genes).nearest(genes, NEIGHBOURS, itself=np.arange(GENES))
        search.append(time.perf_counter() - start)
        start = time.perf_counter()
        wanted = _by_all_pairs(genes, few)
        pairs.append((time.perf_counter() - start) * GENES / len(few))
        assert np.array_equal(np.abs(found.distance[few]), wanted)
    name = f"neighbours, {GENES:,} genes x {NEIGHBOURS}"
    return {
        f"{name}: sorted search, s": min(search),
        f"{name}: all pairs, s (from {len(few):,} genes)": min(pairs),
        f"{name}: all pairs / sorted search": min(pairs) / min(search),
    }


def _by_all_pairs(genes: Places, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distances to the nearest, each gene compared with all of its contig, (rows, k)."""
    out = np.empty((len(rows), NEIGHBOURS))
    for i, row in enumerate(rows):
        far = np.abs(genes.tss - genes.tss[row])
        far[genes.contig != genes.contig[row]] = np.inf
        far[row] = np.inf
        out[i] = np.sort(np.partition(far, NEIGHBOURS)[:NEIGHBOURS])
    return out
