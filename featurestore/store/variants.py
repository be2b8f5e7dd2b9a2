"""One variant set of a store: lines, haplotypes, and features of genes as a haplotype changes them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, unknown_name
from featurestore.schema import Status

if TYPE_CHECKING:
    from featurestore.store.arrays import StoredArray
    from featurestore.store.reader import Store

REFERENCE: Final = -1
"""Haplotype index of the reference."""


@dataclass(frozen=True)
class Carriers:
    """Which copy of which line reads which haplotype of which gene; arrays of shape (carrier,).

    Rows stand in order of gene, line, copy. ``line``, ``gene``, ``haplotype`` are indices
    (haplotype −1: the reference); ``copy`` 0 both, 1 and 2 one of them; ``zygosity`` 0 homozygous,
    1 heterozygous, 2 mixed. A line without a row for a gene reads the reference there.
    """

    line: NDArray[np.int32]
    gene: NDArray[np.int32]
    haplotype: NDArray[np.int32]
    copy: NDArray[np.int8]
    zygosity: NDArray[np.int8]


@dataclass(frozen=True)
class ChangedRows:
    """What the haplotypes of a set change in one feature; arrays of shape (row,).

    Rows stand in order of gene, haplotype, region, bin. ``bin`` is None for the bases
    (``onehot``), whose rows are whole regions.
    """

    haplotype: NDArray[np.int32]
    gene: NDArray[np.int32]
    region: NDArray[np.int32]
    bin: NDArray[np.int32] | None
    stored: StoredArray

    @property
    def whole_genes(self) -> bool:
        """Whether a row holds all bins of a gene: of an embedder that reads one window a gene."""
        return "bin" in self.stored.dims

    def read(self, rows: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """Values of rows in the order asked for, shape (row, channel), (row,), (row, position), (row, bin, channel)."""
        return self.stored.read() if rows is None else self.stored.take(rows)

    def of(self, haplotypes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of haplotypes, and for each row the position in ``haplotypes`` that it belongs to."""
        first = np.searchsorted(self.haplotype, haplotypes, side="left")
        count = np.searchsorted(self.haplotype, haplotypes, side="right") - first
        owner = np.repeat(np.arange(len(haplotypes)), count)
        offset = np.cumsum(count) - count
        rows = np.repeat(first - offset, count) + np.arange(len(owner))
        return rows.astype(np.int64), owner.astype(np.int64)


