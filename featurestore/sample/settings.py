"""What the simulator can be told, and the random streams that follow from the seed."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from featurestore.errors import InputError

TISSUES = ("leaf", "root", "flower", "seed")
"""Simulated tissues, in the order of every tissue axis of the simulator."""

PROMOTER = (1000, 500)
"""Bases before and after the TSS that the grammar reads."""

TERMINATOR = (500, 1000)
"""Bases before and after the TTS that the grammar reads."""


@dataclass(frozen=True)
class SpeciesSettings:
    """One simulated species.

    Parameters
    ----------
    name, tag : str
        Name in the data set, and the prefix of its gene and contig ids.
    chromosomes : int
    branch : float
        Neutral substitutions per site between the speciation and today.
    shift : float
        log10 of how much larger a part of the transcriptome these genes make: species means
        differ, so that pooled scores differ from those within species.
    """

    name: str
    tag: str
    chromosomes: int
    branch: float
    shift: float


SPECIES = (
    SpeciesSettings("simulated_alpha", "simA", 3, 0.25, 0.0),
    SpeciesSettings("simulated_beta", "simB", 4, 0.32, 0.15),
)
"""Both species; the mutant lines are of the first."""


@dataclass(frozen=True)
class SampleSettings:
    """Size and variances of a simulated data set; standard deviations are in log10 units.

    Parameters
    ----------
    seed, genes, lines : int
        Genes are per species; lines are mutant lines of the first species (0: none).
    replicates : int
        Control samples per tissue.
    family_sd : float
        Effect of a family that no window shows (it stands for codon usage, mRNA stability).
    gene_sd : float
        Effect of a gene that no window shows.
    domain_sd : float
        Effect per tissue shared by the adjacent genes of a chromatin domain.
    noise_sd : float
        Measurement noise per gene and sample.
    line_sd : float
        Standard deviation of a line's loading on one hidden expression factor (0: none).
    variants_per_line : int
        Distinct private variants of a line, before some are shared.
    targeted : float
        Fraction of variants put into motif sites, so that effects are common enough to test.
    heterozygous, shared, indels : float
        Fractions of variants that are heterozygous, in several lines, insertions or deletions.
    transcriptome : int
        Genes of the transcriptome of which these are a part: columns sum to
        ``1e6 × genes / transcriptome × 10^shift`` TPM.
    """

    seed: int = 1
    genes: int = 600
    lines: int = 24
    replicates: int = 2
    family_sd: float = 0.20
    gene_sd: float = 0.22
    domain_sd: float = 0.08
    noise_sd: float = 0.18
    line_sd: float = 0.0
    variants_per_line: int = 120
    targeted: float = 0.35
    heterozygous: float = 0.35
    shared: float = 0.06
    indels: float = 0.05
    transcriptome: int = 25_000

    def __post_init__(self) -> None:
        if self.genes < 20:
            raise InputError(f"genes = {self.genes}: the simulated sample needs at least 20")
        if self.genes > 9999:
            raise InputError(f"genes = {self.genes}: gene ids hold at most 9,999 per species")
        if self.lines < 0 or self.lines > 999:
            raise InputError(f"lines = {self.lines}: give 0 to 999 mutant lines")
        if self.seed < 0:
            raise InputError(f"seed = {self.seed}: give a whole number from 0 on")


def stream(seed: int, *names: str) -> np.random.Generator:
    """Random generator of one named stage: a stage's draws do not depend on another's."""
    keys = [zlib.crc32(name.encode()) for name in names]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *keys])))
