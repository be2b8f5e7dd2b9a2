"""Sizes, variances and constants of the long-range world."""

from __future__ import annotations

from dataclasses import dataclass

from featurestore.errors import InputError
from featurestore.sample.settings import SpeciesSettings

SPECIES = (
    SpeciesSettings("simulated_gamma", "simG", 0, 0.0, 0.0),
    SpeciesSettings("simulated_delta", "simD", 0, 0.0, 0.0),
)
"""Both species; how many contigs they have follows from their genes."""

SHARE = 0.75
"""Fraction of the genes that the first species has."""

TRACKS = {
    "simulated_gamma": ("accessibility", "enhancer_mark", "cage"),
    "simulated_delta": ("accessibility", "cage"),
}
"""Measured tracks of each species."""

ELEMENT = 300
"""Bases of an element: an enhancer or a decoy."""

NEAREST, FARTHEST, DECAY = 5_000, 80_000, 25_000.0
"""An enhancer acts on TSSs this far from its middle, falling by e each ``DECAY`` bases."""

PAIRED = 100_000
"""Elements from ``NEAREST`` to this far from a TSS are paired with the gene."""

PROMOTER = (300, 100)
"""Bases before and after the TSS that the grammar reads."""


@dataclass(frozen=True)
class LongRangeSettings:
    """Size and variances of a long-range world.

    Parameters
    ----------
    seed : int
    genes : int
        Genes of both species together.
    gap : float
        Mean number of bases between the flanks of neighbouring genes.
    element_spacing : float
        Bases of genome per enhancer; there are as many decoys.
    contig_genes : int
        Genes of a contig, about.
    variants : int
        Most variants of ``variants.vcf``; all are of the first species.
    replicates : int
        Samples of the expression table.
    noise_sd : float
        Measurement noise of one sample, log10 units.
    transcriptome : int
        Genes of the transcriptome of which these are a part: columns sum to
        ``1e6 × genes / transcriptome`` TPM.
    """

    seed: int = 1
    genes: int = 1200
    gap: float = 18_000.0
    element_spacing: float = 20_000.0
    contig_genes: int = 100
    variants: int = 600
    replicates: int = 2
    noise_sd: float = 0.17
    transcriptome: int = 25_000

    def __post_init__(self) -> None:
        if not 20 <= self.genes <= 100_000:
            raise InputError(f"genes = {self.genes}: the long-range world takes 20 to 100,000")
        if self.seed < 0:
            raise InputError(f"seed = {self.seed}: give a whole number from 0 on")

    def genes_of(self) -> tuple[int, int]:
        """Genes of the first and the second species."""
        first = round(SHARE * self.genes)
        return first, self.genes - first
