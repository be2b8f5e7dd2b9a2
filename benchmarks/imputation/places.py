"""Where genes lie: the block ``place``, order along chromosomes, nearest reference genes, tandem relatives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

TANDEM_GENES: Final = 10
TANDEM_BP: Final = 500_000
"""A relative within so many genes or so many bp along the chromosome is a tandem paralog."""


@dataclass(frozen=True)
class Places:
    """Places of the genes of a run.

    Parameters
    ----------
    contig : int64 array, shape (gene,)
        Unique over species; −1 where the gene has no position.
    contig_name : list of str
        ``contig``, or ``species:contig`` where there are several species.
    tss, tts : int64 arrays, shape (gene,)
        Boundaries, 0-based; 0 without a position, tts equal to tss where only that is known.
    strand : int8 array, shape (gene,)
        +1, −1, 0 unknown.
    family : int64 array, shape (gene,)
    """

    contig: NDArray[np.int64]
    contig_name: list[str]
    tss: NDArray[np.int64]
    tts: NDArray[np.int64]
    strand: NDArray[np.int8]
    family: NDArray[np.int64]

    @classmethod
    def of(cls, genes: pd.DataFrame) -> Places:
        """Places of a table of :func:`benchmarks.inputs.genes.gene_frame`."""
        several = genes["species"].nunique() > 1
        name = genes["contig"].astype(str)
        if several:
            name = genes["species"].astype(str) + ":" + name
        tss, tts = (genes[side].to_numpy(np.int64) for side in ("tss", "tts"))
        have = (genes["contig"] != "").to_numpy() & (tss >= 0)
        # Names in order, so that codes do not depend on which gene stands first.
        codes, names = pd.factorize(name.to_numpy(object), sort=True)
        contig = np.where(have, codes, -1).astype(np.int64)
        return cls(
            contig=contig,
            contig_name=[str(one) for one in names],
            tss=np.where(have, tss, 0),
            tts=np.where(have, np.where(tts >= 0, tts, tss), 0),
            strand=genes["strand"].to_numpy(np.int8),
            family=np.asarray(pd.factorize(genes["family"], sort=True)[0], np.int64),
        )

    def __len__(self) -> int:
        return len(self.contig)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Genes with a position."""
        found: NDArray[np.bool_] = self.contig >= 0
        return found

    def block(self) -> NDArray[np.float64]:
        """Contig code, tss, tts, strand, whether there is a position: shape (gene, 5)."""
        columns = (self.contig, self.tss, self.tts, self.strand, self.known)
        return np.stack([np.asarray(one, np.float64) for one in columns], axis=1)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Genes with a position, in order of contig and TSS."""
        found = np.lexsort((self.tts, self.tss, self.contig))
        return np.asarray(found[self.contig[found] >= 0], np.int64)

    @cached_property
    def rank(self) -> NDArray[np.int64]:
        """Place of each gene in :attr:`order`; −1 without a position."""
        found = np.full(len(self), -1, np.int64)
        found[self.order] = np.arange(len(self.order))
        return found

    def names(self) -> NDArray[np.object_]:
        """Contig of each gene; empty where it has no position."""
        every = np.array([*self.contig_name, ""], object)
        return np.asarray(every[self.contig], object)

    def distance(
        self, genes: NDArray[np.int64], references: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """From TSS to that of the nearest other reference gene, in bp; NaN where there is none.

        Parameters
        ----------
        genes, references : int64 arrays
            Rows of the table of genes.
        """
        inside = np.zeros(len(self), bool)
        inside[references] = True
        line = self.order[inside[self.order]]
        out = np.full(len(genes), np.nan)
        if not len(line):
            return out
        contig, tss = self.contig[line], self.tss[line]
        # Two keys in one: contigs lie end to end, each longer than any of its positions.
        span = int(self.tss.max(initial=0)) + 1
        keys = contig * span + tss
        mine = self.contig[genes] * span + self.tss[genes]
        sides: tuple[Literal["left", "right"], ...] = ("left", "right")
        for side in sides:
            at = np.searchsorted(keys, mine, side=side)
            for step in (-2, -1, 0, 1):
                near = np.clip(at + step, 0, len(line) - 1)
                other = line[near]
                fine = (self.contig[other] == self.contig[genes]) & (other != genes)
                fine &= self.contig[genes] >= 0
                gap = np.abs(self.tss[other] - self.tss[genes]).astype(np.float64)
                out = np.fmin(out, np.where(fine, gap, np.nan))
        return out

    def tandem(self, genes: NDArray[np.int64], references: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a gene has a relative among the references within 10 genes or 500 kb."""
        inside = np.zeros(len(self), bool)
        inside[references] = True
        wanted = np.zeros(len(self), bool)
        wanted[genes] = True
        found = np.zeros(len(self), bool)
        # Members of a family beside each other in order of contig and place: few pairs to look at.
        line = self.order
        members = line[np.argsort(self.family[line], kind="stable")]
        for step in range(1, len(members)):
            left, right = members[:-step], members[step:]
            same = (self.family[left] == self.family[right]) & (
                self.contig[left] == self.contig[right]
            )
            near = np.abs(self.rank[left] - self.rank[right]) <= TANDEM_GENES
            near |= np.abs(self.tss[left] - self.tss[right]) <= TANDEM_BP
            near &= same
            if not near.any():
                break
            found[left[near & inside[right]]] = True
            found[right[near & inside[left]]] = True
        return np.asarray(found[genes] & wanted[genes], np.bool_)
