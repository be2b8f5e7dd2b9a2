"""The feature ``genome[:LENGTH]``: long windows of the genome around each gene's TSS, read as they are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from featurestore.sequence.long_windows import LongWindows

GENOME: Final = "genome"
"""What expressions call it; the group of a store that holds the genome has the same name."""

LENGTH: Final = 196_608
"""Bases of a window where none are named."""

_LONGEST: Final = 1 << 24
_SHARD: Final = 64


def checked_length(text: str) -> str:
    """Length of a window as it stands in expressions.

    Raises
    ------
    InputError
        If it is no number of bases.
    """
    length = int(text) if text.isascii() and text.isdigit() else 0
    if not 0 < length <= _LONGEST:
        raise InputError(
            f"feature {GENOME}:{text}: write {GENOME}:LENGTH with a length in bp, such as "
            f"{GENOME}:{LENGTH}"
        )
    return str(length)


def has_genome(store: Any, species: Sequence[str]) -> bool:
    """Whether the store holds the genomes of all these species."""
    return all(store.has(one, f"{GENOME}/code") for one in species)


def window_reasons(store: Any, species: str) -> list[str]:
    """Why each gene of a species has no window, "" where it has one.

    Raises
    ------
    InputError
        If the store holds no genome of the species.
    """
    genes, contigs = store.genes(species), LongWindows(store, species).contigs
    columns = (genes.contig, genes.tss, genes.strand)
    return [
        _why(contigs, str(contig), tss, strand)
        for contig, tss, strand in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _why(contigs: Mapping[str, int], contig: str, tss: int, strand: int) -> str:
    if not contig or tss < 0:
        return "no contig or TSS"
    if contig not in contigs or tss > contigs[contig]:
        return f"its TSS is not on the genome ({contig}:{tss})"
    return "" if strand else "its strand is not known"


class GeneWindows:
    """IUPAC codes of windows centred on TSSs, in transcript orientation, N off the contig: kind ``long``.

    Parameters
    ----------
    store : featurestore.store.reader.Store
    species : str
    length : int
        Bases of a window; position ``length // 2`` is the first that is transcribed.

    Attributes
    ----------
    reason : list of str, length gene
        Why a gene has no window (it reads N); "" where it has one.
    coords : mapping
        ``position``: bp from the TSS in transcript direction, shape (length,).

    Raises
    ------
    InputError
        If the store holds no genome of the species.
    """

    kind = "long"
    dims: tuple[str, ...] = ("position",)
    dtype: np.dtype[Any] = np.dtype(np.uint8)
    valid: NDArray[np.bool_] | None = None

    def __init__(self, store: Any, species: str, length: int) -> None:
        self._genome = LongWindows(store, species)
        genes = store.genes(species)
        self._contig = [str(name) for name in genes.contig]
        self._tss, self._strand = (np.asarray(a, np.int64) for a in (genes.tss, genes.strand))
        self.shape: tuple[int, ...] = (length,)
        self.shard_start = np.arange(0, max(len(self._tss), 1), _SHARD, dtype=np.int64)
        self.coords: Mapping[str, NDArray[Any]] = {
            "position": np.arange(length, dtype=np.int64) - length // 2
        }
        self.reason = window_reasons(store, species)

    def __len__(self) -> int:
        return len(self._tss)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Windows in the order asked for, shape (len(rows), length)."""
        from featurestore.sequence.iupac import N

        out = np.full((len(rows), self.shape[0]), N, np.uint8)
        for i, row in enumerate(rows.tolist()):
            if not self.reason[row]:
                where = self._contig[row], int(self._tss[row]), int(self._strand[row])
                out[i] = self._genome.read(*where, self.shape[0])
        return out
