"""Mutant lines: variants in the genome, and the windows of their haplotypes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from featurestore.sample.assembly import Species, cut_windows
from featurestore.sample.grammar import Grammar
from featurestore.sample.settings import PROMOTER, TERMINATOR, SampleSettings, stream
from featurestore.sequence.iupac import N, decode, encode, reverse_complement

ANCHOR_MARGIN = 40
"""No insertion or deletion comes nearer than this to a TSS or TTS, nor into a transcript."""

SPACING = 12
"""Least distance of two variants, so that none touches another."""

CHEMICAL = 0.85
"""Fraction of substitutions that are G:C → A:T, as ethyl methanesulfonate makes them."""

BOTH = 2
"""Side of a haplotype that both chromosomes of a line carry."""

C, G = 1, 2

Windows = tuple[tuple[int, int], tuple[int, int]]
"""Bases before and after the TSS, and before and after the TTS."""


@dataclass
class Variant:
    """A variant on the forward strand; ``position`` is 0-based, of the first base of ``ref``.

    ``genotype`` maps the index of a line to its two alleles (first and second haplotype).
    """

    contig: int
    position: int
    ref: str
    alt: str
    genotype: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """Half-open end of the reference allele."""
        return self.position + len(self.ref)


@dataclass(frozen=True)
class Haplotype:
    """The variants of one line that touch the windows of one gene, on one haplotype."""

    line: int
    gene: int
    side: int
    variants: tuple[int, ...]


def line_names(lines: int) -> list[str]:
    """Names of the mutant lines, as the VCF and the sample table give them."""
    return [f"sim_M{i + 1:02d}" for i in range(lines)]


def draw_variants(settings: SampleSettings, species: Species, grammar: Grammar) -> list[Variant]:
    """Variants of all lines in genome order; part of them stand in motif sites."""
    if not settings.lines:
        return []
    rng = stream(settings.seed, "variants", species.settings.name)
    count = settings.lines * settings.variants_per_line
    places = _targets(rng, species, grammar, int(count * settings.targeted))
    places += _anywhere(rng, species, count - len(places))
    variants: list[Variant] = []
    blocked = _no_indels(species)
    for contig, position in _spaced(places):
        code = species.contigs[contig].code
        indel = (
            rng.random() < settings.indels
            and not blocked[contig][
                max(position - ANCHOR_MARGIN, 0) : position + ANCHOR_MARGIN
            ].any()
        )
        ref, alt = _indel(rng, code, position) if indel else _substitution(rng, code, position)
        if "N" in ref:
            continue
        variants.append(Variant(contig, position, ref, alt, _genotypes(rng, settings)))
    return variants


def _targets(
    rng: np.random.Generator, species: Species, grammar: Grammar, count: int
) -> list[tuple[int, int]]:
    """G or C bases inside motif sites of the reference, as (contig, position)."""
    promoter = cut_windows(species, species.genes, "tss", *PROMOTER)
    terminator = cut_windows(species, species.genes, "tts", *TERMINATOR)
    region = {motif.name: motif for motif in grammar.motifs}
    found: set[tuple[int, int]] = set()
    for index, name, start, _, _ in grammar.sites(promoter, terminator):
        gene, motif = species.genes[index], region[name]
        anchor = gene.tss if motif.region == "promoter" else gene.tts
        low = anchor + start if gene.strand == 1 else anchor - start - motif.length
        code = species.contigs[gene.contig].code
        span = range(max(low, 0), min(low + motif.length, code.size))
        found.update((gene.contig, p) for p in span if code[p] in (C, G))
    ordered = sorted(found)
    return [ordered[i] for i in rng.permutation(len(ordered))[:count]]


def _anywhere(rng: np.random.Generator, species: Species, count: int) -> list[tuple[int, int]]:
    """Uniform places over all contigs, away from their ends."""
    sizes = np.array([contig.code.size for contig in species.contigs])
    ends = np.cumsum(sizes)
    places = []
    for at in rng.integers(0, ends[-1], count).tolist():
        contig = int(np.searchsorted(ends, at, side="right"))
        position = int(at - ends[contig] + sizes[contig])
        if 50 <= position < sizes[contig] - 50:
            places.append((contig, position))
    return places


def _spaced(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Places in genome order without those that come too near to the one before."""
    kept: list[tuple[int, int]] = []
    for contig, position in sorted(set(places)):
        # An indel spans up to nine bases, hence the spacing.
        if not kept or kept[-1][0] != contig or position - kept[-1][1] >= SPACING:
            kept.append((contig, position))
    return kept


def _no_indels(species: Species) -> list[NDArray[np.bool_]]:
    """True where a transcript lies, per contig."""
    blocked = [np.zeros(contig.code.size, bool) for contig in species.contigs]
    for gene in species.genes:
        low, high = gene.span((0, gene.structure.length))
        blocked[gene.contig][low:high] = True
    return blocked


def _substitution(
    rng: np.random.Generator, code: NDArray[np.uint8], position: int
) -> tuple[str, str]:
    ref = int(code[position])
    if ref in (C, G) and rng.random() < CHEMICAL:
        return decode(code[position : position + 1]), "T" if ref == C else "A"
    alt = (ref + 1 + int(rng.integers(0, 3))) % 4
    return decode(code[position : position + 1]), "ACGT"[alt]


