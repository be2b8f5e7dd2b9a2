"""Contigs of the long-range world: genes far apart, elements between them, no stray sites."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.sample.assembly import Contig, PlacedGene, Species
from featurestore.sample.cassette import RATE, random_bases
from featurestore.sample.evolution import Member
from featurestore.sample.long_range.elements import GC, draw_element, draw_kinds
from featurestore.sample.long_range.genes import place_members
from featurestore.sample.long_range.grammar import Grammar, Landscape
from featurestore.sample.long_range.motifs import LENGTH, site_table, words
from featurestore.sample.long_range.settings import ELEMENT, NEAREST, LongRangeSettings
from featurestore.sample.settings import SpeciesSettings, stream
from featurestore.sequence.iupac import reverse_complement

APART = 600
"""Least distance between the middles of two elements."""

MARGIN = (8_000, 15_000)
"""Bases before the first and after the last gene of a contig."""

LOCKED, FREE, WOBBLE, WOBBLE_REVERSE = 0, 1, 2, 3
"""What may be done to a base to clear stray sites: nothing, anything, and for third bases of codons
C or T (G or A where the gene is on the reverse strand), with which no stop codon ends."""


@dataclass(frozen=True)
class PlacedElement:
    """An element on a contig (index); ``start`` is its first base, 0-based."""

    name: str
    kind: str
    contig: int
    start: int

    @property
    def end(self) -> int:
        """End of the half-open interval."""
        return self.start + ELEMENT


@dataclass(frozen=True)
class World:
    """A simulated species with its elements; ``landscapes`` has one entry per contig.

    ``genes_of``, ``elements_of`` are indices of each contig's genes and elements, in the order
    of its landscape.
    """

    species: Species
    elements: list[PlacedElement]
    landscapes: list[Landscape]

    @property
    def name(self) -> str:
        """Name of the species."""
        return self.species.settings.name

    def genes_of(self, contig: int) -> list[PlacedGene]:
        """Genes of a contig in the order of its landscape."""
        return [gene for gene in self.species.genes if gene.contig == contig]

    def elements_of(self, contig: int) -> list[PlacedElement]:
        """Elements of a contig in the order of its landscape."""
        return [element for element in self.elements if element.contig == contig]


@dataclass
class _Draft:
    """A contig being written: codes, and what may be done to each base."""

    code: NDArray[np.uint8]
    freedom: NDArray[np.uint8]


def build_world(
    settings: LongRangeSettings, chosen: SpeciesSettings, members: list[Member], grammar: Grammar
) -> World:
    """Set genes and elements of one species on its contigs and clear what is left of sites."""
    count = max(1, round(len(members) / settings.contig_genes))
    rng = stream(settings.seed, "long-range assembly", chosen.name)
    species = Species(chosen, [], [])
    world = World(species, [], [])
    for index, group in enumerate(place_members(rng, members, count)):
        name = f"{chosen.tag}_chr{index + 1}"
        draft, genes = _set_genes(rng, settings, name, index, group)
        tss = np.array([gene.tss for gene in genes], np.int64)
        elements = _set_elements(rng, settings, name, index, draft, tss)
        _clear(rng, draft)
        contig = Contig(name, draft.code, np.zeros(draft.code.size, bool))
        species.contigs.append(contig)
        species.genes.extend(genes)
        world.elements.extend(elements)
        strand = np.array([gene.strand for gene in genes], np.int64)
        start = np.array([element.start for element in elements], np.int64)
        world.landscapes.append(Landscape(grammar, draft.code, tss, strand, start))
    return world


def _set_genes(
    rng: np.random.Generator,
    settings: LongRangeSettings,
    name: str,
    index: int,
    members: list[Member],
) -> tuple[_Draft, list[PlacedGene]]:
    """Genes on either strand with gaps of very different length between them."""
    # Gamma of shape 1.5: neighbourhoods differ, and with them the sums over enhancers.
    gaps = 1_000 + rng.gamma(1.5, (settings.gap - 1_000) / 1.5, len(members) + 1).astype(int)
    gaps[[0, -1]] = rng.integers(*MARGIN, 2)
    size = int(gaps.sum()) + sum(member.cassette.code.size for member in members)
    draft = _Draft(random_bases(rng, size, GC), np.full(size, FREE, np.uint8))
    genes: list[PlacedGene] = []
    at = 0
    for number, (member, gap) in enumerate(zip(members, gaps[:-1].tolist(), strict=True), 1):
        at += gap
        strand = 1 if rng.random() < 0.5 else -1
        cassette = member.cassette
        end = at + cassette.code.size
        forward = strand == 1
        draft.code[at:end] = cassette.code if forward else reverse_complement(cassette.code)
        draft.freedom[at:end] = _freedom(member, WOBBLE if forward else WOBBLE_REVERSE)[::strand]
        tss = at + cassette.tss if forward else end - cassette.tss
        identity = f"{name.replace('_', '')}g{10 * number:05d}"
        tts = tss + strand * cassette.structure.length
        place = (identity, member.family, member.leaf, index, strand, tss, tts, "")
        genes.append(PlacedGene(*place, structure=cassette.structure))
        at = end
    return draft, genes


def _freedom(member: Member, wobble: int) -> NDArray[np.uint8]:
    """Freedom of the bases of a cassette in transcript orientation, shape (length,)."""
    cassette = member.cassette
    freedom = np.full(cassette.code.size, FREE, np.uint8)
    coding = cassette.tss + cassette.structure.coding_positions()
    freedom[coding] = LOCKED
    freedom[coding[2::3]] = wobble
    freedom[(cassette.rate == 0) | (cassette.rate == RATE["motif"])] = LOCKED
    return freedom


def _set_elements(
    rng: np.random.Generator,
    settings: LongRangeSettings,
    name: str,
    index: int,
    draft: _Draft,
    tss: NDArray[np.int64],
) -> list[PlacedElement]:
    """Enhancers and decoys at places drawn without regard to their kind."""
    size = draft.code.size
    kinds = draw_kinds(rng, round(size / settings.element_spacing))
    starts: list[int] = []
    for _ in range(200 * len(kinds)):
        start = int(rng.integers(1_000, size - 1_000 - ELEMENT))
        middle = start + ELEMENT // 2
        # Nothing nearer than the rule's least distance: a gene body is shorter than that.
        if np.abs(tss - middle).min() >= NEAREST + ELEMENT and all(
            abs(start - other) >= APART for other in starts
        ):
            starts.append(start)
        if len(starts) == len(kinds):
            break
    elements = []
    for number, (start, kind) in enumerate(zip(sorted(starts), kinds, strict=False), 1):
        element = draw_element(rng, kind)
        draft.code[start : start + ELEMENT] = element.code
        draft.freedom[start : start + ELEMENT] = np.where(element.locked, LOCKED, FREE)
        label = f"{name.replace('_', '')}e{number:05d}"
        elements.append(PlacedElement(label, kind, index, start))
    return elements


def _clear(rng: np.random.Generator, draft: _Draft) -> None:
    """Rewrite the bases of sites that no one planted; reading frames stay open.

    What is left after the last round, if anything, stands in a reading frame where no third base
    of a codon can break it; by the rule it acts on nothing.
    """
    table = site_table()
    free = np.concatenate([[0], np.cumsum(draft.freedom > LOCKED)])
    may = free[LENGTH:] > free[:-LENGTH]
    for _ in range(30):
        hits = np.flatnonzero(table[words(draft.code)] & may)
        if not hits.size:
            return
        at = np.unique(hits[:, None] + np.arange(LENGTH))
        old, coin = draft.code[at], rng.integers(0, 2, at.size)
        choices = [old, (old + rng.integers(1, 4, at.size)) % 4, 1 + 2 * coin, 2 * coin]
        draft.code[at] = np.choose(draft.freedom[at], choices)