class VariantView:
    """A variant set, nothing read until it is asked for."""

    def __init__(self, store: Store, species: str, name: str) -> None:
        self._store, self.species, self.name = store, species, name
        self._base = f"variants/{name}"
        self.attrs: dict[str, Any] = dict(store.meta(species, self._base)["attributes"]["meristem"])
        self._changed: dict[str, ChangedRows] = {}

    @property
    def heterozygous(self) -> str:
        """How heterozygous calls were written: ``iupac`` or ``haplotypes``."""
        return str(self.attrs["heterozygous"])

    @property
    def told(self) -> list[dict[str, Any]]:
        """What of the VCF could not be used as it stands: reason, count, examples."""
        found: list[dict[str, Any]] = self.attrs["told"]
        return found

    @cached_property
    def line(self) -> NDArray[np.str_]:
        """Lines: sample names of the VCF."""
        return self._store.text(self.species, f"{self._base}/line")

    @cached_property
    def haplotype(self) -> NDArray[np.str_]:
        """Ids of the haplotypes."""
        return self._store.text(self.species, f"{self._base}/haplotype")

    @cached_property
    def haplotype_gene(self) -> NDArray[np.int32]:
        """Gene of each haplotype, an index into the genes of the species."""
        return self._store.array(self.species, f"{self._base}/haplotype_gene")

    @cached_property
    def haplotype_variants(self) -> NDArray[np.str_]:
        """Variants of each haplotype: ``contig:pos:REF>ALT`` joined by commas, 1-based."""
        return self._store.text(self.species, f"{self._base}/haplotype_variants")

    @cached_property
    def carriers(self) -> Carriers:
        """Who reads what."""
        names = ("line", "gene", "haplotype", "copy", "zygosity")
        return Carriers(
            *(self._store.array(self.species, f"{self._base}/carrier_{name}") for name in names)
        )

    @cached_property
    def lines_of_haplotype(self) -> NDArray[np.int64]:
        """Number of lines that carry each haplotype, shape (haplotype,); 1 is a private one."""
        held = self.carriers.haplotype >= 0
        pairs = np.unique(
            np.column_stack([self.carriers.haplotype[held], self.carriers.line[held]]), axis=0
        )
        return np.bincount(pairs[:, 0], minlength=len(self.haplotype_gene)).astype(np.int64)

    def haplotype_of(self, gene: int, line: str, copy: int | None = None) -> int:
        """Index of the haplotype that a line reads at a gene (its row); −1 for the reference.

        Raises
        ------
        InputError
            If the two copies of the line differ there and ``copy`` names none.
        """
        lines = self.line.tolist()
        if line not in lines:
            raise unknown_name(f"line of variant set {self.name!r}", line, lines)
        if copy not in (None, 1, 2):
            raise InputError(f"copy {copy!r}: a line has copies 1 and 2")
        held = self.carriers
        first, last = np.searchsorted(held.gene, [gene, gene + 1])
        own = first + np.flatnonzero(held.line[first:last] == lines.index(line))
        if not len(own):
            return REFERENCE
        if len(own) > 1:
            if copy is None:
                raise InputError(
                    f"line {line!r} reads two haplotypes at gene {gene}: say which with copy=1 or copy=2"
                )
            own = own[held.copy[own] == copy]
        return int(held.haplotype[own[0]])

    def changed(self, feature: str) -> ChangedRows:
        """Rows of a feature (``group[.array]``) that haplotypes change."""
        if feature not in self._changed:
            group, name = self._store.resolve_feature(self.species, feature)
            base = f"{self._base}/{group}"
            places = [
                self._store.array(self.species, f"{base}/{kind}_index")
                for kind in ("haplotype", "gene", "region")
            ]
            bins = (
                None
                if group == "sequence"
                else self._store.array(self.species, f"{base}/bin_index")
            )
            stored = self._store.stored(self.species, f"{base}/{name}")
            self._changed[feature] = ChangedRows(places[0], places[1], places[2], bins, stored)
        return self._changed[feature]

    def failed(self, feature: str) -> NDArray[np.int64]:
        """Haplotypes with a changed bin whose vector is not finite: NaN there, not to be learnt from."""
        group, _ = self._store.resolve_feature(self.species, feature)
        if group == "sequence":
            return np.zeros(0, np.int64)
        status = self._store.array(self.species, f"{self._base}/{group}/status")
        return np.unique(self.changed(feature).haplotype[status == Status.FAILED]).astype(np.int64)

    def features(
        self, feature: str, genes: NDArray[np.int64], haplotypes: NDArray[np.int64]
    ) -> NDArray[Any]:
        """Values of a feature of genes as haplotypes change them.

        Parameters
        ----------
        feature : str
            ``group[.array]``; ``onehot`` gives codes.
        genes : int64 array, shape (n,)
            Rows of genes.
        haplotypes : int64 array, shape (n,)
            A haplotype of each of these genes, or −1 for the reference.

        Returns
        -------
        array, shape (n, region, bin[, channel]) or (n, region, position), or (n, bin[, channel]) of an
        embedder that reads one window a gene, stored dtype
        """
        genes, haplotypes = np.asarray(genes, np.int64), np.asarray(haplotypes, np.int64)
        given = haplotypes >= 0
        if (self.haplotype_gene[haplotypes[given]] != genes[given]).any():
            raise InputError(
                f"variant set {self.name!r}: a haplotype was asked for at another gene than its own"
            )
        changed = self.changed(feature)
        group, name = self._store.resolve_feature(self.species, feature)
        values = self._store.stored(self.species, f"{group}/{name}").take(genes)
        rows, owner = changed.of(haplotypes)
        if len(rows):
            new, region = changed.read(rows), changed.region[rows]
            if changed.whole_genes:
                values[owner] = new
            elif changed.bin is None:
                values[owner, region] = new
            else:
                values[owner, region, changed.bin[rows]] = new
        return values