def _indel(rng: np.random.Generator, code: NDArray[np.uint8], position: int) -> tuple[str, str]:
    """A deletion or an insertion of 1 to 8 bases after the base at ``position``."""
    size = int(rng.integers(1, 9))
    first = decode(code[position : position + 1])
    if rng.random() < 0.5:
        return decode(code[position : position + 1 + size]), first
    return first, first + decode(rng.integers(0, 4, size).astype(np.uint8))


def _genotypes(rng: np.random.Generator, settings: SampleSettings) -> dict[int, tuple[int, int]]:
    """Lines that carry a variant: mostly one; phased, mostly homozygous."""
    carriers = 1
    if rng.random() < settings.shared:
        carriers = min(2 + int(rng.integers(0, 2)), settings.lines)
    lines = sorted(rng.permutation(settings.lines)[:carriers].tolist())
    genotypes = {}
    for line in lines:
        if rng.random() < settings.heterozygous:
            genotypes[line] = (1, 0) if rng.random() < 0.5 else (0, 1)
        else:
            genotypes[line] = (1, 1)
    return genotypes


def haplotypes(species: Species, variants: list[Variant], windows: Windows) -> list[Haplotype]:
    """Haplotypes that differ from the reference in the windows of a gene.

    Parameters
    ----------
    windows : ((before, after) of the TSS, (before, after) of the TTS)

    Returns
    -------
    list of Haplotype
        In order of line, gene, side. A line whose two haplotypes agree there has one entry,
        of side :data:`BOTH`.
    """
    touching = _variants_near(species, variants, windows, 0)
    # A deletion pulls in what lies beyond the window, variants included.
    nearby = _variants_near(species, variants, windows, 64)
    result = []
    for gene, (inside, around) in enumerate(zip(touching, nearby, strict=True)):
        for line in sorted({line for i in inside for line in variants[i].genotype}):
            sides = []
            for side in (0, 1):
                carried = [i for i in around if variants[i].genotype.get(line, (0, 0))[side]]
                sides.append(tuple(carried) if set(carried) & set(inside) else ())
            if sides[0] == sides[1]:
                result.append(Haplotype(line, gene, BOTH, sides[0]))
            else:
                result += [Haplotype(line, gene, s, v) for s, v in enumerate(sides) if v]
    return sorted(result, key=lambda h: (h.line, h.gene, h.side))


def _variants_near(
    species: Species, variants: list[Variant], windows: Windows, margin: int
) -> list[list[int]]:
    """Indices of the variants within ``margin`` of the windows of each gene."""
    place = np.array([(v.contig, v.position) for v in variants]).reshape(-1, 2)
    keys = place[:, 0] * 10**9 + place[:, 1]
    near: list[list[int]] = []
    for gene in species.genes:
        found: set[int] = set()
        for anchor, (before, after) in zip((gene.tss, gene.tts), windows, strict=True):
            low, high = (before, after) if gene.strand == 1 else (after, before)
            low, high = max(anchor - low - margin, 0), anchor + high + margin
            ends = np.array([max(low - SPACING, 0), high]) + gene.contig * 10**9
            first, last = np.searchsorted(keys, ends).tolist()
            found.update(i for i in range(first, last) if variants[i].end > low)
        near.append(sorted(found))
    return near


def mutate_windows(
    species: Species,
    variants: list[Variant],
    wanted: list[Haplotype],
    windows: Windows,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Promoter and terminator windows of haplotypes, each of shape (haplotype, before + after).

    The anchor stays where it is in the sequence; what an insertion pushes out of the window
    is lost at its far end, what a deletion pulls in comes from beyond.
    """
    shapes = [(len(wanted), before + after) for before, after in windows]
    promoter, terminator = (np.empty(shape, np.uint8) for shape in shapes)
    for row, haplotype in enumerate(wanted):
        gene = species.genes[haplotype.gene]
        own = [variants[i] for i in haplotype.variants]
        code = species.contigs[gene.contig].code
        for output, anchor, (before, after) in zip(
            (promoter, terminator), (gene.tss, gene.tts), windows, strict=True
        ):
            low, high = (before, after) if gene.strand == 1 else (after, before)
            window = np.concatenate(
                [_left(code, anchor, low, own), _right(code, anchor, high, own)]
            )
            output[row] = window if gene.strand == 1 else reverse_complement(window)
    return promoter, terminator


def _left(code: NDArray[np.uint8], anchor: int, size: int, own: list[Variant]) -> NDArray[np.uint8]:
    """The ``size`` bases left of a boundary with variants applied, N off the contig."""
    slack = 16 * len(own)
    start = max(anchor - size - slack, 0)
    inside = [v for v in own if start <= v.position and v.end <= anchor]
    bases = _apply(code[start:anchor], inside, start)[-size:]
    return np.concatenate([np.full(size - bases.size, N, np.uint8), bases])


def _right(
    code: NDArray[np.uint8], anchor: int, size: int, own: list[Variant]
) -> NDArray[np.uint8]:
    """The ``size`` bases right of a boundary with variants applied, N off the contig."""
    end = min(anchor + size + 16 * len(own), code.size)
    inside = [v for v in own if anchor <= v.position and v.end <= end]
    bases = _apply(code[anchor:end], inside, anchor)[:size]
    return np.concatenate([bases, np.full(size - bases.size, N, np.uint8)])


def _apply(bases: NDArray[np.uint8], own: list[Variant], offset: int) -> NDArray[np.uint8]:
    """Replace reference by alternative alleles; ``offset`` is the position of ``bases[0]``."""
    parts, at = [], 0
    for variant in own:
        parts += [bases[at : variant.position - offset], encode(variant.alt)]
        at = variant.end - offset
    return np.concatenate([*parts, bases[at:]])
