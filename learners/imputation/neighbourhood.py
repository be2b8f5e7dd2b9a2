"""The nearest reference genes along the chromosome, found by sorted search.

Positions are boundaries between bases, 0-based. Distances run from the TSS of a gene to the TSS of
its neighbour in the transcript direction of the gene: a neighbour at a positive one lies downstream.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

UNKNOWN, SAME, CONVERGENT, DIVERGENT = range(4)

ORIENTATIONS: Final = ("unknown", "same strand", "convergent", "divergent")
"""Names of the codes :data:`UNKNOWN`, :data:`SAME`, :data:`CONVERGENT`, :data:`DIVERGENT`."""


EVERY: Final = 1_000_000_000
"""More references than there are."""


@dataclass(frozen=True)
class Places:
    """Where genes lie, arrays of shape (n,).

    Parameters
    ----------
    contig : int64
        Code of the sequence; −1 where no position is known.
    tss, tts : float64
        Boundaries; ``tts`` equals ``tss`` where it is unknown.
    strand : int8
        +1, −1, or 0 where it is unknown.
    """

    contig: NDArray[np.int64]
    tss: NDArray[np.float64]
    tts: NDArray[np.float64]
    strand: NDArray[np.int8]

    @classmethod
    def of(cls, table: NDArray[np.float64]) -> Places:
        """From a block ``place``: contig, tss, tts, strand, 1 if there is a position; (n, 5)."""
        contig = np.where(table[:, 4] > 0, table[:, 0], -1).astype(np.int64)
        return cls(contig, table[:, 1].copy(), table[:, 2].copy(), table[:, 3].astype(np.int8))

    def __len__(self) -> int:
        return len(self.contig)

    def take(self, index: NDArray[Any] | slice) -> Places:
        """Some of them."""
        return Places(self.contig[index], self.tss[index], self.tts[index], self.strand[index])

    @property
    def known(self) -> NDArray[np.bool_]:
        """True where there is a position."""
        return self.contig >= 0

    @property
    def direction(self) -> NDArray[np.float64]:
        """+1 or −1: the transcript direction, + where the strand is unknown."""
        return np.where(self.strand < 0, -1.0, 1.0)


@dataclass(frozen=True)
class Neighbours:
    """The k nearest references of n genes, nearest first, arrays of shape (n, k).

    Parameters
    ----------
    index : int64
        Row of the reference; −1 where there are fewer than k.
    distance : float64
        TSS to TSS in bp, in transcript direction of the gene; NaN where there is none.
    gap : float64
        Bases between the two genes; minus the bases they share where they overlap; NaN for none.
    orientation : int8
        Code of :data:`ORIENTATIONS`; 0 where there is none.
    """

    index: NDArray[np.int64]
    distance: NDArray[np.float64]
    gap: NDArray[np.float64]
    orientation: NDArray[np.int8]

    @property
    def there(self) -> NDArray[np.bool_]:
        """True where there is a neighbour."""
        return self.index >= 0

    @property
    def far(self) -> NDArray[np.float64]:
        """Absolute distances; infinite where there is none."""
        return np.where(self.there, np.abs(self.distance), np.inf)

    @property
    def side(self) -> NDArray[np.int8]:
        """−1 upstream, +1 downstream, 0 at the same TSS or none."""
        return np.sign(np.nan_to_num(self.distance)).astype(np.int8)

    def first(self, k: int) -> Neighbours:
        """Only the k nearest; the rank of a neighbour is its column."""
        return Neighbours(
            self.index[:, :k], self.distance[:, :k], self.gap[:, :k], self.orientation[:, :k]
        )


class Neighbourhood:
    """Reference genes in the order of the chromosomes, ready to be searched.

    Parameters
    ----------
    places : Places
        Of the references; those without a position are nobody's neighbours.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        order = np.lexsort((np.arange(len(places)), places.tss, places.contig))
        self.order = order[places.contig[order] >= 0]
        """Rows of the references with a position, sorted by contig, then TSS, then row."""
        self._contig, self._tss = places.contig[self.order], places.tss[self.order]

    @cached_property
    def rank(self) -> NDArray[np.int64]:
        """Place of each reference in :attr:`order`; −2 for one without a position."""
        rank = np.full(len(self.places), -2, np.int64)
        rank[self.order] = np.arange(len(self.order))
        return rank

    def bounds(self, contig: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First place and end of each contig in :attr:`order`; empty for one that is unknown."""
        start = np.searchsorted(self._contig, contig, side="left")
        end = np.searchsorted(self._contig, contig, side="right")
        return start.astype(np.int64), np.where(contig < 0, start, end).astype(np.int64)

    def position(
        self, contig: NDArray[np.int64], tss: NDArray[np.float64]
    ) -> NDArray[np.int64]:  # fmt: skip
        """How many references of :attr:`order` lie before each (contig, tss), shape (n,)."""
        out = np.empty(len(contig), np.int64)
        for code in np.unique(contig):
            here = contig == code
            start, end = (int(x[0]) for x in self.bounds(np.array([code])))
            out[here] = start + np.searchsorted(self._tss[start:end], tss[here], side="left")
        return out

    def nearest(
        self,
        places: Places,
        k: int,
        *,
        itself: NDArray[np.int64] | None = None,
        passed: NDArray[np.int64] | None = None,
    ) -> Neighbours:
        """The k references next to each gene by distance between TSSs.

        Of two that are equally far the one with fewer references between comes first, then the
        one at the higher position. References left and right are merged step by step for all
        genes at once: the work is n × k, with no sort of candidates.

        Parameters
        ----------
        places : Places, length n
        k : int
        itself : int64 array, shape (n,), optional
            Row of the reference that is the gene itself and not its neighbour; −1 for none.
        passed : int64 array, shape (n, 2), optional
            How many of the next references below and above on the chromosome are not looked at.
        """
        rows = len(places)
        start, end = self.bounds(places.contig)
        before = self.position(places.contig, places.tss)
        own = np.full(rows, -2, np.int64)
        if itself is not None:
            own[itself >= 0] = self.rank[itself[itself >= 0]]
        upper = own >= before
        index = np.full((k, rows), -1, np.int64)
        left, right = before - 1, before.copy()
        if passed is not None:
            below, above = passed[:, 0], passed[:, 1]
            below = below + ((own >= 0) & (own <= left) & (own > left - below))
            above = above + ((own >= right) & (own < right + above))
            left = np.maximum(left - below, start - 1)
            right = np.minimum(right + above, end)
        # One gene of no extent past either end keeps every look-up in bounds.
        tss = np.concatenate([self._tss, [0.0]])
        for step in range(k):
            left -= left == own
            right += right == own
            there_left, there_right = left >= start, right < end
            to_left = np.where(there_left, places.tss - tss[left], np.inf)
            to_right = np.where(there_right, tss[np.minimum(right, len(self.order))] - places.tss, np.inf)  # fmt: skip
            # Genes passed on either side; the gene itself, which lies at one of them, is none.
            steps = (right - before) - (before - 1 - left)
            steps += np.where(upper, -(right > own).astype(np.int64), left < own)
            take = there_right & ((to_right < to_left) | ((to_right == to_left) & (steps <= 0)))
            chosen = np.where(take, right, left)
            some = take | there_left
            index[step, some] = chosen[some]
            right += take
            left -= ~take & there_left
        ranked = np.ascontiguousarray(index.T)
        return self._described(places, np.where(ranked >= 0, self._rows(ranked), -1))

    def missing(
        self, places: Places, there: NDArray[np.bool_], *, itself: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """How many references below and above are missing before the next that is not, (n, 2).

        Where none is left on the whole chromosome, :data:`EVERY` on both sides.

        Parameters
        ----------
        places : Places, length n
        there : bool array
            Which of the references are not missing.
        itself : int64 array, shape (n,)
            As for :meth:`nearest`; a gene does not count for itself.
        """
        start, end = self.bounds(places.contig)
        before = self.position(places.contig, places.tss)
        left = np.concatenate([[0], np.cumsum(there[self.order])])
        at = np.concatenate([[-1], np.flatnonzero(there[self.order]), [len(self.order)]])
        below = np.maximum(at[left[before]] + 1, start)
        above = np.minimum(at[left[before] + 1], end)
        own = np.where(itself >= 0, self.rank[itself] if len(self.places) else -2, -2)
        out = np.stack(
            [
                before - below - ((own >= below) & (own < before)),
                above - before - ((own >= before) & (own < above)),
            ],
            axis=1,
        )
        out[left[start] == left[end]] = EVERY
        return out

    def _rows(self, ranked: NDArray[np.int64]) -> NDArray[np.int64]:
        if not len(self.order):
            return np.full_like(ranked, -1)
        return self.order[np.maximum(ranked, 0)]

    def _described(self, places: Places, index: NDArray[np.int64]) -> Neighbours:
        if not len(self.places):
            nothing = np.full(index.shape, np.nan)
            return Neighbours(index, nothing, nothing.copy(), np.zeros(index.shape, np.int8))
        there, found = index >= 0, np.maximum(index, 0)
        other = self.places.take(found)
        tss, tts, strand = other.tss, other.tts, other.strand
        along = tss - places.tss[:, None]
        low = np.maximum(np.minimum(tss, tts), np.minimum(places.tss, places.tts)[:, None])
        high = np.minimum(np.maximum(tss, tts), np.maximum(places.tss, places.tts)[:, None])
        return Neighbours(
            index,
            np.where(there, along * places.direction[:, None], np.nan),
            np.where(there, low - high, np.nan),
            np.where(there, orientation(along, places.strand[:, None], strand), 0).astype(np.int8),
        )


def orientation(
    along: NDArray[np.float64], strand: NDArray[np.int8], other: NDArray[np.int8]
) -> NDArray[np.int8]:
    """How two genes lie to one another.

    Parameters
    ----------
    along : float64 array
        TSS of the other gene minus that of the gene, on the chromosome. At zero two genes on
        opposite strands start at one point, back to back: divergent.
    strand, other : int8 arrays
        +1, −1 or 0.
    """
    facing = along * strand > 0
    opposite = np.where(facing, CONVERGENT, DIVERGENT)
    known = (strand != 0) & (other != 0)
    return np.where(known, np.where(strand == other, SAME, opposite), UNKNOWN).astype(np.int8)
