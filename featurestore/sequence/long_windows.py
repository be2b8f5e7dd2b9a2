"""Windows of any length around any boundary of a contig, oriented to a strand, padded with N.

A genome is read from a store by blocks of 1 Mb, as they are wanted, a few of which stay in memory: a
window within blocks that were read costs a copy. Half-open, 0-based: the window of length L centred on
boundary b reads [b − ⌊L/2⌋, b + ⌈L/2⌉) on the + strand; on the − strand it begins ⌊L/2⌋ bases upstream
as well and reads the reverse complement, so that position ⌊L/2⌋ is the first base after the boundary in
transcript direction on either strand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featurestore.errors import InputError, unknown_name
from featurestore.inputs.model import Genome
from featurestore.sequence.iupac import COMPLEMENT
from featurestore.sequence.windows import window_span

if TYPE_CHECKING:
    from featurestore.score.genome import Bases
    from featurestore.store.reader import Store

# As long as there are bytes, so that a look-up needs no check of bounds.
_COMPLEMENT: Final = np.zeros(256, np.uint8)
_COMPLEMENT[: len(COMPLEMENT)] = COMPLEMENT


class LongWindows:
    """Windows of one genome.

    Parameters
    ----------
    source : Store, Genome, mapping of contig to letters, or path
        An opened store or its folder (nothing beside it is read), a genome in memory, or the path of a
        FASTA file, which is read whole.
    species : str, optional
        Species of a store; may be left out where only one has a genome.

    Attributes
    ----------
    contigs : mapping of str to int
        Length of each contig in bp.

    Raises
    ------
    InputError
        If the store holds no genome of the species, or of several and none was named.
    DataSetError
        For mistakes of a FASTA file.
    """

    def __init__(
        self, source: Store | Genome | Mapping[str, str] | Path | str, species: str | None = None
    ) -> None:
        self._made_from = source, species
        self._bases: Bases = _bases(source, species)
        self.contigs: Mapping[str, int] = self._bases.lengths

    def __reduce__(self) -> tuple[Callable[..., LongWindows], tuple[Any, ...]]:
        # Another process reads for itself what this one holds.
        return LongWindows, self._made_from

    def _span(
        self, contig: str, centre: int, strand: int, length: int, shift: int
    ) -> tuple[int, int]:
        if contig not in self.contigs:
            raise unknown_name("contig", contig, self.contigs)
        if length < 1:
            raise InputError(f"a window of {length} bp: give a length from 1")
        upstream = length // 2
        direction = 1 if strand >= 0 else -1
        return window_span(centre + direction * shift, strand, upstream, length - upstream)

    def read(
        self, contig: str, centre: int, strand: int, length: int, shift: int = 0
    ) -> NDArray[np.uint8]:
        """Codes of one window in the orientation of the strand.

        Parameters
        ----------
        contig : str
        centre : int
            Boundary between bases, 0-based on the forward strand (the TSS of a store).
        strand : {1, -1}
            0 (unknown) reads forward.
        length : int
            In bp.
        shift : int
            Moves the window by so many bp in transcript direction (positive: downstream).

        Returns
        -------
        uint8 array, shape (length,), a new one
            IUPAC codes; what lies off the contig reads N.

        Raises
        ------
        UnknownNameError
            For a contig that the genome lacks.
        """
        out = np.empty(length, np.uint8)
        self._into(contig, centre, strand, length, shift, out)
        return out

    def _into(
        self, contig: str, centre: int, strand: int, length: int, shift: int,
        out: NDArray[np.uint8],
    ) -> None:  # fmt: skip
        codes = self._bases.cut(contig, *self._span(contig, centre, strand, length, shift))
        if strand >= 0:
            out[...] = codes
        else:
            np.take(_COMPLEMENT, codes[::-1], out=out, mode="wrap")

    def padded(
        self, contig: str, centre: int, strand: int, length: int, shift: int = 0
    ) -> int:  # fmt: skip
        """How many bases of the window :meth:`read` would give lie off the contig and read N."""
        low, high = self._span(contig, centre, strand, length, shift)
        inside = min(high, self.contigs[contig]) - max(low, 0)
        return length - max(inside, 0)

    def batch(
        self,
        contigs: Sequence[str],
        centres: ArrayLike,
        strands: ArrayLike,
        length: int,
        shifts: ArrayLike = 0,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Codes of several windows.

        Parameters
        ----------
        contigs : sequence of str, length n
        centres, strands, shifts : integers, shape (n,) or one for all
            As in :meth:`read`.
        out : uint8 array, shape (n, length), optional
            C-contiguous; written in place of a new one.

        Returns
        -------
        uint8 array, shape (n, length)
        """
        n = len(contigs)
        if out is None:
            out = np.empty((n, length), np.uint8)
        elif out.shape != (n, length) or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise ValueError(f"out: give a C-contiguous uint8 array of shape {(n, length)}")
        columns = (
            np.broadcast_to(np.asarray(c), (n,)).tolist() for c in (centres, strands, shifts)
        )
        for row, contig, centre, strand, shift in zip(out, contigs, *columns, strict=True):
            self._into(contig, centre, strand, length, shift, row)
        return out


def _bases(source: Store | Genome | Mapping[str, str] | Path | str, species: str | None) -> Bases:
    # Imported here: what scores variants reads genomes in the same way, and imports this package.
    from featurestore.score.genome import bases_of, stored_bases

    if isinstance(source, Genome | Mapping):
        return bases_of(source)
    if isinstance(source, Path | str):
        if not Path(source).is_dir():
            return bases_of(_fasta(Path(source)))
        from featurestore.store.reader import open_store

        source = open_store(source)
    return stored_bases(source, _species_of(source, species))


def _fasta(path: Path) -> Genome:
    from featurestore.inputs.fasta import read_genome
    from featurestore.inputs.problems import Problems

    problems = Problems()
    genome = read_genome(path, problems)
    problems.raise_if_any()
    assert genome is not None  # noqa: S101 - otherwise there was a problem
    return genome


def _species_of(store: Store, species: str | None) -> str:
    have = [s for s in store.species if store.has(s, "genome/code")]
    if species is not None and species not in store.species:
        raise unknown_name("species", species, store.species)
    if species in have:
        return str(species)
    if species is None and len(have) == 1:
        return have[0]
    if have and species is None:
        raise InputError(f"{store.path} holds genomes of {', '.join(have)}: say which species")
    raise InputError(
        f"{store.path}: {species or 'no species'} has {'no' if species else 'a'} genome; long windows need "
        "genome and annotation in its [species] of the data set (ready-made sequences do not do)"
    )
