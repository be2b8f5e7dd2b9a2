"""Where all genes lie, measured or not: how crowded a place is, and who starts beside whom.

A gene without a profile is still annotated. That another gene starts back to back with this one
tells of its promoter, whether or not the other was ever measured.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from learners.batch import FeatureBatch
from learners.imputation.neighbourhood import (
    CONVERGENT,
    DIVERGENT,
    SAME,
    Neighbourhood,
    Places,
)
from learners.imputation.table import PLACE

_NEAR: Final = 16
_NOWHERE: Final = 1e8
_RANKS: Final = (0, 1, 3, 7, 15)
_WITHIN: Final = (1e4, 3e4, 1e5, 3e5)


class Annotation:
    """Places of genes, each once, whatever is known of their profiles.

    Parameters
    ----------
    places : Places
    """

    def __init__(self, places: Places) -> None:
        kept = places.take(np.flatnonzero(places.known))
        _, first = np.unique(_keys(kept), return_index=True)
        self.places = kept.take(first)
        self._sorted = _keys(self.places)

    @classmethod
    def of(cls, *batches: FeatureBatch) -> Annotation:
        """All genes that the sources of some batches know the places of, not only their rows."""
        tables = []
        for batch in batches:
            source = batch.blocks[PLACE].source
            tables.append(source.read(np.arange(len(source), dtype=np.int64)))
        return cls(Places.of(np.concatenate(tables).astype(np.float64)))

    @cached_property
    def _around(self) -> Neighbourhood:
        return Neighbourhood(self.places)

    def table(
        self, places: Places, *, distance: bool = True, orientation: bool = True
    ) -> NDArray[np.float32]:
        """Distances to the nearest genes by rank, and by side and orientation; counts; (n, columns).

        The gene itself, and any other at the same place on the same strand, is left out.
        """
        near = self._around.nearest(places, _NEAR, itself=self._itself(places))
        far = near.far
        columns: list[NDArray[Any]] = []
        if distance:
            columns.append(_log(far[:, _RANKS]))
            columns += [(far < width).sum(axis=1)[:, None] for width in _WITHIN]
            columns.append(_log(np.where(near.there, np.maximum(near.gap, 0), np.inf)[:, :2]))
        if orientation:
            columns.append((near.orientation == SAME)[:, :3])
            columns.append(near.side[:, :3])
        if distance and orientation:
            for side, kind in ((-1, DIVERGENT), (-1, SAME), (1, SAME), (1, CONVERGENT)):
                which = (near.side == side) & (near.orientation == kind)
                columns.append(_log(np.where(which, far, np.inf).min(axis=1, keepdims=True)))
        if not columns:
            return np.zeros((len(places), 0), np.float32)
        return np.concatenate([c.astype(np.float32) for c in columns], axis=1)

    def _itself(self, places: Places) -> NDArray[np.int64]:
        if not len(self._sorted):
            return np.full(len(places), -1, np.int64)
        keys = _keys(places)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return np.where(self._sorted[at] == keys, at, -1).astype(np.int64)


def _keys(places: Places) -> NDArray[Any]:
    """Contig, TSS and strand of each place as one value that sorts."""
    keys = np.zeros(len(places), [("contig", np.int64), ("tss", np.float64), ("strand", np.int8)])
    keys["contig"], keys["tss"], keys["strand"] = places.contig, places.tss, places.strand
    return keys


def _log(far: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log10(np.minimum(far, _NOWHERE) + 100.0)
