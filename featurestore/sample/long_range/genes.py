"""Genes of the long-range world: promoter, gene body and their relatives, without what lies far off."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np

from featurestore.sample.cassette import (
    RATE,
    Cassette,
    draw_structure,
    random_bases,
    write_gene,
)
from featurestore.sample.evolution import Member, evolve
from featurestore.sample.long_range.grammar import CORE_START, UPSTREAM
from featurestore.sample.long_range.motifs import ACTIVATOR, CORE, LENGTH
from featurestore.sample.long_range.settings import SHARE, SPECIES, LongRangeSettings
from featurestore.sample.settings import stream
from featurestore.sequence.iupac import encode, reverse_complement

SIZES = (1, 2, 3, 4, 6)
SIZE_PROBABILITIES = (0.55, 0.20, 0.10, 0.08, 0.07)
"""Genes of a family, both species together."""

MOST_SITES = 3
"""Activator sites of a promoter."""

GAINED = 0.3
"""Probability that a gene has gained an activator site of its own."""

AT_HOME = 0.9
"""Probability that a gene stands on the contig where most of its family in the species is."""


def draw_members(settings: LongRangeSettings) -> list[list[Member]]:
    """Draw families until each species has its genes; members per species, family by family."""
    free = list(settings.genes_of())
    members: list[list[Member]] = [[] for _ in SPECIES]
    for number in count(1):
        if not any(free):
            return members
        name = f"LONGFAM{number:05d}"
        rng = stream(settings.seed, "long-range family", name)
        root = _ancestor(rng)
        size = SIZES[int(np.searchsorted(np.cumsum(SIZE_PROBABILITIES)[:-1], rng.random()))]
        for copy in range(size):
            species = 0 if rng.random() < SHARE else 1
            species = species if free[species] else 1 - species
            if not free[species]:
                break
            gene = evolve(rng, root, round(0.08 + 0.37 * float(rng.random()), 4))
            if rng.random() < GAINED:
                gene = _plant_site(rng, gene)
            leaf = f"{name}_{SPECIES[species].tag}_c{copy + 1}"
            members[species].append(Member(name, leaf, leaf, gene))
            free[species] -= 1
    return members


def place_members(
    rng: np.random.Generator, members: list[Member], contigs: int
) -> list[list[Member]]:
    """Share genes out to contigs of one size; most of a family stand on one contig.

    Contigs then make near-disjoint sets of families, as a split of long windows needs it.
    """
    room = np.diff(np.linspace(0, len(members), contigs + 1).astype(int))
    placed: list[list[Member]] = [[] for _ in range(contigs)]
    home: dict[str, int] = {}
    for member in members:
        open_ = np.flatnonzero(room)
        other = int(open_[int(rng.integers(0, open_.size))])
        contig = home.setdefault(member.family, other)
        if not room[contig] or rng.random() > AT_HOME:
            contig = other
        placed[contig].append(member)
        room[contig] -= 1
    return [[group[i] for i in rng.permutation(len(group))] for group in placed]


def _ancestor(rng: np.random.Generator) -> Cassette:
    """The ancestral gene of a family: core motif, activator sites, open reading frame."""
    gc = float(np.clip(0.37 + 0.03 * rng.standard_normal(), 0.28, 0.46))
    structure = replace(draw_structure(rng), alternative=None)
    up, down = (int(rng.integers(1050, 1400)) for _ in range(2))
    code = random_bases(rng, up + structure.length + down, gc)
    rate = np.full(code.size, RATE["flank"])
    write_gene(rng, code, rate, up, structure)
    at = up + CORE_START
    code[at : at + LENGTH] = encode(CORE)
    rate[at : at + LENGTH] = 0
    cassette = Cassette(code, rate, up, structure, gc)
    for _ in range(int(rng.integers(0, MOST_SITES + 1))):
        cassette = _plant_site(rng, cassette)
    return cassette


def _plant_site(rng: np.random.Generator, cassette: Cassette) -> Cassette:
    """Write one activator site where no other is, on either strand; nothing where none fits."""
    low, high = (cassette.tss + x for x in UPSTREAM)
    taken = cassette.rate[low:high] == RATE["motif"]
    if taken.sum() >= MOST_SITES * LENGTH:
        return cassette
    site = encode(ACTIVATOR)
    site = site if rng.random() < 0.5 else reverse_complement(site)
    for _ in range(20):
        start = int(rng.integers(low, high - LENGTH + 1))
        end = start + LENGTH
        # One base on either side stays free, so that sites can be told apart.
        if not (cassette.rate[start - 1 : end + 1] == RATE["motif"]).any():
            code, rate = cassette.code.copy(), cassette.rate.copy()
            code[start:end], rate[start:end] = site, RATE["motif"]
            return replace(cassette, code=code, rate=rate)
    return cassette
