"""What each mask hides of a row: whole profiles, half of the tissues, a group of tissues, single entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.imputation.draws import Keys, crossed, lowest

Bools = NDArray[np.bool_]

LOWEST_SHARE = 0.2
"""Share of genes that ``low-expression`` scores: those of lowest mean."""


def half(known: Bools, rows: Keys, tissues: Keys) -> Bools:
    """Half of the known entries of each row, rounded down, shape (n, tissue)."""
    return lowest(crossed(rows, tissues), known, known.sum(axis=1) // 2)


def group(known: Bools, rows: Keys, groups: NDArray[np.int64]) -> Bools:
    """One group of tissues of each row: groups take turns over rows.

    A row whose group would hide nothing, or all it has, takes the next one; where none would do,
    nothing is hidden.

    Parameters
    ----------
    known : bool array, shape (n, tissue)
    rows : uint64 array, shape (n,)
    groups : int64 array, shape (tissue,)
    """
    count = int(groups.max(initial=-1)) + 1
    hidden = np.zeros(known.shape, bool)
    if count < 2:
        return hidden
    inside = np.arange(count)[:, None] == groups[None, :]  # (group, tissue)
    of_group = known.astype(np.int64) @ inside.T.astype(np.int64)
    total = known.sum(axis=1)
    start = (rows % np.uint64(count)).astype(np.int64)
    open_ = np.ones(len(known), bool)
    for turn in range(count):
        mine = (start + turn) % count
        here = of_group[np.arange(len(known)), mine]
        fine = open_ & (here > 0) & (here < total)
        hidden[fine] = known[fine] & inside[mine[fine]]
        open_ &= ~fine
    return hidden


def tissue_groups(value: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.int64]:
    """Groups of tissues that go together, shape (tissue,).

    Ward's clustering of tissues by 1 − their correlation over genes, cut into about one group for
    five tissues, at least two; numbered by their first tissue in alphabetical order.

    Parameters
    ----------
    value : float64 array, shape (gene, tissue)
        Training entries; NaN where not known.
    names : sequence of str
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    count = value.shape[1]
    if count < 2:
        return np.zeros(count, np.int64)
    order = np.argsort(np.array(names, object), kind="stable")
    together = correlations(value[:, order]).round(9)  # whatever order genes were summed in
    # The distance of standardised profiles, as Ward's criterion wants it.
    apart = np.sqrt(np.maximum(2.0 * (1.0 - together), 0.0))
    np.fill_diagonal(apart, 0.0)
    tree = linkage(squareform(apart, checks=False), method="ward")
    found = fcluster(tree, t=max(2, round(count / 5)), criterion="maxclust")
    first = dict.fromkeys(found.tolist())
    rank = {name: i for i, name in enumerate(first)}
    groups = np.empty(count, np.int64)
    groups[order] = [rank[name] for name in found.tolist()]
    return groups


def correlations(value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson correlations of columns over the rows that both have; 0 where undefined."""
    known = np.isfinite(value).astype(np.float64)
    shift = np.where(known.sum(axis=0) > 0, np.nansum(value, axis=0), 0.0)
    shift = shift / np.maximum(known.sum(axis=0), 1)
    plain = np.where(known > 0, value - shift, 0.0)
    n = known.T @ known
    sums, squares, product = plain.T @ known, (plain**2).T @ known, plain.T @ plain
    with np.errstate(all="ignore"):
        cross = product - sums * sums.T / n
        spread = squares - sums**2 / n
        found = cross / np.sqrt(spread * spread.T)
    return np.where(np.isfinite(found), np.clip(found, -1.0, 1.0), 0.0)


def low_genes(mean: NDArray[np.float64], keys: Keys) -> Bools:
    """Genes of the lowest fifth by mean; NaN is in none. Ties are drawn by name."""
    known = np.flatnonzero(np.isfinite(mean))
    order = known[np.lexsort((keys[known], mean[known]))]
    found = np.zeros(len(mean), bool)
    found[order[: round(LOWEST_SHARE * len(known))]] = True
    return found


@dataclass(frozen=True)
class EntryDraws:
    """The single entries that ``entries-N`` hides, and those that validate.

    Parameters
    ----------
    hidden_below, valid_below : uint64
        Entries whose draw lies below are hidden; of the rest, those below validate.
    """

    hidden_below: np.uint64
    valid_below: np.uint64

    @classmethod
    def exact(
        cls, hide: Keys, hold: Keys, known: Bools, share: float, of_rest: float
    ) -> EntryDraws:
        """Bounds below which exactly the share of the known entries lies."""
        bound = _bound(hide[known], share)
        return cls(bound, _bound(hold[known & (hide >= bound)], of_rest))

    @classmethod
    def expected(cls, share: float, of_rest: float) -> EntryDraws:
        """Bounds for tables that are never in memory whole: each entry for itself."""
        return cls(*(np.uint64(int(part * 2.0**64)) for part in (share, of_rest)))

    def of(self, hide: Keys, hold: Keys, known: Bools) -> tuple[Bools, Bools]:
        """Hidden and validating entries of some rows."""
        hidden = known & (hide < self.hidden_below)
        return hidden, known & ~hidden & (hold < self.valid_below)


def _bound(draws: Keys, share: float) -> np.uint64:
    """The draw below which a share of them lies."""
    count = round(share * len(draws))
    if count >= len(draws):
        return np.uint64(np.iinfo(np.uint64).max)
    return np.uint64(np.partition(draws, count)[count])
