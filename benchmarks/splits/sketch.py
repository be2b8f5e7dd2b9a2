"""Sketches of sequences: how much of a sequence recurs among others, in linear time.

FracMinHash (Irber et al., bioRxiv 2022.01.11.475838): of all canonical 31-mers those are kept
whose hash falls below a threshold, the same in every sequence, so that containment in a set of
sequences is the share of kept hashes that the set holds. 31-mers with an ambiguous base are
left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from learners.batch import BlockSource

K: Final = 31
KEEP: Final = 128
"""Hashes kept of a gene's windows, about; all of them where windows are shorter."""

_ROWS_BASES: Final = 4_000_000
_U: Final = np.uint64


@dataclass(frozen=True)
class Sketches:
    """Hashes of genes, shape (h,) each, grouped by gene: ``gene`` ascends."""

    gene: NDArray[np.int64]
    hash: NDArray[np.uint64]
    genes: int

    def containment(
        self, test: NDArray[np.int64], others: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Share of each test gene's hashes found among ``others``; NaN where it has none.

        Returns
        -------
        float64 array, shape (len(test),), 0 … 1
        """
        side = np.zeros(self.genes, bool)
        side[others] = True
        pool = np.unique(self.hash[side[self.gene]])
        wanted = np.zeros(self.genes, bool)
        wanted[test] = True
        rows = np.flatnonzero(wanted[self.gene])
        found = np.isin(self.hash[rows], pool)
        total = np.bincount(self.gene[rows], minlength=self.genes)
        hits = np.bincount(self.gene[rows], found, minlength=self.genes)
        share = np.full(self.genes, np.nan)
        np.divide(hits, total, out=share, where=total > 0)
        return share[test]


def sketch_source(sources: Sequence[BlockSource], keep: int = KEEP) -> Sketches:
    """Sketch every gene of the sources (kind ``codes``), end to end, in bounded memory."""
    length = max(int(np.prod(source.shape)) for source in sources)
    scale = max(1, length // keep)
    genes, hashes = [], []
    offset = 0
    for source in sources:
        step = max(1, _ROWS_BASES // max(int(np.prod(source.shape)), 1))
        for start in range(0, len(source), step):
            rows = np.arange(start, min(start + step, len(source)), dtype=np.int64)
            row, hashed = sketch(source.read(rows), scale)
            genes.append(row + start + offset)
            hashes.append(hashed)
        offset += len(source)
    none = (np.empty(0, np.int64), np.empty(0, np.uint64))
    return Sketches(np.concatenate([none[0], *genes]), np.concatenate([none[1], *hashes]), offset)


def sketch(codes: NDArray[np.uint8], scale: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Kept hashes of canonical 31-mers, and the row of each; each hash once per row.

    Parameters
    ----------
    codes : uint8 array, shape (n, region, position)
        IUPAC codes; 0 … 3 are A C G T.
    scale : int
        One in ``scale`` 31-mers is kept.
    """
    if codes.shape[-1] < K:
        return np.empty(0, np.int64), np.empty(0, np.uint64)
    base = codes.astype(_U)
    forward = _windows(base)
    # Read backwards, the complement of the window that starts at p ends where p started.
    backward = _windows((_U(3) - (base & _U(3)))[..., ::-1])[..., ::-1]
    hashed = _mix(np.minimum(forward, backward))
    ambiguous = np.cumsum(np.pad(codes > 3, [(0, 0), (0, 0), (1, 0)]), axis=-1, dtype=np.int32)
    clean = ambiguous[..., K:] == ambiguous[..., :-K]
    kept = clean & (hashed <= _U(np.iinfo(np.uint64).max // scale))
    row = np.nonzero(kept)[0].astype(np.int64)
    return _once(row, hashed[kept])


def _once(
    row: NDArray[np.int64], hashed: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    order = np.lexsort((hashed, row))
    row, hashed = row[order], hashed[order]
    new = np.ones(len(row), bool)
    new[1:] = (row[1:] != row[:-1]) | (hashed[1:] != hashed[:-1])
    return row[new], hashed[new]


def _windows(base: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each run of 31 bases as one number, two bits a base, the first base highest."""
    base = base & _U(3)
    width = base
    for size in (1, 2, 4, 8):  # windows of 2, 4, 8, 16 bases by doubling
        width = (width[..., :-size] << _U(2 * size)) | width[..., size:]
    rest = width & _U(4**15 - 1)  # the last 15 bases of 16
    return (width[..., : rest.shape[-1] - 15] << _U(30)) | rest[..., 15:]


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of splitmix64 (Steele et al., OOPSLA 2014): every bit stirs every bit."""
    value = (value ^ (value >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> _U(27))) * _U(0x94D049BB133111EB)
    return value ^ (value >> _U(31))
