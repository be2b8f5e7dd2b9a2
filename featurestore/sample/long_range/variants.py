"""Single-base variants of the first species, with their effect by the grammar."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from featurestore.sample.long_range.genome import World
from featurestore.sample.long_range.grammar import UPSTREAM, Scores
from featurestore.sample.long_range.motifs import (
    ACTIVATOR,
    DIRECTION,
    LENGTH,
    OPENER,
    occupancies,
)
from featurestore.sample.long_range.settings import ELEMENT, LongRangeSettings
from featurestore.sample.settings import stream
from featurestore.sequence.iupac import LETTERS, encode, reverse_complement

LEAST = 0.1
"""Least |log2 fold change| of a variant that is said to have an effect."""

KINDS = {"distal": 0.40, "direction": 0.08, "proximal": 0.20, "decoy": 0.16, "background": 0.16}
"""Parts of the variants: in activator sites of enhancers, in their direction motifs, in activator
sites of promoters; in decoys and outside of elements and genes, both without effect."""

MENDED = 10
"""How many times more often a wrong base of a site is mended than any base of it is hit."""


@dataclass(frozen=True)
class Variant:
    """A substitution; ``position`` is 0-based, ``element`` and ``gene`` may be empty.

    ``log2_fold_change`` is that of the gene with the strongest effect, mutated over reference.
    """

    contig: int
    position: int
    ref: str
    alt: str
    kind: str
    element: str
    gene: str
    log2_fold_change: float


@dataclass(frozen=True)
class _Place:
    """Where a variant may stand; ``alt`` is a code, or −1 for any."""

    contig: int
    position: int
    element: str
    alt: int = -1


def draw_variants(settings: LongRangeSettings, world: World, scores: list[Scores]) -> list[Variant]:
    """Draw variants of every kind, in genome order, no two at one position."""
    rng = stream(settings.seed, "long-range variants")
    total = min(settings.variants, settings.genes)
    taken: set[tuple[int, int]] = set()
    variants: list[Variant] = []
    for kind, part in KINDS.items():
        wanted = round(part * total)
        found = 0
        for place in _places(rng, world, kind, 40 * wanted):
            key = place.contig, place.position
            if found == wanted:
                break
            variant = _variant(rng, world, scores, kind, place)
            if key not in taken and variant is not None:
                taken.add(key)
                variants.append(variant)
                found += 1
    return sorted(variants, key=lambda v: (v.contig, v.position))


def _variant(
    rng: np.random.Generator, world: World, scores: list[Scores], kind: str, place: _Place
) -> Variant | None:
    """A substitution of the base there, or None where its effect is not what the kind says."""
    landscape, before = world.landscapes[place.contig], scores[place.contig]
    ref = int(landscape.code[place.position])
    alt = (ref + 1 + int(rng.integers(0, 3))) % 4 if place.alt < 0 else place.alt
    after = landscape.edited(before, place.position, np.array([alt], np.uint8))
    change = np.log2(after.expression / before.expression)
    best = int(np.argmax(np.abs(change)))
    effect = float(change[best])
    active = kind in {"distal", "direction", "proximal"}
    if (abs(effect) < LEAST) if active else (effect != 0):
        return None
    gene = world.genes_of(place.contig)[best].gene if active else ""
    letters = LETTERS[ref], LETTERS[alt]
    return Variant(place.contig, place.position, *letters, kind, place.element, gene, effect)


def _places(rng: np.random.Generator, world: World, kind: str, most: int) -> Iterator[_Place]:
    """Places where a variant of a kind may stand, in random order."""
    if kind == "background":
        yield from _background(rng, world, most)
        return
    if kind == "proximal":
        found = _promoter_places(world)
    elif kind == "decoy":
        found = [*_site_places(world, OPENER), *_inert_places(world)]
    else:
        found = _site_places(world, ACTIVATOR if kind == "distal" else DIRECTION)
    for i in rng.permutation(len(found)).tolist():
        yield found[i]


def _site_places(world: World, motif: str) -> list[_Place]:
    """Bases of the sites of a motif within enhancers, for the opener within accessible decoys."""
    kind = "accessible_decoy" if motif == OPENER else "enhancer"
    return [
        place
        for element in world.elements
        if element.kind == kind
        for place in _sites(world, element.contig, element.start, element.end, motif, element.name)
    ]


def _sites(
    world: World, contig: int, low: int, high: int, motif: str, element: str = ""
) -> list[_Place]:
    """Bases of the sites of a motif in a span; wrong ones stand in for their mending, repeatedly."""
    code = world.landscapes[contig].code[low:high]
    places = []
    for word, hit in zip(
        (encode(motif), reverse_complement(encode(motif))),
        occupancies(code[None], motif),
        strict=True,
    ):
        for at in np.flatnonzero(hit[0]).tolist():
            places += [_Place(contig, low + at + p, element) for p in range(LENGTH)]
            for p in np.flatnonzero(code[at : at + LENGTH] != word).tolist():
                places += [_Place(contig, low + at + p, element, int(word[p]))] * MENDED
    return places


def _inert_places(world: World) -> list[_Place]:
    """Every seventh base of the inert decoys: about as many as there are site bases in the others."""
    return [
        _Place(element.contig, position, element.name)
        for element in world.elements
        if element.kind == "inert_decoy"
        for position in range(element.start, element.end, 7)
    ]


def _promoter_places(world: World) -> list[_Place]:
    """Bases of the activator sites of promoters."""
    return [
        place
        for gene in world.species.genes
        for place in _sites(world, gene.contig, *gene.span(UPSTREAM), ACTIVATOR)
    ]


def _background(rng: np.random.Generator, world: World, most: int) -> Iterator[_Place]:
    """Bases outside elements, at least 1 kb from them and 5 kb from any TSS."""
    for _ in range(most):
        contig = int(rng.integers(0, len(world.landscapes)))
        landscape = world.landscapes[contig]
        position = int(rng.integers(0, landscape.code.size))
        away = np.abs(landscape.start + ELEMENT // 2 - position).min(initial=10**9)
        if away >= 1_000 and np.abs(landscape.tss - position).min() >= 5_000:
            yield _Place(contig, position, "")
