"""Observed expression: the grammar, what no window shows, and measurement noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.sample.assembly import Species, cut_windows
from featurestore.sample.grammar import Grammar
from featurestore.sample.settings import TISSUES, SampleSettings, stream
from featurestore.sample.variants import (
    BOTH,
    Haplotype,
    Variant,
    haplotypes,
    line_names,
    mutate_windows,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """A column of the expression table; ``line_index`` is −1 for controls."""

    name: str
    tissue: int
    line: str
    line_index: int

    @property
    def control(self) -> bool:
        """Whether the sample is of the wild type."""
        return self.line_index < 0


@dataclass(frozen=True)
class Hidden:
    """Effects on log10 expression that no window shows.

    Parameters
    ----------
    family, gene : float64 arrays, shape (gene,)
    domain : float64 array, shape (gene, tissue)
    """

    family: Floats
    gene: Floats
    domain: Floats

    def total(self) -> Floats:
        """Their sum, shape (gene, tissue)."""
        return (self.family + self.gene)[:, None] + self.domain


@dataclass(frozen=True)
class MutantTruth:
    """Noise-free effect of a line on a gene; all others are exactly zero.

    Parameters
    ----------
    haplotypes : list of Haplotype
    line, gene : int64 arrays, shape (pair,)
    delta : float64 array, shape (pair, tissue)
        log10 expression of the line minus that of the wild type.
    """

    haplotypes: list[Haplotype]
    line: NDArray[np.int64]
    gene: NDArray[np.int64]
    delta: Floats


@dataclass(frozen=True)
class SpeciesExpression:
    """Truth and observation of one species.

    Parameters
    ----------
    features : float64 array, shape (gene, feature)
    grammar : float64 array, shape (gene, tissue)
        Noise-free log10 expression of the grammar alone.
    hidden : Hidden
    samples : list of Sample
    scale : float64 array, shape (sample,)
        log10 factor that brings a sample to its sum of TPM.
    tpm : float64 array, shape (gene, sample)
        Rounded to what the table holds.
    variants : list of Variant
    mutants : MutantTruth
    """

    features: Floats
    grammar: Floats
    hidden: Hidden
    samples: list[Sample]
    scale: Floats
    tpm: Floats
    variants: list[Variant]
    mutants: MutantTruth


def express(
    settings: SampleSettings, species: Species, grammar: Grammar, variants: list[Variant]
) -> SpeciesExpression:
    """Evaluate the grammar on the genome and its haplotypes, and measure with noise."""
    promoter = cut_windows(species, species.genes, "tss", *grammar.promoter)
    terminator = cut_windows(species, species.genes, "tts", *grammar.terminator)
    features = grammar.features(promoter, terminator)
    log10 = grammar.combine(features)
    hidden = _hidden(settings, species)
    mutants = _mutants(species, grammar, variants, log10)
    samples = _samples(settings, lines=settings.lines if variants else 0)
    tpm, scale = _measure(settings, species, log10 + hidden.total(), mutants, samples)
    return SpeciesExpression(features, log10, hidden, samples, scale, tpm, variants, mutants)


def _hidden(settings: SampleSettings, species: Species) -> Hidden:
    """Draw the hidden effects; a family's is the same in both species."""

    def draw(kind: str, name: str, size: int) -> Floats:
        return stream(settings.seed, kind, name).standard_normal(size)

    genes = species.genes
    family = np.array([draw("family effect", gene.family, 1)[0] for gene in genes])
    domain = {g.domain: draw("domain effect", g.domain, len(TISSUES)) for g in genes}
    return Hidden(
        family=settings.family_sd * family,
        gene=settings.gene_sd * draw("gene effect", species.settings.name, len(genes)),
        domain=settings.domain_sd * np.stack([domain[gene.domain] for gene in genes]),
    )


def _mutants(
    species: Species, grammar: Grammar, variants: list[Variant], reference: Floats
) -> MutantTruth:
    """Score the haplotypes; the two of a line add up as amounts, not as logarithms."""
    windows = (grammar.promoter, grammar.terminator)
    wanted = haplotypes(species, variants, windows)
    scored = grammar.score(*mutate_windows(species, variants, wanted, windows))
    sides: dict[tuple[int, int], list[Floats]] = {}
    for haplotype, value in zip(wanted, scored, strict=True):
        pair = (haplotype.line, haplotype.gene)
        both = sides.setdefault(pair, [reference[haplotype.gene]] * 2)
        for side in (0, 1) if haplotype.side == BOTH else (haplotype.side,):
            both[side] = value
    line = np.array([pair[0] for pair in sides], np.int64)
    gene = np.array([pair[1] for pair in sides], np.int64)
    alleles = np.array(list(sides.values())).reshape(-1, 2, len(TISSUES))
    delta = np.log10((10**alleles).mean(axis=1)) - reference[gene]
    # Rounding noise of the logarithm is not an effect.
    return MutantTruth(wanted, line, gene, np.where(np.abs(delta) < 1e-9, 0.0, delta))


def _samples(settings: SampleSettings, lines: int) -> list[Sample]:
    """Controls (a line per replicate) in every tissue, then each mutant line in every tissue."""
    controls = [(f"sim_C{r + 1}", -1) for r in range(settings.replicates)]
    mutants = [(name, i) for i, name in enumerate(line_names(lines))]
    return [
        Sample(f"{name}_{tissue}", index, name, line)
        for name, line in [*controls, *mutants]
        for index, tissue in enumerate(TISSUES)
    ]


def _measure(
    settings: SampleSettings,
    species: Species,
    log10: Floats,
    mutants: MutantTruth,
    samples: list[Sample],
) -> tuple[Floats, Floats]:
    """Noisy TPM, shape (gene, sample), and the log10 scale of each sample."""
    name, count = species.settings.name, len(species.genes)
    response = settings.line_sd * stream(settings.seed, "factor", name).standard_normal(count)
    values = np.empty((count, len(samples)))
    for column, sample in enumerate(samples):
        value = log10[:, sample.tissue].copy()
        if not sample.control:
            own = mutants.line == sample.line_index
            value[mutants.gene[own]] += mutants.delta[own, sample.tissue]
            value += response * stream(settings.seed, "factor", sample.line).standard_normal()
        # A stream per sample: more lines leave the other columns as they are.
        noise = stream(settings.seed, "measurement", name, sample.name).standard_normal(count)
        values[:, column] = value + settings.noise_sd * noise
    amount = 10**values
    total = 1e6 * count / settings.transcriptome * 10**species.settings.shift
    factors = total / amount.sum(axis=0)
    return np.round(amount * factors, 3), np.log10(factors)
